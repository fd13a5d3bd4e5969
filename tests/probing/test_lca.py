"""Linguistic correlation analysis: entry masses, ties, gradients, and the toolkit's own sets."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file
from scipy.stats import chi2

from neuronatlas.neurons import Layout, LayoutMismatchError, NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.labelled_rows import Labelled
from neuronatlas.probing.lca import entry_masses, lca_order, loss_gradient, top_neurons, union
from neuronatlas.probing.ranking import RankingError
from neuronatlas.probing.rankings import rank


def units(neurons: NeuronSet) -> list[int]:
    return [neuron.unit for neuron in neurons]


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> tuple[np.ndarray, dict[str, Any]]:
    folder = golden_dir / "neurox"
    return load_file(folder / "inputs.safetensors")["W"], json.loads((folder / "expected.json").read_text())


def test_top_neurons_at_each_mass_are_the_toolkits(golden: tuple[np.ndarray, dict[str, Any]]) -> None:
    weights, expected = golden
    probe = SimpleNamespace(coef_=weights, classes_=[f"c{code}" for code in range(len(weights))])
    for mass, sets in expected["top_neurons"].items():
        found = top_neurons(probe, float(mass))
        assert {name: units(neurons) for name, neurons in found.items()} == {
            name: sorted(members) for name, members in sets["per_class"].items()
        }
        assert units(union(found)) == sorted(sets["all"])


def test_the_sets_at_every_cut_off_are_the_toolkits(golden: tuple[np.ndarray, dict[str, Any]]) -> None:
    weights, expected = golden
    order = lca_order(weights)
    assert len(expected["ordering_sets"]) == 101
    for cut, members in expected["ordering_sets"]:
        assert sorted(order[:cut]) == sorted(members)


def test_the_cut_offs_are_the_unions_at_each_mass(golden: tuple[np.ndarray, dict[str, Any]]) -> None:
    weights, expected = golden
    for step, (cut, members) in enumerate(expected["ordering_sets"]):
        assert units(union(top_neurons(weights, step / 100))) == sorted(members)
        assert len(members) == cut


WEIGHTS = array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-4, 4))
)
"""Small whole numbers, so that ties, zeros and classes without weight are frequent."""


@given(weights=WEIGHTS, mass=st.floats(0, 1))
def test_the_neurons_at_any_mass_are_the_first_of_the_order(weights: np.ndarray, mass: float) -> None:
    members = union(top_neurons(weights, mass))
    assert sorted(lca_order(weights)[: len(members)]) == units(members)


@given(weights=WEIGHTS, mass=st.floats(0, 1))
def test_top_neurons_are_the_shortest_prefix_that_reaches_the_mass(weights: np.ndarray, mass: float) -> None:
    for code, members in enumerate(top_neurons(weights, mass).values()):
        falling = sorted(np.abs(weights[code]), reverse=True)
        total = sum(falling)
        shortest = next(n for n in range(len(falling) + 1) if sum(falling[:n]) >= mass * total * (1 - 1e-12))
        assert len(members) == (max(shortest, 1) if total else 0)
        assert sorted(np.abs(weights[code])[units(members)], reverse=True) == falling[: len(members)]


@given(weights=WEIGHTS)
def test_the_order_is_total_and_neurons_without_weight_are_last(weights: np.ndarray) -> None:
    order = lca_order(weights)
    assert sorted(order) == list(range(weights.shape[1]))
    without = (weights == 0).all(axis=0)[order]
    assert (np.diff(without.astype(int)) >= 0).all()


@given(weights=WEIGHTS, scales=st.lists(st.integers(-3, 3), min_size=7, max_size=7))
def test_the_scale_of_a_class_changes_nothing(weights: np.ndarray, scales: list[int]) -> None:
    scaled = weights * 2.0 ** np.array(scales[: len(weights)])[:, None]
    assert np.array_equal(lca_order(weights), lca_order(scaled))


def test_ties_go_to_the_larger_share_then_to_the_lower_address() -> None:
    # Neurons 1, 2 and 3 lead their classes, with 6/10, 9/10 and 6/10 of the weight.
    weights = np.array([[3.0, 6, 1, 0, 0], [1.0, 0, 9, 0, 0], [2.0, 0, 0, 6, 2]])
    assert lca_order(weights).tolist() == [2, 1, 3, 0, 4]


def test_equal_weights_of_a_class_enter_one_after_another_by_address() -> None:
    assert lca_order(np.ones((1, 4))).tolist() == [0, 1, 2, 3]
    assert entry_masses(np.ones((1, 4))).masses.tolist() == [[0, 0.25, 0.5, 0.75]]


def test_neurons_without_weight_come_by_their_largest_gradient() -> None:
    weights = np.array([[0.0, 0, 5, 0, 0], [0.0, 0, 3, 0, 0]])
    gradient = np.array([[0.1, -0.9, 9, 0.2, 0.1], [0.1, 0.0, 9, -0.3, 0.0]])
    assert lca_order(weights, gradient).tolist() == [2, 1, 3, 0, 4]
    assert lca_order(weights).tolist() == [2, 0, 1, 3, 4]


@pytest.mark.parametrize("magnitude", [1e-300, 1.0, 1e300])
def test_the_order_holds_for_weights_of_any_magnitude(magnitude: float) -> None:
    weights = np.array([[0.1, 0.4, 0.2, 0.3], [0.2, 0.2, 0.5, 0.1]])
    assert np.array_equal(lca_order(weights * magnitude), lca_order(weights))


def test_random_weights_favour_no_layer() -> None:
    n_layers, width, n_seeds = 13, 768, 10
    statistic = 0.0
    for seed in range(n_seeds):
        weights = np.random.default_rng(seed).standard_normal((45, n_layers * width))
        counts = np.bincount(lca_order(weights)[:100] // width, minlength=n_layers)
        statistic += float(((counts - 100 / n_layers) ** 2 / (100 / n_layers)).sum())
    assert 0.001 < chi2.sf(statistic, n_seeds * (n_layers - 1)) < 0.999


def test_ten_thousand_neurons_and_45_classes_take_under_a_fifth_of_a_second() -> None:
    weights = np.random.default_rng(0).standard_normal((45, 9984))
    times = []
    for _ in range(3):
        start = process_time()
        lca_order(weights)
        times.append(process_time() - start)
    assert min(times) < 0.2


def made_probe(rng: np.random.Generator, n_classes: int, n_columns: int) -> SimpleNamespace:
    n_rows = 1 if n_classes == 2 else n_classes
    weights = rng.standard_normal((n_rows, n_columns)) * (np.arange(n_columns) % 3 > 0)
    return SimpleNamespace(
        classes_=np.arange(n_classes),
        coef_=weights,
        intercept_=rng.standard_normal(n_rows),
        mean_=rng.standard_normal(n_columns),
        scale_=rng.uniform(0.5, 2, n_columns),
    )


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_gradient_is_that_of_the_mean_cross_entropy(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    values = rng.standard_normal((2100, 8)).astype(np.float32)
    labels, probe = rng.integers(0, n_classes, 2100), made_probe(rng, n_classes, 8)
    standardised = torch.tensor((values - probe.mean_) / probe.scale_)
    weights = torch.tensor(probe.coef_, requires_grad=True)
    logits = standardised @ weights.T + torch.tensor(probe.intercept_)
    if n_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    assert weights.grad is not None
    found = loss_gradient(Labelled.of(values, labels, progress=False), probe)
    np.testing.assert_allclose(found, weights.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_a_probe_of_two_classes_gives_both_the_same_order() -> None:
    rng = np.random.default_rng(0)
    values, labels, probe = rng.standard_normal((50, 8)), rng.integers(0, 2, 50), made_probe(rng, 2, 8)
    ranking = rank(values, labels, "lca", probe, progress=False)
    assert np.array_equal(ranking.by_class["0"], ranking.by_class["1"])
    assert list(top_neurons(probe, 0.5)) == ["0", "1"]


def test_classes_without_weight_are_skipped_and_told() -> None:
    rng = np.random.default_rng(1)
    values, labels, probe = rng.standard_normal((60, 8)), rng.integers(0, 3, 60), made_probe(rng, 3, 8)
    probe.coef_[1] = 0
    ranking = rank(values, labels, "lca", probe, progress=False)
    assert list(ranking.by_class) == ["0", "2"]
    assert "classes without weight, skipped: 1" in ranking.notes
    assert len(top_neurons(probe, 0.9)["1"]) == 0


def test_a_probe_without_any_weight_ranks_by_gradient() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 300)
    values = rng.standard_normal((300, 8))
    values[:, 6] += 3 * (labels == 1)
    probe = SimpleNamespace(classes_=[0, 1, 2], coef_=np.zeros((3, 8)))
    ranking = rank(values, labels, "lca", probe, progress=False)
    assert ranking.order[0] == 6
    assert "8 of 8 neurons have no weight and come last, by gradient" in ranking.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coef_": np.ones((3, 7))}, "a probe of 7 neurons for activations of 8"),
        ({"coef_": np.ones((2, 8))}, "a probe of 3 classes with 2 rows of weights"),
        ({"classes_": [0, 1, 5]}, "label '2' is not among the 3 classes of the probe"),
        ({"coef_": np.full((3, 8), np.nan)}, "weights must be finite: that of class 0 for neuron 0 is nan"),
    ],
)
def test_a_probe_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(3)
    probe = SimpleNamespace(**{**vars(made_probe(rng, 3, 8)), **changes})
    with pytest.raises(RankingError, match=message):
        rank(rng.standard_normal((30, 8)), np.arange(30) % 3, "lca", probe, progress=False)


def test_a_probe_of_another_model_is_refused() -> None:
    rng = np.random.default_rng(4)
    probe, labels = made_probe(rng, 3, 8), np.arange(30) % 3
    probe.layout_, probe.columns_ = Layout(site="hidden", widths=(4, 4), digest="this"), np.arange(8)
    other = Activations.of(rng.standard_normal((30, 8)), Layout(site="hidden", widths=(4, 4), digest="that"))
    with pytest.raises(LayoutMismatchError, match="digest"):
        rank(other, labels, "lca", probe, progress=False)
    wide = Activations.of(rng.standard_normal((30, 9)), Layout(site="hidden", widths=(4, 5), digest="this"))
    probe.layout_ = wide.layout
    with pytest.raises(RankingError, match="other neurons of this model"):
        rank(wide.chosen(columns=np.arange(1, 9)), labels, "lca", probe, progress=False)


def test_top_neurons_are_named_by_their_address_in_the_model() -> None:
    probe = made_probe(np.random.default_rng(5), 3, 4)
    probe.coef_ = np.array([[0.0, 5, 0, 1], [2.0, 0, 0, 1], [0.0, 0, 0, 1]])
    probe.layout_, probe.columns_ = Layout(site="hidden", widths=(4, 4)), np.array([1, 3, 5, 7])
    found = top_neurons(probe, 0.5)
    assert {name: [str(neuron) for neuron in neurons] for name, neurons in found.items()} == {
        "0": ["L0.U3"],
        "1": ["L0.U1"],
        "2": ["L1.U3"],
    }


def test_weights_and_masses_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RankingError, match=r"a mass of 1\.5: from 0 to 1 expected"):
        top_neurons(np.ones((2, 3)), 1.5)
    with pytest.raises(RankingError, match=r"weights of shape \(3,\): a matrix"):
        lca_order(np.ones(3))
    with pytest.raises(RankingError, match="a gradient of shape"):
        lca_order(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(RankingError, match="is not fitted: call fit"):
        top_neurons(SimpleNamespace(fit=None), 0.5)
    with pytest.raises(RankingError, match="columns of 8 neurons for weights of 3"):
        top_neurons(np.ones((2, 3)), 0.5, layout=Layout(site="hidden", widths=(8,)), columns=[1, 2])
    with pytest.raises(RankingError, match="no sets of neurons to unite"):
        union([])
