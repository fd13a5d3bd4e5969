"""Labelled text: sentences whose words, or which themselves, carry one label each.

>>> sentence = Sentence.of(["Anna", "sleeps"], ["PROPN", "VERB"], source="note.conllu, line 1")
>>> corpus = Corpus((sentence,), label="upos")
>>> corpus.n_items, corpus.labels.tolist(), sentence.text
(2, ['PROPN', 'VERB'], 'Anna sleeps')
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int
from numpy.typing import NDArray

from neuronatlas.probing.labelling import LABELLERS

__all__ = ["LABELLERS", "Corpus", "CorpusError", "Level", "Sentence", "spread"]

Level = Literal["word", "sentence"]
Labels = NDArray[np.object_]


class CorpusError(ValueError):
    """Labelled text that makes no sense; the message names the sentence's place in its file."""


@dataclass(frozen=True)
class Sentence:
    """A sentence: its text, its words, where in the text each word stands, its labels, and where it came from.

    `spans` are the first and the past-the-last character of each word in `text`. Words that the text runs together
    (German `im` for `in` and `dem`) share a span, so a word need not be the text at its span. `labels` are one a word,
    or a single one for the whole sentence; None where there is no label.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    labels: tuple[str | None, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.words:
            raise CorpusError(f"{self.source}: the sentence has no words")
        if len(self.spans) != len(self.words):
            raise CorpusError(f"{self.source}: {len(self.words)} words, but {len(self.spans)} places in the text")
        if len(self.labels) not in {len(self.words), 1}:
            raise CorpusError(f"{self.source}: {len(self.words)} words, but {len(self.labels)} labels")
        for word, (start, end) in zip(self.words, self.spans, strict=True):
            if not word.strip():
                raise CorpusError(f"{self.source}: a word is empty")
            if not 0 <= start < end <= len(self.text):
                raise CorpusError(f"{self.source}: word {word!r} has no place in the text {self.text!r}")

    @classmethod
    def of(
        cls,
        words: Iterable[str],
        labels: Iterable[str | None],
        source: str,
        spaces: Iterable[bool] | None = None,
    ) -> Sentence:
        """Make a sentence from its words; a space follows each but the last, unless `spaces` says otherwise."""
        words = tuple(words)
        after = [True] * len(words) if spaces is None else list(spaces)
        if len(after) != len(words):
            raise CorpusError(f"{source}: {len(words)} words, but {len(after)} entries that say where spaces follow")
        text, spans = spread(words, after)
        return cls(text, words, spans, tuple(labels), source)


def spread(words: Sequence[str], spaces: Sequence[bool]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Write words out: the text, with a space after each word that has one (but the last), and the words' spans.

    >>> spread(["Anna", "sleeps", "."], [True, False, True])
    ('Anna sleeps.', ((0, 4), (5, 11), (11, 12)))
    """
    gaps = [*spaces[:-1], False] if words else []
    ends = list(accumulate(len(word) + gap for word, gap in zip(words, gaps, strict=True)))
    starts = [0, *ends[:-1]]
    text = "".join(word + " " * gap for word, gap in zip(words, gaps, strict=True))
    return text, tuple((start, start + len(word)) for start, word in zip(starts, words, strict=False))


@dataclass(frozen=True)
class Corpus:
    """Sentences with the labels of one property.

    `label` names the property (`upos`), `level` tells whether words or whole sentences carry it, `name` where the
    sentences are from. An *item* is what carries a label: a word, or a sentence.

    Errors: CorpusError for a corpus of no sentences, and for a sentence with labels of the other level.
    """

    sentences: tuple[Sentence, ...]
    label: str
    level: Level = "word"
    name: str = ""

    def __post_init__(self) -> None:
        if not self.sentences:
            raise CorpusError(f"{self.name or 'the corpus'} has no sentences")
        for sentence in self.sentences:
            expected = len(sentence.words) if self.level == "word" else 1
            if len(sentence.labels) != expected:
                raise CorpusError(f"{sentence.source}: {len(sentence.labels)} labels, {expected} expected")

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def n_items(self) -> int:
        """Number of words, or of sentences where these carry the labels."""
        return len(self.labels)

    @cached_property
    def labels(self) -> Labels:
        """The label of each item; None where it has none."""
        return _objects(label for sentence in self.sentences for label in sentence.labels)

    @cached_property
    def items(self) -> Labels:
        """The words, or the texts of the sentences where these carry the labels."""
        if self.level == "sentence":
            return _objects(sentence.text for sentence in self.sentences)
        return _objects(word for sentence in self.sentences for word in sentence.words)

    @cached_property
    def sentence_of(self) -> Int[np.ndarray, " item"]:
        """Index of each item's sentence."""
        return np.repeat(np.arange(len(self)), [len(sentence.labels) for sentence in self.sentences])

    @cached_property
    def words_digest(self) -> str:
        """What activations depend on: a digest of level, texts and words, labels left out."""
        digest = hashlib.sha256(self.level.encode())
        for sentence in self.sentences:
            digest.update(repr((sentence.text, sentence.words, sentence.spans)).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def digest(self) -> str:
        """A digest of words and labels."""
        digest = hashlib.sha256(self.words_digest.encode())
        for sentence in self.sentences:
            digest.update(repr(sentence.labels).encode())
        return digest.hexdigest()[:16]

    def counts(self) -> dict[str, int]:
        """How many items have each label, the most frequent first, ties by name; unlabelled items left out."""
        counted = Counter(label for label in self.labels if label is not None)
        return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))

    def numbers(self) -> Float64[np.ndarray, " item"]:
        """The labels as numbers, for a regression; NaN for an item that has no label.

        Errors: CorpusError that names the first label that is no finite number, and where it stands.
        """
        values = np.full(self.n_items, np.nan)
        for item, label in enumerate(self.labels):
            if label is not None:
                values[item] = number = _number(label)
                if not np.isfinite(number):
                    sentence = self.sentences[self.sentence_of[item]]
                    raise CorpusError(f"{sentence.source}: label {label!r} of {self.items[item]!r:.60} is no number")
        return values

    def take(self, sentences: Sequence[int]) -> Corpus:
        """The corpus of some of the sentences, by index, in the order given."""
        return replace(self, sentences=tuple(self.sentences[index] for index in sentences))

    def relabelled(self, label: str, labeller: Callable[[Sentence], Iterable[str | None]] | None = None) -> Corpus:
        """The same sentences with other labels: `labeller` gives one a word (or one, for sentences) of a sentence.

        Without a labeller `label` is a name in LABELLERS, whose labels need no annotation and are those of words.

        Errors: CorpusError for a name that LABELLERS does not have.

        >>> note = Corpus((Sentence.of(["Anna", "sleeps"], ["PROPN", "VERB"], source="note.conllu, line 1"),), "upos")
        >>> note.relabelled("capitalisation").labels.tolist()
        ['title', 'lower']
        """
        level = self.level
        if labeller is None:
            if label not in LABELLERS:
                raise CorpusError(f"no labeller {label!r}: {', '.join(LABELLERS)} need no annotation")
            labeller, level = LABELLERS[label].fit(self.sentences), "word"
        sentences = tuple(replace(s, labels=tuple(labeller(s))) for s in self.sentences)
        return replace(self, sentences=sentences, label=label, level=level)


def _number(label: str) -> float:
    # float() takes "1_000" as well, which is hardly meant as a number.
    try:
        return float("nan" if "_" in label else label)
    except ValueError:
        return float("nan")


def _objects(values: Iterable[str | None]) -> Labels:
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array
