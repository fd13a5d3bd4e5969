"""Rules of attribution compared, in a report on a study."""

from __future__ import annotations

from typing import Any

from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.reading import effect, interval, pick, score
from neuronatlas.atlas.knowledge_study.suppression import CHANGE, LOG_ODDS
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import BLUE, GREY, Look

__all__ = ["section"]

_NAMES = {
    "gauss-legendre": "Integrated gradients",
    "left-riemann": "Integrated gradients, as the official code",
    "direct": "Direct rise of log P",
    "attribution-patching": "Attribution patching",
    "activation": "Activation",
    "random": "Random, layers of the first",
}
_MEANING = (
    "Each rule scores the neurons on one half of a fact's prompts. The 5 with the highest mean scores are suppressed "
    "on the other half. Overlap: the share of the 5 that the study's own rule has too. The paper compares its rule "
    "with the activation alone."
)


def section(tables: Tables) -> Section:
    """The section on rules of attribution."""
    effects, refused = tables["rule_effects"], tables["rule_refusals"]
    rows = sorted(effects.iter_rows(named=True), key=lambda row: (row["log_odds_change"], row["rule"]))
    plots = [
        Plot("study-rules", _dots(rows, CHANGE), "Change of P(answer) on unseen prompts, 5 neurons suppressed."),
        Plot("study-rules-log-odds", _dots(rows, LOG_ODDS), "The same in log-odds. Whiskers: 95 % intervals."),
    ]
    first = rows[0]
    text = f"Five neurons by {_lower(_name(first))} move P(answer) of unseen prompts the most, by {effect(first)}"
    others = [f"{_lower(_name(row))} {effect(row).size}" for row in rows[1:]]
    text += f"; {', '.join(others)}." if others else "."
    text += "".join(f" Left out: {rule}, because {reason}." for rule, reason in refused.iter_rows())
    cells = [
        [_name(row), f"{row['n_facts']:,}", str(effect(row)), _odds(row), str(_overlap(tables, row))] for row in rows
    ]
    shown = Listing(["Rule", "Facts", "Change of P", "Log-odds", "Overlap"], [False, *[True] * 4], cells)
    title = "Which rule of attribution finds the neurons that matter?"
    return Section("rules", "Rules", title, text, level(plots), (shown,), _MEANING)


def _name(row: dict[str, Any]) -> str:
    return _NAMES.get(row["rule"], str(row["rule"]))


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def _odds(row: dict[str, Any]) -> str:
    return interval(row, 2, "log_odds_change", "log_odds_low", "log_odds_high")


def _overlap(tables: Tables, row: dict[str, Any]) -> object:
    found = pick(tables["rule_overlaps"], rule=row["rule"])
    return score(found, "overlap") if found else ""


def _dots(rows: list[dict[str, Any]], axis: Axis) -> Any:
    names = ("change", "change_low", "change_high")
    if axis is LOG_ODDS:
        names = ("log_odds_change", "log_odds_low", "log_odds_high")
    looks = {True: Look("Control", GREY, "diamond"), False: Look("Rule", BLUE, "circle", 10)}
    dots = [Dot(_name(row), looks[row["rule"] == "random"], *(row[name] for name in names)) for row in rows]
    figure = dot_rows(dots, axis)
    figure.update_layout(showlegend=False)
    return figure
