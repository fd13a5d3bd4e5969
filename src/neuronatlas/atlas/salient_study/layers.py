"""The section on layers: where the neurons of a property lie, how localised they are, and what properties share."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.salience import curves, places
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salient_study import figures
from neuronatlas.atlas.salient_study.reading import (
    Row,
    as_salience,
    labels,
    listing,
    looks,
    models,
    readable,
    rows,
    spanned,
)
from neuronatlas.atlas.style import GREY
from neuronatlas.atlas.wording import listed, number

__all__ = ["section"]

ALPHA = 0.05
_NOTE = (
    "Localised beyond chance: 0 for a set as even over the layers as equally many random neurons, 1 for one in the "
    "narrowest layer alone; whiskers and brackets are 95 % intervals over neurons. p: how often random neurons are as "
    "localised, adjusted for all properties and models. Shuffled labels: the same number of top neurons of a probe on "
    "labels in random order; distance from these in units of depth, in brackets what chance alone would give."
)
_SETS = {"top": "top neurons", "set": "minimal set"}


def section(tables: Tables) -> Section:
    """In which layers, and how localised."""
    plots = [*_heatmaps(tables), *_localised(tables), *_probes(tables), *_overlaps(tables)]
    title = "How localised or distributed over layers"
    return Section("layers", "Layers", title, _finding(tables), tuple(plots), (_listing(tables),), _NOTE)


def _finding(tables: Tables) -> str:
    told = []
    for model in models(tables):
        placed = rows(tables, "localisation", of="top", model=model)
        found = [row for row in readable(tables, placed) if row["mean_depth"] is not None]
        if not found:
            continue
        ordered = sorted(found, key=lambda row: row["mean_depth"])
        places_text = listed([f"{short_name(row['label'])} ({number(row['mean_depth'], 2)})" for row in ordered], 8)
        beyond = [row for row in found if row["p_adjusted"] is not None and row["p_adjusted"] <= ALPHA]
        most = max(found, key=lambda row: row["excess"] or 0, default=None)
        text = f"In {model}, from low to high by the mean depth of their top neurons: {places_text}; "
        text += f"{len(beyond)} of {len(found)} are more localised than random neurons"
        if most is not None and most["excess"] is not None:
            text += f", {short_name(most['label'])} the most, {spanned(most, 'excess')} beyond chance"
        told.append(f"{text}.")
    return " ".join(told)


def _heatmaps(tables: Tables) -> Iterator[Plot]:
    shown = []
    share = max(tables["localisation"].filter(pl.col("of") == "top")["n"].to_list())
    for place, model in enumerate(models(tables)):
        caption = f"{model}: share of each property's {share} top neurons in every layer (%)."
        shown.append(Plot(f"top-layers-{place}", places.layer_heatmap(as_salience(tables, model, "top")), caption))
    for place, model in enumerate(models(tables)):
        caption = f"{model}: the same for the minimal sets, which differ in size."
        shown.append(Plot(f"set-layers-{place}", places.layer_heatmap(as_salience(tables, model)), caption))
    for plot in shown:
        plot.figure.update_traces(colorbar_title_text="% of the neurons")
    yield from level(shown)


def _localised(tables: Tables) -> Iterator[Plot]:
    """The two kinds of sets, the baseline of shuffled labels, and how far the top neurons lie from that."""
    title = "Localised beyond chance (0 chance, 1 one layer)"
    what = {of: f"How localised the {name} of each property is beyond chance." for of, name in _SETS.items()}
    what["shuffled"] = "The same for the top neurons of probes on labels in random order: what the method alone gives."
    shown = []
    for of, caption in what.items():
        figure = figures.dots(_places(tables, of), "excess", labels(tables), "label", looks(tables), title)
        figure.add_vline(x=0, line_width=1, line_dash="dash", line_color=GREY)
        shown.append(Plot(f"localised-{of}", figure, caption))
    ends = [one for plot in shown for trace in plot.figure.data for one in trace.x if one is not None]
    for plot in shown:
        plot.figure.update_xaxes(range=[min([0.0, *ends]) - 0.15, 1.02])
    title = "Distance from shuffled labels (units of depth)"
    figure = figures.dots(_places(tables, "top"), "shuffled_distance", labels(tables), "label", looks(tables), title)
    figure.update_xaxes(rangemode="tozero")
    caption = "How far over depth the top neurons of each property lie from those on labels in random order."
    yield from level([*shown, Plot("from-shuffled", figure, caption)])


def _places(tables: Tables, of: str) -> dict[str, list[Row]]:
    return {model: list(rows(tables, "localisation", of=of, model=model)) for model in models(tables)}


def _probes(tables: Tables) -> Iterator[Plot]:
    shown = []
    for place, model in enumerate(models(tables)):
        caption = f"{model}: accuracy of a probe on one layer alone. Whiskers: 95 % intervals over sentences."
        shown.append(
            Plot(f"layer-probes-{place}", curves.layer_probes(as_salience(tables, model), upto=False), caption)
        )
    yield from level(shown)


def _overlaps(tables: Tables) -> Iterator[Plot]:
    if len(labels(tables)) < 2:
        return
    shown = []
    for place, model in enumerate(models(tables)):
        caption = f"{model}: top neurons that two properties share, of those in either (%). "
        caption += f"* Adjusted p in layers ≤ {ALPHA:g}."
        shown.append(Plot(f"overlaps-{place}", figures.property_matrix(tables, model), caption))
    yield from level(shown)


def _listing(tables: Tables) -> Listing:
    headings = ["Model", "Property", "Neurons", "#How many", "#Mean depth", "#Index", "#By chance", "#Beyond chance"]
    headings += ["#Adjusted p", "#From shuffled labels"]
    found = [
        [
            *(row["model"], short_name(row["label"]), what, f"{row['n']:,}", spanned(row, "mean_depth")),
            *(spanned(row, "index"), number(row["chance"], 2), spanned(row, "excess"), number(row["p_adjusted"], 3)),
            f"{number(row['shuffled_distance'], 2)} ({number(row['shuffled_expected'], 2)})",
        ]
        for of, what in _SETS.items()
        for row in rows(tables, "localisation", of=of)
    ]
    return listing(headings, found, "Localisation", "Find a model or property")
