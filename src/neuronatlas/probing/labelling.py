"""Labels that need no annotation: what a word looks like, how often it occurs, where in its sentence it stands.

A labeller is fitted on sentences (most need none of that, two count words) and then labels the words of a sentence:

>>> from neuronatlas.probing.corpora import Sentence
>>> sentence = Sentence.of(["Anna", "is", "in", "the", "USA"], [None] * 5, source="note.txt, line 1")
>>> LABELLERS["capitalisation"].fit([sentence])(sentence)
('title', 'lower', 'lower', 'lower', 'upper')

`Corpus.relabelled("capitalisation")` does both for a whole corpus.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["ENGLISH_SUFFIXES", "LABELLERS", "Labeller", "Worded", "endings"]

ENGLISH_SUFFIXES = (
    *("able", "al", "ance", "ed", "ence", "er", "est", "ful", "hood", "ible", "ic", "ify", "ing", "ion", "ise", "ish"),
    *("ism", "ist", "ity", "ive", "ize", "less", "ly", "ment", "ness", "ous", "s", "ship", "ward"),
)
"""What the labeller `suffix.en` looks for: common inflectional and derivational suffixes of English, by spelling."""

_NO_PLURAL = ("ss", "us", "is")
"""Endings of English words whose last letter is hardly ever a suffix of its own."""

_SHORTEST_STEM = 3
_ENDING_LENGTHS = (2, 3, 4)
_SHARED_BY = 3
_MOST_ENDINGS = 12
_FEWEST_TYPES = 5


class Worded(Protocol):
    """Whatever has words, such as a Sentence."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words in their order."""


LabelsOf = Callable[[Worded], tuple[str | None, ...]]
"""Gives one label, or None, for each word of a sentence."""


@dataclass(frozen=True)
class Labeller:
    """A way to label words that needs no annotation.

    `fit` takes all sentences that it may count in and returns what labels one sentence; fit it on one corpus and use
    it on another where both must have the same labels.
    """

    name: str
    description: str
    fit: Callable[[Iterable[Worded]], LabelsOf]


def endings(words: Iterable[str], most: int = _MOST_ENDINGS) -> tuple[str, ...]:
    """Find the endings of two to four letters that serve as suffixes in words of any language, the strongest first.

    Word types count, not their occurrences, in lower case and letters only. A type counts for an ending where what
    stands before it looks like a stem: three letters or more that are a word themselves, or four or more that three
    types or more begin with and end at most four letters later. An ending's strength is the number of such types times
    the entropy of the letter before it: a suffix follows any letter, while what nearly always follows the same one
    (`ng` after `i`) is a part of a longer one (Harris 1955, "From phoneme to morpheme", counts letters in this
    manner). The strongest is taken and its types leave the counts of the others, and so on, up to `most` endings,
    while one is left with five types and a five-hundredth of all, or more.

    >>> verbs = ["walk", "jump", "sing", "help", "paint", "clean"]
    >>> endings([*verbs, *(verb + "ing" for verb in verbs), *(verb + "er" for verb in verbs), "sky"])
    ('er', 'ing')
    """
    types = {word.lower() for word in words if word.isalpha()}
    fewest = max(_FEWEST_TYPES, len(types) // 500)
    holders = _holders(types)
    found: list[str] = []
    while len(found) < most:
        holders = {ending: of for ending, of in holders.items() if len(of) >= fewest}
        strength = {ending: _strength(ending, of) for ending, of in holders.items()}
        best = min(strength, key=lambda ending: (-strength[ending], ending), default="")
        if strength.get(best, 0.0) <= 0:
            break
        found.append(best)
        taken = holders.pop(best)
        holders = {ending: of - taken for ending, of in holders.items()}
    return tuple(found)


def _holders(types: set[str]) -> dict[str, set[str]]:
    """The types that have each ending after what looks like a stem."""
    longest = max(_ENDING_LENGTHS)
    begun = Counter(word[:-cut] if cut else word for word in types for cut in range(min(longest + 1, len(word))))
    holders: dict[str, set[str]] = {}
    for word in types:
        for length in _ENDING_LENGTHS:
            stem = word[:-length]
            shared = len(stem) > _SHORTEST_STEM and begun[stem] >= _SHARED_BY
            if shared or (len(stem) >= _SHORTEST_STEM and stem in types):
                holders.setdefault(word[-length:], set()).add(word)
    return holders


def _strength(ending: str, words: set[str]) -> float:
    """Number of words times the entropy, in bits, of the letter before the ending."""
    # Sorted, for a sum of floats depends on its order.
    before = sorted(Counter(word[-len(ending) - 1] for word in words).values())
    return sum(count * math.log2(len(words) / count) for count in before)


def _found_suffix(sentences: Iterable[Worded]) -> LabelsOf:
    found = endings(word for sentence in sentences for word in sentence.words)
    return _each_word(_longest_of(found, lambda _stem, _word: True))


def _english_suffix(_sentences: Iterable[Worded]) -> LabelsOf:
    def fits(stem: str, word: str) -> bool:
        plural = len(stem) < len(word) - 1 or not word.endswith(_NO_PLURAL)
        return plural and not set(stem).isdisjoint("aeiouy")

    return _each_word(_longest_of(ENGLISH_SUFFIXES, fits))


def _longest_of(suffixes: Sequence[str], fits: Callable[[str, str], bool]) -> Callable[[str], str | None]:
    """Label a word with the longest suffix that it has after a stem of three letters or more."""
    longest_first = sorted(suffixes, key=lambda suffix: (-len(suffix), suffix))

    def label(word: str) -> str | None:
        lower = word.lower()
        if not lower.isalpha():
            return None
        for suffix in longest_first:
            stem = lower.removesuffix(suffix)
            if _SHORTEST_STEM <= len(stem) < len(lower) and fits(stem, lower):
                return f"-{suffix}"
        return None

    return label


def _capitalisation(word: str) -> str:
    cased = [letter for letter in word if letter.lower() != letter.upper()]
    if not cased:
        return "uncased"
    large = [letter == letter.upper() for letter in cased]
    if not any(large):
        return "lower"
    if large[0] and not any(large[1:]):
        return "title"
    return "upper" if all(large) else "mixed"


def _band(value: int, starts: Sequence[int]) -> str:
    """Name the band that a value lies in, such as `4-7`; `starts` are the lowest values of the bands."""
    place = bisect_right(starts, value)
    first = starts[place - 1]
    if place == len(starts):
        return f"{first}+"
    last = starts[place] - 1
    return str(first) if first == last else f"{first}-{last}"


def _frequency(sentences: Iterable[Worded]) -> LabelsOf:
    counts = Counter(word.lower() for sentence in sentences for word in sentence.words)
    # A word that the sentences counted in do not have is as rare as one that they have once.
    return _each_word(lambda word: _band(max(counts[word.lower()], 1), (1, 2, 10, 100, 1000, 10_000)))


def _position(_sentences: Iterable[Worded]) -> LabelsOf:
    starts = (1, 2, 3, 5, 9, 17, 33)
    return lambda sentence: tuple(_band(place, starts) for place in range(1, len(sentence.words) + 1))


def _each_word(label: Callable[[str], str | None]) -> LabelsOf:
    return lambda sentence: tuple(label(word) for word in sentence.words)


def _by_word(label: Callable[[str], str | None]) -> Callable[[Iterable[Worded]], LabelsOf]:
    return lambda _sentences: _each_word(label)


LABELLERS: Mapping[str, Labeller] = {
    labeller.name: labeller
    for labeller in (
        Labeller(
            "suffix",
            "the longest of the 12 strongest endings of the corpus itself, in any language; words with none of them "
            "have no label",
            _found_suffix,
        ),
        Labeller("suffix.en", "a suffix of English, by spelling; words with none have no label", _english_suffix),
        Labeller(
            "capitalisation",
            "lower, title (the first letter alone is a capital: `Anna`, `I`), upper, mixed, or uncased (no letters, or "
            "of a script without capitals)",
            _by_word(_capitalisation),
        ),
        Labeller(
            "length", "number of characters, in bands", _by_word(lambda word: _band(len(word), (1, 2, 3, 4, 6, 8, 11)))
        ),
        Labeller("frequency", "how often the corpus has the word, in bands, capitals not told apart", _frequency),
        Labeller("position", "which word of its sentence it is, counted from 1, in bands", _position),
    )
}
"""All labels that need no annotation, by name.

A word without a suffix gets no label rather than the label "none": function words, names, numbers and punctuation have
in common only what they lack, would be the largest class by far, and a probe would be praised for telling short words
from long ones.
"""
