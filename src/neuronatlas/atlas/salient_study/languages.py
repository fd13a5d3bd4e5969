"""The section on languages: whether one model keeps a property in the same neurons and layers for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.salience.names import property_name, short_name
from neuronatlas.atlas.salient_study import figures
from neuronatlas.atlas.salient_study.reading import Row, both_read, dash, labels, left_out, listing, spanned
from neuronatlas.atlas.style import BLUE, GREEN, GREY, Look
from neuronatlas.atlas.wording import count, number, percent

__all__ = ["section"]

ALPHA = 0.05
_LOOKS = {
    "pairs": Look("Two languages", BLUE, "circle", 9),
    "halves": Look("Two halves of one", GREEN, "triangle-up", 9),
    "chance": Look("By chance", GREY, "diamond", 8),
}
_NOTE = (
    "Of equally many top neurons. Jaccard: the neurons of both sets over those of either; by chance: of random sets of "
    "that size. p is adjusted for all properties and pairs; in layers: against random sets with as many neurons in "
    "each layer, what sharing is judged by. Properties that cannot be read in one of both languages are left out. Two "
    "halves of one language's sentences have in common what sampling leaves. Correlation: of both histograms over "
    "layers. Transfer: a probe trained on one language, tested on another; new words are those that it was not trained "
    "on; random weights: the same probe on the model before any training. In brackets 95 % intervals, over sentences "
    "for accuracies and over neurons for layers; whiskers span the pairs of languages."
)


def section(tables: Tables) -> Section | None:
    """Same neurons or others, same layers or not; nothing where there is one language."""
    if not tables["language_pairs"].height:
        return None
    shared = (_overlaps(tables),) if _top(tables).height else ()
    plots = (*shared, *level(list(_transfers(tables))))
    listings = (_pairs(tables), _transfer(tables))
    return Section("languages", "Languages", "One model, several languages", _finding(tables), plots, listings, _NOTE)


def _top(tables: Tables) -> pl.DataFrame:
    return both_read(tables["language_pairs"].filter(pl.col("of") == "top"))


def _finding(tables: Tables) -> str:
    top, elsewhere = _top(tables), tables["transfer"].filter(pl.col("trained") != pl.col("tested"))
    moved = both_read(elsewhere)
    same = top.filter(pl.col("p_in_layers_adjusted") <= ALPHA).height
    apart = top.filter(pl.col("p_distance_adjusted") <= ALPHA).height
    above = moved.filter(pl.col("accuracy_low") > pl.max_horizontal("majority", "random_weights_high")).height
    return (
        f"In {same} of {count(top.height, 'comparison')} two languages share more top neurons of a property than "
        f"random sets in the same layers (adjusted p at most {ALPHA:g}); in {apart} their layers are further apart "
        f"than chance (likewise). {above} of {count(moved.height, 'probe')} tested on a language that it was not "
        "trained on "
        f"{'does' if moved.height == 1 else 'do'} better than the most frequent class and than random weights."
        + left_out(tables["language_pairs"].filter(pl.col("of") == "top"))
        + left_out(elsewhere, "probe")
    )


def _overlaps(tables: Tables) -> Plot:
    found = {
        "pairs": _spread(_top(tables), "jaccard"),
        "halves": _spread(both_read(tables["language_halves"]), "jaccard"),
        "chance": _spread(_top(tables), "expected_jaccard"),
    }
    title = "Jaccard overlap of top neurons (%)"
    figure = figures.dots(found, "jaccard", labels(tables), "label", _LOOKS, title, scale=100)
    figure.update_xaxes(rangemode="tozero")
    caption = "How many top neurons two languages have in common, beside two halves of one language, and chance."
    return Plot("language-overlaps", figure, caption)


def _spread(rows: pl.DataFrame, column: str) -> list[Row]:
    value = pl.col(column)
    spread = [value.mean().alias("jaccard"), value.min().alias("jaccard_low"), value.max().alias("jaccard_high")]
    return list(rows.group_by("label", maintain_order=True).agg(spread).iter_rows(named=True))


def _transfers(tables: Tables) -> Iterator[Plot]:
    for place, label in enumerate(labels(tables)):
        own = tables["transfer"].filter(pl.col("label") == label)
        caption = f"{property_name(label)}: accuracy (%) of a probe trained on one language and tested on another."
        if own.height:
            yield Plot(f"transfer-{place}", _matrix(own), caption)


def _matrix(own: pl.DataFrame) -> Any:
    names = own["trained"].unique(maintain_order=True).to_list()
    known = {(row["trained"], row["tested"]): row for row in both_read(own).iter_rows(named=True)}
    cells = [[_percent(known.get((one, other))) for other in names] for one in names]
    hover = [[_text(known.get((one, other))) for other in names] for one in names]
    figure = charts.heatmap(names, cells, hover)
    texts = [["" if cell is None else number(cell, 0) for cell in row] for row in cells]
    figure.update_traces(text=texts, texttemplate="%{text}")
    figure.update_layout(height=170 + 44 * len(names))
    charts.colour_title(figure, "accuracy (%)")
    figure.update_xaxes(**charts.ticks(names), title_text="Tested on")
    figure.update_yaxes(title_text="Trained on")
    return figure


def _percent(row: Row | None) -> float | None:
    return None if row is None else 100 * row["accuracy"]


def _text(row: Row | None) -> str:
    if row is None:
        return ""
    return (
        f"trained on {row['trained']}, tested on {row['tested']}: {percent(row['accuracy'], 1)}; most frequent class "
        f"{percent(row['majority'], 1)}, random weights {percent(row['random_weights'], 1)}, on "
        f"{count(row['n_new'], 'new word')} {percent(row['new_accuracy'], 1)}"
    )


def _pairs(tables: Tables) -> Listing:
    headings = ["Property", "Neurons", "Language", "Other", "#Shared", "#Jaccard, %", "#By chance", "#Adjusted p"]
    headings += ["#In layers", "#Correlation", "#Moved", "#Distance", "#Its adjusted p"]
    sets = {"top": "top neurons", "set": "minimal set"}
    found = [
        [
            *(short_name(row["label"]), sets[row["of"]], row["language"], row["other"], f"{row['n_shared']:,}"),
            *(dash(row, "jaccard"), percent(row["expected_jaccard"]), number(row["p_adjusted"], 3)),
            *(number(row["p_in_layers_adjusted"], 3), number(row["correlation"], 2), spanned(row, "moved")),
            *(spanned(row, "distance"), number(row["p_distance_adjusted"], 3)),
        ]
        for row in both_read(tables["language_pairs"]).iter_rows(named=True)
    ]
    return listing(headings, found, "Pairs of languages", "Find a language or property")


def _transfer(tables: Tables) -> Listing:
    headings = ["Property", "Trained on", "Tested on", "#Words", "#Accuracy", "#Most frequent", "#Random weights"]
    headings += ["#New words", "#Accuracy on these", "#Most frequent there"]
    found = [
        [
            *(short_name(row["label"]), row["trained"], row["tested"], f"{row['n_test']:,}"),
            *(spanned(row, "accuracy"), number(row["majority"], 2), spanned(row, "random_weights")),
            *(f"{row['n_new']:,}", spanned(row, "new_accuracy"), number(row["new_majority"], 2)),
        ]
        for row in both_read(tables["transfer"]).iter_rows(named=True)
    ]
    return listing(headings, found, "Probes across languages", "Find a language or property")
