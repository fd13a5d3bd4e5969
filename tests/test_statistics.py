import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.statistics import Interval, mean_of_ratios_of_means, ratio_of_means

rows = st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), min_size=1, max_size=12).map(np.array)


def sample(rng: np.random.Generator, facts: int = 40) -> np.ndarray:
    """Facts with skewed numerators and uneven numbers of prompts; the true ratio is 0.5."""
    prompts = rng.integers(1, 9, size=facts)
    effect = 0.5 + 0.4 * (rng.exponential(size=facts) - 1)
    return np.stack([effect * prompts, prompts], axis=1)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for level, least, most in ((0.95, 0.89, 0.98), (0.5, 0.42, 0.58)):
        found = [ratio_of_means(sample(rng), seed=trial, draws=400, level=level) for trial in range(400)]
        covered = np.mean([interval.low <= 0.5 <= interval.high for interval in found])
        assert least <= covered <= most


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3, 2, size=400)
    found = ratio_of_means(np.stack([values, np.ones(400)], axis=1), seed=0)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_prompts_of_a_fact_are_drawn_together() -> None:
    effects = np.random.default_rng(2).normal(size=20)
    one = ratio_of_means(np.stack([effects, np.ones(20)], axis=1), seed=0)
    ten = ratio_of_means(np.stack([10 * effects, np.full(20, 10.0)], axis=1), seed=0)
    torn = ratio_of_means(np.stack([np.repeat(effects, 10), np.ones(200)], axis=1), seed=0)
    # Ten prompts that say the same say no more than one; as rows of their own they would feign certainty.
    assert (ten.estimate, ten.low, ten.high) == pytest.approx((one.estimate, one.low, one.high))
    assert torn.high - torn.low < 0.5 * (one.high - one.low)


def test_the_estimate_is_a_ratio_of_means_and_no_mean_of_ratios() -> None:
    sums = np.array([[1.0, 1.0], [0.0, 3.0]])
    assert ratio_of_means(sums, seed=0).estimate == 0.25


def test_groups_count_alike_whatever_their_size() -> None:
    small, large = np.array([[1.0, 1.0]]), np.tile([[0.0, 1.0]], (99, 1))
    assert mean_of_ratios_of_means([small, large], seed=0).estimate == 0.5


def test_facts_are_drawn_inside_their_group() -> None:
    # Inside each group all facts agree, so nothing is uncertain however far the groups lie apart.
    groups = [np.tile([[value, 1.0]], (5, 1)) for value in (0.0, 10.0)]
    assert mean_of_ratios_of_means(groups, seed=0) == Interval(5.0, 5.0, 5.0)


@given(rows, st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_interval(sums: np.ndarray, seed: int) -> None:
    assert ratio_of_means(sums, seed=seed, draws=50) == ratio_of_means(sums.copy(), seed=seed, draws=50)


def test_another_seed_gives_another_interval() -> None:
    sums = sample(np.random.default_rng(3))
    first, second = ratio_of_means(sums, seed=0, draws=50), ratio_of_means(sums, seed=1, draws=50)
    assert first.estimate == second.estimate
    assert (first.low, first.high) != (second.low, second.high)


@given(rows)
def test_intervals_lie_within_the_ratios_of_single_facts(sums: np.ndarray) -> None:
    found = ratio_of_means(sums, seed=0, draws=50)
    ratios = sums[:, 0] / sums[:, 1]
    assert ratios.min() - 1e-9 <= found.low <= found.high <= ratios.max() + 1e-9
    assert ratios.min() - 1e-9 <= found.estimate <= ratios.max() + 1e-9


def test_a_wider_level_gives_a_wider_interval() -> None:
    sums = sample(np.random.default_rng(4))
    narrow, wide = ratio_of_means(sums, seed=0, level=0.5), ratio_of_means(sums, seed=0, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    "groups", [[], [np.empty((0, 2))], [np.zeros((3, 2))], [np.empty((0, 2)), np.array([[1.0, 0.0]])]]
)
def test_where_there_is_nothing_to_estimate_from_all_is_nan(groups: list[np.ndarray]) -> None:
    found = mean_of_ratios_of_means(groups, seed=0)
    assert all(math.isnan(number) for number in (found.estimate, found.low, found.high))


def test_a_group_with_nothing_in_it_does_not_count() -> None:
    sums = sample(np.random.default_rng(5))
    empty = [np.empty((0, 2)), np.zeros((4, 2))]
    assert mean_of_ratios_of_means([*empty, sums], seed=0) == ratio_of_means(sums, seed=0)


def test_facts_without_prompts_leave_every_draw_finite() -> None:
    sums = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    found = ratio_of_means(sums, seed=0)
    assert found == Interval(0.5, 0.5, 0.5)


def test_one_fact_is_its_own_interval() -> None:
    assert ratio_of_means(np.array([[3.0, 4.0]]), seed=0) == Interval(0.75, 0.75, 0.75)
