"""Numbers of a study's tables as words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from neuronatlas.atlas.wording import Effect, Score, number

__all__ = ["change_of", "effect", "interval", "pick", "score", "shown"]


def shown(value: float | None, digits: int) -> str:
    """A number, or a dash where there is none."""
    return number(value, digits)


def interval(row: Mapping[str, Any], digits: int, value: str = "mean", low: str = "low", high: str = "high") -> str:
    """A number with its interval, where that has any width."""
    text = number(row[value], digits)
    if row[low] is None or row[high] is None or not row[low] < row[high]:
        return text
    return f"{text} [{number(row[low], digits)}, {number(row[high], digits)}]"


def effect(row: Mapping[str, Any], value: str = "change", low: str = "change_low", high: str = "change_high") -> Effect:
    """A change with its sign and its interval."""
    return Effect(row[value], *(row[value] if row[end] is None else row[end] for end in (low, high)))


def score(row: Mapping[str, Any], value: str = "mean", low: str = "low", high: str = "high") -> Score:
    """A share with its interval, where that has any width."""
    if row[low] is None or row[high] is None or not row[low] < row[high]:
        return Score(row[value])
    return Score(row[value], row[low], row[high])


def pick(rows: pl.DataFrame, **where: Any) -> dict[str, Any] | None:
    """The one row of these values; None where there is none, or its numbers are missing."""
    found = rows.filter(**where)
    return found.row(0, named=True) if found.height else None


def change_of(rows: pl.DataFrame, condition: str, gain: float, relation: str = "all") -> Effect | None:
    """The change of P(answer) under a condition and a gain; None where it was not measured."""
    found = pick(rows, condition=condition, gain=gain, relation=relation)
    return None if found is None or found["change"] is None or found["change"] != found["change"] else effect(found)
