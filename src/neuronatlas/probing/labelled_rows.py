"""Rows of activations with the class of each, and what every ranking asks of them: means and variances by class.

>>> rows = Labelled.of(np.array([[0.0, 1.0], [2.0, 1.0], [5.0, 1.0]]), ["b", "b", "a"], progress=False)
>>> rows.classes, class_moments(rows).means.tolist()
(('a', 'b'), [[5.0, 1.0], [1.0, 1.0]])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from neuronatlas.probing.activations import Activations
from neuronatlas.probing.ranking import Order, RankingError

__all__ = ["ClassMoments", "Labelled", "Outcome", "by_falling", "class_moments"]

ByClass = Float64[np.ndarray, "class column"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows that have a label: `codes[row]` is the index of the row's class in `classes`, which are sorted.

    Errors: RankingError for fewer than two classes, labels that are no classes, and values that are not finite.
    """

    acts: Activations
    classes: tuple[str, ...]
    codes: Int[np.ndarray, " row"]
    labels: NDArray[Any]
    progress: bool = True

    @classmethod
    def of(cls, acts: Activations | ArrayLike, labels: ArrayLike, *, progress: bool = True) -> Labelled:
        """Take activations or an array [row, neuron] with the labels of rows or of corpus items (None is no label)."""
        given = acts if isinstance(acts, Activations) else Activations.of(acts)
        aligned, of_rows = given.align(labels)
        classes, codes = _classes(of_rows)
        rows = cls(aligned, classes, codes, of_rows, progress)
        if not rows.acts.shape[1]:
            raise RankingError("activations without a neuron: at least one expected")
        rows.require_finite()
        return rows

    def blocks(self, doing: str) -> Iterator[tuple[slice, Float32[np.ndarray, "row column"]]]:
        """All rows in order, some at a time, under a progress bar."""
        with tqdm(total=len(self.acts), desc=doing, unit="row", disable=not self.progress) as bar:
            for rows, block in self.acts.chunks():
                yield rows, block
                bar.update(len(block))

    @property
    def counts(self) -> Int[np.ndarray, " class"]:
        """Rows of each class."""
        return np.bincount(self.codes, minlength=len(self.classes))

    def taken(self, places: Int[np.ndarray, " place"]) -> Labelled:
        """Some of the rows, by place; classes keep their codes."""
        acts = self.acts.chosen(rows=places)
        return Labelled(acts, self.classes, self.codes[places], self.labels[places], self.progress)

    def require_finite(self) -> None:
        """Raise RankingError, with the place, when a value is NaN or infinite."""
        for rows, block in self.blocks("Checking"):
            bad = ~np.isfinite(block)
            if bad.any():
                row, column = np.argwhere(bad)[0]
                neuron = self.acts.layout.neuron(int(self.acts.columns[column]))
                item = int(self.acts.items[rows.start + row])
                raise RankingError(
                    f"activations must be finite: {neuron} is {block[row, column]} at item {item}; "
                    "extract again in float32, or leave that neuron or item out"
                )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method finds, by column: the order, each column's score (higher is more salient), orders by class."""

    order: Order
    scores: Float64[np.ndarray, " column"]
    by_class: Mapping[str, Order] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Number of rows, mean and variance (over n, not n - 1) of each column in each class, in float64."""

    counts: Int[np.ndarray, " class"]
    means: ByClass
    variances: ByClass

    @property
    def mean(self) -> Float64[np.ndarray, " column"]:
        """Mean of all rows."""
        # Taken about the first class, so that of a constant neuron it is exactly the constant.
        mean: Float64[np.ndarray, " column"] = self.means[0] + self.shares @ (self.means - self.means[0])
        return mean

    @property
    def variance(self) -> Float64[np.ndarray, " column"]:
        """Variance of all rows, about the mean of all; exactly 0 for a constant neuron."""
        within = self.shares @ self.variances
        variance: Float64[np.ndarray, " column"] = within + self.shares @ (self.means - self.mean) ** 2
        return variance

    @property
    def shares(self) -> Float64[np.ndarray, " class"]:
        """Share of the rows that each class has."""
        shares: Float64[np.ndarray, " class"] = self.counts / self.counts.sum()
        return shares


def class_moments(rows: Labelled) -> ClassMoments:
    """Count, mean and variance by class, in one pass; the memory is that of one chunk and of the result.

    Every class must have a row.
    """
    shape = (len(rows.classes), rows.acts.shape[1])
    sums, squares = np.zeros(shape), np.zeros(shape)
    # Sums are taken about the mean of the first chunk: squares about 0 would lose a variance small beside its mean.
    shift = None
    for where, block in rows.blocks("Means"):
        order = np.argsort(rows.codes[where], kind="stable")
        present, starts = np.unique(rows.codes[where][order], return_index=True)
        values = block[order].astype(np.float64)
        shift = values.mean(axis=0) if shift is None else shift
        values -= shift
        sums[present] += np.add.reduceat(values, starts, axis=0)
        np.square(values, out=values)
        squares[present] += np.add.reduceat(values, starts, axis=0)
    counts = rows.counts
    means = sums / counts[:, None]
    variances = np.maximum(squares / counts[:, None] - means**2, 0.0)
    return ClassMoments(counts, means + shift, variances)


def by_falling(scores: Float64[np.ndarray, " column"]) -> Order:
    """Columns by falling score, ties by address.

    >>> by_falling(np.array([0.5, 2.0, 0.5])).tolist()
    [1, 0, 2]
    """
    return np.argsort(-scores, kind="stable")


def _classes(labels: NDArray[Any]) -> tuple[tuple[str, ...], Int[np.ndarray, " row"]]:
    if labels.dtype.kind == "f" and not (labels == np.round(labels)).all():
        raise RankingError(f"labels are numbers such as {labels[labels != np.round(labels)][0]}: classes expected")
    try:
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise RankingError(f"labels of several types ({kinds}): one type expected") from None
    if len(classes) < 2:
        found = f"one, {str(classes[0])!r}" if len(classes) else "none"
        raise RankingError(f"a ranking needs labels of at least two classes: there is {found}, in {len(labels)} rows")
    return tuple(str(name) for name in classes), codes
