"""How many neurons a fact has, where they lie, and how many two facts share, in a report on a study."""

from __future__ import annotations

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.knowledge.looks import ACTIVATION, LOCATED
from neuronatlas.atlas.knowledge.plots import main_rule
from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows, lines
from neuronatlas.atlas.knowledge_study.reading import interval, shown
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import Look
from neuronatlas.atlas.wording import percent

__all__ = ["section"]

_PAPER = (
    "Dai et al. (2022) found about four neurons a fact, most of them in the topmost layers of BERT; their numbers of "
    "shared neurons are not confirmed and so not printed here."
)
_MEANING = (
    "Mean: over the facts of a relation, then over relations. Share of a layer: the neurons of the facts that lie in "
    "it, over all their neurons. Shared: neurons that two facts have in common, mean over pairs of facts."
)


def section(tables: Tables) -> Section:
    """The first section: numbers, layers, sharing."""
    counts, layers, sharing = (tables[name] for name in ("neuron_counts", "layer_shares", "sharing_means"))
    rule = main_rule(counts)
    looks = {rule: LOCATED, "activation": ACTIVATION}
    over_layers = [
        Dot(layer, looks[name], mean, low, high)
        for name, layer, mean, low, high in layers.select("rule", "layer", "mean", "low", "high").iter_rows()
    ]
    figure = lines(over_layers, Axis("Share of the neurons (%)", form=".1f", zeroline=False), "")
    charts.layer_axis(figure, layers["layer"].n_unique())
    pairs = Look("Neurons that two facts share", LOCATED.colour)
    shared = [
        Dot(f"Two facts of {name}", pairs, mean, low, high)
        for name, mean, low, high in sharing.select("pairs", "mean", "low", "high").iter_rows()
    ]
    plots = [
        Plot("study-layers", figure, "Where the neurons lie, mean over relations. Whiskers: 95 % intervals."),
        Plot(
            "study-sharing",
            dot_rows(shared, Axis("Neurons that two facts share (mean)", 1, ".2f")),
            "Neurons that two facts share, mean over pairs of facts.",
        ),
    ]
    return Section(
        "places",
        "Neurons",
        "How many neurons has a fact, where do they lie, and how many do two facts share?",
        _finding(tables, rule),
        level(plots),
        (_listing(counts, rule),),
        f"{_PAPER} {_MEANING}",
    )


def _finding(tables: Tables, rule: str) -> str:
    counts, layers, sharing = (tables[name] for name in ("neuron_counts", "layer_shares", "sharing_means"))
    row = counts.filter(rule=rule, relation="all").row(0, named=True)
    text = f"A fact has {interval(row, 2)} neurons on average; {percent(row['without'])} of the facts have none."
    own = layers.filter(pl.col("rule") == rule).sort("mean", descending=True, nulls_last=True)
    if own["mean"][0] is not None and own["mean"][0] == own["mean"][0]:
        top = own.row(0, named=True)
        text += f" Layer {top['layer']} of 0 to {own.height - 1} holds the most, {percent(top['mean'])} of them."
    one, two = (sharing.filter(pairs=name).row(0, named=True) for name in ("one relation", "two relations"))
    parts = [
        f"{interval(r, 2)} if they are of {name}" for name, r in (("one relation", one), ("two", two)) if r["n_pairs"]
    ]
    return f"{text} Two facts share {', '.join(parts)}." if parts else text


def _listing(counts: pl.DataFrame, rule: str) -> Listing:
    baseline = {row["relation"]: row for row in counts.filter(rule="activation").iter_rows(named=True)}
    rows = [
        [
            "All relations" if row["relation"] == "all" else row["relation"],
            f"{row['n_facts']:,}",
            interval(row, 2),
            percent(row["without"]),
            shown(baseline[row["relation"]]["mean"], 2),
        ]
        for row in counts.filter(pl.col("rule") == rule).iter_rows(named=True)
    ]
    headings = ["Relation", "Facts", "Neurons a fact", "Without any", "Activation baseline"]
    return Listing(headings, [False, True, True, True, True], rows, search="Search: relation …")
