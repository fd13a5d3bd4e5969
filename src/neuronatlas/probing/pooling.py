"""From the tokens of words to rows of neurons, taken inside the pass: only the values that are asked for leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuronatlas.models import Model
from neuronatlas.models.batching import run
from neuronatlas.models.calls import Stopped
from neuronatlas.models.taps import Edit, Point, tapped
from neuronatlas.neurons import Layout
from neuronatlas.probing.alignment import Aligned
from neuronatlas.probing.corpora import Level

__all__ = ["POOLINGS", "Neurons", "Pooling", "Spots", "pooled", "spots"]

Pooling = Literal["last", "first", "mean"]
POOLINGS: tuple[Pooling, ...] = ("last", "first", "mean")

Indices = Int[np.ndarray, " index"]


@dataclass(frozen=True, eq=False)
class Neurons:
    """Which neurons are read: their flat indices, and for each layer its point, its units and their columns."""

    layout: Layout
    columns: Indices
    parts: tuple[tuple[Point, Tensor | None, slice], ...]

    @classmethod
    def of(cls, model: Model, layout: Layout, columns: Indices) -> Neurons:
        """Sort flat indices, ascending, by the layers that have them."""
        points, bounds = model.site(layout.site).points, np.searchsorted(columns, layout.offsets)
        parts = []
        for layer, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
            units = torch.from_numpy(columns[start:stop] - layout.offsets[layer]).to(model.device)
            if stop > start:
                whole = stop - start == layout.widths[layer]
                parts.append((points[layer], None if whole else units, slice(start, stop)))
        return cls(layout, columns, tuple(parts))


@dataclass(frozen=True, eq=False)
class Spots:
    """The rows of one sentence: which items they are (0 for its first word), and the token positions of each row.

    `positions` are those of all rows one after the other, `counts` how many each row has.
    """

    items: Indices
    positions: Indices
    counts: Indices

    def __len__(self) -> int:
        return len(self.items)


def spots(aligned: Aligned, level: Level, pooling: Pooling) -> Spots:
    """Where the rows of a sentence are read.

    A word is its last or its first token, or the mean of all. A sentence is its last token that stands for text, its
    first token of all (`[CLS]` in BERT), or the mean of all tokens that stand for text.
    """
    rows = [(item, tokens) for item, tokens in enumerate(aligned.words) if tokens]
    if level == "sentence":
        rows = [(0, tuple(range(len(aligned.ids))) if pooling == "first" else aligned.plain)] if aligned.plain else []
    taken = [tokens if pooling == "mean" else tokens[-1:] if pooling == "last" else tokens[:1] for _, tokens in rows]
    return Spots(
        np.array([item for item, _ in rows], dtype=np.int64),
        np.array([position for tokens in taken for position in tokens], dtype=np.int64),
        np.array([len(tokens) for tokens in taken], dtype=np.int64),
    )


def pooled(
    model: Model, neurons: Neurons, ids: Sequence[Sequence[int]], where: Sequence[Spots], dtype: torch.dtype
) -> Float[Tensor, "row column"]:
    """Run sentences together and return their rows, one sentence's after the other, on the model's device.

    The pass ends with the last layer that is read: what lies above, the vocabulary's logits too, is not computed.
    """
    width, device = max(map(len, ids)), model.device
    flat = np.concatenate([spot.positions + index * width for index, spot in enumerate(where)])
    tokens = torch.from_numpy(flat).to(device)
    counts = torch.from_numpy(np.concatenate([spot.counts for spot in where]))
    # Words of one token each need no mean.
    lengths = None if len(counts) == len(tokens) else counts.to(device)
    block = torch.empty(len(counts), len(neurons.columns), dtype=dtype, device=device)
    last = neurons.parts[-1][0]
    edits: dict[Point, Edit] = {
        point: _taking(block, tokens, lengths, units, columns, stop=point is last)
        for point, units, columns in neurons.parts
    }
    with tapped(model.module, edits):
        try:
            run(model, ids)
        except Stopped:
            return block
    raise RuntimeError(f"layer {last.layer} ({last.path}) was not reached")


def _taking(
    block: Tensor, tokens: Tensor, lengths: Tensor | None, units: Tensor | None, columns: slice, *, stop: bool
) -> Callable[[Tensor], None]:
    def edit(values: Tensor) -> None:
        # A model may be spread over several devices.
        device = values.device
        taken = values.reshape(-1, values.shape[-1]).index_select(0, tokens.to(device))
        if units is not None:
            taken = taken.index_select(1, units.to(device))
        if lengths is not None:
            taken = torch.segment_reduce(taken.float(), "mean", lengths=lengths.to(device), axis=0)
        block[:, columns] = taken
        if stop:
            raise Stopped(None)

    return edit
