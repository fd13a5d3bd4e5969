"""Tables of an atlas of knowledge neurons as plotly figures that a paper could print.

Each function takes the atlas's own tables (polars) and returns a `plotly.graph_objects.Figure` without a title, for
the caption says what it shows. Whiskers are bootstrap 95 % intervals over facts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.knowledge.looks import ACTIVATION, CONDITIONS, LOCATED, gain_label
from neuronatlas.atlas.style import Look

__all__ = [
    "LOG_ODDS",
    "PROBABILITY",
    "Measure",
    "effects_by_relation",
    "effects_overview",
    "expert_heatmap",
    "gain_curve",
    "layer_heatmap",
    "layer_histogram",
    "main_rule",
    "mean_shared",
    "neurons_per_fact",
    "overall",
    "routed",
    "sharing_bars",
    "sharing_heatmap",
]

_MOST_NEURONS = 15  # facts with more share the last bar
_MOST_CELL_LABELS = 14


@dataclass(frozen=True)
class Measure:
    """Columns of the `summary` table that tell one change, and how an axis shows it."""

    value: str
    low: str
    high: str
    title: str
    scale: float
    hover: str


PROBABILITY = Measure("change", "change_low", "change_high", "Change of P(answer) (%)", 100, "%{x:+.1f} %")
LOG_ODDS = Measure("log_odds_change", "log_odds_low", "log_odds_high", "Change of log-odds (nats)", 1, "%{x:+.2f}")


def layer_histogram(layers: pl.DataFrame) -> Any:
    """Bars: the share of knowledge neurons that each layer holds (%), against the activation baseline's."""
    figure = charts.blank(340)
    counts = layers.filter(pl.col("relation") != "all").group_by("rule", "layer").agg(pl.sum("n"))
    levels = list(range(1 + max(counts["layer"], default=-1)))
    for look, group in _by_rule(counts):
        found = dict(group.select("layer", "n").iter_rows())
        _add_bars(figure, look, look.name, levels, [found.get(layer, 0) for layer in levels])
    figure.update_traces(hovertemplate="layer %{x}: %{y:.1f} % (%{customdata:,})")
    charts.layer_axis(figure, len(levels))
    return charts.value_axis(figure, "y", "Share of the rule's neurons (%)")


def layer_heatmap(layers: pl.DataFrame) -> Any:
    """Heat map: for each relation, the share of its knowledge neurons in each layer (%)."""
    own = layers.filter(pl.col("relation") != "all", pl.col("rule") == main_rule(layers))
    levels = range(1 + max(layers["layer"], default=-1))
    names = own["relation"].unique().sort().to_list()
    share = {(name, layer): value * 100 for name, layer, value in own.select("relation", "layer", "share").iter_rows()}
    cells = [[share.get((name, layer), 0.0) for layer in levels] for name in names]
    hover = [
        [f"{name}, layer {layer}: {value:.0f} %" for layer, value in enumerate(row)]
        for name, row in zip(names, cells, strict=True)
    ]
    figure = charts.heatmap(names, cells, hover)
    charts.colour_title(figure, "% of the relation")
    charts.layer_axis(figure, len(levels))
    return figure


def expert_heatmap(neurons: pl.DataFrame) -> Any:
    """Heat map: how many of the facts' neurons each expert of each layer holds, from the first layer with any on."""
    own = routed(neurons)
    counts = {(layer, expert): n for layer, expert, n in own.group_by("layer", "expert").agg(pl.len()).iter_rows()}
    levels = range(min(own["layer"]), max(own["layer"]) + 1)
    cells = [[counts.get((layer, expert), 0) for expert in range(max(own["expert"]) + 1)] for layer in levels]
    hover = [
        [f"L{layer}.E{expert}: {n:,}" for expert, n in enumerate(row)] for layer, row in zip(levels, cells, strict=True)
    ]
    figure = charts.heatmap([f"layer {layer}" for layer in levels], cells, hover)
    charts.colour_title(figure, "neurons")
    figure.update_xaxes(title_text="Expert", dtick=1 if len(cells[0]) <= _MOST_CELL_LABELS else None)
    return figure


def neurons_per_fact(facts: pl.DataFrame, neurons: pl.DataFrame) -> Any:
    """Bars: how many facts (%) have 0, 1, 2, ... neurons, by the attribution and by the activation baseline."""
    figure = charts.blank(340)
    counted = facts.select("fact").join(neurons.select(pl.col("rule").unique().sort()), how="cross")
    found = neurons.filter(fold="all").group_by("fact", "rule").agg(n=pl.len())
    counted = counted.join(found, on=["fact", "rule"], how="left").with_columns(pl.col("n").fill_null(0))
    ticks = list(range(1 + min(_MOST_NEURONS, max(counted["n"], default=0))))
    for look, group in _by_rule(counted):
        n = group["n"].clip(upper_bound=_MOST_NEURONS).to_list()
        name = f"{look.name} (mean {sum(group['n']) / max(group.height, 1):.1f})"
        _add_bars(figure, look, name, ticks, [n.count(tick) for tick in ticks])
    figure.update_traces(hovertemplate="%{x} neurons: %{y:.1f} % of facts (%{customdata:,})<extra></extra>")
    labels = [f"≥ {tick}" if tick == _MOST_NEURONS else str(tick) for tick in ticks]
    figure.update_xaxes(title_text="Neurons of a fact", tickvals=ticks, ticktext=labels)
    return charts.value_axis(figure, "y", "Share of facts (%)")


def sharing_bars(sharing: pl.DataFrame) -> Any:
    """Bars: how many neurons two facts share on average, within one relation and between two."""
    figure = charts.blank(340)
    within = pl.col("relation_a") == pl.col("relation_b")
    for name, pairs in (("one relation", sharing.filter(within)), ("two relations", sharing.filter(~within))):
        total, mean = mean_shared(pairs)
        if total == 0:
            continue
        figure.add_bar(
            x=[f"Two facts of<br>{name}"],
            y=[mean],
            width=0.45,
            marker_color=LOCATED.colour,
            text=[f"{mean:.2f}"],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"%{{y:.3f}} neurons, mean of {total:,} pairs<extra></extra>",
        )
    figure.update_layout(showlegend=False)
    return charts.value_axis(figure, "y", "Neurons that two facts share (mean)")


def sharing_heatmap(sharing: pl.DataFrame) -> Any:
    """Heat map: how many neurons a fact of one relation shares with a fact of another on average."""
    names = sorted({*sharing["relation_a"], *sharing["relation_b"]})
    columns = ("relation_a", "relation_b", "mean_shared")
    mean = {frozenset((a, b)): value for a, b, value in sharing.select(columns).iter_rows()}
    cells = [[mean.get(frozenset((a, b))) for a in names] for b in names]
    hover = [
        [f"{b} and {a}: {_shared(value)}" for a, value in zip(names, row, strict=True)]
        for b, row in zip(names, cells, strict=True)
    ]
    figure = charts.heatmap(names, cells, hover)
    figure.update_xaxes(**charts.ticks(names), tickangle=-45)
    if len(names) <= _MOST_CELL_LABELS:
        labels = [["" if value is None or value < 0.005 else f"{value:.2f}" for value in row] for row in cells]
        figure.update_traces(text=labels, texttemplate="%{text}", showscale=False)
    charts.colour_title(figure, "neurons shared")
    return figure


def effects_overview(summary: pl.DataFrame, measure: Measure = PROBABILITY) -> Any:
    """Dots with whiskers: what the lowest and the highest gain do under each condition, over all relations."""
    rows = overall(summary)
    names = [name for name in reversed(CONDITIONS) if name in rows["condition"]]
    figure = charts.blank(100 + 40 * len(names))
    gains = rows["gain"].unique().sort().to_list()
    for gain, look in zip(dict.fromkeys([*gains[:1], *gains[-1:]]), (LOCATED, ACTIVATION), strict=False):
        group = rows.filter(gain=gain)
        places = {f"{CONDITIONS[name].name}, {gain_label(gain)}": names.index(name) for name in group["condition"]}
        shape = "circle" if look is LOCATED else "diamond"
        _dots(figure, Look(gain_label(gain).capitalize(), look.colour, shape, 10), group, measure, places)
    labels = [CONDITIONS[name].name for name in names]
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=labels, range=[-0.6, len(names) - 0.4])
    return charts.value_axis(figure, "x", measure.title, zeroline=True)


def effects_by_relation(summary: pl.DataFrame, gain: float, measure: Measure = PROBABILITY) -> Any:
    """Dots with whiskers: what one gain does to each relation, sorted by the effect of its knowledge neurons."""
    rows = summary.filter(pl.col("relation") != "all", pl.col("gain") == gain)
    located = rows.filter(condition="located").sort(measure.value, "relation", descending=gain < 1)
    names = located["relation"].to_list()
    figure = charts.blank(150 + 32 * len(names))
    present = [name for name in CONDITIONS if name in rows["condition"]]
    for place, condition in enumerate(present):
        group = rows.filter(pl.col("condition") == condition, pl.col("relation").is_in(names))
        shift = 0.34 - 0.68 * (place + 0.5) / len(present)
        places = {relation: names.index(relation) + shift for relation in group["relation"]}
        _dots(figure, CONDITIONS[condition], group, measure, places)
    for row in range(1, len(names)):
        figure.add_hline(y=row - 0.5, line_width=0.5, line_color="rgba(128,128,128,0.3)")
    figure.update_yaxes(**charts.ticks(names), range=[-0.6, len(names) - 0.4])
    return charts.value_axis(figure, "x", measure.title, zeroline=True)


def gain_curve(summary: pl.DataFrame, measure: Measure = PROBABILITY) -> Any:
    """Lines with whiskers: the effect against the gain, for each condition, over all relations.

    At gain 1 the model is untouched, so every line is drawn through zero there.
    """
    rows = overall(summary)
    figure = charts.blank(400)
    columns = [measure.value, measure.low, measure.high]
    untouched = pl.DataFrame({"gain": [1.0]} | {name: [0.0] for name in columns})
    for condition, look in CONDITIONS.items():
        group = rows.filter(pl.col("condition") == condition, pl.col("gain") != 1).select("gain", *columns)
        if group.is_empty():
            continue
        group = pl.concat([group, untouched]).sort("gain")
        values, up, down = _whiskers(group, measure)
        figure.add_scatter(
            x=group["gain"].to_list(),
            y=values,
            error_y={"array": up, "arrayminus": down, "symmetric": False, "width": 0, "thickness": 1.5},
            mode="lines+markers",
            name=look.name,
            line={"color": look.colour, "width": 2 if look is LOCATED else 1.5},
            marker=charts.marker(look),
            hovertemplate="gain %{x:g}: " + measure.hover.replace("%{x", "%{y"),
        )
    figure.update_xaxes(title_text="Gain (0 suppresses, 1 leaves as is, 2 doubles)")
    return charts.value_axis(figure, "y", measure.title, zeroline=True)


def main_rule(frame: pl.DataFrame) -> str:
    """The rule by which knowledge neurons were found: the one that is not the activation baseline, if there is one.

    >>> main_rule(pl.DataFrame({"rule": ["activation", "gauss-legendre"]}))
    'gauss-legendre'
    """
    rules = sorted(frame["rule"].unique(), key=lambda rule: (rule == "activation", rule))
    return rules[0] if rules else "none"


def routed(neurons: pl.DataFrame) -> pl.DataFrame:
    """The facts' neurons that are neurons of experts; none of a model without any."""
    if "expert" not in neurons.columns:
        return neurons.clear()
    return neurons.filter(pl.col("rule") == main_rule(neurons), fold="all").drop_nulls("expert")


def mean_shared(pairs: pl.DataFrame) -> tuple[int, float]:
    """How many pairs of facts some rows of the `sharing` table stand for, and how many neurons a pair shares.

    >>> mean_shared(pl.DataFrame({"n_pairs": [1, 3], "mean_shared": [1.0, 2.0]}))
    (4, 1.75)
    """
    total = sum(pairs["n_pairs"])
    shared = sum(n * mean for n, mean in pairs.select("n_pairs", "mean_shared").iter_rows() if n)
    return total, shared / max(total, 1)


def overall(summary: pl.DataFrame) -> pl.DataFrame:
    """The rows that stand for all relations together; with one relation alone, its own."""
    rows = summary.filter(pl.col("relation") == "all")
    return rows if rows.height or summary["relation"].n_unique() != 1 else summary


def _add_bars(figure: Any, look: Look, name: str, places: Sequence[int], counts: Sequence[int]) -> None:
    """Add a rule's bars: each count as a percentage of their sum."""
    total = max(sum(counts), 1)
    heights = [100 * count / total for count in counts]
    figure.add_bar(x=list(places), y=heights, customdata=list(counts), name=name, marker_color=look.colour)


def _by_rule(frame: pl.DataFrame) -> list[tuple[Look, pl.DataFrame]]:
    main = main_rule(frame)
    looks = {"activation": ACTIVATION} | {main: LOCATED}
    present = [rule for rule in (main, "activation") if rule in frame["rule"]]
    return [(looks[rule], frame.filter(pl.col("rule") == rule)) for rule in dict.fromkeys(present)]


def _whiskers(rows: pl.DataFrame, measure: Measure) -> tuple[list[Any], list[Any], list[Any]]:
    value, low, high = _scaled(rows, measure).get_columns()
    return value.to_list(), (high - value).to_list(), (value - low).to_list()


def _scaled(rows: pl.DataFrame, measure: Measure) -> pl.DataFrame:
    columns = pl.col(measure.value, measure.low, measure.high).cast(pl.Float64)
    return rows.select((columns * measure.scale).fill_nan(None))


def _dots(figure: Any, look: Look, rows: pl.DataFrame, measure: Measure, places: Mapping[str, float]) -> None:
    """Add a condition's dots; `places` gives the name and the height of each, in the order of `rows`."""
    values, up, down = _whiskers(rows, measure)
    figure.add_scatter(
        x=values,
        y=list(places.values()),
        error_x={"array": up, "arrayminus": down, "symmetric": False, "width": 0, "thickness": 1.5},
        mode="markers",
        name=look.name,
        marker=charts.marker(look),
        text=[escape(name, quote=False) for name in places],
        customdata=[[low, high] for _, low, high in _scaled(rows, measure).iter_rows()],
        hovertemplate=f"%{{text}}<br>{measure.hover} [%{{customdata[0]:.2f}}, %{{customdata[1]:.2f}}]",
    )


def _shared(mean: float | None) -> str:
    return "no pairs" if mean is None else f"{mean:.2f} neurons"
