"""The sections of a report on two atlases: what is shared, what moved, which layers, how far scores agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.comparing.findings import main_rows, moved_sentence, names, overlap_sentence, shift
from neuronatlas.atlas.matrices import overlap_matrix
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.slopes import layer_flows, slopes
from neuronatlas.atlas.style import BLUE, GREY, Look
from neuronatlas.atlas.wording import count, number, percent

__all__ = ["sections"]

_SHARED, _CHANCE = Look("Shared", BLUE, "circle", 9), Look("By chance, in the same layers", GREY, "diamond", 8)
_MOST_FLOWS = 6
_MOST_ROWS = 500
_MOST_CLASSES = 20
_DEPTH = "Mean depth (0 first layer, 1 last)"


def sections(tables: Tables) -> Iterator[Section]:
    """Every section that the tables have something for."""
    for make in (_overlap, _moved, _pairs, _flows, _agreement, _details):
        section = make(tables)
        if section is not None:
            yield section


def _overlap(tables: Tables) -> Section | None:
    rows = main_rows(tables).drop_nulls("n_shared")
    if rows.is_empty():
        return None
    caption = (
        "Neurons that are in both sets, as a share of those in either (Jaccard), and what random sets with as many "
    )
    caption += "neurons in each layer would share."
    plot = Plot("overlap", _overlap_dots(rows), caption)
    listing = Listing(
        ["Set", "In the first", "In the second", "Shared", "By chance", "In layers", "Of either", "q", "q in layers"],
        [False] + [True] * 8,
        [
            [
                row["name"],
                *_counts(row),
                *_numbers(row, ("expected", "expected_in_layers"), 1),
                percent(row["jaccard"], 1),
                *_numbers(row, ("q_value", "q_in_layers"), 4),
            ]
            for row in rows.iter_rows(named=True)
        ],
    )
    note = "q: the p-value that two random sets share as many, corrected for their number (Benjamini and Hochberg). "
    note += "In layers: random sets that have as many neurons in each layer as these."
    return Section("overlap", "Overlap", "Which neurons both have", overlap_sentence(tables), (plot,), (listing,), note)


def _overlap_dots(rows: pl.DataFrame) -> Any:
    listed = rows.to_dicts()
    figure = charts.blank(110 + 26 * len(listed))
    either = [max(1, row["n_first"] + row["n_second"] - row["n_shared"]) for row in listed]
    chance = [_jaccard_of(row, "expected_in_layers") for row in listed]
    for look, values in ((_CHANCE, chance), (_SHARED, [100 * row["jaccard"] for row in listed])):
        if all(value is None for value in values):
            continue
        figure.add_scatter(
            x=values,
            y=list(range(len(listed))),
            mode="markers",
            name=look.name,
            marker=charts.marker(look),
            hovertext=[
                f"{row['n_shared']:,} of {total:,}, by chance {number(row['expected_in_layers'], 1)}"
                for row, total in zip(listed, either, strict=True)
            ],
            hoverinfo="text",
        )
    figure.update_yaxes(**charts.ticks([row["name"] for row in listed]), range=[len(listed) - 0.4, -0.6])
    figure.update_xaxes(rangemode="tozero")
    return charts.value_axis(figure, "x", "Share of the neurons in either set (%)")


def _jaccard_of(row: dict[str, Any], name: str) -> float | None:
    if row[name] is None:
        return None
    return 100 * float(row[name] / max(1e-9, row["n_first"] + row["n_second"] - row[name]))


def _moved(tables: Tables) -> Section | None:
    rows = main_rows(tables).drop_nulls("moved")
    if rows.is_empty():
        return None
    shown = []
    sides = names(tables)
    for kind, title in (("main", ""), ("class", ", class by class")):
        own = rows if kind == "main" else tables["comparison"].filter(level="class").drop_nulls("moved")
        if not own.height or (kind == "class" and own.height > _MOST_CLASSES):
            continue
        named = own.select(
            "name",
            *(
                pl.col(f"depth_{side}{end}").alias(f"{side}{end}")
                for side in ("first", "second")
                for end in ("", "_low", "_high")
            ),
            q_value="q_moved",
        )
        caption = f"Mean depth of the neurons in {sides[0]} and in {sides[1]}{title}. Whiskers: 95 % intervals."
        shown.append(Plot(f"shift-{kind}", slopes(named, *sides, _DEPTH), caption))
    listing = Listing(
        ["Set", "Moved", "q", "Earth mover's distance", "By chance", "q of the distance", "Localised, first", "second"],
        [False] + [True] * 7,
        [
            [
                row["name"],
                shift(row),
                number(row["q_moved"], 4),
                *_numbers(row, ("distance", "expected_distance"), 3),
                number(row["q_distance"], 4),
                *_numbers(row, ("excess_first", "excess_second"), 2),
            ]
            for row in rows.iter_rows(named=True)
        ],
    )
    note = "Depth is 0 in the first layer and 1 in the last. Moved: mean depth in the second less that in the first."
    return Section("shift", "Shift", "Which way they moved", moved_sentence(tables), level(shown), (listing,), note)


def _ends(side: str) -> tuple[str, str, str]:
    return side, f"{side}_low", f"{side}_high"


def _counts(row: dict[str, Any]) -> Iterator[str]:
    return (f"{row[name]:,}" for name in ("n_first", "n_second", "n_shared"))


def _numbers(row: dict[str, Any], names: tuple[str, ...], digits: int) -> Iterator[str]:
    return (number(row[name], digits) for name in names)


def _pairs(tables: Tables) -> Section | None:
    if tables["pairs"].height < 3:
        return None
    caption = (
        "Neurons that two sets share, as a share of those in either (%). * more than chance at q of 0.05 or less. "
    )
    caption += "Sets that share most stand side by side, joined by average linkage."
    plot = Plot("pairs", overlap_matrix(tables["pairs"]), caption)
    finding = (
        "Like sets are joined low in the tree: by model if the two share little, by their subject if they share much."
    )
    return Section("pairs", "All sets", "Every set with every other", finding, (plot,))


def _flows(tables: Tables) -> Section | None:
    sides, shown = names(tables), []
    layers = tables["layers"].filter(pl.col("level") != "relation")
    several = layers["name"].n_unique() > 1
    for place, name in enumerate(layers["name"].unique(maintain_order=True).to_list()[:_MOST_FLOWS]):
        own = layers.filter(pl.col("name") == name)
        if own["first"].sum() and own["second"].sum():
            caption = f"{name}: the shares of the neurons in each layer, and the least that would have to move."
            shown.append(Plot(f"flow-{place}", layer_flows(own, *sides), caption))
    if not shown:
        return None
    finding = (
        "Each ribbon is a share of the neurons: grey ones stay in their layer, blue ones go lower, red ones higher."
    )
    return Section("layers", "Layers", "Layer by layer", finding, level(shown) if several else tuple(shown))


def _agreement(tables: Tables) -> Section | None:
    rows = tables["correlations"].drop_nulls("correlation")
    if rows.is_empty():
        return None
    listing = Listing(
        ["Of", "Scores", "Items", "Rank correlation", "95 % interval"],
        [False, False, True, True, True],
        [
            [
                row["name"],
                row["what"],
                count(row["n"], row["over"].removesuffix("s")),
                number(row["correlation"], 3),
                f"[{number(row['low'], 3)}, {number(row['high'], 3)}]",
            ]
            for row in rows.iter_rows(named=True)
        ],
    )
    best = rows.sort("correlation", descending=True).row(0, named=True)
    finding = f"Highest for {best['name']} ({best['what']}): {number(best['correlation'], 2)}."
    return Section("agreement", "Agreement", "How far scores agree", finding, (), (listing,), "Spearman's correlation.")


def _details(tables: Tables) -> Section | None:
    rows = tables["comparison"].filter(level="fact").sort("p_value", "group", "name", nulls_last=True)
    if rows.is_empty():
        return None
    with_neurons = rows.filter(pl.col("n_first") > 0, pl.col("n_second") > 0)
    shared = with_neurons.filter(pl.col("n_shared") > 0).height
    listing = Listing(
        ["Relation", "Fact", "In the first", "In the second", "Shared", "q"],
        [False, False, True, True, True, True],
        [
            [
                row["group"],
                row["name"],
                *_counts(row),
                number(row["q_value"], 4),
            ]
            for row in rows.head(_MOST_ROWS).iter_rows(named=True)
        ],
        search="Search the facts",
    )
    finding = f"Of {count(with_neurons.height, 'fact')} with neurons in both, {shared:,} share at least one."
    everything = tables["comparison"].filter(level="all")
    if everything.height and everything["other_jaccard"][0] is not None:
        own = with_neurons["jaccard"].mean()
        finding += (
            f" A fact has {percent(own if isinstance(own, float) else None, 1)} of its neurons in common with itself "
            f"(mean Jaccard), and {percent(everything['other_jaccard'][0], 1)} with another fact of its relation."
        )
    note = f"The first {_MOST_ROWS} by p-value; the table `comparison` has all." if rows.height > _MOST_ROWS else ""
    return Section("facts", "Facts", "Fact by fact", finding, (), (listing,), note)
