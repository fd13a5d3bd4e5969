"""A vote among rankings: neurons that several methods put first, first (after Fan et al. 2023).

>>> from neuronatlas.neurons import Layout
>>> layout = Layout(site="hidden", widths=(4,))
>>> orders = [[0, 1, 2, 3], [1, 0, 3, 2], [1, 2, 0, 3]]
>>> voted = vote([Ranking(layout, np.array(order), f"m{number}") for number, order in enumerate(orders)], count=1)
>>> voted.order.tolist(), voted.scores.tolist()
([1, 0, 2, 3], [2.0, 1.0, 0.0, 0.0])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from neuronatlas.probing.ranking import Ranking, RankingError

__all__ = ["positions", "vote"]


def vote(rankings: Sequence[Ranking], *, count: int | None = None) -> Ranking:
    """Rank by the number of rankings that have the neuron among their first `count` (one in a hundred by default).

    Ties go to the lower sum of places, as in a Borda count, then to the lower address. The scores are the votes.

    Errors: RankingError for no rankings, for rankings of different neurons, or a `count` below 1.
    """
    places = positions(rankings)
    n_neurons = places.shape[1]
    if count is not None and count < 1:
        raise RankingError(f"count={count}: a number of neurons from 1 expected")
    first = max(n_neurons // 100, 1) if count is None else count
    votes = (places < first).sum(axis=0)
    order = np.lexsort((np.arange(n_neurons), places.sum(axis=0), -votes))
    indices = np.sort(rankings[0].order)
    note = f"a vote of {', '.join(ranking.method for ranking in rankings)} by their first {first} neurons"
    scores = votes[order].astype(np.float64)
    return Ranking(rankings[0].layout, indices[order], "vote", notes=(note,), scores=scores)


def positions(rankings: Sequence[Ranking]) -> Int[np.ndarray, "ranking neuron"]:
    """Place, from 0, of each neuron in each ranking; neurons in address order.

    Errors: RankingError for no rankings, or rankings of different neurons; LayoutMismatchError for different models.
    """
    if not rankings:
        raise RankingError("no rankings: at least one expected")
    neurons = np.sort(rankings[0].order)
    places = np.empty((len(rankings), len(neurons)), dtype=np.int64)
    for number, ranking in enumerate(rankings):
        rankings[0].layout.require(ranking.layout)
        if not np.array_equal(np.sort(ranking.order), neurons):
            raise RankingError(f"the {ranking.method} and {rankings[0].method} rankings are of different neurons")
        places[number, np.searchsorted(neurons, ranking.order)] = np.arange(len(neurons))
    return places
