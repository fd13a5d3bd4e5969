"""What hangs on the gain and on the coarse threshold, in a report on a study."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl

from neuronatlas.atlas.knowledge.looks import ACTIVATION, CONDITIONS, LOCATED, gain_label
from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, lines
from neuronatlas.atlas.knowledge_study.reading import effect, interval, pick
from neuronatlas.atlas.knowledge_study.suppression import CHANGE, LOG_ODDS
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import Look
from neuronatlas.atlas.wording import number

__all__ = ["gain_section", "threshold_section"]

_LOOKS = {name: CONDITIONS[name] for name in ("located", "activation", "random")}
_ENDS = {0.0: LOCATED, 2.0: ACTIVATION}
_COLUMNS = {
    CHANGE: ("change", "change_low", "change_high"),
    LOG_ODDS: ("log_odds_change", "log_odds_low", "log_odds_high"),
}
_GAINS = (
    "The paper tries two gains, 0 and 2. Changes are those of the second section, on the sampled facts; at gain 1 "
    "nothing is touched."
)
_THRESHOLDS = (
    "A neuron enters a prompt's coarse set when its score is at least this share of the prompt's largest one; the "
    "paper's is 0.2. The share of prompts that must agree is kept as it was tuned for each relation, so that the "
    "coarse threshold alone changes. On the sampled facts."
)


def gain_section(tables: Tables) -> Section:
    """The section on the sweep of the gain."""
    found = tables["gain_sweep"].filter(relation="all")
    plots = []
    for axis, name in ((CHANGE, "P(answer)"), (LOG_ODDS, "log-odds")):
        dots = []
        for condition, look in _LOOKS.items():
            rows = [*found.filter(condition=condition).iter_rows(named=True)]
            places = [Dot(row["gain"], look, *(row[column] for column in _COLUMNS[axis])) for row in rows]
            places += [Dot(1.0, look, 0.0)] if rows else []
            dots += sorted(places, key=lambda dot: float(dot.place))
        figure = lines(dots, axis, "Gain (0 suppresses, 1 leaves as is, 2 doubles)")
        plots.append(Plot(f"study-gains-{axis.scale:g}", figure, f"Change of {name} against the gain."))
    title = "What lies between suppressing and amplifying, and beyond?"
    return Section("gains", "Gains", title, _gain_finding(found), level(plots), (_gain_listing(found),), _GAINS)


def _gain_finding(found: pl.DataFrame) -> str:
    own = found.filter(condition="located").sort("gain")
    change = dict(own.select("gain", "log_odds_change").iter_rows())
    steps = sorted([*change, 1.0])
    values = [change.get(gain, 0.0) for gain in steps]
    rises = all(low <= high for low, high in pairwise(values))
    best = own.sort("change", descending=True).row(0, named=True)
    shape = "rises with every step of the gain" if rises else "does not rise with every step of the gain"
    text = f"The log-odds of the answer {shape} from {steps[0]:g} to {steps[-1]:g}."
    return f"{text} P(answer) is highest at gain {best['gain']:g}, {effect(best)}."


def _gain_listing(found: pl.DataFrame) -> Listing:
    rows = []
    for gain in found["gain"].unique().sort():
        cells = [pick(found, condition=condition, gain=gain) for condition in _LOOKS]
        odds = pick(found, condition="located", gain=gain)
        told = interval(odds, 2, *_COLUMNS[LOG_ODDS]) if odds else ""
        rows.append([f"{gain:g}", *(str(effect(cell)) if cell else "" for cell in cells), told])
    headings = ["Gain", *(look.name for look in _LOOKS.values()), "Log-odds, knowledge neurons"]
    return Listing(headings, [True] * len(headings), rows)


def threshold_section(tables: Tables) -> Section:
    """The section on the sweep of the coarse threshold."""
    found = tables["threshold_sweep"].sort("threshold")
    ticks = found["threshold"].unique().sort().to_list()
    sizes = [
        Dot(row["threshold"], Look("Neurons of a fact", LOCATED.colour, "circle", 10), *_size(row))
        for row in found.filter(gain=0.0).iter_rows(named=True)
    ]
    changes = [
        Dot(row["threshold"], Look(gain_label(gain).capitalize(), look.colour, look.symbol, look.size), *_change(row))
        for gain, look in _ENDS.items()
        for row in found.filter(gain=gain).iter_rows(named=True)
    ]
    axis, title = Axis("Neurons of a fact (mean)", 1, ".2f", zeroline=False), "Coarse threshold"
    plots = [
        Plot("study-threshold-neurons", lines(sizes, axis, title, ticks=ticks), "Neurons of a fact by the threshold."),
        Plot(
            "study-threshold-change",
            lines(changes, CHANGE, title, ticks=ticks),
            "Change of P(answer) by the threshold.",
        ),
    ]
    title = "How much hangs on the coarse threshold?"
    shown = (_threshold_listing(found),)
    return Section("thresholds", "Threshold", title, _threshold_finding(found), level(plots), shown, _THRESHOLDS)


def _size(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["neurons"], row["neurons_low"], row["neurons_high"]


def _change(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["change"], row["change_low"], row["change_high"]


def _threshold_finding(found: pl.DataFrame) -> str:
    rows = [*found.filter(gain=0.0).iter_rows(named=True)]
    first, last = rows[0], rows[-1]
    return (
        f"From a threshold of {first['threshold']:g} to {last['threshold']:g} a fact's neurons go from "
        f"{number(first['neurons'], 1)} to {number(last['neurons'], 1)}, and what suppressing them does to P(answer) "
        f"from {effect(first)} to {effect(last)}."
    )


def _threshold_listing(found: pl.DataFrame) -> Listing:
    rows = []
    for threshold in found["threshold"].unique().sort():
        at = {row["gain"]: row for row in found.filter(threshold=threshold).iter_rows(named=True)}
        size = interval(at[0.0], 2, "neurons", "neurons_low", "neurons_high")
        odds = [interval(at[gain], 2, *_COLUMNS[LOG_ODDS]) for gain in _ENDS]
        rows.append([f"{threshold:g}", size, *(str(effect(at[gain])) for gain in _ENDS), *odds])
    headings = ["Threshold", "Neurons a fact", "Suppressed", "Amplified", "Log-odds, suppressed", "Log-odds, amplified"]
    return Listing(headings, [True] * len(headings), rows)
