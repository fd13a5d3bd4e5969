"""Last stages for a property: what its neurons do in the running model, and what drives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from neuronatlas.addresses import address_schema
from neuronatlas.models.hooks import InterventionError
from neuronatlas.neurons import NeuronError, NeuronSet
from neuronatlas.probing.describe import Description, describe_many
from neuronatlas.probing.interventions import ClassEffects, PropertyEffects, class_effects, property_effects
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.rankings import top_neurons
from neuronatlas.studies.salience.fitting import Tables
from neuronatlas.studies.salience.property import Property
from neuronatlas.studies.salience.tables import frame

__all__ = ["described", "intervened", "intervened_by_class", "own_neurons"]

_MEASURES = {"class_mass": "class mass", "p_gold": "P(word)", "top_in_class": "top word of the class"}
_VALUES = {"mean": None, "zero": 0.0}
_DIRECTIONS = {"up": 1, "down": -1}


def intervened(work: Property) -> Tables:
    """Replace the top neurons while the model runs, and see what it then predicts for words of each class.

    As many as the minimal set has, but not more than the settings' share of all: with most neurons gone, any model
    fails. Nothing is asked where sentences carry the labels, or where the model cannot be asked: the notes say why.
    """
    neurons = replaceable(work.ranking, min(_most(work), len(work.minimal)), work.shared.acts.neurons())
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


def _most(work: Property) -> int:
    """How many neurons are replaced at once at most."""
    return max(1, round(work.settings.replaced * len(work.shared.acts.neurons())))


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
        min_words=_least_words(work),
        seed=settings.seed,
        progress=False,
    )


def _least_words(work: Property) -> int:
    return min(work.settings.min_count, work.settings.words_per_class)


def _rows(work: Property, effects: PropertyEffects, replacement: str) -> Iterator[dict[str, Any]]:
    for row in _compared(work, effects, replacement):
        yield row | {"set_size": len(effects.neurons)}


def _compared(work: Property, effects: PropertyEffects | ClassEffects, replacement: str) -> Iterator[dict[str, Any]]:
    """The mean over the classes, then class by class: what the table of either stage has of each measure."""
    tables = pl.concat([effects.overall, effects.classes], how="diagonal")
    same = ("class", "n_words", "before", "after", "change", "low", "high", "control_low", "control_high", "n_controls")
    for row in tables.filter(pl.col("measure").is_in(list(_MEASURES))).iter_rows(named=True):
        kept = {name: row[name] for name in (*same, "p", "p_adjusted")}
        about = {"label": work.label, "replacement": replacement, "measure": _MEASURES[row["measure"]]}
        yield about | kept | {"control_mean": row["control_change"]}


def intervened_by_class(work: Property) -> Tables:
    """Replace the own neurons of one class after another, and see what the model then predicts for its words.

    A set for a whole property serves some classes more than others; this tells which ones are used, and whether what
    falls is the class or, `others_change`, the model at large. Classes that were not asked for have a row too, which
    says why.
    """
    sets = own_neurons(work)
    reasons, found, notes = _not_replaced(work, sets), [], []
    for replacement in work.settings.replacements:
        try:
            effects = _class_effects(work, sets, replacement)
        except (InterventionError, NeuronError) as error:
            notes.append(f"{replacement}: {error}")
            continue
        notes += [f"{replacement}: {note}" for note in effects.notes]
        found += list(_class_rows(work, effects, replacement))
        few = f"fewer than {_least_words(work)} words to ask for"
        reasons |= dict.fromkeys(sorted(sets.keys() - set(effects.classes["class"])), few)
    if found:
        found += [{"label": work.label, "class": name, "left_out": why} for name, why in reasons.items()]
        notes += _two_classes(work)
    told = [{"label": work.label, "stage": "interventions by class", "note": note} for note in notes]
    return {"class_interventions": frame("class_interventions", found), "notes": frame("notes", told)}


def own_neurons(work: Property) -> dict[str, NeuronSet]:
    """Top neurons of each of the most frequent classes: at the settings' mass, but not more than may be replaced."""
    counts, tops = work.split.train.counts(), top_neurons(work.probe, work.settings.mass)
    ranking, held, most = work.class_ranking, work.shared.acts.neurons(), _most(work)
    frequent = sorted(ranking.by_class, key=lambda name: (-counts[name], name))[: work.settings.most_classes]
    return {name: replaceable(ranking.of_class(name), min(most, len(tops[name])), held) for name in sorted(frequent)}


def _not_replaced(work: Property, sets: Mapping[str, NeuronSet]) -> dict[str, str]:
    """The classes of the probe that no neurons were chosen for, and why."""
    rare = f"not among the {work.settings.most_classes} most frequent classes"
    weightless = "the probe gives it no weight"
    ranked = work.class_ranking.by_class
    return {name: rare if name in ranked else weightless for name in work.split.train.classes if name not in sets}


def _two_classes(work: Property) -> list[str]:
    several = len(work.split.train.classes) > 2
    return [] if several else ["a probe of two classes has one row of weights: both classes have the same own neurons"]


def _class_effects(work: Property, sets: Mapping[str, NeuronSet], replacement: str) -> ClassEffects:
    settings = work.settings
    return class_effects(
        work.shared.model,
        work.corpus,
        work.shared.acts,
        sets,
        value=_VALUES[replacement],
        n_controls=settings.class_controls,
        per_class=settings.words_per_class,
        min_words=_least_words(work),
        seed=settings.seed,
        progress=False,
    )


def _class_rows(work: Property, effects: ClassEffects, replacement: str) -> Iterator[dict[str, Any]]:
    across = effects.across.with_columns(pl.col("measure").replace(_MEASURES))
    elsewhere = across.filter(pl.col("replaced") != pl.col("class"))
    ratios = effects.controls.filter(measure="class_mass")
    for row in _compared(work, effects, replacement):
        if (name := row["class"]) is not None:
            row["set_size"] = len(effects.neurons[name])
            row["variance_ratio"] = ratios.filter(pl.col("class") == name)["variance_ratio"].mean()
            row["others_change"] = elsewhere.filter(replaced=name, measure=row["measure"])["change"].mean()
        yield row


def described(work: Property) -> Tables:
    """The top neurons: the class that each tells best, and the words and contexts that drive it."""
    count, settings = min(work.settings.described, len(work.ranking)), work.settings
    neurons, layout = work.ranking.top(count), work.ranking.layout
    found = describe_many(work.shared.acts, work.corpus, neurons, settings.contexts, progress=False)
    ranks = {str(neuron): place for place, neuron in enumerate(work.ranking.neurons()[:count])}
    profiles = sorted(found.profiles.iter_rows(named=True), key=lambda row: ranks[row["neuron"]])
    return {
        "neurons": frame("neurons", [_neuron(work, found, row, ranks[row["neuron"]]) for row in profiles], layout),
        "contexts": frame("contexts", [row for one in profiles for row in _contexts(work, found, one)], layout),
    }


def _neuron(work: Property, found: Description, profile: dict[str, Any], rank: int) -> dict[str, Any]:
    words = found.words.filter(pl.col("neuron") == profile["neuron"]).sort("rank")
    by_direction = {name: words.filter(pl.col("direction") == name)["word"].to_list() for name in _DIRECTIONS}
    return {
        "label": work.label,
        "rank": rank,
        **{name: profile[name] for name in address_schema(found.neurons.layout)},
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
    address = {name: profile[name] for name in address_schema(found.neurons.layout)}
    for direction, sign in _DIRECTIONS.items():
        rows = mine.filter(pl.col("direction") == direction).sort("rank").iter_rows(named=True)
        for place, row in enumerate(rows):
            yield {
                "label": work.label,
                **address,
                "direction": sign,
                "place": place,
                "value": row["value"],
                "word": row["word"],
                "before": row["left"],
                "after": row["right"],
                "source": row["source"],
            }
