"""The section that compares models: the depth at which each keeps a property, and how far two are apart."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.salience.names import property_name, short_name
from neuronatlas.atlas.salient_study import figures
from neuronatlas.atlas.salient_study.reading import (
    both_read,
    labels,
    left_out,
    listing,
    models,
    readable,
    rows,
    spanned,
)
from neuronatlas.atlas.wording import number

__all__ = ["section"]

ALPHA = 0.05
_NOTE = (
    "Of equally many top neurons. Distance: how far neurons would have to be carried, in units of depth, to make one "
    "histogram of the other (earth mover's distance); in brackets 95 % intervals over neurons, then what chance alone "
    "would give. Moved: mean depth in the second model less that in the first. In common: the share of both "
    "histograms that lies at the same depths. p, of the distance, is adjusted for all properties and pairs."
)


def section(tables: Tables) -> Section | None:
    """How models differ; of a single one there is nothing to say."""
    if len(models(tables)) < 2:
        return None
    title = "How architectures differ"
    plots = tuple(_plots(tables))
    return Section("architectures", "Models", title, _finding(tables), plots, (_listing(tables),), _NOTE)


def _top(tables: Tables) -> pl.DataFrame:
    return tables["model_pairs"].filter(pl.col("of") == "top", pl.col("distance").is_not_null())


def _finding(tables: Tables) -> str:
    found = both_read(_top(tables)).to_dicts()
    if not found:
        return f"Where the models keep the properties was not measured.{left_out(_top(tables))}"
    apart = [row for row in found if row["p_adjusted"] is not None and row["p_adjusted"] <= ALPHA]
    far = max(found, key=lambda row: row["distance"])
    text = (
        f"In {len(apart)} of {len(found)} comparisons two models keep a property at depths further apart than chance. "
    )
    text += f"Furthest apart is {short_name(far['label'])} in {far['model']} and {far['other']}: "
    text += f"{spanned(far, 'distance')} of the depth, where chance gives {number(far['expected'], 2)}."
    excess: dict[str, float] = {}
    for model in models(tables):
        placed = readable(tables, rows(tables, "localisation", of="top", model=model))
        own = [row["excess"] for row in placed if row["excess"] is not None]
        if own:
            excess[model] = sum(own) / len(own)
    if len(excess) > 1:
        most, least = max(excess, key=lambda name: excess[name]), min(excess, key=lambda name: excess[name])
        text += (
            f" Properties are most localised in {most} ({number(excess[most], 2)} beyond chance, mean over them), most "
        )
        text += f"distributed in {least} ({number(excess[least], 2)})."
    return text + left_out(_top(tables))


def _plots(tables: Tables) -> Iterator[Plot]:
    caption = "Mean depth of each property's top neurons in every model. Whiskers: 95 % intervals over neurons."
    shown = [Plot("mean-depths", figures.mean_depths(tables), caption)]
    caption = "The share of their histograms over depth that two models have in common, mean over the properties that "
    caption += "are read in both (%)."
    if both_read(_top(tables)).height:
        shown.append(Plot("models", figures.model_matrix(tables), caption))
    yield from level(shown)
    lines = [
        Plot(
            f"depth-{place}",
            figures.depth_lines(tables, label),
            f"{property_name(label)}: top neurons at each depth, as many times an even spread.",
        )
        for place, label in enumerate(labels(tables))
    ]
    yield from level(lines)


def _listing(tables: Tables) -> Listing:
    headings = ["Property", "Model", "Other model", "#Distance", "#By chance", "#Adjusted p", "#Moved", "#In common"]
    headings += ["#More localised"]
    found = [
        [
            *(
                short_name(row["label"]),
                row["model"],
                row["other"],
                spanned(row, "distance"),
                number(row["expected"], 2),
            ),
            *(number(row["p_adjusted"], 3), spanned(row, "moved"), spanned(row, "overlap")),
            number(row["excess_difference"], 2),
        ]
        for row in both_read(_top(tables)).iter_rows(named=True)
    ]
    return listing(headings, found, "Pairs of models", "Find a model or property")
