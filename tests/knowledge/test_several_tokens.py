"""Answers of several tokens: each is attributed at its own place, and the whole is their sum."""

from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from captum.attr import IntegratedGradients
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import neuronatlas as na
from neuronatlas.knowledge.attribution import attribute_queries, fact_queries
from neuronatlas.models.queries import Step
from neuronatlas.models.taps import Point
from neuronatlas.specimen import specimen_facts, specimen_folder
from neuronatlas.studies.sweep.toys import Architecture, build

TOYS = {
    "bert": Architecture("bert", "BertForMaskedLM", "masked"),
    "gpt2": Architecture("gpt2", "GPT2LMHeadModel", "causal"),
    "llama": Architecture("llama", "LlamaForCausalLM", "causal"),
}
# Llama's norms compute in float32, whatever the weights are in.
TOLERANCE = {"bert": 1e-9, "gpt2": 1e-9, "llama": 1e-6}
PROMPT, ANSWER = "w11 w52 w33 w74 [MASK]", "w40 w41 w42"


def words() -> PreTrainedTokenizerFast:
    backend = Tokenizer(WordLevel({f"w{n}": n for n in range(99)} | {"[MASK]": 99}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]", unk_token="w0")


@pytest.fixture(scope="module", params=list(TOYS))
def toy(request: pytest.FixtureRequest) -> na.Model:
    """A random model of each kind, in float64."""
    return na.load((build(TOYS[request.param]).double(), words()))


@pytest.fixture(scope="module")
def specimen() -> na.Model:
    return na.load(specimen_folder())


def test_p_of_the_answer_is_the_product_along_it(toy: na.Model) -> None:
    scores = na.attribute(toy, PROMPT, ANSWER, steps=1)
    logs = []
    for done in range(3):
        filled = ["w11", "w52", "w33", "w74", *ANSWER.split()[:done]]
        shown = filled if toy.kind == "causal" else [*filled, *["[MASK]"] * (3 - done)]
        ids = torch.tensor([toy.tokenizer.convert_tokens_to_ids(shown)])
        with torch.no_grad():
            logs.append(float(toy.logits(ids)[0, len(filled) - (toy.kind == "causal")].log_softmax(0)[40 + done]))
    assert scores.answered.token_log_probabilities == pytest.approx(logs, abs=1e-9)
    assert scores.answered.probability == pytest.approx(np.exp(sum(logs)), rel=1e-9)
    assert scores.answered.mean_log_probability == pytest.approx(np.mean(logs), abs=1e-9)
    assert scores.answered.log_odds == pytest.approx(np.log(np.exp(sum(logs)) / (1 - np.exp(sum(logs)))), abs=1e-9)


def test_each_tokens_log_p_is_integrated_at_its_own_place_and_the_whole_is_the_sum(toy: na.Model) -> None:
    """Captum integrates log P of each token over the neurons at that token's place."""
    scores = na.attribute(toy, PROMPT, ANSWER, rule="gauss-legendre", steps=4)
    assert scores.unit == "log P"
    assert len(scores.tokens) == 3
    np.testing.assert_allclose(scores.values, sum(token.values for token in scores.tokens))
    for token in scores.tokens:
        step = token.query.first
        for point in toy.site("ffn").points:
            clean = torch.from_numpy(token.activations.layer(point.layer).copy())[None]
            forward = partial(log_p_of_neurons, toy, step, point)
            found = IntegratedGradients(forward).attribute(clean, n_steps=4, method="gausslegendre")[0]
            tolerance = TOLERANCE[toy.module.config.model_type] * np.abs(scores.values).max()
            np.testing.assert_allclose(token.layer(point.layer), found.detach().numpy(), atol=tolerance, rtol=0)


def log_p_of_neurons(model: na.Model, step: Step, point: Point, neurons: torch.Tensor) -> torch.Tensor:
    """log P of a step's token with the neurons of a layer set, a row each."""

    def put(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        changed = args[0].clone()
        changed[:, step.position] = neurons
        return (changed, *args[1:])

    handle = point.module.register_forward_pre_hook(put)
    try:
        logits = model.logits(torch.tensor([step.ids]).expand(len(neurons), -1))
    finally:
        handle.remove()
    return logits[:, step.answer_position].log_softmax(-1)[:, step.answer_id]


def test_the_gap_of_each_token_is_told_and_they_add_up(toy: na.Model) -> None:
    coarse, fine = (na.attribute(toy, PROMPT, ANSWER, rule="left-riemann", steps=n) for n in (2, 64))
    np.testing.assert_allclose(coarse.gaps, np.sum([token.gaps for token in coarse.tokens], axis=0), atol=1e-12)
    for before, after in zip(coarse.tokens, fine.tokens, strict=True):
        assert after.gap < before.gap
    zeroed = fine.layout.set(fine.layout.at(1, unit) for unit in range(fine.layout.widths[1]))
    fact = na.Fact("r", None, ANSWER, [PROMPT])
    outcome = na.effects(toy, fact, zeroed, gains=[0.0])
    assert 3 * outcome["mean_log_p_after"][0] == pytest.approx(float(fine.zeroed[1]), abs=1e-9)


def test_replay_gives_the_same_as_full_re_runs(toy: na.Model) -> None:
    asked = list(fact_queries(toy, na.Fact("r", None, ANSWER, [PROMPT, "w5 w6 [MASK]"])).values())
    fast = list(attribute_queries(toy, asked, steps=3))
    nothing = toy.layout().set([])
    with na.suppress(toy, nothing):
        plain = list(attribute_queries(toy, asked, steps=3))
    assert {score.way for score in plain} == {"plain"}
    assert "plain" not in {score.way for score in fast}
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(
            one.values, other.values, atol=TOLERANCE[toy.module.config.model_type] * np.abs(other.values).max()
        )


def test_answers_of_one_and_of_several_tokens_share_a_run_without_touching(toy: na.Model) -> None:
    facts = [
        na.Fact("r", "a", "w40", [PROMPT]),
        na.Fact("r", "b", ANSWER, [PROMPT]),
        na.Fact("r", "c", "w41", [PROMPT]),
    ]
    asked = [fact_queries(toy, fact)[0] for fact in facts]
    together = list(attribute_queries(toy, asked, steps=2))
    assert [scores.unit for scores in together] == ["P", "log P", "P"]
    for scores, one in zip(together, asked, strict=True):
        alone = next(attribute_queries(toy, [one], steps=2))
        np.testing.assert_allclose(
            scores.values, alone.values, atol=TOLERANCE[toy.module.config.model_type] * np.abs(alone.values).max()
        )


def test_neurons_are_located_for_the_whole_answer_and_for_each_of_its_tokens(toy: na.Model) -> None:
    found = na.locate(toy, na.Fact("r", None, ANSWER, [PROMPT, "w5 w6 [MASK]"]), share=0.5)
    assert len(found.tokens) == 3
    for number, neurons in enumerate(found.tokens):
        single = [na.attribute(toy, prompt, ANSWER).tokens[number].at_least(0.2) for prompt in (PROMPT, "w5 w6 [MASK]")]
        assert neurons == single[0] & single[1]


def left(table: pl.DataFrame) -> float:
    """What is left of P(answer) over all prompts."""
    return float(table.select(pl.sum("p_after") / pl.sum("p_before")).item())


@pytest.mark.parametrize("n_words", [2, 3])
def test_suppressing_what_was_found_moves_the_whole_answer(specimen: na.Model, n_words: int) -> None:
    every = [fact for fact in specimen_facts(one_word=False) if fact.words == n_words]
    facts = every[:: len(every) // 8]
    moved, control, tokens = [], [], []
    for fact in facts:
        given = na.Fact(fact.relation, fact.subject, fact.answer, fact.prompts[:4])
        neurons = na.locate(specimen, given)
        table = na.effects(specimen, given, neurons, gains=[0.0])
        random = na.effects(specimen, given, neurons.random_like(seed=0), gains=[0.0])
        moved.append(left(table))
        control.append(left(random))
        tokens.append(len(neurons.tokens))
    assert tokens == [n_words] * len(facts)
    assert np.mean(moved) < 0.8
    assert np.mean(control) > 0.95
