"""Which of a fact's words a text holds: the subject, the answer, both or neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from neuronatlas.knowledge.facts import Fact

__all__ = ["KINDS", "holds", "kind_of"]

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


def kind_of(text: str, facts: Sequence[Fact]) -> str:
    """Which of `KINDS` a text is for a fact, or for several of one relation: the fullest that any of them gives.

    >>> fact = Fact("capital", "Japan", "Tokyo", ["The capital of Japan is [MASK]."])
    >>> kind_of("Tokyo is in Japan.", [fact]), kind_of("Japan has islands.", [fact]), kind_of("It rains.", [fact])
    ('subject and answer', 'subject only', 'neither')
    """
    best = len(KINDS) - 1
    for fact in facts:
        subject = fact.subject is not None and holds(text, fact.subject)
        if best <= (0 if subject else 2):
            continue
        answer = holds(text, fact.answer)
        best = min(best, 3 - 2 * subject - answer)
    return KINDS[best]
