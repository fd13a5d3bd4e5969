"""Tables with one prompt a row: comma, semicolon or tab separated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuronatlas.knowledge.facts import Fact
from neuronatlas.readers.cells import header_of, rows
from neuronatlas.readers.files import PlacedFact, RelationFilter, TextFile
from neuronatlas.readers.rows import gather

__all__ = ["COLUMNS", "looks_like_table", "read_table"]

COLUMNS = ("relation", "subject", "answer", "prompt")


def looks_like_table(text: str) -> bool:
    """Tell whether the first line names any two of the columns."""
    return len(set(header_of(text)) & set(COLUMNS)) > 1


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
    for number, cells in rows(file):
        if any(cell.strip() for cell in cells):
            yield f"line {number}", cells
