"""ParaRel's bags: one JSON object of relations, each a list of bags, a bag being one fact.

{"P36": [[["The capital of France is [MASK].", "Paris", "P36(capital)"], ...], ...], ...}
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from neuronatlas.knowledge.facts import Fact, repeated_facts
from neuronatlas.readers.files import FactFileWarning, PlacedFact, RelationFilter, TextFile
from neuronatlas.readers.strict_json import StrictJSONError, parse_json
from neuronatlas.readers.subjects import recover_subjects

__all__ = ["looks_like_pararel", "read_pararel"]

_BEGINNING = re.compile(r'\s*\{\s*("(?:[^"\\]|\\.)*"\s*:\s*\[|\})')
_ENTRY = 3
_SHAPE = '{"P36": [[["The capital of France is [MASK].", "Paris", "P36(capital)"], ...], ...], ...}'


def looks_like_pararel(text: str) -> bool:
    """Tell whether the text begins with an object whose first value is a list."""
    return _BEGINNING.match(text) is not None


def read_pararel(file: TextFile, wanted: RelationFilter, places: Sequence[str]) -> list[PlacedFact]:
    """Read the bags of the wanted relations.

    Subjects are recovered from the prompts, and unknown where those do not tell. The published file lists some facts
    twice; a bag that repeats an earlier one is left out with a FactFileWarning.
    """
    try:
        relations = parse_json(file.text)
    except StrictJSONError as fault:
        where = f"line {fault.line}" if fault.line else ""
        raise file.error(f"the file is no JSON ({fault})", where) from None
    if not isinstance(relations, dict):
        raise file.error(f"the file holds a {type(relations).__name__}: {_SHAPE} expected")
    unnamed: list[PlacedFact] = []
    for key, bags in relations.items():
        relation = _relation(file, key, bags)
        if wanted(relation):
            unnamed += _facts(file, key, relation, bags, places)
    return _named(_without_repeats(file, unnamed))


def _relation(file: TextFile, key: str, bags: Any) -> str:
    """Find a relation's full name, `P36(capital)`, which its prompts carry."""
    try:
        relation = bags[0][0][2]
    except (IndexError, KeyError, TypeError):
        raise file.error(f"no bag of prompts found: {_SHAPE} expected", f"relation {key}") from None
    if not isinstance(relation, str) or not (relation == key or relation.startswith(f"{key}(")):
        raise file.error(f"the first prompt says that its relation is {relation!r}", f"relation {key}")
    return relation


def _facts(file: TextFile, key: str, relation: str, bags: list[Any], places: Sequence[str]) -> Iterator[PlacedFact]:
    for number, bag in enumerate(bags, start=1):
        where = f"relation {key}, bag {number}"
        answer, prompts = _bag(file, relation, bag, where)
        with file.faults_at(where):
            fact = Fact(relation, None, answer, prompts)
            fact.split(places)
        yield PlacedFact(fact, where)


def _bag(file: TextFile, relation: str, bag: Any, where: str) -> tuple[str, list[str]]:
    """Return a bag's answer and prompts, having checked that the prompts agree on answer and relation."""
    if not isinstance(bag, list) or not bag:
        raise file.error(f"{bag!r:.80} found: a list of prompts expected", where)
    for number, entry in enumerate(bag, start=1):
        if not (isinstance(entry, list) and len(entry) == _ENTRY):
            raise file.error(f'prompt {number} is {entry!r:.80}: ["... [MASK] ...", answer, relation] expected', where)
        if entry[1] != bag[0][1]:
            raise file.error(f"prompt {number} has the answer {entry[1]!r}, prompt 1 has {bag[0][1]!r}", where)
        if entry[2] != relation:
            raise file.error(f"prompt {number} is of relation {entry[2]!r}: {relation!r} expected", where)
    return bag[0][1], [entry[0] for entry in bag]


def _without_repeats(file: TextFile, placed: list[PlacedFact]) -> list[PlacedFact]:
    repeats = {repeat: first for first, repeat in repeated_facts([one.fact for one in placed])}
    if repeats:
        repeat, first = next(iter(repeats.items()))
        example = f"{placed[repeat].where} says what {placed[first].where} says"
        message = f"{file.path}: bags left out because they repeat an earlier one: {len(repeats)} ({example})"
        # As seen from whoever called read_facts.
        warnings.warn(message, FactFileWarning, stacklevel=4)
    return [one for index, one in enumerate(placed) if index not in repeats]


def _named(placed: list[PlacedFact]) -> list[PlacedFact]:
    """Give each fact its subject, as far as its relation's prompts tell."""
    named = []
    for _, group in groupby(placed, key=lambda one: one.fact.relation):
        of_relation = list(group)
        subjects = recover_subjects([one.fact.prompts for one in of_relation])
        for one, subject in zip(of_relation, subjects, strict=True):
            named.append(replace(one, fact=replace(one.fact, subject=subject)))
    return named
