"""Attribution against other people's numbers, another library's integrals, and what must hold of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from safetensors.numpy import load_file
from transformers import BertForMaskedLM, BertTokenizer

import neuronatlas as na
from neuronatlas.knowledge.attribution import AttributionError, attribute_queries
from neuronatlas.knowledge.quadrature import QUADRATURES, rule_nodes, usual_steps
from neuronatlas.knowledge.rules import chosen_rule, rule_steps
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.queries import Query, query
from tests.knowledge.planted import planted_facts

CAPTUM = {
    "gauss-legendre": "gausslegendre",
    "left-riemann": "riemann_left",
    "right-riemann": "riemann_right",
    "midpoint": "riemann_middle",
}


def queries_of(model: na.Model, facts: list[na.Fact]) -> list[Query]:
    return [query(model, left, right, fact.answer) for fact in facts for left, right in fact.split()]


def test_the_papers_setting_gives_the_official_scores_in_float64(
    golden_model: na.Model, golden_prompts: list[tuple[str, str]], golden_dir: Path
) -> None:
    expected = load_file(golden_dir / "knowledge-neurons" / "expected.safetensors")
    for index, (prompt, answer) in enumerate(golden_prompts):
        scores = na.attribute(golden_model, prompt, answer, rule="left-riemann", steps=20)
        official = expected["official"][index]
        assert np.abs(scores.matrix() - official).max() <= 1e-9 * np.abs(official).max()
        assert scores.answered.probability == pytest.approx(float(expected["p_gold"][index]), abs=1e-12)
        baseline = na.attribute(golden_model, prompt, answer, rule="activation")
        np.testing.assert_allclose(baseline.matrix(), expected["base"][index], atol=1e-12)


def test_the_papers_setting_gives_the_official_scores_in_float32(
    golden_prompts: list[tuple[str, str]], golden_dir: Path
) -> None:
    folder = golden_dir / "knowledge-neurons"
    module = BertForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    model = na.load((module, BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)))
    expected = load_file(folder / "expected.safetensors")["official"]
    for index, (prompt, answer) in enumerate(golden_prompts):
        scores = na.attribute(model, prompt, answer, rule="left-riemann", steps=20)
        assert np.abs(scores.matrix() - expected[index]).max() <= 1e-4 * np.abs(expected[index]).max()


@pytest.mark.parametrize("rule", CAPTUM)
def test_integrals_agree_with_captum(golden_model: na.Model, golden_prompts: list[tuple[str, str]], rule: str) -> None:
    prompt, answer = golden_prompts[2]
    scores = na.attribute(golden_model, prompt, answer, rule=rule, steps=6)
    asked = scores.query
    ids = torch.tensor([asked.first.ids])
    module: Any = golden_model.module
    for layer, block in enumerate(module.bert.encoder.layer):

        def forward(neurons: torch.Tensor, block: Any = block) -> torch.Tensor:
            def put(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
                changed = output.clone()
                changed[:, asked.first.position] = neurons
                return changed

            handle = block.intermediate.register_forward_hook(put)
            try:
                logits: torch.Tensor = module(ids.expand(len(neurons), -1)).logits
            finally:
                handle.remove()
            return logits[:, asked.first.answer_position].softmax(-1)[:, asked.first.answer_id]

        neurons = torch.from_numpy(scores.activations.layer(layer).copy())[None]
        expected = IntegratedGradients(forward).attribute(neurons, n_steps=6, method=CAPTUM[rule])[0]
        np.testing.assert_allclose(scores.layer(layer), expected.detach().numpy(), atol=1e-9, rtol=1e-6)


def test_scores_do_not_depend_on_the_batch_or_its_size(planted: na.Model) -> None:
    asked = queries_of(planted, planted_facts())
    alone = [next(attribute_queries(planted, [q])) for q in asked]
    for budget in (1, 40, 10_000):
        for single, batched in zip(alone, attribute_queries(planted, asked, budget=budget), strict=True):
            np.testing.assert_allclose(batched.values, single.values, atol=1e-5 * np.abs(single.values).max())


def test_the_completeness_gap_is_what_the_scores_miss_and_shrinks_with_more_nodes(planted: na.Model) -> None:
    fact = planted_facts()[0]
    coarse = na.attribute(planted, fact.prompts[0], fact.answer, rule="left-riemann", steps=3)
    fine = na.attribute(planted, fact.prompts[0], fact.answer, steps=12)
    for layer in range(2):
        missing = fine.layer(layer).sum() - (fine.answered.probability - fine.zeroed[layer])
        assert fine.gaps[layer] == pytest.approx(missing, abs=1e-7)
    assert fine.gap < 1e-3 < coarse.gap


def test_zeroed_is_the_probability_with_a_layer_suppressed(planted: na.Model) -> None:
    fact = planted_facts()[1]
    scores = na.attribute(planted, fact.prompts[1], fact.answer)
    for layer, width in enumerate(scores.layout.widths):
        everything = scores.layout.set(na.Neuron(layer, unit) for unit in range(width))
        outcome = na.effects(planted, na.Fact("r", None, fact.answer, [fact.prompts[1]]), everything, gains=[0.0])
        assert outcome["p_after"][0] == pytest.approx(float(scores.zeroed[layer]), abs=1e-6)


def test_inside_an_intervention_the_changed_model_is_attributed(planted: na.Model) -> None:
    fact = planted_facts()[0]
    before = na.attribute(planted, fact.prompts[0], fact.answer)
    strongest = before.layout.set(before.top(1))
    with na.suppress(planted, strongest):
        inside = na.attribute(planted, fact.prompts[0], fact.answer)
    after = na.attribute(planted, fact.prompts[0], fact.answer)
    assert inside.way == "plain"
    assert inside.answered.probability < before.answered.probability
    assert inside[strongest.members[0]] == 0.0
    np.testing.assert_array_equal(after.values, before.values)


def test_other_positions_and_sites_can_be_attributed(planted: na.Model) -> None:
    fact = planted_facts()[3]
    at_subject = na.attribute(planted, fact.prompts[0], fact.answer, position="subject", subject=fact.subject)
    step = at_subject.query.first
    assert step.ids[step.position] == planted.tokenizer.convert_tokens_to_ids("subject3")
    # The subject's last layer cannot reach the mask any more.
    assert not at_subject.layer(1).any()
    for site in ("attention", "hidden"):
        scores = na.attribute(planted, fact.prompts[0], fact.answer, site=site)
        assert scores.way == "plain"
        assert scores.layout.widths == planted.site(site).widths
        assert np.abs(scores.values).max() > 0


def test_rules_are_what_their_names_say() -> None:
    assert rule_nodes("left-riemann", 4)[0] == (0.0, 0.25, 0.5, 0.75)
    assert rule_nodes("right-riemann", 4)[0] == (0.25, 0.5, 0.75, 1.0)
    assert rule_nodes("midpoint", 2)[0] == (0.25, 0.75)
    assert rule_nodes("grad-x-activation", 1) == ((1.0,), (1.0,))
    nodes, weights = rule_nodes("gauss-legendre", 3)
    # Three nodes integrate polynomials up to the fifth degree exactly.
    for power in range(6):
        assert sum(w * x**power for x, w in zip(nodes, weights, strict=True)) == pytest.approx(1 / (power + 1))
    for name in QUADRATURES:
        steps = usual_steps(name, None, kinks=False)
        assert math.isclose(sum(rule_nodes(name, steps)[1]), 1.0)


def test_neurons_with_kinks_get_more_nodes_unless_the_steps_are_named(planted: na.Model) -> None:
    assert usual_steps("gauss-legendre", None, kinks=True) > usual_steps("gauss-legendre", None, kinks=False)
    assert usual_steps("gauss-legendre", 7, kinks=True) == usual_steps("gauss-legendre", 7, kinks=False) == 7
    assert usual_steps("left-riemann", None, kinks=True) == usual_steps("left-riemann", None, kinks=False) == 20
    assert rule_steps("activation", 7, kinks=True) == 0
    fact = planted_facts()[0]
    usual = na.attribute(planted, fact.prompts[0], fact.answer)
    steps = usual_steps("gauss-legendre", None, kinks=has_kinks(planted))
    named = na.attribute(planted, fact.prompts[0], fact.answer, steps=steps)
    assert np.array_equal(usual.values, named.values)


@pytest.mark.parametrize(
    ("rule", "steps", "said"), [("simpson", None, "no rule 'simpson'"), ("midpoint", 0, "0 steps")]
)
def test_an_impossible_rule_is_refused(rule: str, steps: int | None, said: str) -> None:
    with pytest.raises(na.RuleError, match=said):
        chosen_rule(rule, steps)


def test_scores_that_are_not_numbers_are_refused_by_name(planted: na.Model) -> None:
    module: Any = planted.module
    fact, weight = planted_facts()[0], module.bert.encoder.layer[1].output.dense.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, 0] = torch.nan
    try:
        with pytest.raises(AttributionError, match=r"not a finite number"):
            na.attribute(planted, fact.prompts[0], fact.answer)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
