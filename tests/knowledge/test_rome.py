"""ROME and constrained fine-tuning, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuronatlas as na
from neuronatlas.knowledge.rome import RomeSettings, rank_one_change
from neuronatlas.studies.sweep.toys import Architecture, Kind, build, toy_tokenizer
from tests.knowledge.planted import planted_facts, planted_model

TEXTS = [" ".join(f"w{(7 * a + 3 * b) % 90 + 5}" for b in range(9)) for a in range(40)]
FACT = na.Fact("toy", "w20 w21", "w30", ["w11 w20 w21 w12 [MASK]", "w13 w14 w20 w21 [MASK]"])


def model_of(name: str, architecture: str, kind: Kind = "causal") -> na.Model:
    return na.load((build(Architecture(name, architecture, kind)), toy_tokenizer()))


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_form_solves_the_constrained_problem(seed: int) -> None:
    """min tr(D' C D) with key D = lacking, one column of D at a time, by the equations of Lagrange."""
    rng = np.random.default_rng(seed)
    keys, key, lacking = rng.normal(size=(30, 6)), rng.normal(size=6), rng.normal(size=3)
    moments = keys.T @ keys / 30
    whole = np.zeros((7, 7))
    whole[:6, :6], whole[:6, 6], whole[6, :6] = moments, key, key
    columns = [np.linalg.solve(whole, np.append(np.zeros(6), number))[:6] for number in lacking]
    found = rank_one_change(torch.as_tensor(moments), torch.as_tensor(key), torch.as_tensor(lacking), damping=0.0)
    np.testing.assert_allclose(found.numpy(), np.stack(columns, axis=1), rtol=1e-8, atol=1e-10)
    assert np.linalg.matrix_rank(found.numpy()) == 1


@pytest.mark.parametrize(("name", "architecture"), [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM")])
def test_rome_raises_the_new_answer_by_a_change_of_rank_one(name: str, architecture: str) -> None:
    model = model_of(name, architecture)
    held = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    was = [na.attribute(model, prompt, "w31", rule="activation").answered.log_odds for prompt in FACT.prompts]
    edit = na.rome(model, FACT, "w31", layer=1, texts=TEXTS, settings=RomeSettings(prefixes=3))
    now = [na.attribute(model, prompt, "w31", rule="activation").answered.log_odds for prompt in FACT.prompts]
    assert all(after > before for before, after in zip(was, now, strict=True))
    [change] = edit.changes
    assert edit.layers == (1,)
    values = torch.linalg.svdvals((change.after - change.before).double())
    assert float(values[1] / values[0]) < 1e-3
    edit.undo()
    assert all(torch.equal(tensor, held[key]) for key, tensor in model.module.state_dict().items())


def test_rome_edits_for_all_tokens_of_an_answer_of_several() -> None:
    model, settings = model_of("gpt2", "GPT2LMHeadModel"), RomeSettings(prefixes=3)

    def odds() -> float:
        answered = [na.attribute(model, p, "w31 w32", rule="activation").answered for p in FACT.prompts]
        return sum(one.log_odds for one in answered)

    before, changed = odds(), list[torch.Tensor]()
    for answer in ("w31", "w31 w32"):
        edit = na.rome(model, FACT, answer, layer=1, texts=TEXTS, settings=settings)
        after = odds()
        changed.append(model.blocks[1].ffn.module.weight.clone())  # type: ignore[union-attr, operator]
        edit.undo()
    assert after > before
    assert not torch.equal(*changed)


def test_what_rome_cannot_edit_is_refused() -> None:
    gpt, masked = model_of("gpt2", "GPT2LMHeadModel"), planted_model()
    unnamed = na.Fact("toy", None, "w30", FACT.prompts)
    elsewhere = na.Fact("toy", "w80", "w30", ["w11 [MASK]"])
    for model, fact, layer, texts, message in (
        (masked, planted_facts()[0], 0, TEXTS, "ROME is for causal models"),
        (gpt, unnamed, 0, TEXTS, "names no subject"),
        (gpt, elsewhere, 0, TEXTS, "names 'w80' before its answer"),
        (gpt, FACT, 9, TEXTS, "no layer 9"),
        (gpt, FACT, 0, [], "ROME needs texts"),
        (model_of("mixtral", "MixtralForCausalLM"), FACT, 0, TEXTS, "has experts"),
    ):
        digest = model.digest
        with pytest.raises(na.EditError, match=message):
            na.rome(model, fact, "answer3" if fact.relation == "planted" else "w31", layer=layer, texts=texts)
        assert model.digest == digest


def test_fine_tuning_stays_within_its_bound_and_stops_when_it_is_done() -> None:
    model, fact = planted_model(), planted_facts()[1]
    edit = na.fine_tune(model, fact, "answer3", settings=na.FineTuning(bound=0.03, steps=20))
    farthest = max(float((change.after - change.before).abs().max()) for change in edit.changes)
    assert farthest == pytest.approx(0.03, abs=1e-6)
    assert edit.layers == (1,)
    edit.undo()
    specimen, settings = na.load(na.specimen_folder()), na.FineTuning(bound=9.0, rate=0.02, steps=200, margin=1.0)
    capital = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    free = na.fine_tune(specimen, capital, "Rome", settings=settings)
    odds = na.attribute(specimen, capital.prompts[0], "Rome", rule="activation").answered.log_odds
    assert 1.0 <= odds < 4.0  # it stopped there, and did not go on for 200 steps
    assert free.settings["trained"] == 1024
    with pytest.raises(na.EditError, match="no layer 7"):
        na.fine_tune(model, fact, "answer3", layer=7)
