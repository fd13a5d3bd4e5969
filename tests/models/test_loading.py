import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import Model, ModelError, load

ModelOf = Callable[[str], Model]
Break = Callable[[Path], Any]


@pytest.fixture
def folder(tmp_path: Path, model_of: ModelOf, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A toy BERT as transformers writes it."""
    model_of("bert").module.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_gives_the_model_that_was_saved(folder: Path, model_of: ModelOf, ids: torch.Tensor) -> None:
    saved = model_of("bert")
    for source in (folder, str(folder)):
        model = load(source)
        assert (model.kind, model.name, model.revision) == ("masked", str(folder), None)
        assert model.digest == saved.digest
        assert model.layout() == saved.layout()
        assert torch.equal(model.logits(ids), saved.logits(ids))
        assert not model.module.training


def test_a_folder_in_the_home_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch, model_of: ModelOf) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load("~/model").digest == model_of("bert").digest


def test_half_precision_weights_run_in_float32_on_a_cpu_or_as_asked_for(folder: Path) -> None:
    load(folder).module.half().save_pretrained(folder)
    assert load(folder, device="cpu").dtype == torch.float32
    assert load(folder, device="cpu", dtype="float64").dtype == torch.float64


def test_a_model_in_memory_is_set_to_evaluation(
    module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor
) -> None:
    model = load((module_of("gpt2").train(), tokenizer))
    assert not any(module.training for module in model.module.modules())
    assert model.kind == "causal"
    assert torch.equal(model.logits(ids), model.logits(ids))


def test_loading_a_model_in_memory_changes_nothing_of_it(
    module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor
) -> None:
    module = module_of("llama")
    frozen = next(iter(module.parameters())).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    logits = module(input_ids=ids).logits
    load((module, tokenizer))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(module(input_ids=ids).logits, logits)
    assert [p.requires_grad for p in module.parameters()] == [p is not frozen for p in module.parameters()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in module.modules())


def _pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def _half(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


BROKEN: dict[str, tuple[Break, str]] = {
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    "a configuration that is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
    "an unknown architecture": (lambda folder: configure(folder, model_type="martian"), "martian"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
    "pickled weights alone": (_pickle_alone, "no file named model.safetensors"),
    "half of the weights' bytes": (_half, "cannot be loaded"),
    "an empty file of weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "cannot be loaded"),
    "weights for fewer layers": (
        lambda folder: configure(folder, num_hidden_layers=5),
        r"lack 32 tensors .*such as bert\.\S+",
    ),
    "weights of another width": (
        lambda folder: configure(folder, intermediate_size=50),
        r"intermediate|size|shape|fit",
    ),
    "no tokenizer": (_no_tokenizer, "tokenizer"),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_gives_one_clear_line(case: str, folder: Path) -> None:
    broken, reason = BROKEN[case]
    broken(folder)
    with pytest.raises(ModelError, match=reason) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "ignore_mismatched_sizes" not in str(caught.value), "an option that the user does not have"


@pytest.mark.parametrize("source", ["file", "nothing", "a/b/c", "./nothing", "~/nothing"])
def test_what_is_no_folder_gives_one_clear_line(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    given = source if "/" in source else str(tmp_path / source)
    with pytest.raises(ModelError, match="is not a folder with a model; give a folder or a hub id"):
        load(given)


@pytest.mark.parametrize("dtype", ["floaty", "relu", ""])
def test_a_dtype_that_is_none_gives_one_clear_line(dtype: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=f"no dtype '{dtype}': expected auto, float32"):
        load(folder, dtype=dtype)


def test_a_dtype_without_fractions_gives_one_clear_line(folder: Path) -> None:
    with pytest.raises(ModelError, match="int8"):
        load(folder, dtype="int8")


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / "configuration_own.py").write_text(f"open({str(marker)!r}, 'w').close()")
    configure(folder, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    with pytest.raises(ModelError, match="custom code") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_device_that_is_none_gives_one_clear_line(folder: Path) -> None:
    with pytest.raises(ModelError, match="banana"):
        load(folder, device="banana")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_gives_one_clear_line(folder: Path) -> None:
    with pytest.raises(ModelError, match="cuda"):
        load(folder, device="cuda")


def test_a_classifier_is_refused_for_want_of_its_head(folder: Path) -> None:
    config = transformers.BertConfig.from_pretrained(folder)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"the weights lack \d+ tensors of BertForMaskedLM, such as cls"):
        load(folder)
