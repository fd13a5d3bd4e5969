"""What a model's neurons do at every word of a corpus: from text to activations, in memory or streamed to a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from neuronatlas.models import Model
from neuronatlas.models.batching import batches, choose_way
from neuronatlas.neurons import Layout, NeuronSet
from neuronatlas.probing.activations import Activations, ActivationsError, InMemory
from neuronatlas.probing.alignment import Aligned, align
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.manifest import DTYPES, Lost, describe, read_manifest, refuse_differences
from neuronatlas.probing.pooling import POOLINGS, Neurons, Pooling, Spots, pooled, spots
from neuronatlas.probing.shards import ShardFolder, Shards, clear, open_activations

__all__ = ["extract"]

_SHARD_BYTES = 512 << 20
"""Size of a shard by default. Sentences are sorted by length within one, so larger ones make fuller batches."""

_BATCH_TOKENS, _BATCH_TOKENS_ON_GPU = 1024, 8192

Indices = Int[np.ndarray, " index"]


def extract(
    model: Model,
    corpus: Corpus,
    site: str | None = None,
    folder: str | Path | None = None,
    *,
    layers: Sequence[int] | None = None,
    neurons: NeuronSet | None = None,
    pooling: Pooling | None = None,
    dtype: str = "float32",
    batch_tokens: int | None = None,
    shard_rows: int | None = None,
    progress: bool = True,
) -> Activations:
    """Run a model over a corpus and keep the neurons of a site at every word: one row a word (or a sentence).

    `site` is the model's default site unless given; at `hidden`, layer 0 is the embeddings. `layers` and `neurons` keep
    some of them. `pooling` makes one row of a word's tokens: its `last` (the default), its `first`, or their `mean`;
    where sentences carry the labels, of a sentence's: the `mean` of those that stand for text (the default), the `last`
    of these, or the `first` of all. Values are kept as `dtype`: float32, float16 or bfloat16.

    Without a folder the rows are kept in memory. With one they are streamed to it, in shards of at most `shard_rows`
    rows (by default 512 MiB of them), so that memory does not grow with the corpus; a run that was interrupted is
    taken up where it stopped and ends in the same bytes, and a complete folder is opened without running the model.
    A batch has at most `batch_tokens` tokens (by default 1,024, on a GPU 8,192); each row is what its sentence alone
    would give, to rounding. A model with an encoder and a decoder is read at sites of its encoder.

    Errors: ActivationsError for settings that make no sense, a folder that holds something else, a tokenizer without
    offsets, a corpus without a single row, and neurons that are not finite; SiteError for a site the model lacks;
    LayoutMismatchError for neurons of another model or site.

    Source: Durrani, Dalvi and Sajjad 2023 (JMLR 24), for one vector a word, that of its last sub-word.

    >>> from neuronatlas.models import load
    >>> from neuronatlas.probing.corpora import Sentence
    >>> from neuronatlas.specimen import specimen_folder
    >>> words = Sentence.of(["Paris", "is", "a", "city", "."], ["PROPN", "AUX", "DET", "NOUN", "PUNCT"], "note, line 1")
    >>> model = load(specimen_folder())
    >>> acts = extract(model, Corpus((words,), label="upos"), "hidden", layers=[0, 2], progress=False)
    >>> acts.shape == (5, 2 * model.site("hidden").widths[0])
    True
    """
    pooling = pooling or ("mean" if corpus.level == "sentence" else "last")
    _check(pooling, dtype, batch_tokens, shard_rows)
    layout = model.layout(site)
    if model.kind == "seq2seq" and layout.stack == "decoder":
        raise ActivationsError(
            f"site {layout.site!r} of {model.name} is the decoder's, which has no text of its own: text is read in the "
            f"encoder, choose site 'encoder.{layout.site}'"
        )
    columns = _columns(layout, layers, neurons)
    if shard_rows is None:
        shard_rows = max(1, _SHARD_BYTES // (len(columns) * DTYPES[dtype].itemsize))
    if batch_tokens is None:
        batch_tokens = _BATCH_TOKENS if model.device.type == "cpu" else _BATCH_TOKENS_ON_GPU
    first_items = np.cumsum([0, *(len(sentence.labels) for sentence in corpus.sentences)])
    neurons_read = Neurons.of(model, layout, columns)
    run = _Run(model, corpus, neurons_read, pooling, DTYPES[dtype], batch_tokens, first_items)
    if folder is None:
        return _to_memory(run, progress)
    return _to_folder(run, Path(folder), dtype, shard_rows, progress)


@dataclass(frozen=True, eq=False)
class _Run:
    """What is read of which corpus, and how; `first_items` are the items that the sentences begin with."""

    model: Model
    corpus: Corpus
    neurons: Neurons
    pooling: Pooling
    dtype: torch.dtype
    batch_tokens: int
    first_items: Indices

    def read(self, start: int, stop: int, room: Callable[[int], Tensor], bar: tqdm[Any]) -> _Rows:
        """Rows of the sentences from `start` up to `stop`, in memory that `room` gives for a number of rows."""
        sentences = range(start, stop)
        aligned = align(self.corpus.sentences[start:stop], self.model.tokenizer, self.model.max_length)
        where = [spots(one, self.corpus.level, self.pooling) for one in aligned]
        items = np.concatenate([spot.items + self.first_items[i] for i, spot in zip(sentences, where, strict=True)])
        rows = np.split(np.arange(len(items)), np.cumsum([len(spot) for spot in where])[:-1])
        values = room(len(items))
        busy = [index for index, spot in enumerate(where) if len(spot)]
        bar.update(len(where) - len(busy))
        lengths = [len(aligned[index].ids) for index in busy]
        for batch in batches(lengths, self.batch_tokens, choose_way(self.model)):
            chosen = [busy[place] for place in batch]
            spots_of = [where[index] for index in chosen]
            block = pooled(self.model, self.neurons, [aligned[index].ids for index in chosen], spots_of, self.dtype)
            into = np.concatenate([rows[index] for index in chosen])
            # A sum is finite unless a value is not, and far cheaper than a look at each.
            if not bool(torch.isfinite(block.sum(dtype=torch.float32))):
                self._refuse_infinite(block, items[into])
            values.index_copy_(0, torch.from_numpy(into), block.to(values.device))
            bar.update(len(chosen))
        return _Rows(values, items, _lost(aligned, where, self.corpus.level))

    def _refuse_infinite(self, block: Tensor, items: Indices) -> None:
        bad = torch.nonzero(~torch.isfinite(block))
        if not len(bad):
            return
        row, column = bad[0].tolist()
        index = int(np.searchsorted(self.first_items, items[row], side="right")) - 1
        sentence, item = self.corpus.sentences[index], int(items[row] - self.first_items[index])
        word = sentence.words[item] if self.corpus.level == "word" else sentence.text
        neuron = self.neurons.layout.neuron(int(self.neurons.columns[column]))
        hint = "; float16 holds at most 65504: choose bfloat16 or float32" if self.dtype == torch.float16 else ""
        raise ActivationsError(
            f"{sentence.source}: neuron {neuron} is {float(block[row, column])} at {word!r}, "
            f"a finite activation expected{hint}"
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of some sentences, their items, and how many words have none."""

    values: Tensor
    items: Indices
    lost: Lost


def _to_memory(run: _Run, progress: bool) -> Activations:
    corpus, layout, columns = run.corpus, run.neurons.layout, run.neurons.columns
    try:
        # Untouched pages take no memory, so room for words that will have no row costs nothing.
        room = torch.empty(corpus.n_items, len(columns), dtype=run.dtype)
    except RuntimeError:
        size = corpus.n_items * len(columns) * run.dtype.itemsize / 1e9
        raise ActivationsError(
            f"{corpus.n_items} rows of {len(columns)} neurons ({size:.0f} GB) do not fit into memory: give a folder, "
            "fewer layers or neurons, or a shorter dtype"
        ) from None
    with tqdm(total=len(corpus), unit="sentence", disable=not progress) as bar:
        rows = run.read(0, len(corpus), lambda count: room[:count], bar)
    _refuse_none(run, len(rows.items))
    whole = run.dtype == torch.float32
    source = InMemory(rows.values.numpy()) if whole else Shards([rows.values], [len(rows.items)], len(columns))
    notes = rows.lost.notes(corpus.level, run.model.max_length)
    return Activations(source, layout, columns, rows.items, corpus.n_items, corpus.words_digest, run.model.name, notes)


def _to_folder(run: _Run, folder: Path, dtype: str, shard_rows: int, progress: bool) -> Activations:
    model, corpus = run.model, run.corpus
    if model.intervened_sites:
        raise ActivationsError(
            f"an intervention is active, and activations in {folder} would pass for the model's own: "
            "extract them without a folder"
        )
    content = describe(
        corpus,
        run.neurons.layout,
        run.neurons.columns,
        {"name": model.name, "revision": model.revision},
        pooling=run.pooling,
        dtype=dtype,
        max_length=model.max_length,
        tokenizer=_tokenizer_digest(model),
        run={"shard_rows": shard_rows, "device": model.device.type},
    )
    there = read_manifest(folder)
    if there is not None and there.complete:
        refuse_differences(there, content)
        clear(folder)
        return open_activations(folder)
    with ShardFolder(folder, content) as shards:
        windows = list(_windows(corpus, shard_rows))[len(shards.shards) :]
        done = windows[0][0] if windows else len(corpus)
        with tqdm(total=len(corpus), initial=done, unit="sentence", disable=not progress) as bar:
            for start, stop in windows:
                _add_shard(run, shards, start, stop, bar)
        _refuse_none(run, sum(shard["rows"] for shard in shards.shards))
        shards.finish()
    return open_activations(folder)


def _add_shard(run: _Run, shards: ShardFolder, start: int, stop: int, bar: tqdm[Any]) -> None:
    # A function of its own, so that a shard's memory is free again before the next one is read.
    rows = run.read(start, stop, lambda count: torch.empty(count, len(run.neurons.columns), dtype=run.dtype), bar)
    shards.add(rows.values, rows.items, (start, stop), rows.lost)


def _windows(corpus: Corpus, shard_rows: int) -> Iterator[tuple[int, int]]:
    """Sentences from the first up to the second index that fill a shard, a sentence never being divided."""
    start = rows = 0
    for index, sentence in enumerate(corpus.sentences):
        if rows and rows + len(sentence.labels) > shard_rows:
            yield start, index
            start, rows = index, 0
        rows += len(sentence.labels)
    yield start, len(corpus)


def _columns(layout: Layout, layers: Sequence[int] | None, neurons: NeuronSet | None) -> Indices:
    """Flat indices of the neurons asked for, ascending; those of both where layers and neurons are given."""
    kept = np.ones(layout.n_neurons, dtype=bool)
    if layers is not None:
        unknown = [layer for layer in layers if not 0 <= layer < layout.n_layers]
        if unknown:
            raise ActivationsError(f"no layer {unknown[0]}: site {layout.site!r} has layers 0 to {layout.n_layers - 1}")
        kept = np.isin(np.repeat(np.arange(layout.n_layers), layout.widths), list(layers))
    if neurons is not None:
        layout.require(neurons.layout)
        chosen = np.zeros(layout.n_neurons, dtype=bool)
        chosen[[layout.index(neuron) for neuron in neurons]] = True
        kept &= chosen
    if not kept.any():
        raise ActivationsError("no neurons are asked for: give layers, or neurons, that name at least one")
    return np.flatnonzero(kept)


def _lost(aligned: Sequence[Aligned], where: Sequence[Spots], level: str) -> Lost:
    if level == "sentence":
        return Lost(sum(not len(spot) for spot in where), sum(one.shortened for one in aligned))
    return Lost(sum(len(one.vanished) for one in aligned), sum(len(one.cut) for one in aligned))


def _refuse_none(run: _Run, rows: int) -> None:
    if not rows:
        raise ActivationsError(
            f"no word of {run.corpus.name or 'the corpus'} has a token in {run.model.name}'s tokenizer: nothing to keep"
        )


def _tokenizer_digest(model: Model) -> str:
    """A digest of how text becomes tokens, whatever the tokenizer was last used for."""
    content = json.loads(model.tokenizer.backend_tokenizer.to_str())
    plain = {key: value for key, value in content.items() if key not in {"truncation", "padding"}}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _check(pooling: str, dtype: str, batch_tokens: int | None, shard_rows: int | None) -> None:
    if pooling not in POOLINGS:
        raise ActivationsError(f"no pooling {pooling!r}: expected {', '.join(POOLINGS)}")
    if dtype not in DTYPES:
        raise ActivationsError(f"no dtype {dtype!r}: expected {', '.join(DTYPES)}")
    for name, value in (("batch_tokens", batch_tokens), ("shard_rows", shard_rows)):
        if value is not None and value < 1:
            raise ActivationsError(f"{name} is {value}: a number from 1 expected")
