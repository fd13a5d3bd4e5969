"""The standardised columns that a probe is fitted on, in memory or read from where they lie on every pass.

Products over rows are summed chunk by chunk, chunks of one fixed size, so that both give the same sums bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neuronatlas.probing.activations import CHUNK_ROWS, Activations

__all__ = [
    "Columns",
    "Held",
    "ProbeError",
    "Rows",
    "Streamed",
    "columns_of",
    "gradient",
    "moments",
    "products",
    "scores",
]

Block = Float[Tensor, "row column"]
Weights = Float[Tensor, "output column"]
Scores = Float[Tensor, "row output"]


_FEW = 0.3
"""Share of the columns below which a product gathers those that it needs."""


class ProbeError(ValueError):
    """Rows, labels or settings that no probe can be fitted with."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of numbers as they were given: activations, or an array, which keeps its precision."""

    source: Activations | Float[np.ndarray, "row column"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.source.shape[0], self.source.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All rows in order, chunk by chunk."""
        if isinstance(self.source, Activations):
            yield from self.source.chunks()
            return
        for start in range(0, len(self), CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, len(self)))
            yield rows, self.source[rows]

    def name(self, column: int) -> str:
        """What a column is called."""
        if isinstance(self.source, Activations):
            return f"neuron {self.source.layout.neuron(int(self.source.columns[column]))}"
        return f"column {column}"


class Columns(Protocol):
    """Standardised columns: [row, column], of which products are asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision of products."""

    def chunks(self) -> Iterator[tuple[slice, Block]]:
        """All rows in order, chunk by chunk."""


@dataclass(frozen=True, eq=False)
class Held:
    """Columns in memory, standardised already."""

    values: Block

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """That of the values."""
        return self.values.dtype

    def chunks(self) -> Iterator[tuple[slice, Block]]:
        """Views of the rows."""
        for start in range(0, len(self.values), CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, len(self.values)))
            yield rows, self.values[rows]


@dataclass(frozen=True, eq=False)
class Streamed:
    """Columns that are read and standardised anew on every pass."""

    rows: Rows
    mean: Float64[np.ndarray, " column"]
    scale: Float64[np.ndarray, " column"]
    dtype: torch.dtype
    device: torch.device

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.shape

    def chunks(self) -> Iterator[tuple[slice, Block]]:
        """The rows, standardised in the precision of the products."""
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        mean, steep = self.mean.astype(kind), (1 / self.scale).astype(kind)
        for rows, block in self.rows.chunks():
            standard = np.subtract(block, mean, dtype=kind)
            standard *= steep
            yield rows, torch.from_numpy(standard).to(self.device)

    def held(self) -> Held:
        """All columns brought into memory."""
        values = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for rows, block in self.chunks():
            values[rows] = block
        return Held(values)


@dataclass(frozen=True, eq=False)
class Doubled:
    """The same columns, with products in double precision."""

    columns: Held | Streamed

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.columns.shape

    @property
    def dtype(self) -> torch.dtype:
        """Double precision."""
        return torch.float64

    def chunks(self) -> Iterator[tuple[slice, Block]]:
        """The rows as they are, in double precision."""
        for rows, block in self.columns.chunks():
            yield rows, block.double()


def columns_of(
    rows: Rows,
    mean: Float64[np.ndarray, " column"],
    scale: Float64[np.ndarray, " column"],
    *,
    dtype: torch.dtype,
    device: torch.device,
    limit: int,
) -> Held | Streamed:
    """Standardised columns: in memory when they take at most `limit` bytes, else streamed."""
    streamed = Streamed(rows, mean, scale, dtype, device)
    return streamed.held() if rows.shape[0] * rows.shape[1] * dtype.itemsize <= limit else streamed


def scores(columns: Columns, weights: Weights) -> Scores:
    """Product of all rows with weights."""
    return products(columns, [weights])[0]


def products(columns: Columns, several: Sequence[Weights]) -> list[Scores]:
    """Products of all rows with several weights, in one pass; columns in which all weights are 0 cost nothing."""
    used = [torch.nonzero((weights != 0).any(0))[:, 0] for weights in several]
    # Gathering columns is slower than multiplying with all once they are many.
    few = [len(places) < _FEW * columns.shape[1] for places in used]
    turned = [
        (weights[:, places] if some else weights).T.contiguous()
        for weights, places, some in zip(several, used, few, strict=True)
    ]
    found = [weights.new_zeros(columns.shape[0], len(weights)) for weights in several]
    if any(map(len, used)):
        for rows, block in columns.chunks():
            for out, places, weights, some in zip(found, used, turned, few, strict=True):
                if len(places):
                    torch.mm(block.index_select(1, places) if some else block, weights, out=out[rows])
    return found


def gradient(columns: Columns, residual: Scores) -> Float[Tensor, "output column"]:
    """Mean over rows of residual times columns, summed over chunks in float64."""
    total = torch.zeros(residual.shape[1], columns.shape[1], dtype=torch.float64, device=residual.device)
    for rows, block in columns.chunks():
        total += (residual[rows].T @ block).double()
    return total / columns.shape[0]


def moments(rows: Rows) -> tuple[Float64[np.ndarray, " column"], Float64[np.ndarray, " column"]]:
    """Mean and standard deviation of each column, in float64; 1 in place of the deviation of a constant one.

    Errors: ProbeError that names the first column whose values are not all finite.

    >>> mean, scale = moments(Rows(np.array([[1.0, 5.0], [3.0, 5.0]])))
    >>> mean.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    totals = np.zeros(rows.shape[1])
    for _, block in rows.chunks():
        totals += block.sum(axis=0, dtype=np.float64)
    if not np.isfinite(totals).all():
        column = int(np.flatnonzero(~np.isfinite(totals))[0])
        raise ProbeError(f"{rows.name(column)} has NaN or infinity among its values: finite numbers expected")
    mean, moved, squares = totals / len(rows), np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for _, block in rows.chunks():
        kind = np.float64 if block.dtype == np.float64 else np.float32
        away = np.subtract(block, mean.astype(kind), dtype=kind)
        moved += away.sum(axis=0, dtype=np.float64)
        squares += np.square(away, out=away).sum(axis=0, dtype=np.float64)
    # What rounding left of the mean is known, and comes off.
    scale = np.sqrt(np.maximum(squares / len(rows) - np.square(moved / len(rows)), 0.0))
    # A constant column keeps a little rounding, which must not be blown up to a column of its own.
    scale[scale <= 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0
    return mean, scale
