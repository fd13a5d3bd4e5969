"""Implicit knowledge, in a report on a study."""

from __future__ import annotations

from typing import Any

import polars as pl

from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.reading import interval, pick, score
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import BLUE, GREY, PURPLE, VERMILION, Look
from neuronatlas.atlas.wording import Effect

__all__ = ["section"]

_LOOKS = {
    "own": Look("Of the needed fact", BLUE, "circle", 10),
    "random": Look("Random, same layers", GREY, "diamond"),
    "same-relation": Look("Of another fact, same relation", VERMILION, "square"),
    "unrelated": Look("Of another relation", PURPLE, "triangle-down"),
}
_ROWS = {
    ("cloze", "only"): "The fact's own prompts",
    ("two-hop", "first"): "Two hops, the first fact",
    ("two-hop", "second"): "Two hops, the second fact",
}
_MEANING = (
    "A prompt of two hops needs two facts and says neither: in place of the second one's subject stands a description "
    "by the first, such as the currency of the country whose capital is Tokyo. Only prompts that the model answers "
    "right are tested. Suppressed at the place of the answer. The paper locates and tests by cloze prompts alone, and "
    "leaves this open. Intervals are over facts."
)


def section(tables: Tables) -> Section:
    """The section on implicit knowledge."""
    found, counts = tables["implicit_summary"].filter(pl.col("log_odds").is_not_null()), tables["implicit_counts"]
    title = "Do a fact's neurons move answers that need the fact without stating it?"
    if not found.height:
        return Section("implicit", "Two hops", title, _finding(found, counts), note=_MEANING)
    plots = [
        _plot(found, "log_odds", Axis("Change of log-odds (nats)", 1, "+.2f"), "Change of log-odds, suppressed."),
        _plot(
            found, "lost", Axis("Answers lost (%)", form=".1f", zeroline=False), "Answers no longer the first choice."
        ),
    ]
    rows = [
        [
            _ROWS[kind, part],
            look.name,
            f"{row['n_facts']:,}",
            f"{row['n_prompts']:,}",
            str(Effect(row["change"], row["change_low"], row["change_high"])),
            interval(row, 2, "log_odds", "log_odds_low", "log_odds_high"),
            str(score(row, "lost", "lost_low", "lost_high")),
        ]
        for kind, part in _ROWS
        for condition, look in _LOOKS.items()
        if (row := pick(found, kind=kind, part=part, condition=condition)) and row["change"] is not None
    ]
    headings = ["Asked", "Neurons", "Facts", "Prompts", "Change of P", "Log-odds", "Answers lost"]
    shown = Listing(headings, [False, False, *[True] * 5], rows)
    return Section("implicit", "Two hops", title, _finding(found, counts), level(plots), (shown,), _MEANING)


def _plot(found: pl.DataFrame, column: str, axis: Axis, caption: str) -> Plot:
    names = (column, f"{column}_low", f"{column}_high")
    dots = [
        Dot(label, look, *(row[name] for name in names))
        for (kind, part), label in _ROWS.items()
        for condition, look in _LOOKS.items()
        if (row := pick(found, kind=kind, part=part, condition=condition))
    ]
    return Plot(f"study-implicit-{column.replace('_', '-')}", dot_rows(dots, axis), caption)


def _finding(found: pl.DataFrame, counts: pl.DataFrame) -> str:
    asked = pick(counts, kind="two-hop")
    text = ""
    if asked:
        text = f"Of {asked['n_prompts']:,} prompts of two hops the model answers {asked['n_right']:,} right. "
    parts = []
    for (kind, part), label in _ROWS.items():
        own, other = (pick(found, kind=kind, part=part, condition=name) for name in ("own", "unrelated"))
        if own and own["log_odds"] is not None:
            told = f"{_lower(label)}: {_odds(own)} nats"
            parts.append(told + (f" ({_odds(other)} with another relation's)" if other else ""))
    return f"{text}Suppressing a fact's neurons, {'; '.join(parts)}." if parts else f"{text}Nothing was tested."


def _lower(label: str) -> str:
    return label[:1].lower() + label[1:]


def _odds(row: dict[str, Any]) -> str:
    return interval(row, 2, "log_odds", "log_odds_low", "log_odds_high")
