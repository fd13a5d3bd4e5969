"""Selection: the smallest set of a ranking's top neurons that does as well as all, and how many such sets there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int
from tqdm.auto import tqdm

from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.examples import Examples
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.scoring import Classifier, Hits, fitted, hits, refitted
from neuronatlas.statistics import Interval, accuracy_difference, accuracy_interval

__all__ = [
    "DELTA",
    "DisjointSets",
    "MinimalSet",
    "Ranker",
    "SelectionError",
    "disjoint_minimal_sets",
    "minimal_set",
    "places_of",
]

DELTA = 0.01
"""What a minimal set may lose: accuracy, absolute."""

_STEPS = 1000
"""The paper's step is a thousandth of the neurons."""

Places = Int[np.ndarray, " place"]
Ranker = Callable[[Examples, Classifier], Ranking]
"""Makes a ranking of the neurons of train, given a probe that was fitted on them."""


class SelectionError(ValueError):
    """A ranking, a share, a loss or a size that does not suit the examples."""


@dataclass(frozen=True, eq=False)
class MinimalSet:
    """The smallest set found whose accuracy on dev is within delta of that with all neurons.

    `accuracy` is that of `probe`, retrained on these neurons alone (their columns in address order), `accuracy_all`
    that with all, `loss` their paired difference: on dev, with bootstrap 95 % intervals over sentences. The set was
    chosen by its accuracy on dev, so that number flatters it a little: score `probe` on
    `test.take_columns(found.neurons)` for one that does not. `tried` has a row a size that was tried: n_neurons,
    share, accuracy, low, high, loss, serves.
    """

    neurons: NeuronSet
    accuracy: Interval
    accuracy_all: Interval
    loss: Interval
    tried: pl.DataFrame
    probe: Classifier

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self.neurons)


@dataclass(frozen=True, eq=False)
class DisjointSets:
    """Minimal sets without a common neuron, in the order they were found.

    `remaining` is the accuracy on dev with all neurons that are in none of them, `rest`, NaN where none is left; it
    decided on the end of the search, so score `rest_probe` on `test.take_columns(found.rest)`. `complete` tells that
    these no longer do, so that there is no further set; else the search stopped at the most it may find.
    """

    sets: tuple[MinimalSet, ...]
    accuracy_all: Interval
    remaining: Interval
    complete: bool
    rest: NeuronSet
    rest_probe: Classifier | None

    def __len__(self) -> int:
        return len(self.sets)


def minimal_set(
    train: Examples,
    dev: Examples,
    ranking: Ranking,
    delta: float = DELTA,
    *,
    sizes: Sequence[int] | None = None,
    probe: Classifier | None = None,
    seed: int = 0,
    progress: bool = True,
) -> MinimalSet:
    """Retrain on ever more of the top neurons until the accuracy on dev is within `delta` of that with all.

    The sizes are those of the paper: 0.1 %, 0.2 %, ... of all neurons (or `sizes`; all are always the last). Not each
    is tried: every step doubles the place in that list until a set serves, then the gap to the last that did not is
    halved until two neighbours are left. Where accuracy rises with size this finds what trying each one finds; where it
    wavers, a set that serves and whose next smaller one does not. A probe fitted on all columns of train saves the
    first fit; without one an ElasticNetProbe is trained.

    Errors: SelectionError for a delta below 0, for sizes that are not from 1 to the number of neurons, for a dev of no
    rows, and when the ranking lacks neurons of the examples; LayoutMismatchError for another model's ranking.

    Source: Durrani, Dalvi and Sajjad (2023), minimal neuron selection.

    >>> from neuronatlas.probing.activations import Activations
    >>> values = np.stack([np.tile([0.0, 0.0, 1.0, 1.0], 10), np.tile([0.0, 1.0], 20)], axis=1)
    >>> examples = Examples.of(Activations.of(values), ["A", "B"] * 20, ["w"] * 40, range(40))
    >>> ranking = Ranking(examples.acts.layout, np.array([1, 0]), method="by hand")
    >>> found = minimal_set(examples, examples, ranking, progress=False)
    >>> [str(neuron) for neuron in found.neurons], found.accuracy.estimate
    (['L0.U1'], 1.0)
    """
    places = places_of(ranking, train)
    full = fitted(probe, train)
    all_right = hits(full, dev)
    goal = _Goal(all_right, dev, delta, seed)
    return _smallest(train, dev, places, _grid(sizes, len(places)), goal, (full, all_right), progress)


def by_lca(train: Examples, probe: Classifier) -> Ranking:
    """Rank by the probe's weights: the ranker of `disjoint_minimal_sets` by default."""
    return rank(train.acts, train.labels, method="lca", probe=probe, progress=False)


def disjoint_minimal_sets(
    train: Examples,
    dev: Examples,
    *,
    ranker: Ranker = by_lca,
    delta: float = DELTA,
    most: int = 10,
    probe: Classifier | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DisjointSets:
    """Find a minimal set, take it out, rank the rest anew, and so on while the rest still does as well as all.

    A round trains a probe on all that remain, and stops when its accuracy on dev is more than `delta` below that with
    all neurons; the yardstick of every set is the accuracy with all, so later sets are as good as the first. At most
    `most` sets are looked for. `probe` and errors are those of `minimal_set`.

    >>> from neuronatlas.probing.activations import Activations
    >>> idle, salient = np.tile([0.0, 0.0, 1.0, 1.0], 10), np.tile([0.0, 1.0], 20)
    >>> twice = np.stack([idle, salient, salient], axis=1)
    >>> examples = Examples.of(Activations.of(twice), ["A", "B"] * 20, ["w"] * 40, range(40))
    >>> found = disjoint_minimal_sets(examples, examples, progress=False)
    >>> [[str(neuron) for neuron in one.neurons] for one in found.sets], found.complete
    ([['L0.U1'], ['L0.U2']], True)
    """
    full = fitted(probe, train)
    right = hits(full, dev)
    goal = _Goal(right, dev, delta, seed)
    remaining, sets = np.arange(train.n_neurons), list[MinimalSet]()
    with tqdm(total=most, desc="minimal sets", unit="set", disable=not progress) as bar:
        while len(remaining) and goal.served(right) and len(sets) < most:
            part, judged = train.take_columns(remaining), dev.take_columns(remaining)
            places = places_of(ranker(part, full), part)
            found = _smallest(part, judged, places, _grid(None, len(places)), goal, (full, right), progress=False)
            sets.append(found)
            bar.update()
            remaining = remaining[~np.isin(train.acts.columns[remaining], _flat(found.neurons))]
            if len(remaining):
                full = refitted(full, train.take_columns(remaining))
                right = hits(full, dev.take_columns(remaining))
    left = goal.interval(right) if len(remaining) else Interval(float("nan"), float("nan"), float("nan"))
    complete = not (len(remaining) and goal.served(right))
    rest = train.acts.neurons() - NeuronSet.of(train.acts.layout, (neuron for one in sets for neuron in one.neurons))
    return DisjointSets(
        tuple(sets), goal.interval(goal.all_right), left, complete, rest, full if len(remaining) else None
    )


def places_of(ranking: Ranking, examples: Examples) -> Places:
    """Columns of the examples, by place, in the order of a ranking; neurons that the examples do not hold are skipped.

    Errors: SelectionError when the ranking lacks neurons of the examples; LayoutMismatchError for another model's.
    """
    ranking.layout.require(examples.acts.layout)
    place = np.full(ranking.layout.n_neurons, -1, dtype=np.int64)
    place[examples.acts.columns] = np.arange(examples.n_neurons)
    order: Places = place[ranking.order]
    order = order[order >= 0]
    if len(order) < examples.n_neurons:
        raise SelectionError(
            f"the {ranking.method} ranking names {len(order)} of the {examples.n_neurons} neurons of these examples: "
            "rank these activations"
        )
    return order


@dataclass(frozen=True, eq=False)
class _Goal:
    """What a set must reach: where the probe on all neurons is right on dev, less what may be lost."""

    all_right: Hits
    dev: Examples
    delta: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.delta < 1:
            raise SelectionError(f"delta is {self.delta}: a loss of accuracy from 0 to 1 expected, such as {DELTA}")
        if not len(self.dev):
            raise SelectionError("dev has no rows: on no data any set serves; bring more sentences")

    def served(self, right: Hits) -> bool:
        # In answers, not shares: a loss of exactly delta serves, however shares are rounded.
        return bool(self.all_right.sum() - right.sum() <= self.delta * len(right) + 1e-9)

    def interval(self, right: Hits) -> Interval:
        return accuracy_interval(right, self.dev.sentences, seed=self.seed)

    def loss(self, right: Hits) -> Interval:
        return accuracy_difference(self.all_right, right, self.dev.sentences, seed=self.seed)


def _smallest(
    train: Examples,
    dev: Examples,
    places: Places,
    sizes: list[int],
    goal: _Goal,
    full: tuple[Classifier, Hits],
    progress: bool,
) -> MinimalSet:
    """Search the sizes for the smallest that serves; `full`: the probe on all columns, and where it is right on dev."""
    tried = {sizes[-1]: full}
    with tqdm(desc="sizes", unit="size", disable=not progress) as bar:

        def serves(size: int) -> bool:
            if size not in tried:
                columns = np.sort(places[:size])
                probe = refitted(full[0], train.take_columns(columns))
                tried[size] = probe, hits(probe, dev.take_columns(columns))
                bar.update()
            return goal.served(tried[size][1])

        size = _first_that_serves(sizes, serves)
    probe, right = tried[size]
    neurons = train.take_columns(np.sort(places[:size])).acts.neurons()
    frame = _tried({size: right for size, (_, right) in sorted(tried.items())}, len(places), goal)
    return MinimalSet(neurons, goal.interval(right), goal.interval(goal.all_right), goal.loss(right), frame, probe)


def _first_that_serves(sizes: list[int], serves: Callable[[int], bool]) -> int:
    """Double the place in the list until a size serves, then halve the gap below; the last is known to serve."""
    failed, place = -1, 0
    while place < len(sizes) - 1 and not serves(sizes[place]):
        failed, place = place, min(2 * place + 1, len(sizes) - 1)
    while place - failed > 1:
        middle = (failed + place) // 2
        failed, place = (failed, middle) if serves(sizes[middle]) else (middle, place)
    return sizes[place]


def _grid(sizes: Sequence[int] | None, n_neurons: int) -> list[int]:
    """Sizes to choose from, ascending, all neurons the last."""
    if sizes is None:
        sizes = [max(1, round(n_neurons * step / _STEPS)) for step in range(1, _STEPS + 1)]
    wrong = [size for size in sizes if not 1 <= size <= n_neurons]
    if wrong:
        raise SelectionError(f"a size of {wrong[0]} neurons: from 1 to {n_neurons} expected")
    return sorted({*sizes, n_neurons})


def _tried(right: dict[int, Hits], n_neurons: int, goal: _Goal) -> pl.DataFrame:
    intervals = [goal.interval(answers) for answers in right.values()]
    return pl.DataFrame(
        {
            "n_neurons": list(right),
            "share": [size / n_neurons for size in right],
            "accuracy": [interval.estimate for interval in intervals],
            "low": [interval.low for interval in intervals],
            "high": [interval.high for interval in intervals],
            "loss": [float(goal.all_right.mean() - answers.mean()) for answers in right.values()],
            "serves": [goal.served(answers) for answers in right.values()],
        }
    )


def _flat(neurons: NeuronSet) -> Places:
    return np.array([neurons.layout.index(neuron) for neuron in neurons], dtype=np.int64)
