"""Effects: what an intervention reports is what the model does under it."""

import numpy as np
import pytest
import torch

import neuronatlas as na
from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.knowledge.controls import matched_control
from neuronatlas.knowledge.effects import Trial, run_trials
from neuronatlas.models.answers import log_odds
from tests.knowledge.planted import planted_facts


def test_a_gain_of_one_changes_nothing_and_other_gains_are_those_of_the_context_manager(planted: na.Model) -> None:
    fact = planted_facts()[0]
    neurons = na.locate(planted, fact)
    table = na.effects(planted, fact, neurons, gains=[0.0, 1.0, 3.0])
    for row in table.iter_rows(named=True):
        asked = fact_queries(planted, fact)[row["prompt"]]
        with torch.no_grad(), na.scale(planted, neurons, row["gain"], positions=asked.first.position):
            logits = planted.logits(torch.tensor([asked.first.ids]))[0, asked.first.answer_position].double()
        expected = logits.softmax(-1)[asked.first.answer_id]
        assert row["p_after"] == pytest.approx(float(expected), abs=1e-6)
        assert row["log_odds_after"] == pytest.approx(float(torch.logit(expected)), abs=1e-4)
        assert (row["p_after"] == row["p_before"]) == (row["gain"] == 1.0)


def test_rows_with_different_neurons_and_gains_do_not_touch_each_other(planted: na.Model) -> None:
    facts = planted_facts()
    trials = [
        Trial(asked, neurons, gain)
        for fact, neurons in zip(facts, na.locate(planted, facts), strict=True)
        for asked in fact_queries(planted, fact).values()
        for gain in (0.0, 1.0, 2.0)
    ]
    together = [outcome.probability for outcome in run_trials(planted, trials)]
    alone = [next(run_trials(planted, [trial])).probability for trial in trials]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_log_odds_tell_saturated_answers_apart(planted: na.Model) -> None:
    probabilities, odds = log_odds(torch.tensor([[40.0, 0.0], [60.0, 0.0], [-60.0, 0.0]]), [0, 0, 0])
    assert probabilities[0] == probabilities[1] == 1.0
    assert odds.tolist() == [40.0, 60.0, -60.0]


def test_a_matched_control_is_as_many_neurons_of_the_same_layers_and_size_and_none_of_the_facts() -> None:
    layout = na.Layout("ffn", (60, 60))
    activations = na.NeuronScores(layout, np.concatenate([np.linspace(-3, 3, 60), np.linspace(0, 1, 60)]))
    neurons = layout.set(["L0.U0", "L0.U59", "L1.U30"])
    control = matched_control(neurons, activations, seed=3)
    assert len(control & neurons) == 0
    assert control.layer_histogram().tolist() == neurons.layer_histogram().tolist()
    assert control == matched_control(neurons, activations, seed=3)
    assert control != matched_control(neurons, activations, seed=4)
    # Among the largest by size, on whichever side of 0.
    assert all(abs(activations[n]) > 1.8 for n in control if n.layer == 0)


def test_controls_say_when_a_layer_is_too_small() -> None:
    layout = na.Layout("ffn", (3,))
    everything = layout.set(["L0.U0", "L0.U1", "L0.U2"])
    with pytest.raises(na.NeuronError, match="0 other neurons, 3 are needed"):
        everything.random_like(0)
    with pytest.raises(na.NeuronError, match="no free neuron"):
        matched_control(everything, layout.zeros(), 0)


def test_a_gain_that_breaks_the_model_is_refused_and_not_told_as_an_effect(planted: na.Model) -> None:
    fact = planted_facts()[0]
    with pytest.raises(na.InterventionError, match=r"times 1e\+38 the logits of .* are not finite"):
        na.effects(planted, fact, na.locate(planted, fact), gains=[1.0, 1e38])
