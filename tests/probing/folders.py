"""What the tests of folders of activations share: a small corpus, a run into a folder, and the folder's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuronatlas.models import Model
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.extraction import extract

WORDS = ("Paris", "is", "a", "city", "in", "France", "and", "the", "naïve", "composer", "lived", "there", "long")


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test handles it."""


def small_corpus() -> Corpus:
    """Nine sentences of one to thirteen words, in no order of length; one of them without any row."""
    lengths = [3, 13, 1, 7, 2, 11, 5, 1, 6]
    sentences = [Sentence.of(WORDS[:n], WORDS[:n], f"test, line {i}") for i, n in enumerate(lengths, start=1)]
    sentences[7] = Sentence.of(["\u200b"], ["none"], "test, line 8")
    return Corpus(tuple(sentences), "word", name="test")


def run(model: Model, corpus: Corpus, folder: Path, **settings: Any) -> Activations:
    """Two layers in six shards, unless `settings` say otherwise."""
    return extract(model, corpus, "hidden", folder, progress=False, **{"shard_rows": 10, "layers": [0, 2], **settings})


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
