"""Intervals and corrections shared by both methods.

A bootstrap resamples what was sampled (facts, sentences), never what lies inside (prompts, words).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

__all__ = [
    "DRAWS",
    "Interval",
    "StatisticsError",
    "StreamedMeans",
    "accuracy_difference",
    "accuracy_interval",
    "adjusted_in_groups",
    "benjamini_hochberg",
    "mean_of_ratios_of_means",
    "permutation_p_value",
    "ratio_of_means",
    "share_interval",
    "unbiased_interval",
]

DRAWS = 2_000

STREAMED_DRAWS = 1_000

_REMEMBERED = 4_000_000
"""Numbers of so many draws are kept at most: 32 MB."""

Sums = Float[np.ndarray, "fact 2"]
Counts = Float[np.ndarray, "draw fact"]


class StatisticsError(ValueError):
    """Numbers that do not go together, or that are not what they should be."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval; NaN where there was nothing to estimate from."""

    estimate: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """The three numbers as columns of a table.

        >>> Interval(0.5, 0.25, 0.75).columns("accuracy")
        {'accuracy': 0.5, 'accuracy_low': 0.25, 'accuracy_high': 0.75}
        """
        return {name: self.estimate, f"{name}_low": self.low, f"{name}_high": self.high}


def ratio_of_means(sums: Sums, *, seed: int, draws: int = DRAWS, level: float = 0.95) -> Interval:
    """Sum of the numerators over the sum of the denominators, with a percentile bootstrap over the rows.

    `sums[:, 0]` and `sums[:, 1]` are each fact's numerator and denominator, summed over its prompts: resampling rows
    keeps the prompts of a fact together. With the number of prompts as the denominator this is a mean over prompts.

    >>> ratio_of_means(np.array([[1.0, 2.0], [1.0, 2.0]]), seed=0)
    Interval(estimate=0.5, low=0.5, high=0.5)
    """
    return mean_of_ratios_of_means([sums], seed=seed, draws=draws, level=level)


def mean_of_ratios_of_means(groups: Sequence[Sums], *, seed: int, draws: int = DRAWS, level: float = 0.95) -> Interval:
    """Unweighted mean over groups (relations) of each one's ratio of means; facts are resampled inside their group."""
    usable = [sums for sums in groups if len(sums) and sums[:, 1].sum() > 0]
    if not usable:
        return Interval(float("nan"), float("nan"), float("nan"))
    estimate = float(np.mean([sums[:, 0].sum() / sums[:, 1].sum() for sums in usable]))
    sizes = tuple(len(sums) for sums in usable)
    drawn = (_remembered if sum(sizes) * draws <= _REMEMBERED else _drawn)(sizes, draws, seed)
    resampled = np.mean([_resampled_ratios(*pair) for pair in zip(usable, drawn, strict=True)], axis=0)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _drawn(sizes: tuple[int, ...], draws: int, seed: int) -> Iterator[Counts]:
    """How often each row of each group is in each draw."""
    rng = np.random.default_rng(seed)
    return (rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64) for size in sizes)


@lru_cache(maxsize=4)
def _remembered(sizes: tuple[int, ...], draws: int, seed: int) -> tuple[Counts, ...]:
    """The same, kept: a study asks for hundreds of intervals over the same sentences, and drawing takes the time."""
    return tuple(_drawn(sizes, draws, seed))


def _resampled_ratios(sums: Sums, counts: Counts) -> Float[np.ndarray, " draw"]:
    totals = counts @ sums
    # A draw that took only facts of denominator 0 says nothing: it counts as the estimate itself.
    empty = totals[:, 1] <= 0
    totals[empty] = sums.sum(axis=0)
    ratios: Float[np.ndarray, " draw"] = totals[:, 0] / totals[:, 1]
    return ratios


def accuracy_interval(
    correct: ArrayLike, sentences: ArrayLike, *, seed: int, draws: int = DRAWS, level: float = 0.95
) -> Interval:
    """Share of items that are right, with a percentile bootstrap over whole sentences.

    `correct` [item] is 1 or 0, or a share between where several answers were averaged; `sentences` [item] is the
    sentence of each item, any integers. Words of one sentence are not independent, so they are drawn together.

    Errors: StatisticsError when the two differ in length. Without items all three numbers are NaN.

    >>> accuracy_interval([True, True, False, False], [7, 7, 9, 9], seed=0)
    Interval(estimate=0.5, low=0.0, high=1.0)
    """
    return ratio_of_means(_sums_by_group(correct, sentences), seed=seed, draws=draws, level=level)


def accuracy_difference(
    first: ArrayLike, second: ArrayLike, sentences: ArrayLike, *, seed: int, draws: int = DRAWS, level: float = 0.95
) -> Interval:
    """Accuracy of the first less that of the second on the same items, with a bootstrap over whole sentences.

    Arguments and errors as for `accuracy_interval`. Both are judged on the same draw, so what makes a sentence hard for
    both takes no part in the interval.

    >>> accuracy_difference([1, 1, 0], [1, 0, 0], [0, 1, 2], seed=0).estimate
    0.3333333333333333
    """
    ours, theirs = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise StatisticsError(f"answers of shapes {ours.shape} and {theirs.shape}: the same items expected")
    return accuracy_interval(ours - theirs, sentences, seed=seed, draws=draws, level=level)


def benjamini_hochberg(p_values: ArrayLike) -> Float[np.ndarray, " test"]:
    """P-values corrected for many comparisons: call those at most q, and at most a share q of the calls is false.

    Benjamini and Hochberg (1995), step up; holds for tests that are independent or positively dependent.

    Errors: StatisticsError for anything that is no probability.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.04, 0.04]
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not np.all((given >= 0) & (given <= 1)):
        raise StatisticsError("p-values that are not a row of numbers from 0 to 1 cannot be corrected")
    falling = np.argsort(-given, kind="stable")
    ranks = np.arange(len(given), 0, -1)
    corrected = np.empty(len(given))
    corrected[falling] = np.minimum.accumulate(given[falling] * (len(given) / ranks))
    return corrected


def adjusted_in_groups(p_values: ArrayLike, groups: Sequence[Hashable]) -> Float[np.ndarray, " test"]:
    """`benjamini_hochberg` in each group by itself; NaN is no test, and stays.

    >>> adjusted_in_groups([0.01, 0.04, 0.5, float("nan")], ["a", "a", "b", "a"]).tolist()
    [0.02, 0.04, 0.5, nan]
    """
    given = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(given), np.nan)
    for group in dict.fromkeys(groups):
        places = np.flatnonzero(np.array([own == group for own in groups], dtype=bool) & ~np.isnan(given))
        found[places] = benjamini_hochberg(given[places])
    return found


def unbiased_interval(
    estimate: float, drawn: ArrayLike, *, level: float = 0.95, least: float = 0.0, most: float = 1.0
) -> Interval:
    """Percentiles of bootstrap draws, less what the bootstrap itself adds, within what the number can be.

    Where resampling moves a number, as it makes any histogram less even, plain percentiles may miss the estimate.

    >>> unbiased_interval(0.5, [0.5, 0.75, 1.0], level=0.5)
    Interval(estimate=0.5, low=0.375, high=0.625)
    """
    draws = np.asarray(drawn, dtype=np.float64)
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) - (draws.mean() - estimate)
    low, high = np.clip(ends, least, most).tolist()
    return Interval(estimate, low, high)


def share_interval(n: int, total: int, *, seed: int, draws: int = DRAWS, level: float = 0.95) -> Interval:
    """A share of counted things with a percentile bootstrap over these; NaN of none.

    >>> share_interval(5, 10, seed=0, draws=500)
    Interval(estimate=0.5, low=0.2, high=0.8)
    """
    if not total:
        return Interval(float("nan"), float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).binomial(total, n / total, size=draws) / total
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(n / total, low, high)


class StreamedMeans:
    """Means of several groups over a stream of any length, with bootstrap intervals, in memory that does not grow.

    Instead of resampling what is no longer there, each item counts in a draw as often as a Poisson variable of mean 1
    says (Chamandy et al. 2012), which for many items is the bootstrap itself. Add with the weights of `weights`, which
    several of these can share.

    >>> means, weights = StreamedMeans(2), StreamedMeans.weights(3, seed=0)
    >>> means.add(np.array([1.0, 3.0, 5.0]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), weights)
    >>> [interval.estimate for interval in means.intervals()], means.counts()
    ([2.0, 5.0], [2, 1])
    """

    def __init__(self, groups: int) -> None:
        self._sums = np.zeros((STREAMED_DRAWS + 1, groups))
        self._weights = np.zeros((STREAMED_DRAWS + 1, groups))

    @staticmethod
    def weights(items: int, seed: int, start: int = 0) -> Float[np.ndarray, "draw item"]:
        """How often each of the items from number `start` on counts: once in the estimate, which is the first draw."""
        drawn = np.random.default_rng([seed, start]).poisson(1.0, size=(STREAMED_DRAWS, items))
        return np.concatenate([np.ones((1, items)), drawn.astype(np.float64)])

    def add(
        self,
        values: Float[np.ndarray, " item"],
        members: Float[np.ndarray, "item group"],
        weights: Float[np.ndarray, "draw item"],
    ) -> None:
        """Add items: `members` is 1 where an item is of a group and 0 elsewhere."""
        self._sums += weights @ (values[:, None] * members)
        self._weights += weights @ members

    def counts(self) -> list[int]:
        """Number of items of each group."""
        return [round(count) for count in self._weights[0]]

    def intervals(self, level: float = 0.95) -> list[Interval]:
        """Mean of each group with its interval; no interval where there are fewer than two items."""
        return [self._interval(group, level) for group in range(self._sums.shape[1])]

    def _interval(self, group: int, level: float) -> Interval:
        sums, weights = self._sums[:, group], self._weights[:, group]
        if weights[0] == 0:
            return Interval(float("nan"), float("nan"), float("nan"))
        estimate = float(sums[0] / weights[0])
        if weights[0] < 2:
            return Interval(estimate, float("nan"), float("nan"))
        # A draw without any of the items says nothing: it counts as the estimate itself.
        means = np.divide(sums[1:], weights[1:], out=np.full(STREAMED_DRAWS, estimate), where=weights[1:] > 0)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return Interval(estimate, float(low), float(high))


def permutation_p_value(observed: float, permuted: ArrayLike) -> float:
    """One-sided p-value of a statistic against the same statistic on random draws: (1 + b) / (1 + n).

    b of the n draws are at least as large as what was observed, which counts as a draw itself, so it is never 0
    (Phipson and Smyth 2010). For a two-sided test give absolute values.

    Errors: StatisticsError without draws, or where a number is NaN.

    >>> permutation_p_value(3.0, [1.0, 2.0, 3.0])
    0.5
    """
    draws = np.asarray(permuted, dtype=np.float64)
    if draws.ndim != 1 or not len(draws) or np.isnan(draws).any() or np.isnan(observed):
        raise StatisticsError(f"no p-value of {observed} from draws of shape {draws.shape}: numbers expected, no NaN")
    return float((1 + np.count_nonzero(draws >= observed)) / (1 + len(draws)))


def _sums_by_group(values: ArrayLike, groups: ArrayLike) -> Sums:
    """Sum of the values and number of items of each group, groups in ascending order."""
    numbers, ids = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if numbers.ndim != 1 or numbers.shape != ids.shape:
        raise StatisticsError(f"{numbers.shape} answers for {ids.shape} sentence numbers: one a row of each expected")
    group: Int[np.ndarray, " item"] = np.unique(ids, return_inverse=True)[1]
    return np.stack([np.bincount(group, weights=numbers), np.bincount(group)], axis=1)
