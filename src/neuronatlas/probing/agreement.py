"""How far rankings agree, beside what chance would give.

>>> from neuronatlas.neurons import Layout
>>> layout = Layout(site="hidden", widths=(8,))
>>> one, other = Ranking(layout, np.arange(8), "one"), Ranking(layout, np.arange(8)[::-1], "other")
>>> found = agreement(one, other, count=6)
>>> round(found.shared, 3), found.chance, found.correlation
(0.667, 0.75, -1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float64

from neuronatlas.probing.ranking import Ranking, RankingError
from neuronatlas.probing.voting import positions

__all__ = ["Agreement", "agreement", "agreements"]


@dataclass(frozen=True)
class Agreement:
    """Agreement of two rankings on their first `count` neurons.

    `shared` is the share of the first `count` of one that are among the first `count` of the other, `chance` what two
    random rankings share on average, and `deviation` the standard deviation of that. `average` is the mean of the
    shares at 1, 2, ... `count`, which weighs the first places more, and `average_chance` its value at random.
    `correlation` is Spearman's, over all neurons; 0 at random.
    """

    first: str
    second: str
    count: int
    shared: float
    chance: float
    deviation: float
    average: float
    average_chance: float
    correlation: float


def agreement(first: Ranking, second: Ranking, count: int) -> Agreement:
    """Compare two rankings of the same neurons on their first `count`.

    The number shared by two random rankings is hypergeometric, so its share has mean k/n and variance
    (n - k)^2 / (n^2 (n - 1)) for k of n neurons.

    Errors: RankingError for a count outside 1 to the number of neurons, or rankings of different neurons.
    """
    places = positions([first, second])
    n_neurons = places.shape[1]
    if not 1 <= count <= n_neurons:
        raise RankingError(f"the first {count} of {n_neurons} neurons: from 1 to {n_neurons} expected")
    # A neuron is among the first k of both from k = its later place on.
    later = np.bincount(places.max(axis=0), minlength=n_neurons)
    shares = np.cumsum(later)[:count] / np.arange(1, count + 1)
    spread = (n_neurons - count) / n_neurons / np.sqrt(max(n_neurons - 1, 1))
    return Agreement(
        first.method,
        second.method,
        count,
        shared=float(shares[-1]),
        chance=count / n_neurons,
        deviation=float(spread),
        average=float(shares.mean()),
        average_chance=(count + 1) / (2 * n_neurons),
        correlation=_correlation(places[0].astype(np.float64), places[1].astype(np.float64)),
    )


def agreements(rankings: Sequence[Ranking], count: int) -> list[Agreement]:
    """Compare every pair of rankings; see `agreement`.

    The mean of `shared` over the pairs of a method is what Fan et al. (2023) call its average overlap.
    """
    return [agreement(first, second, count) for first, second in combinations(rankings, 2)]


def _correlation(first: Float64[np.ndarray, " neuron"], second: Float64[np.ndarray, " neuron"]) -> float:
    n_neurons = len(first)
    if n_neurons < 2:
        return 1.0
    # Places are 0 to n - 1, each once, so the sum of squared differences is all that is not known.
    return float(1 - 6 * ((first - second) ** 2).sum() / (n_neurons * (n_neurons**2 - 1.0)))
