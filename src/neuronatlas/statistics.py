"""Intervals shared by both methods: a bootstrap over what was sampled (facts, sentences), not over what lies inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["DRAWS", "Interval", "mean_of_ratios_of_means", "ratio_of_means"]

DRAWS = 2_000

Sums = Float[np.ndarray, "fact 2"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval; NaN where there was nothing to estimate from."""

    estimate: float
    low: float
    high: float


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
    rng = np.random.default_rng(seed)
    estimate = float(np.mean([sums[:, 0].sum() / sums[:, 1].sum() for sums in usable]))
    resampled = np.mean([_resampled_ratios(sums, rng, draws) for sums in usable], axis=0)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def _resampled_ratios(sums: Sums, rng: np.random.Generator, draws: int) -> Float[np.ndarray, " draw"]:
    counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    totals = counts @ sums
    # A draw that took only facts of denominator 0 says nothing: it counts as the estimate itself.
    empty = totals[:, 1] <= 0
    totals[empty] = sums.sum(axis=0)
    ratios: Float[np.ndarray, " draw"] = totals[:, 0] / totals[:, 1]
    return ratios
