"""Tables with one prompt a row: comma, semicolon or tab separated."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from neuronatlas.knowledge.facts import Fact
from neuronatlas.readers.files import PlacedFact, RelationFilter, TextFile
from neuronatlas.readers.rows import gather

__all__ = ["COLUMNS", "looks_like_table", "read_table"]

COLUMNS = ("relation", "subject", "answer", "prompt")
_DELIMITERS = "\t,;"


def looks_like_table(text: str) -> bool:
    """Tell whether the first line names any two of the columns."""
    return len(set(_header(text)) & set(COLUMNS)) > 1


def read_table(file: TextFile, wanted: RelationFilter, places: Sequence[str]) -> list[PlacedFact]:
    """Read a table whose header names relation, subject, answer and prompt, in any order and among others.

    Rows of the same relation, subject and answer form one fact. The delimiter is the one that the header uses.
    """
    return gather(file, _rows(file, wanted, places))


def _rows(file: TextFile, wanted: RelationFilter, places: Sequence[str]) -> Iterator[PlacedFact]:
    table = _lines(file)
    where, header = next(table)
    columns = [name.strip().lower() for name in header]
    for name in COLUMNS:
        if columns.count(name) != 1:
            fault = f"there is no column {name!r}" if name not in columns else f"column {name!r} stands twice"
            raise file.error(f"{fault}: the columns are {', '.join(map(repr, columns))}", where)
    order = [columns.index(name) for name in COLUMNS]
    for where, cells in table:
        if len(cells) != len(columns):
            hint = (
                "is a cell that holds the delimiter not in quotes?" if len(cells) > len(columns) else "one is missing"
            )
            raise file.error(f"{len(cells)} cells where the header has {len(columns)}: {hint}", where)
        relation, subject, answer, prompt = (cells[index] for index in order)
        with file.faults_at(where):
            fact = Fact(relation.strip(), subject.strip() or None, answer.strip(), [prompt])
            asked = wanted(fact.relation)
            if asked:
                fact.split(places)
        if asked:
            yield PlacedFact(fact, where, partial=True)


def _lines(file: TextFile) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows that hold anything, each with the line that it begins on."""
    reader = csv.reader(io.StringIO(file.text, newline=""), delimiter=_delimiter(file.text), strict=True)
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise file.error(f"the line is broken ({error})", where) from None
        if any(cell.strip() for cell in cells):
            yield where, cells


def _delimiter(text: str) -> str:
    header = _first_line(text)
    return max(_DELIMITERS, key=header.count)


def _header(text: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in _first_line(text).split(_delimiter(text))]


def _first_line(text: str) -> str:
    return text.lstrip().partition("\n")[0]
