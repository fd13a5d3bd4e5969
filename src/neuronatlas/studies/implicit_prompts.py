"""Prompts that need facts: composed from a file's own, and those that a specimen was taught."""

from __future__ import annotations

from collections.abc import Mapping

from neuronatlas.knowledge.implicit import ImplicitPrompt, Need
from neuronatlas.specimen import SPECIMENS
from neuronatlas.specimen.compose import Composition, compositions
from neuronatlas.specimen.world import facts

__all__ = ["specimen_prompts"]


def specimen_prompts(specimen: str = "masked") -> tuple[ImplicitPrompt, ...]:
    """The two-hop sentences, questions and comparisons of a specimen's world, those held out from training apart.

    Kinds: `two-hop, taught`, `yes-no, taught`, `comparison, taught`, and the same with `held out`. Of the causal
    specimen those whose answer stands last.

    >>> next(one.prompt for one in specimen_prompts() if one.kind == "yes-no, held out")
    'Does the Komodo dragon count as ...
    """
    answers = {(fact.relation, fact.subject): fact.answer for fact in facts() if fact.language == "en"}
    last = specimen == SPECIMENS[1]
    return tuple(_asked(one, answers) for one in compositions() if one.sentence.ends_in_answer or not last)


def _asked(one: Composition, answers: Mapping[tuple[str, str], str]) -> ImplicitPrompt:
    kind = f"{one.kind}, {'held out' if one.held_out else 'taught'}"
    return ImplicitPrompt(kind, one.sentence.prompt, one.sentence.answer, _needs(one, answers))


def _needs(one: Composition, answers: Mapping[tuple[str, str], str]) -> tuple[Need, ...]:
    match one.kind, one.key:
        case "two-hop", (first, second, subject):
            return Need(first, subject, "first"), Need(second, answers[first, subject], "second")
        case "comparison", (relation, first, second):
            return Need(relation, first, "first"), Need(relation, second, "second")
        case _, (relation, subject, *_):
            return (Need(relation, subject),)
    raise ValueError(f"a composition of kind {one.kind!r} with key {one.key}: two-hop, yes-no or comparison expected")
