"""Edits of models of many kinds: Linear and Conv1D, tied and untied, shared layers, experts; saved, loaded, undone."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import neuronatlas as na
from neuronatlas.knowledge.edits import require_known
from neuronatlas.neurons import LayoutMismatchError
from neuronatlas.studies.sweep.toys import Architecture, Kind, build, toy_tokenizer

CLASSES: dict[str, tuple[str, Kind]] = {
    "bert": ("BertForMaskedLM", "masked"),
    "albert": ("AlbertForMaskedLM", "masked"),
    "gpt2": ("GPT2LMHeadModel", "causal"),
    "gpt_neox": ("GPTNeoXForCausalLM", "causal"),
    "llama": ("LlamaForCausalLM", "causal"),
    "mixtral": ("MixtralForCausalLM", "causal"),
    "qwen2_moe": ("Qwen2MoeForCausalLM", "causal"),
    "gpt_oss": ("GptOssForCausalLM", "causal"),
}
LOOSE = na.ExactSettings(kept_share=0.0)
every_model = pytest.mark.parametrize("name", CLASSES)
FACT = na.Fact("toy", "w20", "w30", ["w11 w20 w12 [MASK]", "w13 w14 w20 [MASK]", "w15 w20 w16 w17 [MASK]"])


@cache
def model_of(name: str) -> na.Model:
    architecture, kind = CLASSES[name]
    return na.load((build(Architecture(name, architecture, kind)), toy_tokenizer()))


def some(model: na.Model) -> na.NeuronSet:
    layout = model.layout("ffn")
    return layout.set([layout.at(0, 1), layout.at(1, layout.widths[1] - 1), layout.at(2, 7)])


def odds(model: na.Model, answer: str) -> list[float]:
    return [na.attribute(model, p, answer, rule="activation").answered.log_odds for p in FACT.prompts]


@every_model
def test_an_update_by_either_rule_comes_undone(name: str) -> None:
    model = model_of(name)
    before = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    for rule in na.UPDATE_RULES:
        edit = na.update(model, FACT, "w31", neurons=some(model), rule=rule)
        assert edit.diff()["change"].min() > 0  # type: ignore[operator]
        edit.undo()
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.module.state_dict().items())


@pytest.mark.parametrize("name", ["albert", "gpt2", "mixtral"])
def test_the_exact_edit_raises_the_new_answer_to_what_it_asks_for(name: str) -> None:
    model, fact = model_of(name), na.Fact(FACT.relation, FACT.subject, FACT.answer, FACT.prompts[:1])
    edit = na.exact_update(model, fact, "w31", keep=["w40 w41 w42 w43", "w50 w51 w52 w53"], settings=LOOSE)
    assert na.attribute(model, fact.prompts[0], "w31", rule="activation").answered.is_top
    edit.undo()


@every_model
def test_a_saved_edit_is_loaded_by_transformers_and_undone_from_its_folder(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    clean = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    edit = na.erase(model, some(model))
    folder = edit.save(tmp_path / "edited")
    auto = transformers.AutoModelForMaskedLM if model.kind == "masked" else transformers.AutoModelForCausalLM
    plain = auto.from_pretrained(folder).eval()
    with torch.no_grad():
        expected, found = model.logits(model.probe_ids), plain(input_ids=model.probe_ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    again = na.load(folder)
    [read] = na.read_edits(again, folder)
    assert read.neurons == edit.neurons
    assert read.layers == edit.layers
    read.undo()
    edit.undo()
    assert all(torch.equal(tensor, clean[key]) for key, tensor in again.module.state_dict().items())


@pytest.mark.parametrize("undone", [False, True])
def test_neurons_found_before_an_edit_are_good_in_the_model_that_was_saved_with_it(
    undone: bool, tmp_path: Path
) -> None:
    model = model_of.__wrapped__("gpt2")
    before, between = some(model), na.erase(model, model.layout("ffn").set(["L1.U7"]))
    edit = na.erase(model, model.layout("ffn").set(["L1.U3"]))
    if undone:
        between.undo()
    again = na.load(edit.save(tmp_path / "edited"))
    with pytest.raises(LayoutMismatchError):
        require_known(again, before)
    na.read_edits(again, tmp_path / "edited")
    assert list(require_known(again, before)) == list(before)
    for read in reversed(na.live_edits(again)):
        read.undo()
        assert list(require_known(again, before)) == list(before)
    with torch.no_grad():
        next(again.module.parameters()).add_(1.0)
    with pytest.raises(LayoutMismatchError):
        require_known(again, before)


def test_layers_that_share_weights_all_stand_in_the_record() -> None:
    model = model_of("albert")
    edit = na.erase(model, model.layout("ffn").set(["L1.U3"]))
    assert edit.layers == tuple(range(model.layout("ffn").n_layers))
    assert edit.diff()["layers"].to_list() == [list(edit.layers)]
    with pytest.raises(na.EditError, match="would change nothing"):
        na.erase(model, model.layout("ffn").set(["L0.U3"]))  # the same slot
    edit.undo()


def test_half_precision_comes_undone_to_the_bit() -> None:
    module: Any = build(Architecture("gpt2", *CLASSES["gpt2"]))
    module = module.to(torch.bfloat16)
    model = na.load((module, toy_tokenizer()))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    edit = na.update(model, FACT, "w31", neurons=some(model))
    assert {change.after.dtype for change in edit.changes} == {torch.bfloat16}
    edit.undo()
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
