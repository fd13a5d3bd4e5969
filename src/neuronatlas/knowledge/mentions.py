"""Which of a fact's words a text holds: the subject, the answer, both or neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from neuronatlas.knowledge.facts import Fact

__all__ = ["KINDS", "Mentions", "holds", "kind_of"]

KINDS = ("subject and answer", "subject only", "answer only", "neither")
"""What a text holds of a fact, the fullest first. One with both is taken to express it (distant supervision)."""


def holds(text: str, name: str) -> bool:
    """Whether a text has a name as whole words, as it is written but for the case of its first letter.

    >>> holds("Yen are paid in Japan.", "yen"), holds("Niger lies south.", "Nigeria"), holds("us", "US")
    (True, False, False)
    """
    return name[1:] in text and _pattern(name).search(text) is not None


@lru_cache(maxsize=65536)
def _pattern(name: str) -> re.Pattern[str]:
    first = f"(?:{re.escape(name[0].lower())}|{re.escape(name[0].upper())})"
    return re.compile(rf"(?<!\w){first}{re.escape(name[1:])}(?!\w)")


class Mentions:
    """Some texts, and which of them hold which name: looked up once a name."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._found: dict[str, Bool[np.ndarray, " text"]] = {}

    def kinds(self, facts: Sequence[Fact]) -> Int[np.ndarray, " text"]:
        """Index in `KINDS` of each text, as `kind_of` says it."""
        best = np.full(len(self.texts), len(KINDS) - 1)
        for fact in facts:
            subject = self._holding(fact.subject).astype(np.int64) if fact.subject is not None else 0
            best = np.minimum(best, 3 - 2 * subject - self._holding(fact.answer))
        return best

    def _holding(self, name: str) -> Bool[np.ndarray, " text"]:
        if name not in self._found:
            self._found[name] = np.array([holds(text, name) for text in self.texts], dtype=bool)
        return self._found[name]


def kind_of(text: str, facts: Sequence[Fact]) -> str:
    """Which of `KINDS` a text is for a fact, or for several of one relation: the fullest that any of them gives.

    >>> fact = Fact("capital", "Japan", "Tokyo", ["The capital of Japan is [MASK]."])
    >>> kind_of("Tokyo is in Japan.", [fact]), kind_of("Japan has islands.", [fact]), kind_of("It rains.", [fact])
    ('subject and answer', 'subject only', 'neither')
    """
    return KINDS[int(Mentions([text]).kinds(facts)[0])]
