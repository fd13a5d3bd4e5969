"""Rankings of neurons taken as detectors of a class by a threshold: average precision and intersection over union.

Each neuron is tried in both directions: high where the class is, and low where it is.

>>> values, codes = np.array([[3.0, 1.0, 2.0, 0.0]], dtype=np.float32), np.array([0, 1, 0, 1])
>>> detection(values, codes, 2, average_precisions)[0].tolist()
[[1.0], [0.41666666666666663]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int
from tqdm.auto import tqdm

from neuronatlas.probing.labelled_rows import ByClass, Labelled, Outcome, by_falling

__all__ = ["Hits", "average_precision", "average_precisions", "best_overlaps", "detection", "iou"]

BLOCK_BYTES = 256 * 2**20
"""Columns are sorted whole; so many bytes of them are held at once."""


@dataclass(frozen=True, eq=False)
class Hits:
    """What lies above each threshold of one neuron, for the rows of class after class, each from the top down.

    `above` counts the rows at or above the row's value, `hits` those among them of the row's own class, and `sizes`
    the rows of that class in all. `starts` are the places where a class begins.
    """

    above: Int[np.ndarray, " row"]
    hits: Int[np.ndarray, " row"]
    sizes: Int[np.ndarray, " row"]
    starts: Int[np.ndarray, " class"]


Measure = Callable[[Hits], Float64[np.ndarray, " class"]]


def average_precision(rows: Labelled) -> Outcome:
    """Rank by average precision, as Suau et al. (2020) do, the best over classes and both directions.

    Average precision is the mean over the rows of a class of the precision at that row's threshold. At random it is
    the class' share of the rows, so the score is (AP - share) / (1 - share): frequent classes get no advantage.
    """
    return _ranked(rows, average_precisions)


def iou(rows: Labelled) -> Outcome:
    """Rank by intersection over union, as in Network Dissection (Bau et al. 2017), the best over classes.

    A neuron's mask is the rows at or above a threshold, the class' mask its rows; the threshold is the one at which the
    two overlap most, in both directions. A mask of all rows overlaps as much as the class' share, so the score is
    (IoU - share) / (1 - share).
    """
    return _ranked(rows, best_overlaps)


def average_precisions(found: Hits) -> Float64[np.ndarray, " class"]:
    """Average precision for each class; equal values share one threshold, as in scikit-learn."""
    precision: Float64[np.ndarray, " class"] = np.add.reduceat(found.hits / found.above, found.starts)
    precision /= found.sizes[found.starts]
    return precision


def best_overlaps(found: Hits) -> Float64[np.ndarray, " class"]:
    """Intersection over union for each class, at the threshold where it is largest."""
    overlaps: Float64[np.ndarray, " class"] = np.maximum.reduceat(
        found.hits / (found.above + found.sizes - found.hits), found.starts
    )
    return overlaps


def detection(
    values: Float32[np.ndarray, "column row"],
    codes: Int[np.ndarray, " row"],
    n_classes: int,
    measure: Measure,
) -> Float64[np.ndarray, "direction class column"]:
    """Measure every column as a detector of every class: direction 0 by high values, 1 by low ones.

    All classes of a column are measured from one sort. Every class must have a row.
    """
    scores = np.empty((2, n_classes, len(values)))
    # The sort of codes is a radix sort, linear in the rows, when they are small numbers.
    small = codes.astype(np.min_scalar_type(n_classes))
    sizes = np.bincount(codes, minlength=n_classes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    within = np.arange(1, len(codes) + 1) - np.repeat(starts, sizes)
    repeated = np.repeat(sizes, sizes)
    for column, row_values in enumerate(values):
        rising = np.argsort(row_values)
        for direction, order in enumerate((rising[::-1], rising)):
            grouped = np.argsort(small[order], kind="stable")
            above = _ends(row_values[order])[grouped]
            hits = _last_of_equals(within, above, starts)
            scores[direction, :, column] = measure(Hits(above, hits, repeated, starts))
    return scores


def _ends(ordered: Float32[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """For each row the number of rows up to the last one of equal value."""
    last = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    if len(last) == len(ordered) - 1:
        return np.arange(1, len(ordered) + 1)
    ends = np.append(last, len(ordered))
    return np.repeat(ends, np.diff(ends, prepend=0))


def _last_of_equals(
    within: Int[np.ndarray, " row"], above: Int[np.ndarray, " row"], starts: Int[np.ndarray, " class"]
) -> Int[np.ndarray, " row"]:
    """Rank in its class of the last row of each run of equal thresholds, for all rows of the run."""
    differs = above[1:] != above[:-1]
    differs[starts[1:] - 1] = True
    if differs.all():
        return within
    last = np.append(np.flatnonzero(differs), len(above) - 1)
    hits: Int[np.ndarray, " row"] = within[np.repeat(last, np.diff(last, prepend=-1))]
    return hits


def _ranked(rows: Labelled, measure: Measure) -> Outcome:
    counts = rows.counts
    best: ByClass = np.empty((len(rows.classes), rows.acts.shape[1]))
    for where, values in _columns(rows):
        best[:, where] = detection(values, rows.codes, len(counts), measure).max(axis=0)
    shares = (counts / counts.sum())[:, None]
    scores = ((best - shares) / (1 - shares)).max(axis=0)
    by_class = {name: by_falling(best[code]) for code, name in enumerate(rows.classes)}
    return Outcome(by_falling(scores), scores, by_class)


def _columns(rows: Labelled) -> Iterator[tuple[slice, Float32[np.ndarray, "column row"]]]:
    """All columns in order, some at a time, with all their rows; the bar counts neurons."""
    n_rows, n_columns = rows.acts.shape
    held = max(1, BLOCK_BYTES // (4 * n_rows))
    small = max(1, min(held, 64))
    with tqdm(total=n_columns, desc="Thresholds", unit="neuron", disable=not rows.progress) as bar:
        for start in range(0, n_columns, held):
            stop = min(start + held, n_columns)
            values = np.empty((stop - start, n_rows), dtype=np.float32)
            for where, block in rows.acts.chosen(columns=np.arange(start, stop)).chunks():
                values[:, where] = block.T
            for inner in range(start, stop, small):
                end = min(inner + small, stop)
                yield slice(inner, end), values[inner - start : end - start]
                bar.update(end - inner)
