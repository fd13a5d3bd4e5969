"""Rank correlation with a bootstrap interval."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from neuronatlas.statistics import DRAWS, Interval

__all__ = ["rank_correlation"]

_ROWS_AT_ONCE = 4_000_000


def rank_correlation(first: Float[np.ndarray, " item"], second: Float[np.ndarray, " item"], *, seed: int) -> Interval:
    """Spearman's rank correlation of two rows of numbers, ties sharing their mean rank, with a 95 % interval.

    The interval is a percentile bootstrap over items, which are ranked anew in every draw. NaN where one does not vary.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 40.0]), seed=0).estimate
    1.0
    """
    n, rng = len(first), np.random.default_rng(seed)
    estimate = float(_spearman(first[None], second[None])[0])
    size = max(1, _ROWS_AT_ONCE // max(n, 1))
    drawn = []
    for start in range(0, DRAWS, size):
        rows = rng.integers(n, size=(min(size, DRAWS - start), n))
        drawn.append(_spearman(first[rows], second[rows]))
    every = np.concatenate(drawn)
    if not np.isfinite(every).any():
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.nanquantile(every, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _spearman(
    first: Float[np.ndarray, "draw item"], second: Float[np.ndarray, "draw item"]
) -> Float[np.ndarray, " draw"]:
    one, two = (rankdata(values, axis=1) for values in (first, second))
    one, two = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (one, two))
    below = np.sqrt((one**2).sum(1) * (two**2).sum(1))
    found: Float[np.ndarray, " draw"] = np.divide(
        (one * two).sum(1), below, out=np.full(len(below), np.nan), where=below > 0
    )
    clipped: Float[np.ndarray, " draw"] = np.clip(found, -1.0, 1.0)
    return clipped
