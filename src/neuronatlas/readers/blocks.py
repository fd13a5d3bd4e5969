"""A sentence as its file has it: words, text, and every column that could serve as label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neuronatlas.probing.corpora import Level, Sentence, spread
from neuronatlas.readers.files import TextFile

__all__ = ["Block", "Labels", "Spans", "labels_of", "place", "split_blocks", "split_words"]

Labels = tuple[str | None, ...]
Spans = tuple[tuple[int, int], ...]
Line = tuple[int, str]

_WORD = re.compile(r"\S+")
_NO_LABEL = frozenset(("", "_"))


@dataclass(frozen=True)
class Block:
    """A sentence with all labels that its file gives its words, and those that it gives the whole of it.

    `n_numbered` is how many of `of_words`, from the first, are columns that also go by their number, counted from 1.
    """

    text: str
    words: tuple[str, ...]
    spans: Spans
    source: str
    of_words: Mapping[str, Labels] = field(default_factory=dict)
    of_sentence: Mapping[str, str | None] = field(default_factory=dict)
    n_numbered: int = 0

    @classmethod
    def of(cls, words: Sequence[str], source: str, of_words: Mapping[str, Labels], n_numbered: int = 0) -> Block:
        """Make a block of words with spaces in between."""
        text, spans = spread(words, [True] * len(words))
        return cls(text, tuple(words), spans, source, of_words, n_numbered=n_numbered)

    def find(self, label: str) -> tuple[Level, Labels] | None:
        """The labels of this name (or this column's number), and what carries them; None where there are none."""
        if label in self.of_words:
            return "word", self.of_words[label]
        if label in self.of_sentence:
            return "sentence", (self.of_sentence[label],)
        if label.isdecimal() and 1 <= int(label) <= self.n_numbered:
            return "word", list(self.of_words.values())[int(label) - 1]
        return None

    def labelled(self, labels: Labels | None = None) -> Sentence:
        """The sentence with these labels, or without any."""
        return Sentence(
            self.text, self.words, self.spans, (None,) * len(self.words) if labels is None else labels, self.source
        )

    def names(self) -> Iterator[str]:
        """Names of the labels that any word, or the sentence, has here."""
        for name, labels in self.of_words.items():
            if any(label is not None for label in labels):
                yield name
        for name, label in self.of_sentence.items():
            if label is not None:
                yield name


def labels_of(values: Sequence[str]) -> Labels:
    """Labels as cells hold them: an empty one and `_` are none."""
    return tuple(None if value in _NO_LABEL else value for value in values)


def split_words(text: str) -> tuple[tuple[str, ...], Spans]:
    """Words of a text between its spaces, and where they stand.

    >>> split_words("Anna  sleeps.")
    (('Anna', 'sleeps.'), ((0, 4), (6, 13)))
    """
    found = list(_WORD.finditer(text))
    return tuple(match[0] for match in found), tuple(match.span() for match in found)


def place(words: Sequence[str], text: str) -> Spans | None:
    """Where words stand in their text, with nothing but spaces in between; None where the text is another.

    >>> place(["Anna", "sleeps", "."], "Anna sleeps."), place(["Anna", "."], "Anna sleeps.")
    (((0, 4), (5, 11), (11, 12)), None)
    """
    spans, end = [], 0
    for word in words:
        start = _past_spaces(text, end)
        if not text.startswith(word, start):
            return None
        end = start + len(word)
        spans.append((start, end))
    return tuple(spans) if _past_spaces(text, end) == len(text) else None


def split_blocks(file: TextFile) -> Iterator[list[Line]]:
    """Yield the runs of lines between blank ones, with their numbers."""
    block: list[Line] = []
    for number, line in file.lines():
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _past_spaces(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start
