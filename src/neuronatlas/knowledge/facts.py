"""Facts: something a model may know, and the prompts that ask for it.

>>> fact = Fact("capital", "France", "Paris", ["The capital of France is [MASK].", "[MASK] is France's capital."])
>>> fact.split()
(('The capital of France is ', '.'), ('', " is France's capital."))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "ANSWER",
    "MASK",
    "PLACES",
    "Fact",
    "FactError",
    "check_facts",
    "repeated_facts",
    "repeated_prompts",
    "split_prompt",
]

MASK = "[MASK]"
ANSWER = "{answer}"
PLACES = (MASK, ANSWER)
"""What may stand at the answer's place in a prompt for any model; a tokenizer's own mask token comes on top."""

_SHOWN = 80


class FactError(ValueError):
    """A fact or a prompt that cannot be asked of any model."""


def split_prompt(prompt: str, places: Sequence[str] = PLACES) -> tuple[str, str]:
    """Split a prompt at its answer's place into what stands left and right of it, spaces included.

    Errors: FactError where there is no such place, or more than one.

    >>> split_prompt("The capital of France is {answer}.")
    ('The capital of France is ', '.')
    >>> split_prompt("Paris is the capital of <mask>.", (*PLACES, "<mask>"))
    ('Paris is the capital of ', '.')
    >>> split_prompt("The capital of France is")
    Traceback (most recent call last):
    neuronatlas.knowledge.facts.FactError: no [MASK] in prompt "The capital of France is" (write ...)
    """
    halves = _halves(prompt, places)
    if halves is None:
        raise _misplaced(prompt, places, f"prompt {_quoted(prompt)}")
    return halves


@dataclass(frozen=True, init=False)
class Fact:
    """A relation, a subject (None where unknown), an answer, and prompts that ask for the answer.

    Each prompt holds the answer's place once: `[MASK]`, `{answer}`, or the mask token of the tokenizer it is meant for.
    Any iterable of prompts is accepted and kept as a tuple.

    Errors: FactError for an empty relation, subject, answer or prompt, spaces around one of the first three, no
    prompts, a prompt with two places, and a prompt that repeats an earlier one. A missing place shows in `split`, which
    knows what the model at hand takes for one.

    >>> Fact("capital", "France", "Paris", prompts=["The capital of France is [MASK]."]).label
    'France'
    >>> Fact("capital", "France", "Paris", prompts=[])
    Traceback (most recent call last):
    neuronatlas.knowledge.facts.FactError: fact 'France' of 'capital' has no prompts: at least 1 expected
    """

    relation: str
    subject: str | None
    answer: str
    prompts: tuple[str, ...]

    def __init__(self, relation: str, subject: str | None, answer: str, prompts: Iterable[str]) -> None:
        if isinstance(prompts, str):
            raise FactError(f"prompts is one text, {_quoted(prompts)}: a list of texts expected")
        object.__setattr__(self, "relation", relation)
        object.__setattr__(self, "subject", subject)
        object.__setattr__(self, "answer", answer)
        object.__setattr__(self, "prompts", tuple(prompts))
        _check_words(self)
        _check_prompts(self)

    @property
    def label(self) -> str:
        """What to call the fact: its subject, or its first prompt where that is unknown."""
        return self.subject if self.subject is not None else self.prompts[0]

    def split(self, places: Sequence[str] = PLACES) -> tuple[tuple[str, str], ...]:
        """Split every prompt at its answer's place, as `split_prompt` does; a FactError names the prompt by number.

        >>> Fact("capital", "France", "Paris", ["France's capital is [MASK].", "France's capital is"]).split()
        Traceback (most recent call last):
        neuronatlas.knowledge.facts.FactError: no [MASK] in prompt 2 of fact 'France': "France's capital is" (write ...)
        """
        splits = []
        for number, prompt in enumerate(self.prompts, start=1):
            halves = _halves(prompt, places)
            if halves is None:
                raise _misplaced(prompt, places, f"prompt {number} of {_fact(self)}: {_quoted(prompt)}")
            splits.append(halves)
        return tuple(splits)


def check_facts(facts: Sequence[Fact], places: Sequence[str] = PLACES) -> None:
    """Make sure that every prompt of every fact has its place and that no fact stands twice.

    Errors: FactError, naming the first fault.

    >>> check_facts([Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])] * 2)
    Traceback (most recent call last):
    neuronatlas.knowledge.facts.FactError: fact 'France' stands twice: as fact 1 and as fact 2
    """
    for fact in facts:
        fact.split(places)
    for first, repeat in repeated_facts(facts):
        raise FactError(f"{_fact(facts[repeat])} stands twice: as fact {first + 1} and as fact {repeat + 1}")


def repeated_facts(facts: Sequence[Fact]) -> tuple[tuple[int, int], ...]:
    """Find facts that say what an earlier one says, as pairs of indices (earlier, repeat).

    Two facts of one relation with one answer are the same fact when they name the same subject, or when they ask the
    same prompts in any order: no model could tell them apart.

    >>> twice = [Fact("capital", subject, "Athens", ["Its capital is [MASK]."]) for subject in ("Greece", "Hellas")]
    >>> repeated_facts(twice)
    ((0, 1),)
    """
    seen: dict[tuple[str, str, str | frozenset[str]], int] = {}
    pairs = []
    for index, fact in enumerate(facts):
        asked = frozenset(map(_spelled_alike, fact.prompts))
        keys = [(fact.relation, fact.answer, key) for key in (fact.subject, asked) if key is not None]
        earlier = [seen[key] for key in keys if key in seen]
        if earlier:
            pairs.append((min(earlier), index))
        for key in keys:
            seen.setdefault(key, index)
    return tuple(pairs)


def repeated_prompts(prompts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Find prompts that repeat an earlier one, whichever place they use, as pairs of indices (earlier, repeat).

    >>> repeated_prompts(["Its capital is [MASK].", "[MASK] is its capital.", "Its capital is {answer}."])
    ((0, 2),)
    """
    seen: dict[str, int] = {}
    firsts = [seen.setdefault(_spelled_alike(prompt), index) for index, prompt in enumerate(prompts)]
    return tuple((first, index) for index, first in enumerate(firsts) if first != index)


def _check_words(fact: Fact) -> None:
    for name, text in (("relation", fact.relation), ("subject", fact.subject), ("answer", fact.answer)):
        if name == "subject" and text is None:
            continue
        if not isinstance(text, str):
            raise FactError(f"{name} is {text!r}: a text expected")
        if not text.strip():
            raise FactError(f"{name} is empty: a word or more expected")
        if text != text.strip():
            raise FactError(f"{name} {text!r} has spaces around it: {text.strip()!r} expected")
        _check_encodable(text, name)


def _check_prompts(fact: Fact) -> None:
    if not fact.prompts:
        subject = f" {fact.subject!r}" if fact.subject else ""
        raise FactError(f"fact{subject} of {fact.relation!r} has no prompts: at least 1 expected")
    for number, prompt in enumerate(fact.prompts, start=1):
        if not isinstance(prompt, str):
            raise FactError(f"prompt {number} of {_fact(fact)} is {prompt!r}: a text expected")
        if not prompt.strip():
            raise FactError(f"prompt {number} of {_fact(fact)} is empty: a text with {MASK} in it expected")
        if _count(prompt, PLACES) > 1:
            raise _misplaced(prompt, PLACES, f"prompt {number} of {_fact(fact)}: {_quoted(prompt)}")
        _check_encodable(prompt, f"prompt {number}")
    for first, repeat in repeated_prompts(fact.prompts):
        prompt = _quoted(fact.prompts[repeat])
        raise FactError(f"prompt {repeat + 1} of {_fact(fact)} repeats prompt {first + 1}: {prompt}")


def _check_encodable(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FactError(f"{name} holds half of a character at {error.start}: {text!r}") from None


def _halves(prompt: str, places: Sequence[str]) -> tuple[str, str] | None:
    match _pattern(tuple(places)).split(prompt):
        case [left, right]:
            return left, right
    return None


def _count(prompt: str, places: Sequence[str]) -> int:
    return len(_pattern(tuple(places)).findall(prompt))


def _misplaced(prompt: str, places: Sequence[str], where: str) -> FactError:
    count = _count(prompt, places)
    if count:
        return FactError(f"{count} answer places in {where} (exactly 1 expected)")
    spellings = " or ".join(dict.fromkeys(places))
    return FactError(f"no {places[0]} in {where} (write {spellings} where the answer belongs)")


@lru_cache(maxsize=16)
def _pattern(places: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first, so that a place that holds another one ("[MASK]" and "MASK") counts once.
    return re.compile("|".join(map(re.escape, sorted(places, key=len, reverse=True))))


def _spelled_alike(prompt: str) -> str:
    return prompt.replace(ANSWER, MASK)


def _fact(fact: Fact) -> str:
    return f"fact {_shortened(str(fact.label))!r}"


def _quoted(text: str) -> str:
    return f'"{_shortened(text)}"'


def _shortened(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _SHOWN else one_line[: _SHOWN - 1] + "…"
