"""Which sentences or prompts share a pass of the model, and the proof that each still gets what it would get alone.

Sentences of different lengths are padded to the longest of a batch where the loaded model was proved not to mind;
otherwise only sentences of one length share a pass; otherwise each runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from neuronatlas.models.hooks import capture
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_PASS
from neuronatlas.models.queries import by_length

__all__ = ["WAYS", "batches", "choose_way", "padded", "run"]

WAYS = ("padded", "equal", "single")
"""From the fastest to the surest: any lengths in a batch, equal lengths, one sentence a pass."""

_PROOF_TOKENS = 24
"""Length of the longest row of the proof: longer than the sliding windows and distance buckets of small models."""

Ids = Sequence[int]


def choose_way(model: Model) -> str:
    """The fastest way that gives each sentence what it gets alone, proved once on the loaded model.

    Why faster ones were refused stands in `model.ways` under "padded batches" and "equal batches".
    """
    # An intervention may name positions counted from the end, which padding would move.
    for way in ("equal",) if model.intervened_sites else WAYS[:-1]:
        key = f"{way} batches"
        if key not in model.ways:
            with model.proving():
                model.ways[key] = _disprove(model, way)
        if not model.ways[key]:
            return way
    return WAYS[-1]


def batches(lengths: Sequence[int], budget: int, way: str) -> list[list[int]]:
    """Group sentences by length into batches of at most `budget` tokens, padding counted (at least one sentence).

    Padded batches are those that cost least in all: fuller ones save passes, which cost as much as `budget` / 16 tokens
    each, emptier ones save padding.

    >>> batches([3, 5, 3, 4], budget=160, way="padded")
    [[0, 2, 3, 1]]
    >>> batches([3, 90, 3, 4], budget=160, way="padded")
    [[0, 2, 3], [1]]
    >>> batches([3, 5, 3, 4], budget=160, way="equal")
    [[0, 2], [3], [1]]
    """
    if way == "equal":
        return by_length(lengths, budget)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if way == "single":
        return [[index] for index in order]
    bounds = _cheapest([lengths[index] for index in order], budget)
    return [order[start:stop] for start, stop in pairwise(bounds)]


def _cheapest(lengths: Sequence[int], budget: int) -> list[int]:
    """Where to divide rising lengths, both ends included, so that padded tokens and passes cost least."""
    least, start_of = np.zeros(len(lengths) + 1, dtype=np.int64), [0] * (len(lengths) + 1)
    for stop, width in enumerate(lengths, start=1):
        starts = np.arange(max(0, stop - max(1, budget // width)), stop)
        costs = least[starts] + (stop - starts) * width
        start_of[stop] = int(starts[np.argmin(costs)])
        least[stop] = costs.min() + budget // 16
    bounds = [len(lengths)]
    while bounds[-1]:
        bounds.append(start_of[bounds[-1]])
    return bounds[::-1]


def padded(model: Model, rows: Sequence[Ids]) -> tuple[Int[Tensor, "row position"], Int[Tensor, "row position"]]:
    """Token ids of rows of any lengths, and the attention mask that goes with them.

    A causal model looks at no later position, so padding to the right needs no mask there, which keeps attention fast.
    """
    width = max(map(len, rows))
    fill = model.tokenizer.pad_token_id
    ids = torch.full((len(rows), width), fill if isinstance(fill, int) else 0)
    mask = torch.full_like(ids, model.kind == "causal")
    for row, own in enumerate(rows):
        ids[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
    return ids.to(model.device), mask.to(model.device)


def run(model: Model, rows: Sequence[Ids]) -> None:
    """Run the model on rows of any lengths, for what hooks see of it; of an encoder and a decoder, in the encoder."""
    ids, mask = padded(model, rows)
    # The rows are the encoder's; the decoder of such a model gets one token a row, for it must have some.
    given = {"decoder_input_ids": ids[:, :1]} if model.kind == "seq2seq" else {}
    with torch.no_grad():
        model.module(input_ids=ids, attention_mask=mask, use_cache=False, **given)


def _disprove(model: Model, way: str) -> str:
    """Why rows that share a pass do not get what they get alone; empty when they do, at every site and layer."""
    first, second = model.probe_ids.tolist()
    long = (first + second) * 2
    rows = [long[: min(_PROOF_TOKENS, model.max_length)], second, first[:2], first[:1]]
    if way == "equal":
        rows = [first, second, first[::-1]]
    try:
        together = _seen(model, rows)
        alone = [_seen(model, [row]) for row in rows]
    except Exception as error:  # noqa: BLE001 - whatever an unknown architecture raises, single passes remain
        return f"{type(error).__name__}: {error}"
    tolerance = SAME_PASS.of(model.dtype)
    for (site, layer), values in together.items():
        for index, row in enumerate(rows):
            expected = alone[index][site, layer][0]
            apart = float((values[index, : len(row)] - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
            if not apart <= tolerance:
                return f"site {site!r}, layer {layer}: a row of {len(row)} tokens moves by {apart:.1e} of the largest"
    return ""


def _seen(model: Model, rows: Sequence[Ids]) -> dict[tuple[str, int], Tensor]:
    """Neurons of all sites and layers that read the rows, in float32: (site, layer) -> [row, position, unit]."""
    reading = [site for site in model.sites if model.kind != "seq2seq" or model.layout(site).stack == "encoder"]
    with ExitStack() as stack:
        seen = {site: stack.enter_context(capture(model, site)) for site in reading}
        run(model, rows)
    return {(site, layer): values.float() for site, found in seen.items() for layer, values in found.items()}
