"""Edits that are asked for, with the prompts that judge them."""

from __future__ import annotations

from dataclasses import dataclass

from neuronatlas.knowledge.facts import Fact

__all__ = ["EditCase"]


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
