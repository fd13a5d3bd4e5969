"""Stages that rank neurons, test the rankings by ablation, and select the few that suffice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.addresses import address_of
from neuronatlas.probing.ablation import Ablation, ablation_curve, ablations
from neuronatlas.probing.agreement import agreements
from neuronatlas.probing.layers import accuracy_of_layers, accuracy_up_to_layers
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.rankings import VOTERS, rank
from neuronatlas.probing.redundancy import RedundancyError
from neuronatlas.probing.scoring import accuracy
from neuronatlas.probing.selection import DisjointSets, disjoint_minimal_sets
from neuronatlas.probing.voting import vote
from neuronatlas.statistics import Interval
from neuronatlas.studies.salience.fitting import Tables, layer_rows
from neuronatlas.studies.salience.property import Property
from neuronatlas.studies.salience.tables import bounds, frame, named

__all__ = ["ablated", "clustered", "layered", "ranked", "selected"]

AGREEING = (0.01, 0.05, 0.2)
"""Shares of the neurons that rankings are compared on."""

RETRAINED_UP_TO = 0.2
"""Ablations keep at most this share of the neurons where a probe is trained anew: with more, any neurons do."""


def ranked(work: Property) -> Tables:
    """All rankings, what had to be said of them, and how far they agree."""
    rankings, layout = _rankings(work), work.shared.acts.layout
    rows = [
        {"label": work.label, "method": name, "rank": place} | address_of(layout, neuron)
        for name, ranking in rankings.items()
        for place, neuron in enumerate(ranking.neurons())
    ]
    notes = [
        {"label": work.label, "stage": f"ranking {name}", "note": note}
        for name, ranking in rankings.items()
        for note in ranking.notes
    ]
    counts = {max(1, round(share * work.split.train.n_neurons)): None for share in AGREEING}
    pairs = [
        {"method_a": a.first, "method_b": a.second, "k": a.count, "overlap": a.shared, "chance": a.chance}
        for count in counts
        for a in agreements(list(rankings.values()), count)
    ]
    return {
        "rankings": frame("rankings", rows, layout),
        "notes": frame("notes", notes),
        "agreement": frame("agreement", [{"label": work.label} | pair for pair in pairs]),
    }


def _rankings(work: Property) -> dict[str, Ranking]:
    train, found = work.split.train, dict[str, Ranking]()
    for method in sorted(work.settings.methods, key=lambda name: name == "vote"):
        if method == "vote":
            found[method] = vote([found[name] for name in VOTERS if name in found])
        else:
            found[method] = rank(train.acts, train.labels, method=method, probe=work.probe, progress=False)
    return {method: found[method] for method in work.settings.methods}


def ablated(work: Property) -> Tables:
    """Accuracy in test with the top, bottom or random neurons of each ranking alone, or without them."""
    parts, settings = work.split, work.settings
    curves = []
    for method, ranking in work.rankings.items():
        curve = ablation_curve(
            parts.train,
            parts.test,
            ranking,
            _plan(work, main=method == "lca"),
            probe=work.probe,
            seed=settings.seed,
            progress=False,
        )
        rows = curve.drop("chance").iter_rows(named=True)
        curves.append(frame("ablation", ({"label": work.label, "method": method} | row for row in rows)))
    return {"ablation": pl.concat(curves)}


def _plan(work: Property, *, main: bool) -> list[Ablation]:
    """All that costs no fit; and fits on the top neurons of a ranking, and for the main one on others too."""
    shares = work.settings.ablated
    small = [share for share in shares if share <= RETRAINED_UP_TO] or [min(shares)]
    plan = [*ablations(modes=("keep", "drop"), shares=shares)]
    plan += ablations(("top", "bottom", "random") if main else ("top",), shares=small, retrained=(True,))
    return plan


def selected(work: Property) -> Tables:
    """The minimal set, and further sets without a neuron in common with it."""
    parts, settings = work.split, work.settings
    found = disjoint_minimal_sets(
        parts.train,
        parts.dev,
        delta=settings.delta,
        most=settings.most_sets,
        probe=work.probe,
        seed=settings.seed,
        progress=False,
    )
    first = found.sets[0]
    n_neurons = parts.train.n_neurons
    measures: dict[str, Interval | float] = {
        "minimal_size": first.size,
        "minimal_share": first.size / n_neurons,
        "minimal_reached": first.size < n_neurons,
        "minimal": accuracy(first.probe, parts.test.take_columns(first.neurons), seed=settings.seed),
        "delta": settings.delta,
        "n_disjoint": len(found),
        "disjoint_bound": not found.complete,
    }
    tried = first.tried.select("n_neurons", "share", "accuracy", "low", "high").iter_rows(named=True)
    sets = [
        {"label": work.label, "set": number} | address_of(one.neurons.layout, neuron)
        for number, one in enumerate(found.sets)
        for neuron in one.neurons
    ]
    return {
        "measures": named(work.label, measures),
        "minimal": frame("minimal", ({"label": work.label} | row for row in tried)),
        "sets": frame("sets", sets, first.neurons.layout),
        "disjoint": frame("disjoint", list(_disjoint(work, found))),
        "layers": frame("layers", list(layer_rows(work, None, first.neurons))),
    }


def _disjoint(work: Property, found: DisjointSets) -> Iterator[dict[str, Any]]:
    """The sets with their accuracy in test; and all the rest, where the search ended because that no longer does."""
    test = work.split.test
    for number, one in enumerate(found.sets):
        score = accuracy(one.probe, test.take_columns(one.neurons), seed=work.settings.seed)
        size = {"label": work.label, "set": number, "n_neurons": one.size}
        yield size | bounds(score) | {"reached": True}
    if found.complete:
        size = {"label": work.label, "set": len(found), "n_neurons": len(found.rest)}
        probe = found.rest_probe
        score = (
            found.remaining
            if probe is None
            else accuracy(probe, test.take_columns(found.rest), seed=work.settings.seed)
        )
        yield size | bounds(score) | {"reached": False}


def layered(work: Property) -> Tables:
    """A probe on each layer alone, and on all layers up to each; layers are chosen on dev, and told on test."""
    parts, settings = work.split, work.settings
    rows: list[dict[str, Any]] = []
    for upto, judge in ((False, accuracy_of_layers), (True, accuracy_up_to_layers)):
        scores = judge(parts.train, parts.test, dev=parts.dev, probe=work.probe, seed=settings.seed, progress=False)
        kept = scores.select("layer", "dev_accuracy", "accuracy", "low", "high")
        rows += [{"label": work.label, "upto": upto} | row for row in kept.iter_rows(named=True)]
    return {"layer_probes": frame("layer_probes", rows)}


def clustered(work: Property) -> Tables:
    """How many clusters of neurons there are that behave alike over the corpus, whatever the property."""
    try:
        clusters = work.shared.clusters()
    except RedundancyError as error:
        note = {"label": work.label, "stage": "redundancy", "note": str(error)}
        return {"notes": frame("notes", [note])}
    measures = {
        "n_clusters": clusters.n_clusters,
        "redundant_share": clusters.redundant,
        "cluster_threshold": clusters.threshold,
    }
    return {"measures": named(work.label, measures)}
