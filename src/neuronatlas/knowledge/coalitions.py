"""Games of coalitions: how much two players do together beyond what each does, in all or in a sample of companies.

A game gives every set of players a value. The pairwise Shapley interaction index of Grabisch and Roubens (1999) is

    I(i, j) = sum over sets S without i and j of  |S|! (n - |S| - 2)! / (n - 1)!  *  d(S)
    d(S) = v(S + i + j) - v(S + i) - v(S + j) + v(S)

that is the mean of d(S) where the size of S is drawn evenly from 0 to n - 2 and then S evenly among the sets of that
size. Sets are bit masks: player i is in the set `mask` where `mask >> i & 1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

__all__ = ["Game", "Remembered", "balanced_orders", "exact_interactions", "sampled_interactions", "sets_asked"]

Game = Callable[[Sequence[int]], Float[np.ndarray, "set item"]]
"""Values of sets of players, a row a set; the columns are games that are played at once (prompts, measures)."""


class Remembered:
    """A game that asks for the value of each set once."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self._known: dict[int, Float[np.ndarray, " item"]] = {}

    def __call__(self, sets: Sequence[int]) -> Float[np.ndarray, "set item"]:
        """Values of some sets, in their order."""
        fresh = [mask for mask in dict.fromkeys(sets) if mask not in self._known]
        if fresh:
            self._known |= zip(fresh, self._game(fresh), strict=True)
        return np.stack([self._known[mask] for mask in sets])


def exact_interactions(game: Game, players: int) -> Float[np.ndarray, "pair item"]:
    """The index of every pair from the values of all 2^n sets, pairs in the order of `itertools.combinations`.

    >>> both = lambda sets: np.array([[float(mask == 3)] for mask in sets])
    >>> exact_interactions(both, 2).tolist()
    [[1.0]]
    """
    masks = np.arange(1 << players)
    values = game(masks.tolist())
    sizes = np.array([mask.bit_count() for mask in masks.tolist()])
    weights = np.array(
        [
            math.factorial(size) * math.factorial(players - size - 2) / math.factorial(players - 1)
            for size in range(players - 1)
        ]
    )
    found = []
    for i, j in combinations(range(players), 2):
        a, b = 1 << i, 1 << j
        others = masks[masks & (a | b) == 0]
        differences = values[others | a | b] - values[others | a] - values[others | b] + values[others]
        found.append(weights[sizes[others]] @ differences)
    return np.array(found)


def sampled_interactions(
    game: Game, players: int, rounds: int, rng: np.random.Generator
) -> Float[np.ndarray, "round pair item"]:
    """Unbiased and independent estimates of the index of every pair, one a round; pairs as in `exact_interactions`.

    Where players join in random order, two neighbours i and j of the order and those before them, S, give d(S) with the
    distribution that the index is a mean over: the place of the neighbours is even, and so is S given its size.
    A round deals n/2 orders in which every pair is neighbours exactly once, and so asks for about n^2 sets. An odd
    number of players is joined by one that does nothing, which leaves the index of the others as it is.

    >>> both = lambda sets: np.array([[float(mask == 3)] for mask in sets])
    >>> sampled_interactions(both, 2, 2, np.random.default_rng(0)).tolist()
    [[[1.0]], [[1.0]]]
    """
    seats = players + players % 2
    pairs = {frozenset(pair): index for index, pair in enumerate(combinations(range(players), 2))}
    found = []
    for _ in range(rounds):
        names = rng.permutation(seats).tolist()
        wanted, sets = [], []
        for order in balanced_orders(seats):
            before = 0
            for i, j in zip([names[k] for k in order], [names[k] for k in order[1:]], strict=False):
                a, b = (1 << k if k < players else 0 for k in (i, j))
                if (pair := pairs.get(frozenset((i, j)))) is not None:
                    wanted.append(pair)
                    sets += [before | a | b, before | a, before | b, before]
                before |= a
        values = game(sets)
        differences = values[0::4] - values[1::4] - values[2::4] + values[3::4]
        found.append(differences[np.argsort(wanted)])
    return np.array(found)


def sets_asked(players: int, rounds: int) -> int:
    """How many sets `sampled_interactions` asks for in all rounds, those that it asks for twice counted twice."""
    return 4 * rounds * math.comb(players, 2)


def balanced_orders(seats: int) -> Iterator[list[int]]:
    """Orders of an even number of seats in which every two are neighbours exactly once: Walecki's zigzag paths.

    >>> list(balanced_orders(4))
    [[0, 1, 3, 2], [1, 2, 0, 3]]
    """
    steps = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(seats)]
    for first in range(seats // 2):
        yield [(first + step) % seats for step in steps]
