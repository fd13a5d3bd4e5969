"""Extraction against bare forward passes and against a loop over single sentences, at BERT-base size.

All three run the same model over the same sentences: real ones where they are at hand, else those of the package's
grammar. The bare passes run the model without its output head on the batches that `extract` makes, and keep nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer

import neuronatlas as na
from measure import interleaved
from neuronatlas.models.batching import batches, choose_way, padded
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.alignment import align
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.extraction import extract
from neuronatlas.readers.corpora import read_corpus
from neuronatlas.studies.specimen_corpus import corpus_of_specimen
from shapes import SHAPES, TINY, Shape, random_module

__all__ = ["BATCH_TOKENS", "ExtractionTiming", "random_bert", "text", "time_extraction"]

BATCH_TOKENS = 512
_SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(frozen=True)
class ExtractionTiming:
    """Seconds (medians) of the bare passes, of `extract`, and of one sentence at a time; `deviation` of its rows."""

    model: str
    text: str
    sentences: int
    words: int
    bare: float
    here: float
    single: float
    deviation: float

    @property
    def of_bare(self) -> float:
        """Throughput as a fraction of the bare passes'."""
        return self.bare / self.here

    @property
    def times_faster(self) -> float:
        """How many times faster than one sentence at a time."""
        return self.single / self.here


def random_bert(shape: Shape) -> na.Model:
    """A BERT of random weights with the tokenizer of the package's own model."""
    tokenizer = AutoTokenizer.from_pretrained(na.specimen_folder())
    module = random_module(replace(shape, vocabulary=len(tokenizer)), "sdpa", torch.float32, seed=0)
    return na.load((module, tokenizer))


def text(sentences: int) -> Corpus:
    """Sentences of the English Web Treebank's development part, spread evenly over it, or of the package's grammar."""
    folder = Path(os.environ.get("NEURONATLAS_DATA", _SHARED / "data"))
    file = folder / "UD_English-EWT" / "en_ewt-ud-dev.conllu"
    if not file.is_file():
        return corpus_of_specimen("upos", sentences)
    corpus = read_corpus(file, label="upos")
    count = min(sentences, len(corpus))
    return corpus.take([index * len(corpus) // count for index in range(count)])


def time_extraction(sentences: int, runs: int, *, quick: bool) -> ExtractionTiming:
    """Time the three ways in turns."""
    shape = TINY[0] if quick else SHAPES["BERT-base"]
    model, corpus = random_bert(shape), text(sentences)
    base = model.module.base_model
    made = list(_batches(model, corpus))
    found: dict[str, Activations] = {}

    def bare() -> None:
        for ids, mask in made:
            with torch.no_grad():
                base(input_ids=ids, attention_mask=mask)

    def here() -> None:
        found["here"] = extract(model, corpus, "hidden", batch_tokens=BATCH_TOKENS, progress=False)

    def single() -> None:
        found["single"] = extract(model, corpus, "hidden", batch_tokens=1, progress=False)

    extract(model, corpus.take([0]), "hidden", progress=False)  # proves the way of batching, once a model
    seconds = {
        name: median(s)
        for name, s in interleaved(
            {"bare": bare, "here": here, "loop": partial(_loop, base, model, corpus)}, runs
        ).items()
    }
    here()
    single()
    apart = np.abs(found["here"].array() - found["single"].array()).max()
    deviation = float(apart / np.abs(found["single"].array()).max())
    return ExtractionTiming(
        shape.name,
        corpus.name,
        len(corpus),
        corpus.n_items,
        seconds["bare"],
        seconds["here"],
        seconds["loop"],
        deviation,
    )


def _batches(model: na.Model, corpus: Corpus) -> Iterator[tuple[Tensor, Tensor]]:
    rows = [one.ids for one in align(corpus.sentences, model.tokenizer, model.max_length)]
    for batch in batches([len(row) for row in rows], BATCH_TOKENS, choose_way(model)):
        yield padded(model, [rows[index] for index in batch])


def _loop(base: torch.nn.Module, model: na.Model, corpus: Corpus) -> None:
    """What the existing toolkit does: a pass a sentence, all hidden states, the last sub-word of each word."""
    for sentence in corpus.sentences:
        aligned = align([sentence], model.tokenizer, model.max_length)[0]
        with torch.no_grad():
            states: Sequence[Tensor] = base(
                input_ids=torch.tensor([aligned.ids]),
                attention_mask=torch.ones(1, len(aligned.ids)),
                output_hidden_states=True,
            ).hidden_states
        last = [tokens[-1] for tokens in aligned.words if tokens]
        torch.cat([layer[0, last] for layer in states], dim=1).numpy()
