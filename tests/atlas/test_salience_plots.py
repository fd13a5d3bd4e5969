import math
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from neuronatlas.atlas import style
from neuronatlas.atlas.salience import curves, effects, looks, places
from neuronatlas.atlas.salience.reading import main_interventions, own_interventions
from neuronatlas.atlas.salience.tables import completed

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

FIGURES: dict[str, Callable[[Tables], Any]] = {
    "accuracy": lambda tables: curves.score_dots(tables, looks.BASELINES),
    "exposure": lambda tables: curves.score_dots(tables, looks.EXPOSURES),
    "ablation": lambda tables: curves.ablation_curves(tables["ablation"], 0.9, 0.2),
    "methods": lambda tables: curves.method_curves(tables["ablation"], 0.9, None),
    "minimal": curves.minimal_curves,
    "disjoint": curves.disjoint_sizes,
    "layer probes": lambda tables: curves.layer_probes(tables, upto=False),
    "layers": places.layer_heatmap,
    "top layers": places.top_layers,
    "layer bars": places.layer_bars,
    "class layers": lambda tables: places.class_heatmap(tables, "upos"),
    "overlap": places.overlap_heatmap,
    "agreement": places.agreement_heatmap,
    "interventions": lambda tables: effects.class_effects(main_interventions(tables, "upos")),
    "own interventions": lambda tables: effects.own_effects(own_interventions(tables, "upos")),
}
SMALL: dict[str, Any] = {"labels": ("upos", "suffix"), "layers": 3, "width": 40}


@pytest.fixture
def tables(make_salience: MakeTables) -> Tables:
    return completed(make_salience(**SMALL))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("recipe", [{}, {"labels": ("upos",), "layers": 1}, {"labels": tuple("abcdefgh")}])
def test_every_figure_shows_data_in_one_look(make_salience: MakeTables, name: str, recipe: dict[str, Any]) -> None:
    tables = completed(make_salience(**SMALL | recipe))
    figure = FIGURES[name](tables)
    assert figure.layout.height >= 100
    assert figure.layout.template == style.LIGHT
    assert figure.layout.title.text is None
    if recipe == {}:
        assert figure.data
        axes = (figure.layout.xaxis, figure.layout.yaxis)
        assert any(axis.title.text for axis in axes) or figure.data[0].type == "heatmap"


@pytest.mark.parametrize("name", FIGURES)
def test_tables_of_a_property_alone_give_a_figure_without_data(name: str) -> None:
    figure = FIGURES[name](completed({"properties": pl.DataFrame({"label": ["upos"]})}))
    assert all(not trace.x or set(trace.y or []) <= {0} for trace in figure.data)


def properties(**columns: Any) -> Tables:
    return completed({"properties": pl.DataFrame({"label": ["upos"]} | {name: [v] for name, v in columns.items()})})


def test_whiskers_are_the_intervals_in_per_cent() -> None:
    tables = properties(accuracy=0.9, accuracy_low=0.88, accuracy_high=0.91, majority=0.2, word_majority=math.nan)
    figure = curves.score_dots(tables, looks.BASELINES)
    accuracy, majority = figure.data
    assert (accuracy.x[0], majority.x[0]) == (90, 20)
    assert accuracy.error_x.array == pytest.approx([1])
    assert accuracy.error_x.arrayminus == pytest.approx([2])
    assert list(majority.error_x.array) == [None]
    assert list(figure.layout.yaxis.ticktext) == ["All neurons", "Most frequent class"]


def test_of_several_properties_every_dot_stands_beside_its_propertys_name(tables: Tables) -> None:
    figure = curves.score_dots(tables, looks.BASELINES)
    middles = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert list(middles) == ["upos", "suffix"]
    for dots in figure.data:
        for height, text in zip(dots.y, dots.hovertext, strict=True):
            nearest = min(middles, key=lambda name: abs(middles[name] - height))
            assert text.startswith(nearest)


def test_an_ablation_curve_has_a_band_and_runs_over_shares(tables: Tables) -> None:
    rows = tables["ablation"].filter(label="upos", method="lca", mode="keep", retrained=False)
    figure = curves.ablation_curves(rows, 0.95, 0.17)
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert list(lines) == ["Top", "Random", "Bottom"]
    top = rows.filter(which="top").sort("share")
    assert list(lines["Top"].x) == pytest.approx([100 * share for share in top["share"]])
    assert list(lines["Top"].y) == pytest.approx([100 * value for value in top["accuracy"]])
    band = figure.data[0]
    assert max(band.y) == pytest.approx(100 * max(top["high"]))
    assert figure.layout.xaxis.type == "log"
    assert [shape.y0 for shape in figure.layout.shapes] == [95, 17]


@pytest.mark.parametrize(
    ("shares", "ticks"),
    [
        ((0.001, 1.0), ["0.1", "1", "10", "100"]),
        ((0.01, 0.5), ["1", "2", "5", "10", "20", "50"]),
        ((0.02, 0.04), list("234")),
    ],
)
def test_a_logarithmic_axis_has_round_numbers(shares: tuple[float, float], ticks: list[str]) -> None:
    rows = pl.DataFrame({"which": "top", "share": shares, "n_neurons": [1, 2], "accuracy": [0.5, 0.6]})
    rows = rows.with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    assert list(curves.ablation_curves(rows, None, None).layout.xaxis.ticktext) == ticks


def test_a_ring_marks_the_minimal_set_where_there_is_one(tables: Tables) -> None:
    rings = [trace for trace in curves.minimal_curves(tables).data if trace.marker.size == 17]
    sizes = tables["properties"]["minimal_share"].to_list()
    assert [ring.x[0] for ring in rings] == pytest.approx([100 * size for size in sizes])
    missed = tables["properties"].with_columns(minimal_reached=pl.lit(value=False))
    figure = curves.minimal_curves(tables | {"properties": missed})
    assert not any(trace.x for trace in figure.data if trace.marker.size == 17)


def test_a_set_that_no_longer_does_as_well_is_drawn_open(tables: Tables) -> None:
    first = curves.disjoint_sizes(tables).data[0]
    assert list(first.marker.symbol) == ["circle"] * 4 + ["circle-open"]
    assert list(first.x) == [1, 2, 3, 4, 5]


def test_layer_cells_are_shares_and_tell_how_far_from_an_even_spread(tables: Tables) -> None:
    rows = [("upos", None, 0, 1, 0.25, 10), ("upos", None, 1, 3, 0.75, 30), ("suffix", None, 0, 4, 1.0, 10)]
    layers = pl.DataFrame(rows, schema=["label", "class", "layer", "n", "share", "width"], orient="row")
    (cells,) = places.layer_heatmap(completed(tables | {"layers": layers})).data
    assert [list(row) for row in cells.z] == [[25, 75, 0], [100, 0, 0]]
    assert (cells.zmin, cells.zmax) == (0, 100)
    assert cells.hovertext[0][1] == "upos, layer 1: 75.0 % (3 neurons), 1.0 times an even spread"


def test_top_layers_take_equally_many_neurons_of_every_property(tables: Tables) -> None:
    (cells,) = places.top_layers(tables).data
    ranked = tables["rankings"].filter(label="upos", method="lca").sort("rank").head(6)  # 5 % of 120
    counted = dict(ranked.group_by("layer").len().iter_rows())
    assert list(cells.z[0]) == pytest.approx([100 * counted.get(layer, 0) / 6 for layer in range(3)])


def test_the_most_frequent_classes_are_drawn_by_layer(make_salience: MakeTables) -> None:
    tables = completed(make_salience(labels=("ccg",), n_classes=60, layers=3, width=40))
    ticks = places.class_heatmap(tables, "ccg").layout.yaxis.ticktext
    most = tables["classes"].sort("n_train", descending=True)["class"].head(places.MOST_CLASSES).to_list()
    assert list(ticks) == most


def test_overlap_stands_beside_what_chance_would_give(tables: Tables) -> None:
    rows = {"label": ["upos"], "other": ["suffix"], "n_shared": [4], "jaccard": [0.2], "expected": [0.61], "p": [0.01]}
    (cells,) = places.overlap_heatmap(completed(tables | {"overlaps": pl.DataFrame(rows)})).data
    assert [list(row) for row in cells.z] == [[None, 20], [20, None]]
    assert cells.text[0][1] == "4<br>(0.6)"
    assert "(chance 0.6, p = 0.01)" in cells.hovertext[1][0]


def intervention(name: str | None, change: float, p: float | None, n_words: int = 50) -> dict[str, Any]:
    row = {"label": "upos", "set_size": 5, "replacement": "mean", "class": name, "n_words": n_words}
    row |= {"measure": "class mass", "before": 0.5, "after": 0.5 + change, "change": change, "low": change - 0.01}
    row |= {"high": change + 0.02, "control_mean": 0.0, "control_low": -0.01, "control_high": 0.01, "n_controls": 40}
    return row | {"p": p, "p_adjusted": p}


def test_interventions_start_with_all_classes_and_mark_what_is_beyond_chance() -> None:
    rows = [intervention("NOUN", -0.1, 0.05), intervention(None, -0.2, None), intervention("VERB", -0.3, 0.2)]
    rows += [intervention(f"rare {number}", -0.9, 0.01, n_words=1) for number in range(effects.MOST_CLASSES)]
    figure = effects.class_effects(completed({"interventions": pl.DataFrame(rows)})["interventions"])
    ticks = list(figure.layout.yaxis.ticktext)
    assert ticks[0] == "all classes"
    assert ticks[-2:] == ["VERB", "NOUN *"]
    assert len(ticks) == 1 + effects.MOST_CLASSES
    salient, random = figure.data
    assert salient.x[0] == pytest.approx(-20)
    assert salient.error_x.array[0] == pytest.approx(2)
    assert salient.error_x.arrayminus[0] == pytest.approx(1)
    assert set(random.x) == {0}


def test_a_class_without_its_own_neurons_stands_beside_the_other_classes_and_random_neurons() -> None:
    rows = [
        intervention("NOUN", -0.1, 0.01) | {"others_change": -0.02},
        intervention("VERB", 0.1, 0.9) | {"others_change": -0.03},
        {"label": "upos", "class": "rare", "left_out": "not among the 2 most frequent classes"},
    ]
    tables = completed({"class_interventions": pl.DataFrame(rows)})
    figure = effects.own_effects(own_interventions(tables, "upos"))
    assert list(figure.layout.yaxis.ticktext) == ["NOUN *", "VERB"]
    own, elsewhere, random = figure.data
    assert list(own.x) == pytest.approx([-10, 10])
    assert list(elsewhere.x) == pytest.approx([-2, -3])
    assert list(random.error_x.array) == pytest.approx([1, 1])
    assert elsewhere.error_x.array is None
    heights = [own.y[0], elsewhere.y[0], random.y[0]]
    assert heights == sorted(set(heights))


def test_eight_properties_look_different() -> None:
    seen = {(look.colour, look.symbol) for look in (looks.property_look(place, "x") for place in range(8))}
    assert len(seen) == 8
    for group in (looks.BASELINES, looks.EXPOSURES, looks.ABLATED):
        assert len({(look.colour, look.symbol) for look in group.values()}) == len(group)
