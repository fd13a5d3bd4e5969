"""Replay by whole blocks and by steps, an architecture for each kind of block that needs it; layers without neurons."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from neuronatlas.knowledge.attribution import attribute
from neuronatlas.models import Model, Site, SiteError, capture, load, suppress
from neuronatlas.models.calls import Call
from neuronatlas.models.checking import prove_ways
from neuronatlas.models.gradients import choose_way, path_gradients
from neuronatlas.models.rows import cache_of_rows, of_rows, row_arguments, tensors
from neuronatlas.models.sites import prove
from neuronatlas.models.ways import Plain, Prompts, WayError
from neuronatlas.models.whole import SteppedReplay, WholeReplay
from neuronatlas.studies.sweep.toys import Architecture, architectures, build, toy_tokenizer

NODES, WEIGHTS = [0.0, 0.4, 1.0], [0.2, 0.5, 0.3]
WAYS = {
    "causal:bloom": ("replay-stepped", "replay-whole"),  # ALiBi: distances, several entries a row
    "causal:xglm": ("replay-stepped", "replay-whole"),  # sinusoids, masks of one entry a row
    "causal:gemma4_text": ("replay-stepped", "replay-whole"),  # inputs that each layer has for itself
    "causal:lfm3": ("replay-stepped", "replay"),  # states in place of keys
    "causal:nemotron_h": ("replay-stepped", "replay-whole"),  # states, experts, layers without feed-forward neurons
    "causal:deepseek_v3": ("replay-cached", "replay"),  # a shared expert, and a layer without experts
    "masked:fnet": ("replay-whole", "replay-whole"),  # positions mixed by no module that has weights
    "masked:xmod": ("replay-whole", "replay-whole"),  # a language for each row
}
IN_FLOAT32 = {"causal:xglm", "causal:nemotron_h", "causal:deepseek_v3"}
"""Those of which transformers does not compute masks or experts in float64."""


@lru_cache(maxsize=2)
def loaded(name: str) -> Model:
    wanted: Architecture = next(a for a in architectures() if a.name == name)
    module: Any = build(wanted)
    # In float64 what is left is no rounding, which a toy's large weights would make large.
    return load((module if name in IN_FLOAT32 else module.double(), toy_tokenizer()))


def prompts_for(model: Model, position: int | None = None) -> Prompts:
    """Three prompts of 13 tokens that ask for the model's first choice."""
    ids = torch.randint(5, 100, (3, 13), generator=torch.Generator().manual_seed(1))
    places = torch.full((3,), 12) if model.kind == "causal" else torch.tensor([3, 5, 7])
    with torch.no_grad():
        answers = model.logits(ids)[torch.arange(3), places].argmax(-1)
    return Prompts(ids, places if position is None else torch.full_like(places, position), places, answers)


def apart(found: list[Tensor], right: list[Tensor]) -> float:
    """The largest difference of any layer, relative to the largest value of all."""
    largest = max(float(r.abs().max()) for r in right if r.numel())
    return max(float((f - r).abs().max()) for f, r in zip(found, right, strict=True) if r.numel()) / (largest or 1)


@pytest.mark.parametrize("position", [None, 4], ids=["at the answer", "elsewhere"])
@pytest.mark.parametrize("name", WAYS)
def test_the_fast_way_gives_the_gradients_of_plain_reruns(name: str, position: int | None) -> None:
    model = loaded(name)
    prompts = prompts_for(model, position)
    right = path_gradients(model, prompts, NODES, WEIGHTS, way=Plain)
    tolerance = 1e-5 if name in IN_FLOAT32 else 1e-6
    # At the answer all rows at once, elsewhere a few at a time.
    found = path_gradients(model, prompts, NODES, WEIGHTS, budget=2048 if position is None else 60)
    assert found.way == WAYS[name][position is not None]
    assert apart(found.gradients, right.gradients) <= tolerance
    assert apart(found.neurons, right.neurons) <= tolerance
    assert apart([found.clean_logits], [right.clean_logits]) <= tolerance
    assert apart([found.zeroed], [right.zeroed]) <= tolerance


@pytest.mark.parametrize("name", ["causal:bloom", "masked:xmod"])
def test_a_way_that_takes_other_rows_arguments_is_refused(name: str) -> None:
    model = loaded(name)
    prove_ways(model)
    known = {way: dict.fromkeys(arguments, False) for way, arguments in model.row_arguments.items()}
    assert any(any(arguments.values()) for arguments in model.row_arguments.values())
    misled = replace(model, ways={"head": ""}, row_arguments=known)
    ways = prove_ways(misled)
    assert not {"replay-stepped", "replay-whole"} & {ways.at_answer, ways.elsewhere}
    assert "replay-whole" in ways.refused


def test_prompts_that_a_proved_way_does_not_take_are_run_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("causal:bloom")
    prompts = prompts_for(model)
    assert choose_way(model, prompts).name == "replay-stepped"

    def refuse(*_: Any) -> None:
        raise WayError("not these")

    monkeypatch.setattr(SteppedReplay, "__init__", refuse)
    assert choose_way(model, prompts).name == "replay-whole"


def test_a_step_needs_the_change_at_the_end() -> None:
    model = loaded("causal:bloom")
    with pytest.raises(WayError, match="not the last one of a causal prompt"):
        SteppedReplay(model, prompts_for(model, 3))
    assert WholeReplay(model, prompts_for(model, 3)).tokens_per_row == 13


# Arguments of rows.


def recorded(rows: int) -> Call:
    hidden = torch.zeros(rows, 5, 2)
    nested = {"each": torch.arange(rows), "all": torch.arange(4)}
    distances = torch.arange(3 * rows).reshape(3 * rows, 1)
    return Call(nn.Identity(), (hidden, (distances, None)), {"nested": nested, "flag": True}, hidden)


def test_arguments_with_entries_for_each_row_are_told_from_those_of_all() -> None:
    known = row_arguments([recorded(1)], [recorded(2)])
    assert known == {"0 1.0": True, "0 nested.each": True, "0 nested.all": False}
    chosen = of_rows(recorded(4), 0, known, torch.tensor([2, 2, 0]), 4)
    found = tensors(chosen)
    assert found["1.0"][:, 0].tolist() == [6, 7, 8, 6, 7, 8, 0, 1, 2]
    assert found["nested.each"].tolist() == [2, 2, 0]
    assert found["nested.all"].tolist() == [0, 1, 2, 3]
    assert chosen.kwargs["flag"] is True
    assert chosen.args[1][1] is None


def test_a_cache_of_some_rows_leaves_the_cache_as_it_was() -> None:
    cache = DynamicCache()
    keys = torch.arange(12.0).reshape(3, 1, 2, 2)
    cache.update(keys, -keys, 0)
    chosen = cache_of_rows(cache, torch.tensor([2, 0, 2]))
    new = torch.full((3, 1, 1, 2), 9.0)
    found, _ = chosen.update(new, new, 0)
    assert torch.equal(found, torch.cat([keys[[2, 0, 2]], new], dim=2))
    layer: Any = cache.layers[0]
    assert torch.equal(layer.keys, keys)


# Layers without feed-forward neurons.


def test_layers_without_neurons_have_none_in_everything_that_counts_them() -> None:
    model = loaded("causal:nemotron_h")
    layout, ids = model.layout(), model.probe_ids
    assert [width > 0 for width in layout.widths] == [False, True, False, True]
    assert model.site("ffn").proofs[0].width == 0
    with torch.no_grad(), capture(model, "ffn") as seen:
        clean = model.logits(ids)
    assert [tuple(values.shape) for values in seen.values()] == [(2, 7, width) for width in layout.widths]
    with torch.no_grad(), suppress(model, layout.set([layout.at(3, place) for place in range(layout.widths[3])])):
        assert not torch.equal(model.logits(ids), clean)
    assert torch.equal(model.logits(ids), clean)
    scores = attribute(model, "w11 w52 w33 [MASK]", "w8", steps=3)
    assert scores.layer(0).size == scores.layer(2).size == 0
    assert scores.at_least(0.1).layer_histogram().tolist()[::2] == [0, 0]
    # Nothing is zeroed there, so P stays what it is.
    assert scores.zeroed[[0, 2]] == pytest.approx(scores.answered.probability, rel=1e-5)
    assert scores.gaps[[0, 2]] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("layer", [1, 3])
def test_a_layer_that_has_neurons_is_not_passed_off_as_one_without(layer: int) -> None:
    model = loaded("causal:nemotron_h")
    points = list(model.site("ffn").points)
    block = model.blocks[layer]
    points[layer] = replace(points[0], layer=layer, path=block.path, module=block.module)
    with pytest.raises(SiteError, match=f"layer {layer}"):
        prove(model.module, Site("ffn", tuple(points)), lambda: model.logits(model.probe_ids))


def test_layers_that_are_no_modules_have_feed_forward_neurons_and_no_hidden_states() -> None:
    wanted = next(a for a in architectures() if a.name == "masked:flaubert")
    model = load((build(wanted), toy_tokenizer()))
    paths = [point.path for point in model.site("ffn").points]
    assert paths == [f"transformer.ffns.{layer}.lin2" for layer in range(4)]
    with pytest.raises(SiteError, match="its layers are no modules of their own"):
        model.site("hidden")
    # Their halves cannot be run one after the other, and no way that tries is taken.
    assert prove_ways(model).at_answer == "plain"


def test_a_model_in_which_no_layer_has_neurons_has_no_such_site() -> None:
    wanted = next(a for a in architectures() if a.name == "causal:mamba")
    with pytest.raises(SiteError, match="0 position-wise projections write to the residual stream"):
        load((build(wanted), toy_tokenizer()))
