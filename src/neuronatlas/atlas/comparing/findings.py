"""What a comparison of two atlases says, in sentences and in the numbers at its head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas.page import Headline, Tables, Tile
from neuronatlas.atlas.wording import count, number, percent

__all__ = [
    "ALPHA",
    "EXACTNESS",
    "headline",
    "main_rows",
    "moved_sentence",
    "names",
    "overlap_sentence",
    "shift",
    "tiles",
]

ALPHA = 0.05
EXACTNESS = (
    "P-values of overlaps are exact; those of shifts and of localisation come from 2,000 random draws, and intervals "
    "from 2,000 bootstrap draws over neurons, both of the seed below."
)


def names(tables: Tables) -> tuple[str, str]:
    """The two models, told apart where they have one name."""
    first, second = tables["sides"].sort("side")["model"].to_list()
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def main_rows(tables: Tables) -> pl.DataFrame:
    """A row for each relation, or for each property."""
    return tables["comparison"].filter(pl.col("level").is_in(["relation", "property"]))


def _plural(tables: Tables, n: int) -> str:
    kind = tables["sides"]["kind"][0]
    return count(n, "relation") if kind == "knowledge" else count(n, "property", "properties")


def headline(tables: Tables) -> Headline:
    """How much is shared, and which way the rest lies."""
    statement = overlap_sentence(tables) or f"{_plural(tables, main_rows(tables).height)} compared by layers."
    return Headline(statement, moved_sentence(tables))


def overlap_sentence(tables: Tables) -> str:
    """How many sets share more than chance; nothing where neurons were not compared one by one."""
    rows = main_rows(tables)
    if rows["n_shared"].null_count() == rows.height:
        return ""
    shared, first = int(rows["n_shared"].sum()), int(rows["n_first"].sum())
    text = f"Of {first:,} neurons of the first atlas {shared:,} ({percent(shared / max(1, first))}) are in the second"
    if rows["expected"].null_count() < rows.height:
        more = rows.filter(pl.col("q_in_layers") <= ALPHA).height
        text += f", by chance {number(float(rows['expected'].sum()), 1)} would be"
        text += f"; more than chance within layers gives in {more} of {_plural(tables, rows.height)}"
    return text + "."


def moved_sentence(tables: Tables) -> str:
    """How many sets lie lower or higher in the second atlas than chance would have it."""
    rows = main_rows(tables)
    sure = rows.filter(pl.col("q_moved") <= ALPHA)
    lower, higher = sure.filter(pl.col("moved") < 0).height, sure.filter(pl.col("moved") > 0).height
    if not sure.height:
        return f"Of {_plural(tables, rows.height)} none lies at another depth than chance could have it."
    return (
        f"Of {_plural(tables, rows.height)} {lower} {'lies' if lower == 1 else 'lie'} lower in the second and "
        f"{higher} higher, beyond chance at a false discovery rate of 5 %."
    )


def shift(row: dict[str, Any]) -> str:
    """A shift with its interval, as a table shows it."""
    if row["moved"] is None:
        return "\N{EN DASH}"
    text = number(row["moved"], 3)
    text = f"+{text}" if row["moved"] > 0.0005 else text
    return f"{text} [{number(row['moved_low'], 3)}, {number(row['moved_high'], 3)}]"


def tiles(tables: Tables) -> Iterator[Tile]:
    """Shared neurons, their excess over chance, the mean shift, the agreement of scores."""
    rows = main_rows(tables)
    if rows["n_shared"].null_count() < rows.height:
        n_first = max(1, int(rows["n_first"].sum()))
        share = int(rows["n_shared"].sum()) / n_first
        chance = f"by chance {percent(float(rows['expected'].sum()) / n_first, 1)}"
        known = rows["expected"].null_count() < rows.height
        note = chance if known else "chance level not known"
        yield Tile("Of the first in the second", percent(share, 1), note, filled=round(100 * share, 1))
    moved = rows["moved"].drop_nulls()
    if len(moved):
        lower = int((moved < 0).sum())
        note = f"lower: {lower}, higher: {int((moved > 0).sum())} of {_plural(tables, len(moved))}"
        yield Tile("Mean shift over depth", number(float(moved.sum()) / len(moved), 3), note, "0 first layer, 1 last")
    agreed = tables["correlations"].drop_nulls("correlation")
    if agreed.height:
        row = agreed.row(0, named=True)
        interval = f"[{number(row['low'], 2)}, {number(row['high'], 2)}]"
        note = f"{row['name']}: {row['what']}, {count(row['n'], row['over'].removesuffix('s'))}"
        yield Tile("Rank correlation", number(row["correlation"], 2), note, interval)
