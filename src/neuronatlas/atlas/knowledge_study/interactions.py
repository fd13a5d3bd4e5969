"""What a fact's neurons do together, in a report on a study."""

from __future__ import annotations

import polars as pl

from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.reading import interval, pick, score
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import BLUE, GREY, Look
from neuronatlas.atlas.wording import sentence

__all__ = ["section"]

_PARTS = {"single_sum": "One by one, added up", "joint": "All at once", "rest": "Difference"}
_MEANING = (
    "A fact's neurons are suppressed one by one, in pairs, and all at once. Redundancy: two together take less than "
    "the sum of what each takes alone. Degenerate: either alone can stand in for most of what both do. Synergy: two "
    "together take more than the sum. Mixed: they interact, and what they do together is not told apart from nothing. "
    "None found: the interaction is not told apart from 0, p over the fact's prompts corrected for its pairs. The "
    "paper leaves interactions open."
)


def section(tables: Tables) -> Section:
    """The section on interactions."""
    totals, kinds = tables["interaction_totals"], tables["interaction_kinds"].filter(pl.col("n") > 0)
    odds = totals.filter(measure="log_odds")
    looks = {"rest": Look("Difference", GREY, "diamond")}
    parts = [
        Dot(_PARTS[row["what"]], looks.get(row["what"], Look("Effect", BLUE, "circle", 10)), *_ends(row, "mean"))
        for row in odds.iter_rows(named=True)
    ]
    shares = [
        Dot(sentence(row["kind"]), Look("Pairs", BLUE, "circle", 10), *_ends(row, "share"))
        for row in kinds.iter_rows(named=True)
    ]
    one = dot_rows(parts, Axis("Change of log-odds, suppressed (nats)", 1, "+.2f"))
    one.update_layout(showlegend=False)
    plots = [
        Plot("study-interactions", one, "What a fact's neurons do one by one and at once. Whiskers: 95 % intervals."),
        Plot(
            "study-pairs",
            dot_rows(shares, Axis("Share of pairs (%)", form=".1f", zeroline=False)),
            "Pairs of neurons of a fact by what they are to each other.",
        ),
    ]
    rows = [[sentence(row["kind"]), f"{row['n']:,}", str(score(row, "share"))] for row in kinds.iter_rows(named=True)]
    shown = Listing(["Kind", "Pairs", "Share"], [False, True, True], rows)
    title = "Do a fact's neurons add up?"
    return Section("interactions", "Interactions", title, _finding(odds, kinds), level(plots), (shown,), _MEANING)


def _finding(odds: pl.DataFrame, kinds: pl.DataFrame) -> str:
    alone, joint = (pick(odds, what=name) for name in ("single_sum", "joint"))
    text = ""
    if alone and joint:
        text = f"Suppressed one by one, a fact's neurons take {interval(alone, 2)} nats of log-odds in sum"
        text += f"; all at once {interval(joint, 2)}. "
    told = [f"{row['kind']} {score(row, 'share').size}" for row in kinds.iter_rows(named=True)]
    return f"{text}Of the pairs: {', '.join(told)}."


def _ends(row: dict[str, float], value: str) -> tuple[float, float, float]:
    return row[value], row["low"], row["high"]
