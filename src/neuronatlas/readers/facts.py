"""Files of facts: the formats that are known and the one call that reads any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuronatlas.knowledge.facts import PLACES, Fact, repeated_facts
from neuronatlas.readers.delimited import looks_like_table, read_table
from neuronatlas.readers.files import Read, RelationFilter, TextFile, open_text
from neuronatlas.readers.jsonlines import looks_like_json_lines, read_json_lines
from neuronatlas.readers.pararel import looks_like_pararel, read_pararel

__all__ = ["FACT_FORMATS", "FactFormat", "read_facts"]


@dataclass(frozen=True)
class FactFormat:
    """A file format for facts: how its files are called, how its text is told from others, and its reader."""

    name: str
    suffixes: tuple[str, ...]
    looks_right: Callable[[str], bool]
    read: Read


FACT_FORMATS = (
    FactFormat("JSON lines", (".jsonl", ".ndjson", ".json"), looks_like_json_lines, read_json_lines),
    FactFormat("ParaRel's bags", (".json",), looks_like_pararel, read_pararel),
    FactFormat("a table (CSV, TSV)", (".csv", ".tsv"), looks_like_table, read_table),
)
"""All formats that `read_facts` knows; a new one needs a module with a reader and a line here."""


def read_facts(
    path: str | os.PathLike[str],
    *,
    relations: Iterable[str] | None = None,
    limit: int | None = None,
    places: Sequence[str] = PLACES,
) -> tuple[Fact, ...]:
    """Read a file of facts: ParaRel's bags, JSON lines, CSV or TSV, gzipped or not.

    relations: the relations wanted, by name ("capital", "P36(capital)") or id ("P36"); all of them by default.
    limit: at most so many facts of each relation, the first ones in the file.
    places: what marks the answer's place in a prompt, for files that use a tokenizer's own mask token.

    Errors: FactFileError, which names the file and the line (in ParaRel's bags: the relation and the bag), for a file
    that is missing, empty, no UTF-8 text or of no known format, a broken line, a fact that makes no sense, a fact that
    stands twice, and a relation that the file does not have. ParaRel's own file has facts that stand twice: there a
    FactFileWarning says so and the repeats are left out.

    >>> import json, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "facts.jsonl")
    ...     record = {"relation": "capital", "answer": "Paris", "prompts": ["[MASK] is France's capital."]}
    ...     _ = path.write_text(json.dumps(record))
    ...     read_facts(path)
    (Fact(relation='capital', subject=None, answer='Paris', prompts=("[MASK] is France's capital.",)),)
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: 1 fact a relation or more expected")
    wanted = RelationFilter(_several(relations))
    file = open_text(Path(path))
    placed = list(_format_of(file).read(file, wanted, places))
    if not wanted.seen:
        raise file.error("the file holds no facts")
    if unknown := wanted.unknown():
        raise file.error(f"no relation {' or '.join(map(repr, unknown))}: the file has {', '.join(wanted.seen)}")
    facts = [one.fact for one in placed]
    for first, repeat in repeated_facts(facts):
        raise file.error(
            f"fact {facts[repeat].label!r} stands twice, first at {placed[first].where}", placed[repeat].where
        )
    return tuple(_first_of_each(facts, limit))


def _several(relations: Iterable[str] | None) -> tuple[str, ...] | None:
    if relations is None:
        return None
    return (relations,) if isinstance(relations, str) else tuple(relations)


def _format_of(file: TextFile) -> FactFormat:
    """Choose by suffix where one format has it, by content among those that share it or where it says nothing."""
    named = [form for form in FACT_FORMATS if file.suffix in form.suffixes]
    if len(named) == 1:
        return named[0]
    for form in named or FACT_FORMATS:
        if form.looks_right(file.text):
            return form
    raise file.error(f"the format is not known: {', '.join(form.name for form in FACT_FORMATS)} expected")


def _first_of_each(facts: Iterable[Fact], limit: int | None) -> Iterable[Fact]:
    taken: dict[str, int] = {}
    for fact in facts:
        taken[fact.relation] = taken.get(fact.relation, 0) + 1
        if limit is None or taken[fact.relation] <= limit:
            yield fact
