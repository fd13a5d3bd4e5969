"""Activations: one row of neurons for each word (or sentence) of a corpus, in memory or on disk.

>>> acts = Activations.of(np.array([[0.5, 2.0], [1.0, 3.0], [0.0, 1.0]]))
>>> acts.shape, acts.chosen(columns=[1]).array().tolist()
((3, 2), [[2.0], [3.0], [1.0]])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Int
from numpy.typing import ArrayLike, NDArray

from neuronatlas.models import Model
from neuronatlas.neurons import Layout, NeuronSet
from neuronatlas.probing.corpora import Corpus

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
        """Some rows, in the order given, and all columns or some, as float32 (a view where that can be)."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """Rows in an array."""

    array: Block

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.array.shape[0], self.array.shape[1]

    def read(self, rows: slice | Indices, columns: Indices | None) -> Block:
        """Some rows, and all columns or some."""
        if columns is None or isinstance(rows, slice):
            block = self.array[rows]
            return block if columns is None else block[:, columns]
        chosen: Block = self.array[np.ix_(rows, columns)]
        return chosen


@dataclass(frozen=True, eq=False, repr=False)
class Activations:
    """Rows of neurons, with the address of each column and the corpus item of each row.

    `layout` is the model's, at one site; `columns` are flat indices into it, ascending, of the neurons that are held.
    `items` are the corpus items (`Corpus.items`) that the rows are of, ascending: a word that the tokenizer drops or
    that lies past the model's length has no row. `words_digest` and `n_items` are those of the corpus, `model` is the
    model's name. `notes` say what a reader must know, such as how many words have no row and why.

    Rows of a view may stand in another order, as `chosen` was asked; columns too.
    """

    source: Source
    layout: Layout
    columns: Indices
    items: Indices
    n_items: int
    words_digest: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()
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

    def __repr__(self) -> str:
        of = f" of {self.model}" if self.model else ""
        return f"Activations({len(self)} rows of {len(self.columns)} neurons, site {self.layout.site!r}{of})"

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

    def chosen(self, rows: Any = None, columns: Any = None) -> Activations:
        """A view of some rows and some columns, in the order given; nothing is read yet.

        Both are places (indices, a slice or a mask); columns may also be a NeuronSet.

        Errors: ActivationsError for places and neurons that are not there.
        """
        view = self
        if rows is not None:
            places = _places(rows, len(self), "row")
            inner = places if self._rows is None else self._rows[places]
            view = replace(view, items=self.items[places], _rows=inner)
        if columns is not None:
            places = (
                self._columns_of(columns)
                if isinstance(columns, NeuronSet)
                else _places(columns, len(self.columns), "column")
            )
            inner = places if self._taken is None else self._taken[places]
            view = replace(view, columns=self.columns[places], _taken=inner)
        return view

    def neurons(self) -> NeuronSet:
        """The neurons that the columns are."""
        return NeuronSet(self.layout, tuple(self.layout.neuron(int(index)) for index in self.columns))

    def align(self, labels: ArrayLike) -> tuple[Activations, NDArray[Any]]:
        """The rows that have a label, and their labels.

        `labels` are one a row (so they are taken where both would fit), or one a corpus item (`Corpus.labels`), then
        those of words without a row are left out; None is no label.

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

    def require(self, corpus: Corpus, model: Model | None = None) -> None:
        """Raise ActivationsError unless these are activations of this corpus, and of this model as it is now.

        Labels are free to differ. Activations whose words are unknown (an array, a file of another program) pass when
        they count as many items.
        """
        name = corpus.name or "the corpus"
        if self.n_items != corpus.n_items:
            raise ActivationsError(
                f"activations of {self.n_items} items do not go with {name}, which has {corpus.n_items}: extract anew"
            )
        if self.words_digest not in {"", corpus.words_digest}:
            raise ActivationsError(
                f"activations of other words (digest {self.words_digest}) than those of {name} "
                f"({corpus.words_digest}), though of as many: extract anew"
            )
        if model is None:
            return
        expected = model.layout(self.layout.site)
        for part in ("widths", "experts", "stack", "digest"):
            found, wanted = getattr(self.layout, part), getattr(expected, part)
            if found != wanted:
                raise ActivationsError(
                    f"activations of another model than {model.name}: {part} is {found!r}, {wanted!r} expected; "
                    "extract anew"
                )

    def _columns_of(self, neurons: NeuronSet) -> Indices:
        self.layout.require(neurons.layout)
        wanted = np.array([self.layout.index(neuron) for neuron in neurons], dtype=np.int64)
        place_of = np.full(self.layout.n_neurons, -1)
        place_of[self.columns] = np.arange(len(self.columns))
        places: Indices = place_of[wanted]
        if (places < 0).any():
            lost = self.layout.neuron(int(wanted[places < 0][0]))
            raise ActivationsError(f"{lost} is not among the {len(self.columns)} neurons of these activations")
        return places


def _places(asked: Any, count: int, what: str) -> Indices:
    """Indices from 0 for whatever numpy takes as such: places, negative ones, a mask, a slice."""
    index = asked if isinstance(asked, slice) else np.asarray(asked)
    if isinstance(index, np.ndarray) and not index.size:
        index = index.astype(np.int64)
    try:
        places: Indices = np.arange(count)[index]
    except IndexError as error:
        raise ActivationsError(f"no such {what}s among {count}: {error}") from None
    if places.ndim != 1:
        raise ActivationsError(f"{what}s of shape {places.shape}: a list of places expected")
    return places
