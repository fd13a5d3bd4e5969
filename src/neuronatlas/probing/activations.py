"""Activations: one row of neurons for each word (or sentence) of a corpus, in memory or on disk.

>>> acts = Activations.of(np.array([[0.5, 2.0], [1.0, 3.0], [0.0, 1.0]]))
>>> acts.shape, acts.chosen(columns=[1]).array().tolist()
((3, 2), [[2.0], [3.0], [1.0]])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Int
from numpy.typing import ArrayLike, NDArray

from neuronatlas.neurons import Layout, NeuronSet

__all__ = ["CHUNK_ROWS", "Activations", "ActivationsError", "Source"]

CHUNK_ROWS = 2048
"""Rows read at once by default; fixed, so that sums over rows come out the same wherever the rows lie."""

Block = Float32[np.ndarray, "row column"]
Indices = Int[np.ndarray, " index"]


class ActivationsError(ValueError):
    """Activations that cannot be read, or that do not go with a corpus or a model."""


class Source(Protocol):
    """Where rows lie: an array in memory, or shards on disk."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def read(self, rows: slice | Indices, columns: Indices | None) -> Block:
        """Some rows, and all columns or some, as float32 (a view where that can be)."""


@dataclass(frozen=True)
class InMemory:
    """Rows in an array."""

    array: Block

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.array.shape[0], self.array.shape[1]

    def read(self, rows: slice | Indices, columns: Indices | None) -> Block:
        """Some rows, and all columns or some."""
        block = self.array[rows]
        return block if columns is None else block[:, columns]


@dataclass(frozen=True, eq=False)
class Activations:
    """Rows of neurons, with the address of each column and the corpus item of each row.

    `layout` is the model's, at one site; `columns` are flat indices into it, ascending, of the neurons that are held.
    `items` are the corpus items (`Corpus.items`) that the rows are of, ascending: a word that the tokenizer drops or
    that lies past the model's length has no row. `words_digest` and `n_items` are those of the corpus.
    """

    source: Source
    layout: Layout
    columns: Indices
    items: Indices
    n_items: int
    words_digest: str = ""
    model: str = ""
    _rows: Indices | None = None
    _taken: Indices | None = None

    @classmethod
    def of(cls, array: ArrayLike, layout: Layout | None = None) -> Activations:
        """Take an array [row, neuron] in memory; without a layout its columns are units of one layer."""
        values = np.asarray(array, dtype=np.float32)
        if values.ndim != 2:
            raise ActivationsError(f"an array of shape {values.shape}: rows of neurons, two dimensions, expected")
        layout = layout or Layout(site="array", widths=(values.shape[1],), stack="", digest="")
        if values.shape[1] != layout.n_neurons:
            raise ActivationsError(f"{values.shape[1]} columns for {layout.n_neurons} neurons")
        columns, items = np.arange(values.shape[1]), np.arange(values.shape[0])
        return cls(InMemory(values), layout, columns, items, values.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.items), len(self.columns)

    def __len__(self) -> int:
        return len(self.items)

    def read(self, start: int, stop: int) -> Block:
        """Rows from `start` up to `stop`, as float32."""
        rows = slice(start, stop) if self._rows is None else self._rows[start:stop]
        return self.source.read(rows, self._taken)

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[slice, Block]]:
        """All rows in order, so many at a time."""
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            yield slice(start, stop), self.read(start, stop)

    def array(self) -> Block:
        """All rows in memory."""
        if isinstance(self.source, InMemory):
            return self.read(0, len(self))
        values = np.empty(self.shape, dtype=np.float32)
        for rows, block in self.chunks():
            values[rows] = block
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """What numpy and scikit-learn take it for."""
        return np.array(self.array(), dtype=dtype, copy=copy)

    def chosen(self, rows: Sequence[int] | Indices | None = None, columns: Any = None) -> Activations:
        """A view of some rows (by place) and some columns (a NeuronSet, or places); nothing is read yet."""
        view = self
        if rows is not None:
            places = np.asarray(rows, dtype=np.int64)
            inner = places if self._rows is None else self._rows[places]
            view = replace(view, items=self.items[places], _rows=inner)
        if columns is not None:
            places = self._places(columns)
            inner = places if self._taken is None else self._taken[places]
            view = replace(view, columns=self.columns[places], _taken=inner)
        return view

    def neurons(self) -> NeuronSet:
        """The neurons that the columns are."""
        return NeuronSet(self.layout, tuple(self.layout.neuron(int(index)) for index in self.columns))

    def align(self, labels: ArrayLike) -> tuple[Activations, NDArray[Any]]:
        """The rows that have a label, and their labels.

        `labels` are one a row, or one a corpus item (`Corpus.labels`), then those of words without a row are left out;
        None is no label.

        Errors: ActivationsError for any other number of labels.
        """
        given = np.asarray(labels)
        if given.ndim != 1 or len(given) not in {len(self), self.n_items}:
            items = "" if self.n_items == len(self) else f", or {self.n_items} for the items of its corpus,"
            raise ActivationsError(f"labels of shape {given.shape} for {len(self)} rows{items} expected")
        of_rows = given if len(given) == len(self) else given[self.items]
        if of_rows.dtype != object:
            return self, of_rows
        there = np.flatnonzero(np.array([label is not None for label in of_rows], dtype=bool))
        if len(there) == len(of_rows):
            return self, of_rows
        return self.chosen(rows=there), of_rows[there]

    def _places(self, columns: Any) -> Indices:
        if not isinstance(columns, NeuronSet):
            return np.asarray(columns, dtype=np.int64)
        self.layout.require(columns.layout)
        wanted = np.array([self.layout.index(neuron) for neuron in columns], dtype=np.int64)
        places = np.searchsorted(self.columns, wanted)
        held = (places < len(self.columns)) & (self.columns[np.minimum(places, len(self.columns) - 1)] == wanted)
        if not held.all():
            lost = self.layout.neuron(int(wanted[~held][0]))
            raise ActivationsError(f"{lost} is not among the {len(self.columns)} neurons of these activations")
        return places
