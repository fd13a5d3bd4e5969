"""Last stages for a property: what its neurons do in the running model, and what drives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.models.hooks import InterventionError
from neuronatlas.neurons import NeuronError, NeuronSet
from neuronatlas.probing.describe import Description, describe_many
from neuronatlas.probing.interventions import PropertyEffects, property_effects
from neuronatlas.probing.ranking import Ranking
from neuronatlas.studies.salience.fitting import Tables
from neuronatlas.studies.salience.property import Property
from neuronatlas.studies.salience.tables import frame

__all__ = ["described", "intervened"]

_MEASURES = {"class_mass": "class mass", "p_gold": "P(word)", "top_in_class": "top word of the class"}
_VALUES = {"mean": None, "zero": 0.0}
_DIRECTIONS = {"up": 1, "down": -1}


def intervened(work: Property) -> Tables:
    """Replace the top neurons while the model runs, and see what it then predicts for words of each class.

    As many as the minimal set has, but not more than the settings' share of all: with most neurons gone, any model
    fails. Nothing is asked where sentences carry the labels, or where the model cannot be asked: the notes say why.
    """
    held = work.shared.acts.neurons()
    most = max(1, round(work.settings.replaced * len(held)))
    neurons = replaceable(work.ranking, min(most, len(work.minimal)), held)
    found, notes = [], []
    for replacement in work.settings.replacements:
        try:
            effects = _effects(work, neurons, replacement)
        except (InterventionError, NeuronError) as error:
            notes.append(f"{replacement}: {error}")
            continue
        notes += [f"{replacement}: {note}" for note in effects.notes]
        found += list(_rows(work, effects, replacement))
    told = [{"label": work.label, "stage": "interventions", "note": note} for note in notes]
    return {"interventions": frame("interventions", found), "notes": frame("notes", told)}


def replaceable(ranking: Ranking, size: int, held: NeuronSet) -> NeuronSet:
    """The top neurons, or as many of them as leave equally many others in each layer to compare with."""
    widths = held.layer_histogram()
    while size > 1 and (ranking.top(size).layer_histogram() * 2 > widths).any():
        size -= max(1, size // 10)
    return ranking.top(size)


def _effects(work: Property, neurons: NeuronSet, replacement: str) -> PropertyEffects:
    settings = work.settings
    return property_effects(
        work.shared.model,
        work.corpus,
        work.shared.acts,
        neurons,
        value=_VALUES[replacement],
        n_controls=settings.n_controls,
        per_class=settings.words_per_class,
        min_words=min(settings.min_count, settings.words_per_class),
        seed=settings.seed,
        progress=False,
    )


def _rows(work: Property, effects: PropertyEffects, replacement: str) -> Iterator[dict[str, Any]]:
    tables = pl.concat([effects.overall, effects.classes], how="diagonal")
    about = {"label": work.label, "set_size": len(effects.neurons), "replacement": replacement}
    for row in tables.filter(pl.col("measure").is_in(list(_MEASURES))).iter_rows(named=True):
        kept = {name: row[name] for name in ("n_words", "before", "after", "change", "low", "high", "p", "p_adjusted")}
        controls = {"control_mean": row["control_change"], "n_controls": work.settings.n_controls}
        controls |= {name: row[name] for name in ("control_low", "control_high")}
        yield about | {"class": row["class"], "measure": _MEASURES[row["measure"]]} | kept | controls


def described(work: Property) -> Tables:
    """The top neurons: the class that each tells best, and the words and contexts that drive it."""
    count, settings = min(work.settings.described, len(work.ranking)), work.settings
    neurons = work.ranking.top(count)
    found = describe_many(work.shared.acts, work.corpus, neurons, settings.contexts, progress=False)
    ranks = {str(neuron): place for place, neuron in enumerate(work.ranking.neurons()[:count])}
    profiles = sorted(found.profiles.iter_rows(named=True), key=lambda row: ranks[row["neuron"]])
    return {
        "neurons": frame("neurons", [_neuron(work, found, row, ranks[row["neuron"]]) for row in profiles]),
        "contexts": frame("contexts", [row for profile in profiles for row in _contexts(work, found, profile)]),
    }


def _neuron(work: Property, found: Description, profile: dict[str, Any], rank: int) -> dict[str, Any]:
    words = found.words.filter(pl.col("neuron") == profile["neuron"]).sort("rank")
    by_direction = {name: words.filter(pl.col("direction") == name)["word"].to_list() for name in _DIRECTIONS}
    return {
        "label": work.label,
        "rank": rank,
        "layer": profile["layer"],
        "unit": profile["unit"],
        "class": profile["best_class"],
        "direction": 1 if profile["best_auc"] >= 0.5 else -1,
        "auc": profile["best_auc"],
        "eta_squared": profile["adjusted_eta_label"],
        "eta_squared_words": profile["adjusted_eta_word"],
        "words_up": by_direction["up"],
        "words_down": by_direction["down"],
    }


def _contexts(work: Property, found: Description, profile: dict[str, Any]) -> Iterator[dict[str, Any]]:
    mine = found.contexts.filter(pl.col("neuron") == profile["neuron"])
    for direction, sign in _DIRECTIONS.items():
        rows = mine.filter(pl.col("direction") == direction).sort("rank").iter_rows(named=True)
        for place, row in enumerate(rows):
            yield {
                "label": work.label,
                "layer": profile["layer"],
                "unit": profile["unit"],
                "direction": sign,
                "place": place,
                "value": row["value"],
                "word": row["word"],
                "before": row["left"],
                "after": row["right"],
                "source": row["source"],
            }
