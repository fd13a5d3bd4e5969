from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom, kstest

from neuronatlas.neurons import Layout, LayoutMismatchError, NeuronError, NeuronSet
from neuronatlas.overlaps import carried_over, overlap, overlap_of_counts
from neuronatlas.statistics import StatisticsError

WIDTHS = (4, 6, 3)
LAYOUT = Layout(site="ffn", widths=WIDTHS)
sets = st.sets(st.integers(0, LAYOUT.n_neurons - 1), max_size=9).map(
    lambda indices: LAYOUT.set([LAYOUT.neuron(index) for index in indices])
)


def random_set(rng: np.random.Generator, layout: Layout, size: int) -> NeuronSet:
    return layout.set([layout.neuron(int(i)) for i in rng.choice(layout.n_neurons, size=size, replace=False)])


@given(sets, sets)
def test_chance_over_all_neurons_is_scipys_hypergeometric(first: NeuronSet, second: NeuronSet) -> None:
    found = overlap(first, second)
    size = (LAYOUT.n_neurons, len(first), len(second))
    assert found.p_value == pytest.approx(hypergeom.sf(found.n_shared - 1, *size), rel=1e-9)
    chances = hypergeom.pmf(np.arange(14), *size)
    assert found.expected == pytest.approx(chances @ np.arange(14))
    assert found.jaccard == first.overlap(second)


def test_chance_within_layers_is_what_counting_all_sets_gives() -> None:
    layout = Layout(site="ffn", widths=(4, 3))
    first, second = layout.set(["L0.U0", "L0.U1", "L1.U2"]), layout.set(["L0.U1", "L0.U3", "L1.U2"])
    in_first = {(n.layer, n.unit) for n in first}
    shared = [len(in_first & {(0, a), (0, b), (1, c)}) for a, b in combinations(range(4), 2) for c in range(3)]
    found = overlap(first, second)
    assert found.p_in_layers == pytest.approx(np.mean(np.array(shared) >= 2))
    assert found.expected_in_layers == pytest.approx(np.mean(shared))


@given(sets, sets)
def test_the_order_of_two_sets_does_not_matter(first: NeuronSet, second: NeuronSet) -> None:
    one, other = overlap(first, second), overlap(second, first)
    assert (one.n_shared, one.jaccard) == (other.n_shared, other.jaccard)
    assert one.of_first == pytest.approx(other.of_second, nan_ok=True)
    assert (one.p_value, one.p_in_layers) == pytest.approx((other.p_value, other.p_in_layers))


@given(sets)
def test_a_set_overlaps_wholly_with_itself_and_not_with_the_others(neurons: NeuronSet) -> None:
    rest = LAYOUT.set([LAYOUT.neuron(i) for i in range(LAYOUT.n_neurons)]) - neurons
    itself, others = overlap(neurons, neurons), overlap(neurons, rest)
    assert itself.jaccard == (1.0 if len(neurons) else 0.0)
    assert (others.n_shared, others.jaccard, others.p_value, others.p_in_layers) == (0, 0.0, 1.0, 1.0)


def test_sets_that_lie_in_the_same_layer_must_share_more_to_count() -> None:
    layout = Layout(site="ffn", widths=(100,) * 10)
    first = layout.set([f"L9.U{unit}" for unit in range(30)])
    second = layout.set([f"L9.U{unit}" for unit in range(20, 50)])
    found = overlap(first, second)
    assert found.n_shared == 10
    assert found.p_value < 1e-6 < found.p_in_layers
    assert found.expected_in_layers == 10 * found.expected == 9.0


@pytest.mark.parametrize("within_layers", [False, True])
def test_random_sets_have_uniform_p_values(within_layers: bool) -> None:
    rng, widths = np.random.default_rng(0), np.array([30, 50, 20])
    layers, spread = np.repeat(np.arange(3), widths), []
    first = rng.permutation(100)[:40]
    for _ in range(1000):
        second = rng.permutation(100)[:40]
        if within_layers:
            own = ((0, 30, 5), (30, 50, 30), (80, 20, 5))
            second = np.concatenate([start + rng.permutation(width)[:size] for start, width, size in own])
        shared, *sets = (
            np.bincount(layers[ids], minlength=3) for ids in (np.intersect1d(first, second), first, second)
        )
        p = p_of(shared, sets, widths, within_layers)
        room = np.flatnonzero(np.minimum(*sets) > shared)
        more = p_of(shared + np.eye(3, dtype=int)[room[0]], sets, widths, within_layers) if len(room) else 0.0
        # A number of neurons is discrete: spread evenly between "as many or more" and "more" its p-value is uniform.
        spread.append(more + rng.random() * (p - more))
    assert kstest(spread, "uniform").pvalue > 0.01


def p_of(shared: np.ndarray, sets: list[np.ndarray], widths: np.ndarray, within_layers: bool) -> float:
    found = overlap_of_counts(shared, sets[0], sets[1], widths)
    return found.p_in_layers if within_layers else found.p_value


def test_large_sets_keep_their_small_p_values() -> None:
    widths = np.full(32, 11_008)
    first = second = np.full(32, 2_000)
    found = overlap_of_counts(np.full(32, 420), first, second, widths)
    assert 0 < found.p_in_layers < 1e-50
    assert found.p_value == pytest.approx(hypergeom.sf(32 * 420 - 1, widths.sum(), 64_000, 64_000), rel=1e-6)


def test_only_neurons_of_the_pool_could_have_been_shared() -> None:
    pool = LAYOUT.set([f"L1.U{unit}" for unit in range(6)])
    first, second = LAYOUT.set(["L1.U0", "L1.U1"]), LAYOUT.set(["L1.U1", "L1.U2"])
    assert overlap(first, second, pool).expected == pytest.approx(4 / 6)
    with pytest.raises(NeuronError, match="1 of 3 neurons are not in the pool of 6"):
        overlap(first | LAYOUT.set(["L0.U0"]), second, pool)


def test_addresses_are_carried_to_models_of_the_same_shape_only() -> None:
    child = Layout(site="ffn", widths=WIDTHS, digest="child")
    neurons = LAYOUT.set(["L2.U1"])
    with pytest.raises(LayoutMismatchError):
        overlap(neurons, child.set(["L2.U1"]))
    assert overlap(carried_over(neurons, child), child.set(["L2.U1"])).jaccard == 1.0
    with pytest.raises(LayoutMismatchError, match="3 layers of 3 to 6 neurons at encoder 'ffn' cannot be compared"):
        carried_over(neurons, Layout(site="ffn", widths=(4, 4)))


@pytest.mark.parametrize(
    "counts",
    [
        ([2], [1], [1], [5]),
        ([0], [3], [3], [5]),
        ([-1], [1], [1], [5]),
        ([0.5], [1], [1], [5]),
        ([0, 0], [1], [1], [5]),
    ],
)
def test_counts_that_no_sets_have_are_refused(counts: tuple[list[int], ...]) -> None:
    with pytest.raises(StatisticsError):
        overlap_of_counts(*counts)
