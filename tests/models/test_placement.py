"""Models spread over devices: what is offloaded gives the numbers of the whole model, and nothing stays in memory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from neuronatlas import Fact, attribute, effects
from neuronatlas.models import Model, ModelError, capture, load, suppress
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.memory import LiveBytes
from neuronatlas.models.reinitialise import reinitialised
from neuronatlas.models.ways import Plain, Prompts
from neuronatlas.models.weights import is_offloaded, resident

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

ModelOf = Callable[[str], Model]
SOME = {
    "llama": {
        "model.embed_tokens": "cpu",
        "model.rotary_emb": "cpu",
        "model.layers.0": "disk",
        "model.layers.1": "cpu",
        "model.layers.2": "disk",
        "model.norm": "disk",
        "lm_head": "disk",
    },
    "bert": {
        "bert.embeddings": "cpu",
        "bert.encoder.layer.0": "disk",
        "bert.encoder.layer.1": "cpu",
        "bert.encoder.layer.2": "disk",
        "cls": "cpu",
    },
}
ALL = {"": "disk"}
WHOLE = {"": "cpu"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, model_of: ModelOf, tokenizer: PreTrainedTokenizerBase) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in SOME:
        model_of(name).module.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return root


@pytest.fixture(params=[(name, which) for name in SOME for which in ("whole", "some", "all")], ids="-".join)
def pair(request: pytest.FixtureRequest, folders: Path, tmp_path: Path, model_of: ModelOf) -> tuple[Model, Model]:
    name, which = request.param
    placed: Mapping[str, str] = {"whole": WHOLE, "some": SOME[name], "all": ALL}[which]
    spread = load(folders / name, device_map=placed, offload_folder=tmp_path / "away", dtype="float32")
    assert is_offloaded(spread.module) == (which != "whole")
    return spread, model_of(name)


def question(model: Model) -> tuple[str, str]:
    words = [model.tokenizer.convert_ids_to_tokens(index) for index in (20, 21, 22, 23)]
    return f"{words[0]} {words[1]} {words[2]} {{answer}}", str(words[3])


def test_a_spread_model_has_the_scores_sites_and_digest_of_the_whole_one(pair: tuple[Model, Model]) -> None:
    spread, whole = pair
    assert spread.digest == whole.digest
    assert spread.layout() == whole.layout()
    assert set(spread.sites) == set(whole.sites)
    prompt, answer = question(whole)
    found, expected = attribute(spread, prompt, answer), attribute(whole, prompt, answer)
    assert found.way == expected.way != "plain"
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6 * np.abs(expected.values).max())
    assert spread.digest == whole.digest


def test_plain_runs_of_a_spread_model_give_the_gradients_of_the_whole_one(pair: tuple[Model, Model]) -> None:
    spread, whole = pair
    steps = attribute(whole, *question(whole)).query.steps
    found, expected = (path_gradients(m, Prompts.of(steps, m.device), [0.5], [1.0], way=Plain) for m in (spread, whole))
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_spread_model_is_captured_and_intervened_in_like_the_whole_one(
    pair: tuple[Model, Model], ids: torch.Tensor
) -> None:
    seen = []
    for model in pair:
        with capture(model) as neurons:
            clean = model.logits(ids)
        chosen = model.layout().set(["L0.U3", "L2.U7"])
        with suppress(model, chosen):
            changed = model.logits(ids)
        assert torch.equal(model.logits(ids), clean)
        prompt, answer = question(model)
        table = effects(model, Fact("r", "s", answer, [prompt]), chosen)
        seen.append((clean, changed, neurons[1], torch.tensor(table["p_after"].to_list())))
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Stray(nn.Module):
    """A feed-forward part beside whose projection a bare matrix writes to the residual stream."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.stray = inner, nn.Parameter(torch.randn(32, 32))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        written: torch.Tensor = self.inner(hidden) + torch.tanh(hidden @ self.stray)
        return written


def test_weights_past_the_projections_are_seen_though_they_are_offloaded(
    folders: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    module = load(folders / "llama").module
    layers: Any = module.get_submodule("model.layers")
    layers[1].mlp = Stray(layers[1].mlp)
    accelerate.cpu_offload(module)
    assert layers[1].mlp.stray.is_meta
    with pytest.raises(ValueError, match=r"layer 1 .*mlp.stray writes to the residual stream past every projection"):
        load((module, tokenizer))


def test_weights_are_there_while_they_are_wanted_and_gone_after(folders: Path, tmp_path: Path) -> None:
    model = load(folders / "llama", device_map=ALL, offload_folder=tmp_path, dtype="float32")
    layer = model.module.get_submodule("model.layers.1")
    with resident(layer):
        assert not any(p.is_meta for p in layer.parameters())
        kept = [p.detach().clone() for p in layer.parameters()]
        layer.get_submodule("mlp.down_proj")(torch.ones(1, 48))
        assert all(torch.equal(p, was) for p, was in zip(layer.parameters(), kept, strict=True))
    assert all(p.is_meta for p in layer.parameters())


def test_an_offloaded_model_is_not_re_initialised(folders: Path, tmp_path: Path) -> None:
    model = load(folders / "llama", device_map=ALL, offload_folder=tmp_path, dtype="float32")
    with pytest.raises(ModelError, match="some of its weights are offloaded; load it on one device"):
        reinitialised(model, seed=0)


def test_gradients_do_not_keep_the_weights_of_all_layers(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = accelerate.utils.OffloadedWeightsLoader
    from_disk = loader.__getitem__
    # Cloned, so that it is counted: a file is read by no operation of torch.
    monkeypatch.setattr(loader, "__getitem__", lambda self, key: from_disk(self, key).clone())
    model = load(folders / "llama", device_map=ALL, offload_folder=tmp_path, dtype="float32")
    question_ = question(model)
    attribute(model, *question_)  # proves the ways
    with LiveBytes() as live:
        attribute(model, *question_)
    layers = sum(p.nbytes for p in model.module.get_submodule("model.layers").parameters())
    assert live.peak < layers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cpu", "device_map": "auto"}, "device 'cpu' and a device map: give one of them"),
        ({"memory": {"cpu": "1GB"}}, 'give device_map="auto" as well'),
        ({"offload_folder": "x"}, 'give device_map="auto" as well'),
        ({"device_map": "nowhere"}, "cannot be loaded as a model"),
    ],
)
def test_placements_that_make_no_sense_are_refused_in_one_line(folders: Path, options: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(folders / "llama", **options)
    assert "\n" not in str(caught.value)


def test_a_model_in_memory_stays_where_it_is(model_of: ModelOf) -> None:
    model = model_of("llama")
    with pytest.raises(ModelError, match="a model in memory stays as it is"):
        load((model.module, model.tokenizer), device_map="auto")
