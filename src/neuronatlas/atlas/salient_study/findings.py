"""What a study found, in a headline, tiles, and what to read with care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neuronatlas.atlas.page import Headline, Tables, Tile
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salient_study.reading import is_read, labels, models, reach, readable, rows, unread
from neuronatlas.atlas.wording import count, listed, number, percent

__all__ = ["caveats", "exactness", "headline", "tiles"]

_FEW = 20
"""Intervals over fewer neurons than this are wide."""


def headline(tables: Tables) -> Headline:
    """How few neurons suffice, and how localised they are."""
    found = [row for row in rows(tables, "minimal_sets") if is_read(row)]
    reached = [row["set_share"] for row in found if row["reached"]]
    names = models(tables)
    where = f"in each of {len(names)} models" if len(names) > 1 else f"in {names[0]}"
    what = "properties" if len(labels(tables)) > 1 else short_name(labels(tables)[0])
    if not found:
        return Headline(f"No probe reads {what} {where} better than labels in random order.", "")
    if not reached:
        return Headline(f"No set smaller than all neurons reads {what} {where} as well as all do.", "")
    which = f"{reach(reached)} of the neurons are enough to read {what} {where}"
    text = f"{which}." if len(reached) == len(found) else f"{which}, in {len(reached)} of {len(found)} cases."
    return Headline(text[:1].upper() + text[1:], _verdict(tables))


def _verdict(tables: Tables) -> str:
    places = [row for row in readable(tables, rows(tables, "localisation", of="top")) if row["excess"] is not None]
    beyond = [row for row in places if row["p_adjusted"] is not None and row["p_adjusted"] <= 0.05]
    told = [f"{len(beyond)} of {count(len(places), 'set')} of top neurons are more localised in layers than chance."]
    again = readable(tables, rows(tables, "redundancy"))
    sets = [row["n_disjoint"] for row in again if row["n_disjoint"] is not None]
    if sets:
        few = f"{min(sets)}" if min(sets) == max(sets) else f"{min(sets)} to {max(sets)}"
        told.append(f"A property has {few} minimal {'set' if few == '1' else 'sets'} without a common neuron.")
    return " ".join(told)


def tiles(tables: Tables) -> Iterator[Tile]:
    """A tile a property: its minimal set in the first model, how localised, how often it is there."""
    model = models(tables)[0]
    places = {row["label"]: row for row in rows(tables, "localisation", of="top", model=model)}
    layers = list(rows(tables, "layer_shares", of="top", model=model))
    for row in rows(tables, "minimal_sets", model=model):
        own = [one["share"] or 0.0 for one in layers if one["label"] == row["label"]]
        bars = tuple(round(100 * share / (max(own) or 1.0), 1) for share in own)
        place = places.get(row["label"], {})
        note = f"top neurons by layer; localised {number(place.get('excess'), 2)} beyond chance"
        detail = f"{percent(row['set_share'], 1)} of {row['n_neurons']:,}" if row["set_share"] is not None else ""
        label = short_name(row["label"]) if len(models(tables)) == 1 else f"{short_name(row['label'])}, {model}"
        yield Tile(label, f"{row['set_size'] or 0:,}", note, detail, bars=bars)


def caveats(tables: Tables, settings: Mapping[str, Any]) -> Iterator[str]:
    """What a reader has to know before believing the numbers."""
    blind = unread(tables)
    if blind:
        names = listed([f"{short_name(row['label'])} in {row['model']}" for row in blind], 6)
        yield (
            f"Read no better than labels in random order: {names}. Sets, layers and copies of what cannot be read mean "
            "nothing."
        )
    few = {row["n"] for row in rows(tables, "localisation", of="top") if row["n"] < _FEW}
    if few:
        yield (
            f"Layers are compared by {listed(sorted(map(str, few)))} top neurons of each property: few for an "
            f"interval. A larger share (--top-share, here {settings.get('top', 0):g}) makes them narrower."
        )
    chance = [
        row for row in rows(tables, "minimal_sets") if _within(row["random_weights_high"], row["accuracy_low"]) is False
    ]
    if chance:
        names = listed([f"{short_name(row['label'])} in {row['model']}" for row in chance], 6)
        yield f"No better than the same probe on random weights, intervals overlapping: {names}."
    words = [row for row in rows(tables, "minimal_sets") if _within(row["word_majority"], row["accuracy_low"]) is False]
    if words:
        names = listed([f"{short_name(row['label'])} in {row['model']}" for row in words], 6)
        yield f"No better than the most frequent class of each word, within the interval: {names}."
    missed = [row for row in rows(tables, "minimal_sets") if row["reached"] is False]
    if missed:
        names = listed([f"{short_name(row['label'])} in {row['model']}" for row in missed], 6)
        yield f"No set smaller than all neurons did as well as all: {names}."
    yield "A probe shows that a property can be read from neurons; it does not show that the model uses them."


def _within(other: float | None, low: float | None) -> bool | None:
    """Whether the lower bound lies above the other number; None where one of them is not there."""
    return None if other is None or low is None else low > other


def exactness(tables: Tables, settings: Mapping[str, Any]) -> str:
    """How exactly the numbers were computed."""
    gap = settings.get("tol")
    text = (
        f"Probes on all neurons are solved to a duality gap of {gap:g} nats" if gap is not None else "Probes are solved"
    )
    return (
        f"{text}, those that are trained anew to 0.01. Intervals over neurons and chance levels: "
        f"{settings.get('draws', 0):,} draws. {count(len(models(tables)), 'model')}; each has an atlas of its own in "
        f"{listed(tables['members']['folder'].to_list())}."
    )
