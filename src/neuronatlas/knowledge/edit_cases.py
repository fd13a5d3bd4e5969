"""Edits that are asked for, with the prompts that judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuronatlas.knowledge.facts import Fact

__all__ = ["EditCase", "other_facts"]


@dataclass(frozen=True)
class EditCase:
    """A fact, its new answer, and prompts that tell what an edit did.

    The fact's own prompts are those that the edit is made with. `paraphrases` ask the same in other words; `locality`
    are prompts about something else, each with its answer, which are to stay; `portability` are prompts whose answer
    follows from the new one, each with that answer. All prompts hold the answer's place.

    >>> fact = Fact("capital", "France", "Paris", ["The capital of France is {answer}"])
    >>> EditCase(fact, "Rome", locality=(("The capital of Japan is {answer}", "Tokyo"),)).new_answer
    'Rome'
    """

    fact: Fact
    new_answer: str
    paraphrases: tuple[str, ...] = ()
    locality: tuple[tuple[str, str], ...] = ()
    portability: tuple[tuple[str, str], ...] = ()


def other_facts(facts: Sequence[Fact], cases: Sequence[EditCase]) -> list[Fact]:
    """Facts that are none of the cases': told by relation and subject, or where that is unknown by their prompts.

    >>> facts = [Fact("capital", name, "Rome", [f"The capital of {name} is [MASK]."]) for name in ("Italy", "Japan")]
    >>> [fact.subject for fact in other_facts(facts, [EditCase(facts[0], "Paris")])]
    ['Japan']
    """
    mine = {(case.fact.relation, case.fact.subject) for case in cases if case.fact.subject is not None}
    nameless = [case for case in cases if case.fact.subject is None]
    prompts = {(c.fact.relation, prompt) for c in nameless for prompt in (*c.fact.prompts, *c.paraphrases)}
    return [
        fact
        for fact in facts
        if (fact.relation, fact.subject) not in mine and prompts.isdisjoint((fact.relation, p) for p in fact.prompts)
    ]
