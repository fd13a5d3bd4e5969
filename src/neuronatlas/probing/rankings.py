"""Rankings of neurons by salience: one registry of methods, and `rank`.

>>> values = np.array([[0.0, 5.0, 1.0], [0.1, 1.0, 1.0], [0.2, 5.0, 1.0], [0.1, 1.0, 1.0]])
>>> ranking = rank(values, ["noun", "verb", "noun", "verb"], method="probeless", progress=False)
>>> [str(neuron) for neuron in ranking.neurons()], ranking.scores.tolist()
(['L0.U1', 'L0.U0', 'L0.U2'], [4.0, 0.0, 0.0])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from neuronatlas.probing.activations import Activations
from neuronatlas.probing.differences import mean_difference, probeless
from neuronatlas.probing.gaussian import gaussian
from neuronatlas.probing.labelled_rows import Labelled, Outcome
from neuronatlas.probing.lca import lca, top_neurons, union
from neuronatlas.probing.ranking import Ranking, RankingError
from neuronatlas.probing.thresholds import average_precision, iou
from neuronatlas.probing.voting import vote

__all__ = ["RANKINGS", "VOTERS", "Method", "rank", "top_neurons", "union"]

VOTERS = ("lca", "probeless", "gaussian", "average-precision")
"""Who votes by default: one method of each kind, so that no kind has two votes."""


@dataclass(frozen=True)
class Method:
    """A way to rank neurons.

    `function` takes the labelled rows, then a fitted probe when `needs_probe`, then options by name. `score` says what
    a neuron's score is.
    """

    name: str
    description: str
    score: str
    needs_probe: bool
    function: Callable[..., Outcome | Ranking]

    @property
    def options(self) -> dict[str, Any]:
        """Names of the options and their defaults.

        >>> RANKINGS["gaussian"].options
        {'limit': 50, 'shortlist': 128, 'sample': 10000}
        """
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def require(self, options: Mapping[str, Any]) -> None:
        """Raise RankingError for an option that the method does not have."""
        for name in options:
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise RankingError(f"the {self.name} ranking has no option {name!r}; its options: {known}")


def rank(
    acts: Activations | ArrayLike,
    labels: ArrayLike,
    method: str = "lca",
    probe: Any = None,
    *,
    progress: bool = True,
    **options: Any,
) -> Ranking:
    """Rank neurons by how much they carry the property that the labels are of.

    `acts` are activations, or an array [row, neuron] whose columns count as units of one layer. `labels` are one a row
    or one a corpus item, None where there is none. `method` is a name in `RANKINGS`, `options` are its own. A method
    that reads a probe fits `ElasticNetProbe()` when it is given none. Every column is ranked, and ties go to the lower
    address: the same input gives the same ranking.

    Errors: RankingError for an unknown method or option, fewer than two classes, values that are not finite, or a
    probe of other classes or neurons; ActivationsError for labels of another number.
    """
    if method not in RANKINGS:
        raise RankingError(f"no ranking {method!r}: the methods are {', '.join(RANKINGS)}")
    chosen = RANKINGS[method]
    chosen.require(options)
    rows = Labelled.of(acts, labels, progress=progress)
    notes: tuple[str, ...] = ()
    if chosen.needs_probe:
        if probe is None:
            probe, notes = _default_probe(rows)
        found = chosen.function(rows, probe, **options)
    else:
        found = chosen.function(rows, **options)
    ranking = found if isinstance(found, Ranking) else _ranking(rows.acts, found, method)
    return replace(ranking, notes=(*notes, *ranking.notes))


def _voted(rows: Labelled, probe: Any, *, methods: Sequence[str] = VOTERS, count: int | None = None) -> Ranking:
    """Rank by the votes of other methods, all with their defaults and the same probe."""
    unknown = [name for name in methods if name not in RANKINGS or name == "vote"]
    if unknown:
        known = ", ".join(name for name in RANKINGS if name != "vote")
        raise RankingError(f"no voter {unknown[0]!r}: the methods that can vote are {known}")
    rankings = []
    for name in methods:
        voter = RANKINGS[name]
        outcome = voter.function(rows, probe) if voter.needs_probe else voter.function(rows)
        assert isinstance(outcome, Outcome)
        rankings.append(_ranking(rows.acts, outcome, name))
    return vote(rankings, count=count)


def _default_probe(rows: Labelled) -> tuple[Any, tuple[str, ...]]:
    # Imported here, so that rankings without a probe need not load torch.
    from neuronatlas.probing.probe import ElasticNetProbe  # noqa: PLC0415

    probe = ElasticNetProbe().fit(rows.acts, rows.labels)
    return probe, (f"no probe was given: {probe!r} was fitted on these rows",)


def _ranking(acts: Activations, found: Outcome, method: str) -> Ranking:
    indices = np.asarray(acts.columns)
    by_class = {name: indices[order] for name, order in found.by_class.items()}
    return Ranking(acts.layout, indices[found.order], method, by_class, found.notes, found.scores[found.order])


RANKINGS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("lca", "weights of an elastic-net probe, by cumulative mass", "1 - entry mass", True, lca),
        Method("probeless", "sum over pairs of classes of |difference of means|", "activation units", False, probeless),
        Method("gaussian", "greedy choice by what a Gaussian probe reads", "bits told alone", False, gaussian),
        Method("iou", "overlap of a threshold's mask with a class", "IoU above chance", False, iou),
        Method("average-precision", "precision as a detector of a class", "AP above chance", False, average_precision),
        Method("mean-difference", "a class' mean against the rest", "standard deviations", False, mean_difference),
        Method("vote", "a vote among other rankings", "votes", True, _voted),
    )
}
"""Methods by name, in the order in which they are listed to users."""
