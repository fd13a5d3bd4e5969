"""Rows that hold one prompt each, gathered into facts."""

from __future__ import annotations

from collections.abc import Iterable

from neuronatlas.knowledge.facts import Fact, repeated_prompts
from neuronatlas.readers.files import PlacedFact, TextFile

__all__ = ["gather"]


def gather(file: TextFile, rows: Iterable[PlacedFact]) -> list[PlacedFact]:
    """Join partial facts of one relation, subject and answer, in the order of their first rows.

    A row without a subject stays a fact of its own: nothing says which others it belongs to. A prompt that stands twice
    in a joined fact is a FactFileError.
    """
    groups: dict[tuple[str, ...], list[PlacedFact]] = {}
    for row in rows:
        fact = row.fact
        joins = row.partial and fact.subject is not None
        key = (fact.relation, fact.subject or "", fact.answer) if joins else (row.where,)
        groups.setdefault(key, []).append(row)
    return [_joined(file, group) for group in groups.values()]


def _joined(file: TextFile, rows: list[PlacedFact]) -> PlacedFact:
    first = rows[0]
    if len(rows) == 1:
        return first
    prompts = [row.fact.prompts[0] for row in rows]
    for earlier, repeat in repeated_prompts(prompts):
        message = f"the prompt of fact {first.fact.label!r} repeats that of {rows[earlier].where}"
        raise file.error(message, rows[repeat].where)
    return PlacedFact(Fact(first.fact.relation, first.fact.subject, first.fact.answer, prompts), first.where)
