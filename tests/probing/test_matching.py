"""Random controls: of the same layers, none of the set, and varying about as much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.neurons import Layout, NeuronError
from neuronatlas.probing.matching import matched_controls

LAYOUT = Layout(site="ffn", widths=(60, 200))


@given(st.data(), st.integers(0, 2**32 - 1))
def test_controls_are_other_neurons_of_the_same_layers(data: st.DataObject, seed: int) -> None:
    flat = data.draw(st.sets(st.integers(0, 59), max_size=25)) | data.draw(
        st.sets(st.integers(60, 259), min_size=1, max_size=80)
    )
    neurons = LAYOUT.set(LAYOUT.neuron(index) for index in flat)
    variances = np.random.default_rng(seed).exponential(size=LAYOUT.n_neurons)
    for control in matched_controls(neurons, variances, 3, seed=seed):
        assert control.layer_histogram().tolist() == neurons.layer_histogram().tolist()
        assert not len(control & neurons)


def test_controls_vary_as_much_as_the_neurons_they_stand_for() -> None:
    variances = np.exp(np.random.default_rng(0).normal(0, 3, size=LAYOUT.n_neurons))
    order = np.argsort(variances[60:])
    # Ten neurons that vary moderately and ten that vary much, of a layer of 200 in which variances span ten powers.
    neurons = LAYOUT.set(LAYOUT.neuron(60 + int(i)) for i in order[[*range(90, 110, 2), *range(150, 190, 4)]])
    logs = np.log(variances)

    def mean_log(chosen: object) -> float:
        return float(np.mean([logs[LAYOUT.index(neuron)] for neuron in chosen]))  # type: ignore[attr-defined]

    matched = [abs(mean_log(c) - mean_log(neurons)) for c in matched_controls(neurons, variances, 50, seed=1)]
    plain = [abs(mean_log(neurons.random_like(seed)) - mean_log(neurons)) for seed in range(50)]
    assert max(matched) < min(plain)


def test_the_same_seed_draws_the_same_controls_and_another_one_others() -> None:
    neurons = LAYOUT.set(["L0.U3", "L1.U9", "L1.U10"])
    variances = np.arange(LAYOUT.n_neurons, dtype=float)
    first = matched_controls(neurons, variances, 5, seed=1)
    assert matched_controls(neurons, variances, 5, seed=1) == first
    assert matched_controls(neurons, variances, 5, seed=2) != first
    assert len({control.members for control in first}) > 1


def test_neurons_of_unknown_variance_are_never_drawn() -> None:
    variances = np.full(LAYOUT.n_neurons, np.nan)
    variances[60:70] = 1.0
    neurons = LAYOUT.set(["L1.U0", "L1.U1"])
    drawn = {neuron for control in matched_controls(neurons, variances, 30, seed=0) for neuron in control}
    assert drawn == {LAYOUT.neuron(index) for index in range(62, 70)}


def test_a_layer_without_enough_other_neurons_is_refused() -> None:
    neurons = LAYOUT.set(LAYOUT.neuron(index) for index in range(31))
    with pytest.raises(NeuronError, match=r"^layer 0 has 29 other neurons, 31 are needed for a matched control: take"):
        matched_controls(neurons, np.ones(LAYOUT.n_neurons), 1, seed=0)
