"""JSON lines: an object a line, with all prompts of a fact or one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neuronatlas.knowledge.facts import Fact
from neuronatlas.readers.files import PlacedFact, RelationFilter, TextFile
from neuronatlas.readers.rows import gather
from neuronatlas.readers.strict_json import read_objects, starts_with_object

__all__ = ["looks_like_json_lines", "read_json_lines"]

_FIELDS = ("relation", "subject", "answer")


def looks_like_json_lines(text: str) -> bool:
    """Tell whether the first line is an object with a field that facts have."""
    return starts_with_object(text, (*_FIELDS, "prompt", "prompts"))


def read_json_lines(file: TextFile, wanted: RelationFilter, places: Sequence[str]) -> list[PlacedFact]:
    """Read objects with relation, answer, subject (null or left out where unknown), and prompts or prompt.

    A line with `prompts` is a fact; lines with `prompt` of the same relation, subject and answer form one.
    """
    return gather(file, _lines(file, wanted, places))


def _lines(file: TextFile, wanted: RelationFilter, places: Sequence[str]) -> Iterator[PlacedFact]:
    for number, record in read_objects(file):
        where = f"line {number}"
        _require_fields(file, record, where)
        prompts = _prompts(file, record, where)
        relation, subject, answer = (_trimmed(record.get(name)) for name in _FIELDS)
        with file.faults_at(where):
            fact = Fact(relation, subject, answer, prompts)
            asked = wanted(fact.relation)
            if asked:
                fact.split(places)
        if asked:
            yield PlacedFact(fact, where, partial="prompt" in record)


def _require_fields(file: TextFile, record: dict[str, Any], where: str) -> None:
    for name in ("relation", "answer"):
        if name not in record:
            raise file.error(f"there is no {name!r}: the object has {', '.join(map(repr, record)) or 'nothing'}", where)


def _prompts(file: TextFile, record: dict[str, Any], where: str) -> list[str]:
    if ("prompt" in record) == ("prompts" in record):
        found = "both" if "prompt" in record else "neither"
        raise file.error(f"{found} of 'prompt' and 'prompts' found: one of them expected", where)
    prompts = [record["prompt"]] if "prompt" in record else record["prompts"]
    if not isinstance(prompts, list):
        raise file.error(f"'prompts' is {prompts!r:.80}: a list of texts expected", where)
    return prompts


def _trimmed(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value
