"""Sums over what `implicit_effects` measured, with bootstrap intervals over facts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import polars as pl

from neuronatlas.statistics import Interval, ratio_of_means

__all__ = ["COUNTS", "EFFECTS", "SUMMARY", "counts_table", "summary_table"]

EFFECTS = {
    "prompt": pl.Int64,
    "kind": pl.String,
    "part": pl.String,
    "text": pl.String,
    "answer": pl.String,
    "fact": pl.Int64,
    "relation": pl.String,
    "condition": pl.String,
    "n_neurons": pl.Int64,
    **dict.fromkeys(("p_before", "p_after", "log_odds_before", "log_odds_after"), pl.Float64),
    "right_after": pl.Boolean,
}
_NUMBERS = ("change", "log_odds", "lost", "excess")
SUMMARY = {
    "kind": pl.String,
    "part": pl.String,
    "condition": pl.String,
    "n_facts": pl.Int64,
    "n_prompts": pl.Int64,
    "n_neurons": pl.Float64,
    **{f"{name}{end}": pl.Float64 for name in _NUMBERS for end in ("", "_low", "_high")},
}
COUNTS = {"kind": pl.String, **dict.fromkeys(("n_prompts", "n_suited", "n_right", "n_tested", "n_facts"), pl.Int64)}


def counts_table(
    kinds: Sequence[str], suited: Collection[int], right: Collection[int], effects: pl.DataFrame
) -> pl.DataFrame:
    """How many prompts of each kind there were, suited the model, were answered right, and were tested."""
    rows = []
    for kind in dict.fromkeys(kinds):
        own = [index for index, name in enumerate(kinds) if name == kind]
        tested = effects.filter(pl.col("kind") == kind)
        known = [sum(index in some for index in own) for some in (suited, right)]
        rows.append((kind, len(own), *known, tested["prompt"].n_unique(), tested["fact"].n_unique()))
    return pl.DataFrame(rows, schema=COUNTS, orient="row")


def summary_table(effects: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Changes by kind, part and condition; prompts of a fact are kept together in every draw."""
    rows: list[tuple[Any, ...]] = []
    key = ["kind", "part", "prompt", "fact"]
    own = effects.filter(condition="own").select(*key, own=_moved())
    for (kind, part, condition), group in effects.join(own, on=key, maintain_order="left").group_by(
        "kind", "part", "condition", maintain_order=True
    ):
        changes = {
            "change": (pl.col("p_after") - pl.col("p_before"), pl.col("p_before")),
            "log_odds": (_moved(), pl.lit(1.0)),
            "lost": (~pl.col("right_after"), pl.lit(1.0)),
            "excess": (pl.col("own") - _moved(), pl.lit(1.0)),
        }
        found = [_interval(group, *changes[name], seed) for name in _NUMBERS]
        if condition == "own":
            found[-1] = Interval(float("nan"), float("nan"), float("nan"))
        size = (group["fact"].n_unique(), group.height, group["n_neurons"].mean())
        numbers = [number for each in found for number in (each.estimate, each.low, each.high)]
        rows.append((kind, part, condition, *size, *numbers))
    return pl.DataFrame(rows, schema=SUMMARY, orient="row").with_columns(pl.selectors.float().fill_nan(None))


def _moved() -> pl.Expr:
    return pl.col("log_odds_after") - pl.col("log_odds_before")


def _interval(group: pl.DataFrame, over: pl.Expr, under: pl.Expr, seed: int) -> Interval:
    both = group.select("fact", over=over.cast(pl.Float64), under=under)
    sums = both.group_by("fact", maintain_order=True).agg(pl.sum("over", "under"))
    return ratio_of_means(sums.select("over", "under").to_numpy(), seed=seed)
