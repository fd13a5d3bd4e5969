"""What the benchmark of edits prints: its tables, and how far its targets are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

__all__ = ["as_markdown", "targets", "together_markdown", "write_block"]


def as_markdown(table: pl.DataFrame, names: Sequence[str]) -> str:
    """A row a measure, a column a way: after the edits, with the interval, and before in the second column."""
    lines = ["| measure | before | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for measure in dict.fromkeys(table.filter(pl.col("way").is_in(names))["measure"]):
        cells, before = [], ""
        for name in names:
            row = _row(table, measure, name)
            before = before if row.get("before") is None else f"{row['before']:.3f}"
            spread = "" if row.get("low") is None else f" ({row['low']:.3f} to {row['high']:.3f})"
            cells.append("" if row.get("after") is None else f"{row['after']:.3f}{spread}")
        if any(cells):
            lines.append(f"| {measure} | {before} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _row(table: pl.DataFrame, measure: str, way: str) -> dict[str, float | None]:
    found = table.filter((pl.col("measure") == measure) & (pl.col("way") == way))
    return found.row(0, named=True) if found.height else {}


def targets(table: pl.DataFrame) -> str:
    """What the exact edit was to reach, what it reached, and by how much it missed or met that."""
    aims = (
        ("success rate", 0.95, 1, "on the edited prompts at least"),
        ("generalisation, generated", 0.80, 1, "on held-out paraphrases at least"),
        ("accuracy, same relation", 0.99, 1, "of other facts of the relation still right, more than"),
        ("accuracy, other relations", 0.99, 1, "of facts of other relations still right, more than"),
        ("CPU seconds, median", 1.0, -1, "an edit in less than"),
    )
    lines = ["| target of the exact edit | wanted | found | |", "| --- | --- | --- | --- |"]
    for measure, aim, sign, words in aims:
        found = _row(table, measure, "exact").get("after")
        if found is not None:
            met = "met" if sign * (found - aim) >= 0 else "missed"
            lines.append(f"| {measure}: {words} | {aim:.2f} | {found:.4f} | {met} by {abs(found - aim):.4f} |")
    known = _row(table, "generalisation, known", "exact").get("after")
    if known is not None:
        lines.append(f"| the same on paraphrases that the model answered before the edit | | {known:.4f} | |")
    locating = _row(table, "CPU seconds, median", "locating").get("after")
    if locating is not None:
        lines.append(f"| finding the fact's neurons before, CPU seconds, median | | {locating:.4f} | |")
    return "\n".join(lines)


def together_markdown(rows: Sequence[Mapping[str, float]]) -> str:
    """A row a batch."""
    lines = ["| " + " | ".join(rows[0]) + " |", "| --- " * len(rows[0]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(f"{value:.3f}" for value in row.values()) + " |" for row in rows)])


def write_block(page: Path, name: str, text: str) -> None:
    """Put text between a page's two comments of that name, which have to be there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no block {name!r}: {begin} and {end} expected")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
