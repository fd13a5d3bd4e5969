"""The report on the same facts in several languages: which neurons are the same, and whether they do the same there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from neuronatlas.atlas import charts
from neuronatlas.atlas.page import Headline, Kind, Listing, Page, Plot, Section, Tables, Tile, level
from neuronatlas.atlas.style import BLUE, GREEN, GREY, VERMILION, Look
from neuronatlas.atlas.wording import count, number, percent

__all__ = ["KIND", "headline"]

ALPHA = 0.05
_GROUPS = {"all": "All facts", "same answer": "The same word for an answer", "other answer": "Other words for answers"}
_OVERLAPS = {
    "jaccard": Look("The same fact", BLUE, "circle", 9),
    "other_facts": Look("Other facts of its relation", GREY, "diamond", 8),
}
_KINDS = {
    "own": Look("The fact's own", BLUE, "circle", 9),
    "common": Look("Those of all languages", GREEN, "triangle-up", 9),
    "other fact": Look("Another fact's", VERMILION, "square", 8),
    "random": Look("Random ones", GREY, "diamond", 8),
}
_OVERLAP_NOTE = (
    "Jaccard: neurons of both sets over those of either, mean over facts; whiskers and brackets are bootstrap 95 % "
    "intervals over facts. Other facts: the same with the neurons that other facts of the relation have in the other "
    "language, which is what relation and layers alone make alike. p: how often facts permuted inside their relations "
    "overlap as much, adjusted over the pairs of languages. Where answers are the same word, neurons may be those of "
    "the word and not of the fact."
)
_EFFECT_NOTE = (
    "Neurons are set to nought while the model answers. Change of P: (after \N{MINUS SIGN} before) / before, of means "
    "over all prompts of all facts; in brackets bootstrap 95 % intervals over facts. Random ones are equally many of "
    "the same layers; another fact's are of the same relation and of another answer."
)


def headline(tables: Tables) -> Headline:
    """In how many pairs of languages a fact has the same neurons, more than other facts of its relation."""
    rows = tables["shared_overlaps"].filter(pl.col("facts") == "all")
    if rows.is_empty():
        return Headline("No fact has neurons in two languages.", "")
    beyond = rows.filter(pl.col("p_adjusted") <= ALPHA).height
    found = rows["jaccard"].to_list()
    others = [value for value in rows["other_facts"].to_list() if value is not None]
    mean = sum(others) / len(others) if others else None
    statement = (
        f"A fact shares {percent(min(found))} to {percent(max(found))} of its neurons between two languages, other "
        f"facts of its relation {percent(mean)}."
    )
    apart = tables["shared_overlaps"].filter(pl.col("facts") == "other answer")
    verdict = f"That is more than chance in {beyond} of {count(rows.height, 'pair of languages', 'pairs of languages')}"
    if apart.height:
        told = apart.filter(pl.col("p_adjusted") <= ALPHA).height
        shared = sum(apart["jaccard"].to_list()) / apart.height
        verdict += f"; where answers are other words, in {told} of {apart.height}, with {percent(shared)} in common"
    verdict += "."
    return Headline(statement, verdict)


def _page(tables: Tables, settings: Mapping[str, Any]) -> Page:
    facts = tables["shared_facts"]
    empty = facts.filter((pl.col("n_first") == 0) | (pl.col("n_second") == 0)).height
    caveats = ["That two sets overlap does not show that the model uses them alike: the effects below do."]
    if empty:
        caveats.append(f"{empty:,} of {facts.height:,} comparisons have a set without a neuron, and take no part.")
    return Page(
        subject="Facts in several languages",
        headline=headline(tables),
        tiles=tuple(_tiles(tables)),
        caveats=tuple(caveats),
        sections=(_shared(tables), _effects(tables), _facts(tables)),
        definitions="definitions/shared_facts.html.jinja",
        exactness=f"{count(settings.get('n_facts', 0), 'fact')} in {', '.join(settings.get('languages', ()))}; "
        f"attribution by {settings.get('rule', 'integrated gradients')}.",
    )


def _tiles(tables: Tables) -> Iterator[Tile]:
    for row in tables["shared_overlaps"].filter(pl.col("facts") == "all").iter_rows(named=True):
        detail = f"{percent(row['jaccard_low'])} to {percent(row['jaccard_high'])}"
        note = f"of both languages' neurons of a fact are the same; of other facts {percent(row['other_facts'])}"
        yield Tile(f"{row['language']} and {row['other']}", percent(row["jaccard"]), note, detail)


def _shared(tables: Tables) -> Section:
    overlaps = tables["shared_overlaps"]
    common = tables["shared_facts"].unique(["relation", "fact"], maintain_order=True)
    having = common.filter(pl.col("n_common") > 0).height
    finding = f"{having:,} of {count(common.height, 'fact')} have neurons that are the same in all languages."
    plots = []
    for group, title in _GROUPS.items():
        rows = overlaps.filter(pl.col("facts") == group)
        if rows.height:
            caption = f"{title}: neurons that two languages have in common, beside other facts of the relation."
            plots.append(Plot(f"shared-{group.replace(' ', '-')}", _dots(rows), caption))
    headings = ["Languages", "Facts", "How many", "Jaccard", "Other facts", "p", "Adjusted p", "With common neurons"]
    rows_text = [
        [
            *(_pair(row), _GROUPS[row["facts"]], f"{row['n_facts']:,}", _spanned(row, "jaccard")),
            *(
                percent(row["other_facts"]),
                number(row["p"], 3),
                number(row["p_adjusted"], 3),
                percent(row["with_common"]),
            ),
        ]
        for row in overlaps.iter_rows(named=True)
    ]
    listing = Listing(headings, [False, False, *[True] * 6], rows_text, "Pairs of languages")
    return Section("shared", "Shared", "Same neurons or others", finding, level(plots), (listing,), _OVERLAP_NOTE)


def _effects(tables: Tables) -> Section:
    effects = tables["shared_effects"].filter(pl.col("n_facts") > 0)
    whole = effects.filter(pl.col("facts") == "all")
    across = whole.filter(pl.col("located") != pl.col("asked"))
    falls = across.filter(pl.col("change_high") < 0)
    fall, other, random = (falls.filter(pl.col("kind") == kind).height for kind in ("own", "other fact", "random"))
    n_directions = across.filter(pl.col("kind") == "own").height
    finding = (
        f"Suppressing what was located in one language lowers the answer in the other in {fall} of "
        f"{count(n_directions, 'direction')} (interval below 0), another fact's neurons in {other}, random ones in "
        f"{random}."
    )
    found = {kind: whole.filter(pl.col("kind") == kind) for kind in _KINDS}
    names = list(dict.fromkeys(_direction(row) for row in whole.iter_rows(named=True)))
    figure = charts.blank(110 + 15 * 5 * len(names))
    for place, (kind, look) in enumerate(_KINDS.items()):
        rows = found[kind].to_dicts()
        figure.add_scatter(
            x=[100 * row["change"] for row in rows],
            y=[5 * names.index(_direction(row)) + place for row in rows],
            error_x=_whiskers(rows, "change"),
            mode="markers",
            name=look.name,
            marker=charts.marker(look),
            hovertext=[f"{_direction(row)}: {_spanned(row, 'change')}" for row in rows],
            hoverinfo="text+name",
        )
    middles = [5 * index + 1.5 for index in range(len(names))]
    figure.update_yaxes(**charts.ticks(names) | {"tickvals": middles}, range=[5 * len(names) - 1.3, -0.7])
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color=GREY)
    charts.value_axis(figure, "x", "Change of P(answer) (%)")
    caption = "Located in one language, suppressed while the model is asked in another: what happens to P(answer)."
    headings = [
        "Located in",
        "Asked in",
        "Neurons",
        "Facts",
        "How many",
        "Neurons a fact",
        "Change of P",
        "Of log-odds",
    ]
    listed = [
        [
            *(row["located"], row["asked"], _KINDS[row["kind"]].name, _GROUPS[row["facts"]], f"{row['n_facts']:,}"),
            *(number(row["n_neurons"], 1), _spanned(row, "change"), _numbers(row, "log_odds_change")),
        ]
        for row in effects.iter_rows(named=True)
    ]
    listing = Listing(headings, [*[False] * 4, *[True] * 4], listed, "Effects", "Find a language or kind")
    plots = (Plot("effects", figure, caption),)
    return Section("effects", "Effects", "Whether they do the same", finding, plots, (listing,), _EFFECT_NOTE)


def _facts(tables: Tables) -> Section:
    rows = tables["shared_facts"].iter_rows(named=True)
    headings = [
        "Relation",
        "Fact",
        "Languages",
        "Same answer",
        "First",
        "Second",
        "Shared",
        "Jaccard",
        "In all languages",
    ]
    listed = [
        [
            *(row["relation"], row["fact"], _pair(row), "yes" if row["same_answer"] else "no"),
            *(f"{row[name]:,}" for name in ("n_first", "n_second", "n_shared")),
            *(percent(row["jaccard"]), f"{row['n_common']:,}"),
        ]
        for row in rows
    ]
    listing = Listing(headings, [*[False] * 4, *[True] * 5], listed, "Facts", "Find a fact or relation")
    neurons = tables["shared_neurons"]
    located = neurons.unique(["place", "language"]).height
    finding = f"{count(neurons.height, 'neuron')} of {count(located, 'fact and language', 'facts and languages')}."
    return Section("facts", "Facts", "Fact by fact", finding, (), (listing,))


def _dots(rows: pl.DataFrame) -> Any:
    found = rows.to_dicts()
    figure = charts.blank(110 + 34 * len(found))
    for place, (column, look) in enumerate(_OVERLAPS.items()):
        known = [(index, row) for index, row in enumerate(found) if row[column] is not None]
        figure.add_scatter(
            x=[100 * row[column] for _, row in known],
            y=[3 * index + place for index, _ in known],
            error_x=_whiskers([row for _, row in known], column),
            mode="markers",
            name=look.name,
            marker=charts.marker(look),
            hovertext=[f"{_pair(row)}: {percent(row[column], 1)}" for _, row in known],
            hoverinfo="text+name",
        )
    middles = [3 * index + 0.5 for index in range(len(found))]
    figure.update_yaxes(
        **charts.ticks([_pair(row) for row in found]) | {"tickvals": middles}, range=[3 * len(found) - 1.3, -0.7]
    )
    figure.update_xaxes(rangemode="tozero")
    return charts.value_axis(figure, "x", "Jaccard (%)")


def _whiskers(rows: list[dict[str, Any]], column: str) -> dict[str, Any]:
    def away(row: dict[str, Any], end: str, sign: int) -> float | None:
        bound = row.get(f"{column}_{end}")
        return None if bound is None else max(0.0, 100 * sign * (bound - row[column]))

    up, down = ([away(row, end, sign) for row in rows] for end, sign in (("high", 1), ("low", -1)))
    return {"array": up, "arrayminus": down, "symmetric": False, "width": 0, "thickness": 1.5}


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row['language']} and {row['other']}"


def _direction(row: Mapping[str, Any]) -> str:
    return f"{row['located']} in {row['asked']}"


def _spanned(row: Mapping[str, Any], name: str) -> str:
    low, high = (100 * row[f"{name}_{end}"] for end in ("low", "high"))
    return f"{percent(row[name])} [{number(low, 0)},\N{NO-BREAK SPACE}{number(high, 0)}]"


def _numbers(row: Mapping[str, Any], name: str) -> str:
    low, high = (number(row[f"{name}_{end}"], 2) for end in ("low", "high"))
    return f"{number(row[name], 2)} [{low},\N{NO-BREAK SPACE}{high}]"


KIND = Kind(needed=("shared_overlaps", "shared_effects", "shared_facts", "shared_neurons"), welcome=(), page=_page)
