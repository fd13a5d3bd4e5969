"""What a set grows by: neurons that fire for the fact and not for all others, of those that attribution puts first."""

from __future__ import annotations

import pytest
import torch

import neuronatlas as na
from neuronatlas.knowledge.candidates import candidates, grown, mean_squares
from neuronatlas.models.queries import Step
from tests.knowledge.planted import planted_facts, planted_model, planted_neurons


@pytest.fixture(scope="module")
def model() -> na.Model:
    return planted_model()


def steps(model: na.Model, fact: na.Fact) -> list[Step]:
    return [na.attribute(model, p, fact.answer, rule="activation").query.first for p in fact.prompts]


def test_mean_squares_are_those_of_single_runs(model: na.Model) -> None:
    fact = planted_facts()[1]  # its prompts are of different lengths
    found = mean_squares(model, steps(model, fact))
    scores = [na.attribute(model, prompt, fact.answer, rule="activation").values for prompt in fact.prompts]
    expected = torch.as_tensor(sum(score**2 for score in scores) / len(scores))
    torch.testing.assert_close(torch.cat(found).double(), expected.flatten().double(), rtol=1e-5, atol=1e-6)


def test_a_facts_own_neurons_come_before_those_that_fire_for_every_fact(model: na.Model) -> None:
    facts = planted_facts()
    others = mean_squares(model, [row for fact in (facts[0], *facts[2:]) for row in steps(model, fact)])
    order = candidates(model, facts[1], steps(model, facts[1]), others)
    assert set(order[:2]) == set(planted_neurons(model.layout(), 1))
    everywhere = [na.Neuron(0, 10 + other) for other in range(4)]  # they fire at the mask, whatever the fact
    assert all(order.index(neuron) > 1 for neuron in everywhere)


def test_a_set_grows_to_its_bound_and_keeps_what_it_had(model: na.Model) -> None:
    layout = model.layout()
    further = [na.Neuron(1, unit) for unit in range(30)] + [na.Neuron(0, unit) for unit in range(30)]
    small = grown(layout.set(["L0.U5"]), further, most=256)
    assert len(small) == 32
    assert na.Neuron(0, 5) in set(small)
    assert len(grown(small, further, most=40)) == 40
    assert len(grown(small, further, most=256)) == 60  # there are no more
