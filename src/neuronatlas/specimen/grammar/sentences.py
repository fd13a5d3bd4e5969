"""The grammar's front door: plain sentences in English, German and Spanish with gold labels for every word."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from neuronatlas.specimen.grammar.english import EnglishRealiser
from neuronatlas.specimen.grammar.german import GermanRealiser
from neuronatlas.specimen.grammar.lexicon import LANGUAGES, read_lexicon
from neuronatlas.specimen.grammar.planning import Planner
from neuronatlas.specimen.grammar.realiser import Realiser
from neuronatlas.specimen.grammar.spanish import SpanishRealiser
from neuronatlas.specimen.grammar.words import LabelledSentence

__all__ = ["LANGUAGES", "generate"]

_REALISERS: dict[str, type[Realiser]] = {"en": EnglishRealiser, "de": GermanRealiser, "es": SpanishRealiser}


def generate(language: str, count: int, seed: int) -> Iterator[LabelledSentence]:
    """Sentences of one language, all different; the first ones of a longer run are those of a shorter one.

    `language` is `en`, `de` or `es`; another raises `LexiconError`, a negative `count` a `ValueError`.

    >>> sentence = next(generate("en", 1, seed=1))
    >>> len(sentence.words) == len(sentence.labels["upos"])
    True
    """
    lexicon = read_lexicon(language)
    if count < 0:
        raise ValueError(f"count is {count}: ask for 0 sentences or more")
    planner = Planner(lexicon, Random(f"neuronatlas grammar {language} {seed}"))
    realiser = _REALISERS[language](lexicon)
    return _distinct(planner, realiser, count)


def _distinct(planner: Planner, realiser: Realiser, count: int) -> Iterator[LabelledSentence]:
    seen: set[tuple[str, ...]] = set()
    while len(seen) < count:
        sentence = realiser.sentence(planner.sentence())
        if sentence.words not in seen:
            seen.add(sentence.words)
            yield sentence
