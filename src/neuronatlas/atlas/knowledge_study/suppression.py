"""What suppressing and amplifying does, in a report on a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas.knowledge.looks import ACTIVATION, CONDITIONS, LOCATED, gain_label, gain_name
from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.published import PAPER, PUBLISHED
from neuronatlas.atlas.knowledge_study.reading import change_of
from neuronatlas.atlas.page import Headline, Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import GREY, Look
from neuronatlas.atlas.wording import Effect, count, sentence

__all__ = ["CHANGE", "ENDS", "LOG_ODDS", "headline", "section"]

CHANGE = Axis("Change of P(answer) (%)")
LOG_ODDS = Axis("Change of log-odds (nats)", 1, "+.2f")
ENDS = (0.0, 2.0)
_CONTROL = Look("Controls", GREY, "diamond")
_OWN = {"located": LOCATED, "held-out": LOCATED}
_VERBS = {0.0: "Suppressing", 2.0: "amplifying"}
_MEANING = (
    "Change of P(answer): the mean over a relation's prompts of P after less before, over the mean of P before; over "
    "all relations the unweighted mean of theirs, as in the paper. The neurons' own report, neurons/report.html, has "
    "every control relation by relation."
)


def headline(summary: pl.DataFrame) -> Headline:
    """The main result beside the paper's."""
    parts = [
        f"{_VERBS[gain]} a fact's neurons moves P(answer) by {found}"
        for gain in ENDS
        if (found := change_of(summary, "located", gain))
    ]
    paper = "; ".join(
        f"{gain_name(gain)} {Effect(PUBLISHED['change', 'located', gain_name(gain)], 0, 0).size}" for gain in ENDS
    )
    told = "; ".join(parts)
    return Headline(sentence(f"{told}.") if parts else "The effect of the neurons was not measured.", _beside(paper))


def _beside(paper: str) -> str:
    return f"Dai et al. (2022) published for BERT and 34 relations: {paper}."


def section(tables: Tables) -> Section:
    """The section on suppressing and amplifying."""
    summary = tables["summary"]
    plots = [_overall(summary, gain, axis) for axis in (CHANGE, LOG_ODDS) for gain in ENDS]
    if summary["relation"].n_unique() > 2:
        plots += [_by_relation(summary, gain) for gain in ENDS]
    return Section(
        "suppression",
        "Suppress, amplify",
        "What does suppressing or amplifying a fact's neurons do to its answer?",
        _finding(tables),
        level(plots[:4]) + level(plots[4:]),
        tuple(_listings(tables)),
        _MEANING,
    )


def _overall(summary: pl.DataFrame, gain: float, axis: Axis) -> Plot:
    rows = summary.filter(relation="all", gain=gain)
    dots = [
        _dot(row, CONDITIONS[row["condition"]].name, _OWN.get(row["condition"], _CONTROL), axis)
        for row in sorted(rows.iter_rows(named=True), key=lambda row: list(CONDITIONS).index(row["condition"]))
    ]
    if axis is CHANGE:
        for condition in ("located", "activation"):
            paper = PUBLISHED["change", condition, gain_name(gain)]
            dots.append(Dot(CONDITIONS[condition].name, PAPER, paper))
    figure = dot_rows(dots, axis)
    what = "P(answer)" if axis is CHANGE else "log-odds, which show a change even where P is near 0 or 1"
    name = f"study-{'change' if axis is CHANGE else 'log-odds'}-{gain:g}"
    if axis is not CHANGE:
        figure.update_layout(showlegend=False)
    caption = f"Change of {what}, neurons {gain_label(gain)}, mean over relations. Whiskers: 95 % intervals over facts."
    return Plot(name, figure, caption)


def _dot(row: dict[str, Any], place: str, look: Any, axis: Axis) -> Dot:
    names = ("change", "change_low", "change_high")
    if axis is not CHANGE:
        names = ("log_odds_change", "log_odds_low", "log_odds_high")
    return Dot(place, look, *(row[name] for name in names))


def _by_relation(summary: pl.DataFrame, gain: float) -> Plot:
    rows = summary.filter(pl.col("relation") != "all", gain=gain)
    order = rows.filter(condition="located").sort("change", "relation", descending=[gain > 1, False])["relation"]
    dots = []
    for relation in order:
        for condition, look in (("located", LOCATED), ("activation", ACTIVATION)):
            found = rows.filter(relation=relation, condition=condition)
            dots += [_dot(row, relation, look, CHANGE) for row in found.iter_rows(named=True)]
    caption = f"Relation by relation, neurons {gain_label(gain)}."
    return Plot(f"study-relations-{gain:g}", dot_rows(dots, CHANGE, row=26), caption)


def _finding(tables: Tables) -> str:
    summary, draws, texts = tables["summary"], tables["random_draws"], []
    for gain in ENDS:
        located, baseline = (change_of(summary, name, gain) for name in ("located", "activation"))
        if located is None:
            continue
        text = f"{sentence(_VERBS[gain])} a fact's neurons moves P(answer) by {located}"
        text += f", those of the activation baseline by {baseline}" if baseline else ""
        paper = [PUBLISHED["change", name, gain_name(gain)] for name in ("located", "activation")]
        own, other = (Effect(value, value, value).size for value in paper)
        texts.append(f"{text} (published: {own} and {other}).")
        mine = draws.filter(gain=gain)["change"].drop_nulls().drop_nans()
        if len(mine):
            low, high = (Effect(float(end), 0, 0).size for end in (mine.min(), mine.max()))  # type: ignore[arg-type]
            texts.append(f"Random neurons, drawn {count(len(mine), 'time')}: from {low} to {high}.")
    return " ".join(texts)


def _listings(tables: Tables) -> Iterator[Listing]:
    summary = tables["summary"]
    names = [*dict.fromkeys(summary["relation"])]
    columns = [(condition, gain) for gain in ENDS for condition in ("located", "activation", "random")]
    headings = ["Relation", "Facts"]
    headings += [f"{CONDITIONS[condition].name}, {gain_name(gain)}" for condition, gain in columns]
    rows = []
    for name in names:
        facts = summary.filter(relation=name, condition="located")["n_facts"]
        cells = [change_of(summary, condition, gain, name) for condition, gain in columns]
        label = "All relations" if name == "all" else name
        rows.append([label, f"{facts[0]:,}" if len(facts) else "0", *(str(cell or "") for cell in cells)])
    paper = [PUBLISHED.get(("change", condition, gain_name(gain))) for condition, gain in columns]
    rows.append(["Published, 34 relations", "", *("" if p is None else Effect(p, p, p).size for p in paper)])
    yield Listing(headings, [False, *[True] * (len(headings) - 1)], rows, search="Search: relation …")
