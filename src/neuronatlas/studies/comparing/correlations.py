"""How far the scores of two atlases agree: rankings over neurons, probabilities and effects over facts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import rankdata

from neuronatlas.addresses import address_columns
from neuronatlas.atlas import Atlas
from neuronatlas.statistics import Interval
from neuronatlas.studies.comparing.sides import Side

__all__ = ["CORRELATIONS", "correlations", "spearman"]

CORRELATIONS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("name", "what", "over"), pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("correlation", "low", "high"), pl.Float64),
}
"""The columns of the table `correlations`."""

_FEWEST = 4
_DRAWS = 500
_MOST_DRAWN = 20_000
"""Items up to which a bootstrap is drawn: of more, the interval is Fisher's, whose error is of the order of 1/n."""

Scores = Float[np.ndarray, " item"]


def correlations(first: Atlas, second: Atlas, sides: tuple[Side, Side], *, together: bool, seed: int) -> pl.DataFrame:
    """Spearman's rank correlation of all scores that both atlases have, with a 95 % interval."""
    rows = _of_facts(first, second, seed) if sides[0].kind == "knowledge" else _of_rankings(first, second, seed)
    kept = rows if together or sides[0].kind == "knowledge" else ()
    return pl.DataFrame(list(kept), schema=CORRELATIONS, orient="row")


def spearman(first: Scores, second: Scores, seed: int) -> Interval:
    """Spearman's rank correlation with its interval; NaN of fewer than four items, or where one side is constant.

    >>> spearman(np.arange(9.0), np.arange(9.0) ** 3, seed=0).estimate
    1.0
    """
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    if len(first) < _FEWEST or np.ptp(first) == 0 or np.ptp(second) == 0:
        return nothing
    estimate = _correlation(rankdata(first), rankdata(second))
    if len(first) > _MOST_DRAWN:
        half = 1.96 * np.sqrt((1 + estimate**2 / 2) / (len(first) - 3))
        middle = np.arctanh(np.clip(estimate, -1 + 1e-12, 1 - 1e-12))
        return Interval(estimate, float(np.tanh(middle - half)), float(np.tanh(middle + half)))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_DRAWS):
        chosen = rng.integers(len(first), size=len(first))
        ours, theirs = first[chosen], second[chosen]
        constant = np.ptp(ours) == 0 or np.ptp(theirs) == 0
        drawn.append(estimate if constant else _correlation(rankdata(ours), rankdata(theirs)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _correlation(first: Scores, second: Scores) -> float:
    ours, theirs = first - first.mean(), second - second.mean()
    return round(float(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs))), 12)


def _of_rankings(first: Atlas, second: Atlas, seed: int) -> Iterator[tuple[object, ...]]:
    """Of each property and method: ranks over all neurons that both rank."""
    if "rankings" not in first.tables or "rankings" not in second.tables:
        return
    ours, theirs = first.table("rankings"), second.table("rankings")
    keys = ["label", "method", *address_columns(ours)]
    joined = ours.join(theirs, on=keys, how="inner", nulls_equal=True, suffix="_second", maintain_order="left")
    for (label, method), rows in joined.group_by("label", "method", maintain_order=True):
        yield _row(str(label), f"ranking by {method}", "neurons", rows["rank"], rows["rank_second"], seed)


def _of_facts(first: Atlas, second: Atlas, seed: int) -> Iterator[tuple[object, ...]]:
    """Over the facts of both: how likely the answer is, how many neurons there are, what suppressing them does."""
    keys = ["relation", "subject", "answer"]
    tables = [_fact_scores(atlas).filter(pl.struct(keys).is_unique()) for atlas in (first, second)]
    joined = tables[0].join(tables[1], on=keys, how="inner", nulls_equal=True, suffix="_second", maintain_order="left")
    named = {"p_mean": "P(answer)", "n_neurons": "number of neurons", "effect": "change of log-odds, suppressed"}
    for column, what in named.items():
        if column in tables[0].columns and column in tables[1].columns:
            rows = joined.select(column, f"{column}_second").drop_nulls()
            yield _row("all facts", what, "facts", rows[column], rows[f"{column}_second"], seed)


def _fact_scores(atlas: Atlas) -> pl.DataFrame:
    facts = atlas.table("facts").select("fact", "relation", "subject", "answer", "p_mean", "n_neurons")
    if "effects" not in atlas.tables:
        return facts
    change = pl.col("log_odds_after") - pl.col("log_odds_before")
    effects = atlas.table("effects").filter(pl.col("condition") == "located", pl.col("gain") == 0)
    return facts.join(effects.group_by("fact").agg(effect=change.mean()), on="fact", how="left", maintain_order="left")


def _row(name: str, what: str, over: str, first: pl.Series, second: pl.Series, seed: int) -> tuple[object, ...]:
    found = spearman(first.cast(pl.Float64).to_numpy(), second.cast(pl.Float64).to_numpy(), seed)
    values = (None if np.isnan(value) else value for value in (found.estimate, found.low, found.high))
    return (name, what, over, len(first), *values)
