"""Reads texts and says how strongly neurons fire on each: a stream of any length in bounded memory.

A neuron's value on a text is pooled over the text's own tokens: those that the tokenizer adds (a beginning, an end) are
left out, because many models give them activations far above all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuronatlas.models.calls import stop_after
from neuronatlas.models.hooks import capture
from neuronatlas.models.model import Model
from neuronatlas.models.queries import by_length
from neuronatlas.neurons import NeuronSet

__all__ = ["POOLINGS", "TextBlock", "TextError", "added_tokens", "read_activations", "text_ids", "token_at"]

WINDOW = 512
"""Texts held at once, so that texts of one length can share a pass."""

_UNBOUND = 2**31

Pooling = Callable[[Float[Tensor, "row position neuron"], Bool[Tensor, "row position"]], Float[Tensor, "row neuron"]]


class TextError(ValueError):
    """Texts that cannot be read by this model, or a pooling that does not exist."""


def _max(values: Tensor, own: Tensor) -> Tensor:
    return values.masked_fill(~own[..., None], -torch.inf).amax(1)


def _mean(values: Tensor, own: Tensor) -> Tensor:
    return (values * own[..., None]).sum(1) / own.sum(1, keepdim=True)


POOLINGS: dict[str, Pooling] = {"max": _max, "mean": _mean}
"""What is made of a neuron's activations over the tokens of a text."""


@dataclass(frozen=True, eq=False)
class TextBlock:
    """Some texts of a stream: the first one's index, pooled activations, and the token where each neuron peaks.

    `values` is NaN for a text without tokens of its own; `cut` tells the texts that are longer than the model takes, of
    which only the beginning was read.
    """

    start: int
    texts: list[str]
    values: Float[np.ndarray, "text neuron"]
    peaks: Int[np.ndarray, "text neuron"]
    cut: Bool[np.ndarray, " text"]


def read_activations(
    model: Model, texts: Iterable[str], neurons: NeuronSet, *, pooling: str = "max", budget: int = 8192
) -> Iterator[TextBlock]:
    """Yield the neurons' pooled activations on a stream of texts, a few hundred texts at a time, in order.

    Errors: TextError for no neurons, an unknown pooling, or a sequence-to-sequence model; LayoutMismatchError.

    >>> from neuronatlas.specimen import specimen_folder
    >>> from neuronatlas.models import load
    >>> model = load(specimen_folder())
    >>> [block] = read_activations(model, ["Paris is the capital of France."], model.layout().set(["L3.U10"]))
    >>> block.values.shape, token_at(model, block.texts[0], int(block.peaks[0, 0])) is not None
    ((1, 1), True)
    """
    model.layout(neurons.layout.site).require(neurons.layout)
    if not len(neurons):
        raise TextError("no neurons to read: at least 1 expected")
    if pooling not in POOLINGS:
        raise TextError(f"no pooling {pooling!r}: expected one of {', '.join(POOLINGS)}")
    if model.kind == "seq2seq":
        raise TextError(f"{model.name} reads a text in its encoder alone, where its default site has no neurons")
    stream, start = iter(texts), 0
    while window := list(islice(stream, WINDOW)):
        yield _block(model, start, window, neurons, POOLINGS[pooling], budget)
        start += len(window)


def _block(model: Model, start: int, texts: list[str], neurons: NeuronSet, pooling: Pooling, budget: int) -> TextBlock:
    ids, cut = _encoded(model, texts)
    values = np.full((len(texts), len(neurons)), np.nan)
    peaks = np.zeros((len(texts), len(neurons)), dtype=np.int64)
    added = added_tokens(model)
    special = torch.tensor(sorted(added))
    read = [index for index, row in enumerate(ids) if set(row) - added]
    for batch in by_length([len(ids[index]) for index in read], budget):
        chosen = [read[index] for index in batch]
        given = torch.tensor([ids[index] for index in chosen])
        found = _run(model, given.to(model.device), neurons)
        own = ~torch.isin(given, special)
        values[chosen] = pooling(found, own).numpy()
        peaks[chosen] = found.masked_fill(~own[..., None], -torch.inf).argmax(1).numpy()
    return TextBlock(start, texts, values, peaks, cut)


def added_tokens(model: Model) -> set[int]:
    """Ids of the tokens that a tokenizer adds to a text; masks and unknown words are the text's own."""
    tokenizer = model.tokenizer
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id}
    # Some tokenizers begin or end their texts with the token that stands for unknown words (GPT-2's).
    own = {tokenizer.mask_token_id, tokenizer.unk_token_id} - ends - {tokenizer.pad_token_id}
    return set(tokenizer.all_special_ids) - own


def text_ids(model: Model, texts: Sequence[str], *, over: int = 0) -> list[list[int]]:
    """Token ids of texts as the model reads them: from their beginning, as many as it takes.

    `over` more tell the longer texts. A model without a limit reads all of a text.

    >>> from neuronatlas.specimen import specimen_folder
    >>> from neuronatlas.models import load
    >>> model = load(specimen_folder())
    >>> [len(row) <= model.max_length for row in text_ids(model, ["Paris is the capital of France. " * 99])]
    [True]
    """
    longest = model.max_length + over
    # Tokenizers without a limit say 10**30, which is more than they can count to themselves.
    limits = {"truncation": True, "max_length": longest} if longest < _UNBOUND else {}
    ids: list[list[int]] = model.tokenizer(list(texts), **limits).input_ids
    return ids


def _encoded(model: Model, texts: Sequence[str]) -> tuple[list[list[int]], Bool[np.ndarray, " text"]]:
    ids = text_ids(model, texts, over=1)
    cut = np.array([len(row) > model.max_length for row in ids])
    return (text_ids(model, texts) if cut.any() else ids), cut


def _run(model: Model, ids: Int[Tensor, "row position"], neurons: NeuronSet) -> Float[Tensor, "row position neuron"]:
    """The neurons at every position; what lies above the highest of them is not run."""
    by_layer = neurons.units()
    highest = max(by_layer) - (neurons.layout.site == "hidden")
    last = model.blocks[max(0, highest)]
    with torch.no_grad(), capture(model, neurons.layout.site, list(by_layer)) as seen:
        stop_after(last.module, lambda: model.logits(ids), nth=last.call)
    # In address order, which is that of layers and of places in them.
    return torch.cat([seen[layer][..., places].double().cpu() for layer, places in by_layer.items()], dim=-1)


def token_at(model: Model, text: str, place: int) -> str:
    """The token at a place of a text as the model reads it."""
    [ids] = text_ids(model, [text])
    return str(model.tokenizer.convert_ids_to_tokens(ids[place]))
