"""(v) How models differ: where each keeps a property, with depth from 0 to 1, and how localised, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from neuronatlas.depths import layer_shift, localisation
from neuronatlas.statistics import Interval, unbiased_interval
from neuronatlas.studies.salient_neurons.layers import adjusted
from neuronatlas.studies.salient_neurons.reading import (
    SETS,
    Counts,
    counts,
    is_read,
    labels_of,
    members_in,
    widths,
)
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.study import Member, Study
from neuronatlas.studies.salient_neurons.tables import table

__all__ = ["answered", "histogram_overlap", "overlap_interval"]

Counted = Int[np.ndarray, "draw layer"]


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Table `model_pairs`: a row a property, kind of set and pair of models; none of a single model.

    `distance` and `moved` are those of `depths.layer_shift`, `overlap` that of `histogram_overlap`;
    `excess_difference` is the second's localisation beyond chance less the first's. p, of the distance, is adjusted
    over the properties and pairs, for each kind of set; not of pairs where one of both cannot be `read`.
    """
    rows = [row for pair in combinations(study.models, 2) for row in _pair(*pair, study.settings)]
    return {"model_pairs": adjusted(table("model_pairs", rows), "of")}


def _pair(first: Member, second: Member, settings: StudySettings) -> Iterator[dict[str, Any]]:
    given: dict[str, Any] = {"seed": settings.seed, "draws": settings.draws}
    for label in labels_of(first):
        for of in SETS:
            ours, theirs = (_counts(member, label, of, settings) for member in (first, second))
            shift = layer_shift(ours, theirs, **given)
            excess = [
                localisation(found, widths(member), **given).excess.estimate
                for found, member in ((ours, first), (theirs, second))
            ]
            yield {
                **{"label": label, "of": of, "model": first.name, "other": second.name},
                **{"n_first": shift.n_first, "n_second": shift.n_second},
                **overlap_interval(ours, theirs, **given).columns("overlap"),
                **shift.moved.columns("moved"),
                **shift.distance.columns("distance"),
                **{"expected": shift.expected, "p": shift.p_value, "p_moved": shift.p_moved},
                "excess_difference": excess[1] - excess[0],
                "read": is_read(first, label) and is_read(second, label),
            }


def _counts(member: Member, label: str, of: str, settings: StudySettings) -> Counts:
    return counts(members_in(member, label, of, settings.top), len(widths(member)))


def histogram_overlap(first: ArrayLike, second: ArrayLike) -> float:
    """The share of two histograms over layers that lies at the same depths: 1 for the same, 0 for none in common.

    Each layer is an equal part of the depth. Where one model has more layers, its neurons are counted in the layers of
    the other, as if they lay evenly within their own, so that models of different depth compare. NaN for an empty set.

    >>> histogram_overlap([1, 1], [1, 1, 1, 1]), histogram_overlap([2, 0], [0, 1]), histogram_overlap([4, 0], [1, 1])
    (1.0, 0.0, 0.5)
    """
    ours, theirs = np.asarray(first), np.asarray(second)
    if not ours.sum() or not theirs.sum():
        return float("nan")
    return float(_overlaps(ours[None], theirs[None])[0])


def overlap_interval(first: ArrayLike, second: ArrayLike, *, seed: int, draws: int) -> Interval:
    """`histogram_overlap` with a bootstrap 95 % interval over neurons, moved by the bootstrap's own bias.

    >>> overlap_interval([40, 0], [0, 40], seed=0, draws=100)
    Interval(estimate=0.0, low=0.0, high=0.0)
    """
    ours, theirs = np.asarray(first), np.asarray(second)
    estimate = histogram_overlap(ours, theirs)
    if np.isnan(estimate):
        return Interval(estimate, estimate, estimate)
    rng = np.random.default_rng(seed)
    drawn = _overlaps(*(rng.multinomial(own.sum(), own / own.sum(), size=draws) for own in (ours, theirs)))
    return unbiased_interval(estimate, drawn)  # resampling makes histograms less alike than they are


def _overlaps(first: Counted, second: Counted) -> Float[np.ndarray, " draw"]:
    edges = np.linspace(0, 1, min(first.shape[1], second.shape[1]) + 1)
    parts = []
    for draws in (first, second):
        summed = (
            np.concatenate([np.zeros((len(draws), 1)), np.cumsum(draws, axis=1)], axis=1) / draws.sum(axis=1)[:, None]
        )
        own = np.linspace(0, 1, draws.shape[1] + 1)
        parts.append(np.diff([np.interp(edges, own, row) for row in summed], axis=1))
    found: Float[np.ndarray, " draw"] = np.minimum(*parts).sum(axis=1)
    return found
