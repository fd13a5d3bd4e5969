import math
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from neuronatlas.atlas import style
from neuronatlas.atlas.knowledge import looks, plots

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

FIGURES: dict[str, Callable[[Tables], Any]] = {
    "layers": lambda tables: plots.layer_histogram(tables["layers"]),
    "layers by relation": lambda tables: plots.layer_heatmap(tables["layers"]),
    "neurons per fact": lambda tables: plots.neurons_per_fact(tables["facts"], tables["neurons"]),
    "sharing": lambda tables: plots.sharing_bars(tables["sharing"]),
    "sharing by relation": lambda tables: plots.sharing_heatmap(tables["sharing"]),
    "effects": lambda tables: plots.effects_overview(tables["summary"]),
    "effects in log-odds": lambda tables: plots.effects_overview(tables["summary"], plots.LOG_ODDS),
    "suppression by relation": lambda tables: plots.effects_by_relation(tables["summary"], 0.0),
    "amplification by relation": lambda tables: plots.effects_by_relation(tables["summary"], 2.0, plots.LOG_ODDS),
    "gains": lambda tables: plots.gain_curve(tables["summary"]),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("recipe", [{}, {"relations": 1, "facts": 1}, {"relations": 2, "gains": (0.0, 0.5, 1.0, 2.0)}])
def test_every_figure_shows_data_in_one_look(make_tables: MakeTables, name: str, recipe: dict[str, Any]) -> None:
    tables = make_tables(**recipe)
    figure = FIGURES[name](tables)
    assert figure.layout.height >= 100
    assert figure.layout.template == style.LIGHT
    assert figure.layout.title.text is None
    if name not in {"sharing", "sharing by relation"}:
        assert figure.data
    if name not in {"layers by relation", "sharing by relation"}:
        assert any(axis.title.text for axis in (figure.layout.xaxis, figure.layout.yaxis))


@pytest.mark.parametrize("name", FIGURES)
def test_empty_tables_give_an_empty_figure(make_tables: MakeTables, name: str) -> None:
    empty = {table: frame.clear() for table, frame in make_tables(relations=1, facts=2).items()}
    figure = FIGURES[name](empty)
    assert all(trace.x is None or set(trace.y or []) <= {0} for trace in figure.data)


def test_layer_shares_are_of_all_neurons_of_a_rule_and_name_every_layer() -> None:
    rows = [("ig", "a", 0, 1, 0.25), ("ig", "a", 2, 3, 0.75), ("ig", "b", 2, 4, 1.0), ("activation", "a", 1, 2, 1.0)]
    layers = pl.DataFrame(rows, schema=["rule", "relation", "layer", "n", "share"], orient="row")
    located, baseline = plots.layer_histogram(layers).data
    assert list(located.x) == [0, 1, 2]
    assert list(located.y) == [12.5, 0, 87.5]
    assert list(baseline.y) == [0, 100, 0]
    assert located.name == "Knowledge neurons"


def test_facts_without_neurons_are_counted() -> None:
    facts = pl.DataFrame({"fact": [0, 1, 2, 3]})
    neurons = pl.DataFrame({"fact": [0, 0, 1, 2], "rule": ["ig"] * 4, "fold": ["all", "all", "all", "a"]})
    (bars,) = plots.neurons_per_fact(facts, neurons).data
    assert dict(zip(bars.x, bars.y, strict=True)) == {0: 50, 1: 25, 2: 25}
    assert bars.name == "Knowledge neurons (mean 0.8)"


def test_facts_with_very_many_neurons_share_the_last_bar() -> None:
    neurons = pl.DataFrame({"fact": [0] * 40, "rule": ["ig"] * 40, "fold": ["all"] * 40})
    figure = plots.neurons_per_fact(pl.DataFrame({"fact": [0]}), neurons)
    assert figure.data[0].y[-1] == 100
    assert figure.layout.xaxis.ticktext[-1] == "≥ 15"


def test_sharing_is_weighted_by_pairs_and_split_within_and_between() -> None:
    rows = [("a", "a", 1, 4.0), ("b", "b", 3, 0.0), ("a", "b", 2, 0.5)]
    sharing = pl.DataFrame(rows, schema=["relation_a", "relation_b", "n_pairs", "mean_shared"], orient="row")
    within, between = plots.sharing_bars(sharing).data
    assert (within.y[0], between.y[0]) == (1.0, 0.5)
    (cells,) = plots.sharing_heatmap(sharing).data
    assert [list(row) for row in cells.z] == [[4.0, 0.5], [0.5, 0.0]]


def summary(rows: list[tuple[str, str, float, float | None, float | None, float | None]]) -> pl.DataFrame:
    columns = ["relation", "condition", "gain", "change", "change_low", "change_high"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_whiskers_are_the_intervals_and_relations_are_sorted_by_effect() -> None:
    rows = [("weak", "located", 0.0, -0.1, -0.2, -0.05), ("strong", "located", 0.0, -0.5, -0.6, -0.3)]
    figure = plots.effects_by_relation(summary([*rows, ("weak", "random", 0.0, 0.0, -0.01, 0.02)]), 0.0)
    located, random = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["weak", "strong"]  # the strongest stands at the top
    assert list(located.x) == [-10, -50]
    assert located.error_x.array == pytest.approx([5, 20])
    assert located.error_x.arrayminus == pytest.approx([10, 10])
    assert [round(place) for place in located.y] == [0, 1]
    assert round(random.y[0]) == 0


def test_a_missing_interval_draws_no_whisker() -> None:
    figure = plots.effects_by_relation(summary([("one", "located", 0.0, -0.1, None, math.nan)]), 0.0)
    assert list(figure.data[0].error_x.array) == [None]
    assert list(figure.data[0].error_x.arrayminus) == [None]


def test_gain_curves_pass_through_nothing_at_gain_one() -> None:
    rows = [("all", "located", gain, change, change, change) for gain, change in ((2.0, 0.3), (0.0, -0.4), (0.5, -0.2))]
    (curve,) = plots.gain_curve(summary([*rows, ("x", "located", 2.0, 9.0, 9.0, 9.0)])).data
    assert list(curve.x) == [0, 0.5, 1, 2]
    assert list(curve.y) == [-40, -20, 0, 30]


def test_names_of_users_are_shown_as_they_are_and_not_too_long() -> None:
    names = ["<b>bold</b> & co", "x" * 100]
    rows = [(name, "located", 0.0, -0.1, -0.2, 0.0) for name in names]
    ticks = plots.effects_by_relation(summary([*rows, ("x" * 99, "located", 0.0, -0.1, -0.2, 0.0)]), 0.0).layout.yaxis
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in ticks.ticktext
    assert sorted(map(len, ticks.ticktext))[:2] == [28, 28]
    assert len(set(ticks.tickvals)) == 3  # names that look alike when cut keep rows of their own


def luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_stands_out_from_its_page() -> None:
    for light, dark in style.DARK_COLOURS.items():
        assert 1.05 / (luminance(light) + 0.05) >= 3
        assert (luminance(dark) + 0.05) / (luminance("#12171e") + 0.05) >= 3
    assert {look.colour for look in looks.CONDITIONS.values()} <= set(style.DARK_COLOURS)


def test_no_two_conditions_look_alike() -> None:
    shown = [(look.colour, look.symbol) for look in looks.CONDITIONS.values()]
    assert len(set(shown)) == len({symbol for _, symbol in shown}) == len(shown)
