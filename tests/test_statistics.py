import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, false_discovery_control

from neuronatlas.statistics import (
    Interval,
    StatisticsError,
    accuracy_difference,
    accuracy_interval,
    adjusted_in_groups,
    benjamini_hochberg,
    mean_of_ratios_of_means,
    permutation_p_value,
    ratio_of_means,
    share_interval,
    unbiased_interval,
)

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


def answers(seed: int, sentences: int = 60, words: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are alike within a sentence, and the sentence of each."""
    rng = np.random.default_rng(seed)
    ease = rng.beta(2, 1, size=sentences)
    return (rng.random((sentences, words)) < ease[:, None]).ravel(), np.repeat(np.arange(sentences), words)


def test_an_accuracy_resamples_whole_sentences() -> None:
    correct, sentences = answers(0)
    found = accuracy_interval(correct, sentences, seed=0, draws=20_000)
    means = correct.reshape(60, 5).mean(axis=1)
    oracle = bootstrap((means,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    assert found.estimate == pytest.approx(correct.mean())
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=0.006)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=0.006)
    torn = accuracy_interval(correct, np.arange(len(correct)), seed=0)
    assert torn.high - torn.low < 0.9 * (found.high - found.low)


def test_numbers_of_sentences_and_the_order_of_words_make_no_difference() -> None:
    correct, sentences = answers(1)
    order = np.random.default_rng(0).permutation(len(correct))
    found = accuracy_interval(correct, sentences, seed=3)
    assert accuracy_interval(correct[order], sentences[order], seed=3) == found
    assert accuracy_interval(correct, sentences * 10 + 7, seed=3) == found


def test_a_difference_of_accuracies_is_paired() -> None:
    first, sentences = answers(2)
    second = first.copy()
    second[::15] = False
    found = accuracy_difference(first, second, sentences, seed=0)
    assert found.estimate == pytest.approx(first.mean() - second.mean())
    one, other = (accuracy_interval(correct, sentences, seed=0) for correct in (first, second))
    # What both find hard takes no part in it.
    assert found.high - found.low < 0.5 * (one.high - one.low)
    assert found.low > 0 > one.low - other.high
    assert accuracy_difference(first, first, sentences, seed=0) == Interval(0.0, 0.0, 0.0)
    swapped = accuracy_difference(second, first, sentences, seed=0)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_answers_and_sentences_that_do_not_match_are_refused() -> None:
    with pytest.raises(StatisticsError, match=r"\(2,\) answers for \(3,\) sentence numbers"):
        accuracy_interval([1, 0], [0, 0, 1], seed=0)
    with pytest.raises(StatisticsError, match=r"answers of shapes \(2,\) and \(3,\)"):
        accuracy_difference([1, 0], [1, 0, 0], [0, 0], seed=0)
    assert math.isnan(accuracy_interval([], [], seed=0).estimate)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_correction_for_many_comparisons_is_that_of_scipy(p_values: list[float]) -> None:
    found = benjamini_hochberg(p_values)
    assert len(found) == len(p_values)
    if p_values:
        assert np.allclose(found, false_discovery_control(p_values), rtol=1e-12, atol=0)
        assert (found >= np.array(p_values)).all()
        assert found.max() <= 1


def test_of_many_true_nulls_few_sets_of_calls_hold_any() -> None:
    rng = np.random.default_rng(0)
    any_call = [benjamini_hochberg(rng.random(50)).min() <= 0.1 for _ in range(1000)]
    # All nulls true: the share of families with a call is q itself, here within four standard errors.
    assert np.mean(any_call) == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 1000))


@pytest.mark.parametrize("wrong", [[0.5, 1.5], [-0.1], [math.nan], [[0.1, 0.2]]])
def test_what_is_no_probability_is_refused(wrong: list[float]) -> None:
    with pytest.raises(StatisticsError, match="numbers from 0 to 1"):
        benjamini_hochberg(wrong)


def test_a_permutation_p_value_counts_what_was_observed_as_a_draw() -> None:
    assert permutation_p_value(10.0, np.zeros(99)) == 0.01
    assert permutation_p_value(0.0, np.zeros(99)) == 1.0
    for observed, draws in ((0.0, []), (0.0, [math.nan]), (math.nan, [0.0])):
        with pytest.raises(StatisticsError, match="numbers expected, no NaN"):
            permutation_p_value(observed, draws)


def test_permutation_p_values_are_small_no_oftener_than_they_say() -> None:
    rng = np.random.default_rng(1)
    found = np.array([permutation_p_value(rng.normal(), rng.normal(size=99)) for _ in range(2000)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(found <= level) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 2000))


def test_the_interval_of_a_share_is_the_bootstrap_over_what_was_counted() -> None:
    values = np.repeat([1.0, 0.0], [12, 28])
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
    found = share_interval(12, 40, seed=0, draws=4000)
    assert found.estimate == 0.3
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.026)  # a neuron in forty
    assert math.isnan(share_interval(0, 0, seed=0).estimate)


def test_p_values_are_adjusted_in_each_group_alone() -> None:
    p, groups = np.array([0.01, 0.2, 0.03, 0.5, np.nan]), ["a", "b", "a", "b", "a"]
    found = adjusted_in_groups(p, groups)
    assert found[[0, 2]].tolist() == benjamini_hochberg(p[[0, 2]]).tolist()
    assert found[[1, 3]].tolist() == benjamini_hochberg(p[[1, 3]]).tolist()
    assert math.isnan(found[4])


def test_what_resampling_adds_is_taken_off_within_what_a_number_can_be() -> None:
    drawn = np.linspace(0.4, 0.6, 101)  # of a number that is 0.1: resampling adds 0.4
    found = unbiased_interval(0.1, drawn, level=0.9)
    assert (found.low, found.high) == pytest.approx((0.01, 0.19))
    assert unbiased_interval(0.0, drawn).low == 0.0
