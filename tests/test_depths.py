from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, kstest, wasserstein_distance

from neuronatlas.depths import (
    depth_distance,
    layer_depths,
    layer_shift,
    localisation,
    localisation_index,
    mean_depth,
)
from neuronatlas.statistics import StatisticsError

histograms = st.lists(st.integers(0, 20), min_size=2, max_size=14).filter(any)


@given(histograms, histograms)
def test_the_distance_is_scipys_earth_movers(first: list[int], second: list[int]) -> None:
    oracle = wasserstein_distance(layer_depths(len(first)), layer_depths(len(second)), first, second)
    assert depth_distance(first, second) == pytest.approx(oracle, abs=1e-9)


@given(histograms, histograms)
def test_turning_the_comparison_round_turns_the_sign(first: list[int], second: list[int]) -> None:
    one, other = layer_shift(first, second, seed=0, draws=20), layer_shift(second, first, seed=0, draws=20)
    assert one.moved.estimate == pytest.approx(-other.moved.estimate)
    assert one.distance.estimate == pytest.approx(other.distance.estimate)
    assert one.distance.estimate >= abs(one.moved.estimate) - 1e-9


@given(histograms, st.integers(2, 9))
def test_sizes_do_not_count_only_shares_do(counts: list[int], times: int) -> None:
    scaled = [times * count for count in counts]
    assert depth_distance(counts, scaled) == pytest.approx(0.0, abs=1e-12)
    widths = [1000] * len(counts)
    assert localisation_index(counts, widths) == pytest.approx(localisation_index(scaled, widths))


def test_moving_every_neuron_by_one_layer_of_five_is_a_quarter_of_the_depth() -> None:
    found = layer_shift([0, 40, 40, 0, 0], [40, 40, 0, 0, 0], seed=0)
    assert found.moved.estimate == pytest.approx(-0.25) == -found.distance.estimate
    assert found.moved.low < -0.25 < found.moved.high < 0
    assert max(found.p_value, found.p_moved) < 0.002


def test_a_spread_that_keeps_its_mean_is_seen_by_the_distance_alone() -> None:
    found = layer_shift([0, 0, 60, 0, 0], [0, 30, 0, 30, 0], seed=0)
    assert found.moved.estimate == pytest.approx(0.0)
    assert (found.p_value < 0.002, found.p_moved > 0.5) == (True, True)


def test_the_same_spread_over_other_numbers_of_layers_is_no_shift() -> None:
    found = layer_shift([100] * 4, [100] * 12, seed=0)
    assert found.moved.estimate == pytest.approx(0.0)
    # Points at 0, 1/3, 2/3, 1 are never quite those at 0, 1/11, ...: chance has the same distance.
    assert found.distance.estimate > 0.03
    assert found.p_value > 0.05


def test_neurons_that_stayed_make_a_shift_surer() -> None:
    ours, theirs, stayed = [10, 40, 50], [16, 40, 44], [10, 40, 44]
    apart, together = (layer_shift(ours, theirs, shared=both, seed=0) for both in (None, stayed))
    assert apart.moved.estimate == together.moved.estimate
    assert together.moved.high < 0 < apart.moved.high
    assert together.p_moved < 0.05 < apart.p_moved


@pytest.mark.parametrize("layers", [(6, 6), (4, 9)])
def test_p_values_of_sets_that_chance_alone_tells_apart_are_uniform(layers: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    found = []
    for trial in range(300):
        # One density over depth, the same for both, seen on two grids.
        depths = rng.beta(1.5, 1.0, size=(2, 90))
        first, second = (np.bincount((row * n).astype(int), minlength=n) for row, n in zip(depths, layers, strict=True))
        found.append(layer_shift(first, second, seed=trial, draws=199).p_value)
    assert kstest(found, "uniform").pvalue > 0.01


def test_p_values_of_random_sets_that_share_neurons_are_uniform() -> None:
    rng, layers = np.random.default_rng(1), np.repeat(np.arange(6), [30, 10, 60, 40, 20, 40])
    found = []
    for trial in range(300):
        first, second = (rng.permutation(len(layers))[:80] for _ in range(2))
        counts = [np.bincount(layers[ids], minlength=6) for ids in (first, second, np.intersect1d(first, second))]
        found.append(layer_shift(counts[0], counts[1], shared=counts[2], seed=trial, draws=199).p_value)
    assert kstest(found, "uniform").pvalue > 0.01


def test_intervals_of_a_shift_cover_the_truth_about_as_often_as_they_say() -> None:
    rng, depths = np.random.default_rng(2), layer_depths(6)
    low, high = np.array([5, 4, 3, 2, 1, 1]) / 16, np.array([1, 1, 2, 3, 4, 5]) / 16
    truth, covered = (high - low) @ depths, 0
    for trial in range(300):
        found = layer_shift(rng.multinomial(60, low), rng.multinomial(60, high), seed=trial, draws=300)
        covered += found.moved.low <= truth <= found.moved.high
    assert 0.9 <= covered / 300 <= 0.985


def test_the_index_is_one_less_the_normalised_entropy_where_layers_are_equally_wide() -> None:
    counts = [1, 5, 0, 10]
    assert localisation_index(counts, [50] * 4) == pytest.approx(1 - entropy(counts) / math.log(4))


def test_wide_layers_hold_more_by_right() -> None:
    assert localisation_index([10, 30], [100, 300]) == pytest.approx(0.0)
    assert localisation_index([20, 20], [100, 300]) > 0.05
    assert localisation_index([10, 0, 30], [100, 0, 300]) == pytest.approx(0.0)


def test_random_neurons_have_no_excess_and_uniform_p_values() -> None:
    rng, widths = np.random.default_rng(3), np.array([40, 80, 80, 40])
    found = [
        localisation(rng.multivariate_hypergeometric(widths, 30), widths, seed=trial, draws=199) for trial in range(300)
    ]
    spread = [one.p_value - rng.random() / 200 for one in found]
    assert kstest(spread, "uniform").pvalue > 0.01
    assert abs(np.mean([one.excess.estimate for one in found])) < 0.01
    assert all(one.chance.low <= one.chance.estimate <= one.chance.high for one in found)


def test_a_small_set_is_not_called_localised_for_being_small() -> None:
    small, large = (localisation([n, n, 2 * n, 2 * n], [5000] * 4, seed=0) for n in (1, 100))
    assert small.index.estimate == pytest.approx(large.index.estimate)
    assert small.p_value > 0.2
    assert large.p_value < 0.002
    assert small.excess.estimate < 0 < large.excess.low


def test_a_set_in_one_layer_is_wholly_localised() -> None:
    found = localisation([0, 0, 40, 0, 0], [100] * 5, seed=0)
    assert (found.index.estimate, found.index.low, found.index.high) == (1.0, 1.0, 1.0)
    assert found.excess.estimate == 1.0


def test_the_same_seed_gives_the_same_numbers() -> None:
    for measure in (lambda: layer_shift([3, 4], [1, 9, 2], seed=5), lambda: localisation([3, 4], [9, 9], seed=5)):
        assert measure() == measure()


def test_of_nothing_nothing_is_said() -> None:
    assert math.isnan(layer_shift([0, 0], [1, 0], seed=0).p_value)
    assert math.isnan(localisation([0, 0], [5, 5], seed=0).excess.estimate)
    assert math.isnan(localisation([0, 3], [0, 5], seed=0).p_value)
    assert math.isnan(mean_depth([0], seed=0).estimate)
    assert mean_depth([7], seed=0).estimate == 0.0


def test_what_are_no_counts_is_refused() -> None:
    with pytest.raises(StatisticsError, match="7 neurons in layer 1, which has 5: count each neuron once"):
        localisation([0, 7], [5, 5], seed=0)
    for counts in ([0.5, 1.0], [-1, 2], [[1]], []):
        with pytest.raises(StatisticsError):
            mean_depth(counts, seed=0)
    with pytest.raises(StatisticsError):
        layer_shift([1, 2], [1, 2], shared=[2, 0], seed=0)
