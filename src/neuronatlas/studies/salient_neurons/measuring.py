"""What a study adds to the atlas of each model: sets of single classes, probes on shuffled labels, likeness."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from neuronatlas.addresses import address_of, address_schema
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.controls import selectivity
from neuronatlas.probing.examples import Examples, ExamplesError, Split
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.redundancy import RedundancyError
from neuronatlas.probing.scoring import accuracy, refitted
from neuronatlas.probing.selection import minimal_set
from neuronatlas.statistics import Interval
from neuronatlas.studies.salience.building import STAGES, Stage
from neuronatlas.studies.salience.property import Property
from neuronatlas.studies.salience.tables import framed, named
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.tables import ADDED

__all__ = ["FEWEST", "MOST", "against_rest", "class_sets", "likeness", "shuffled", "spread", "stages", "too_few"]

FEWEST = 10
"""With fewer words of a class, or of the others, in dev or in test it gets no minimal set: these would say nothing."""

MOST = 1000
"""At most so many words of a class, and of the others, train its probe: more make little difference and take long."""

_NAMED = {"label": pl.String, "class": pl.String}

Tables = dict[str, pl.DataFrame]


def stages(settings: StudySettings) -> tuple[Stage, ...]:
    """What is done for each property of each model, in this order."""
    of = {stage.name: stage for stage in STAGES}
    return (
        *(of[name] for name in ("probe", "controls", "untrained", "rank", "ablate", "select")),
        Stage("select-classes", "minimal sets, class by class", class_sets),
        of["layers"],
        Stage("shuffle", "shuffled labels", partial(shuffled, top=settings.top)),
        of["clusters"],
        Stage("likeness", "neurons like those of the set", likeness),
    )


def class_sets(work: Property) -> Tables:
    """The smallest set that tells each frequent class from the others as well as all neurons do, and where it lies.

    The task is a class against equally many words of the other classes, so that chance is one half for every class.
    """
    rows, layers, members = [], list[dict[str, Any]](), list[dict[str, Any]]()
    layout = work.shared.acts.layout
    for name in list(work.split.train.counts())[: work.settings.most_classes]:
        row, neurons = _class_set(work, name)
        rows.append({"label": work.label, "class": name} | row)
        if neurons is not None:
            pool = work.shared.acts.neurons()
            layers += [{"label": work.label, "class": name} | place for place in spread(neurons, pool)]
            members += [{"label": work.label, "class": name} | address_of(layout, neuron) for neuron in neurons]
    return {
        "class_sets": framed("class_sets", ADDED["class_sets"], rows),
        "class_set_layers": framed("class_set_layers", ADDED["class_set_layers"], layers),
        "class_set_neurons": framed("class_set_neurons", _NAMED | address_schema(layout), members),
    }


def _class_set(work: Property, name: str) -> tuple[dict[str, Any], NeuronSet | None]:
    if why := too_few(work.split, name):
        return {"left_out": why}, None
    seed = work.settings.seed
    parts = against_rest(work.split, name, seed)
    sizes = {"n_train": len(parts.train), "n_test": len(parts.test), "n_neurons": parts.train.n_neurons}
    probe = refitted(work.probe, parts.train)
    ranking = rank(parts.train.acts, parts.train.labels, method="lca", probe=probe, progress=False)
    found = minimal_set(parts.train, parts.dev, ranking, work.settings.delta, probe=probe, seed=seed, progress=False)
    row = sizes | {"set_size": found.size, "set_share": found.size / parts.train.n_neurons}
    row |= {"reached": found.size < parts.train.n_neurons}
    row |= accuracy(probe, parts.test, seed=seed).columns("accuracy")
    row |= accuracy(found.probe, parts.test.take_columns(found.neurons), seed=seed).columns("set_accuracy")
    try:
        control = selectivity(parts.train, parts.test, probe=probe, control_seed=seed, seed=seed)
        row |= control.selectivity.columns("selectivity")
    except ExamplesError:
        pass  # too few word types for random labels of both kinds: the columns stay null
    return row, found.neurons


def too_few(parts: Split, name: str) -> str:
    """Why a class cannot be told from the others: too few words of it, or of these, in dev or in test; "" where it can.

    >>> examples = Examples.of(np.eye(24), ["A"] * 21 + ["B"] * 3, ["w"] * 24, range(24))
    >>> too_few(Split(examples, examples, examples), "A")
    '3 words of other classes in dev or in test, at least 10 needed'
    """
    judged = (parts.dev, parts.test)
    own = min(int((part.labels == name).sum()) for part in judged)
    others = min(int((part.labels != name).sum()) for part in judged)
    fewest, of = (own, "it") if own <= others else (others, "other classes")
    return f"{fewest} words of {of} in dev or in test, at least {FEWEST} needed" if fewest < FEWEST else ""


def against_rest(parts: Split, name: str, seed: int) -> Split:
    """All words of a class, labelled `class`, and equally many of the others, labelled `rest`, in every part.

    Where the others are fewer, equally many of the class are drawn; never more than `MOST`.

    >>> examples = Examples.of(np.eye(6), list("AABBBC"), ["w"] * 6, range(6))
    >>> found = against_rest(Split(examples, examples, examples), "A", seed=0)
    >>> found.train.counts()
    {'class': 2, 'rest': 2}
    """
    rng = np.random.default_rng(seed)

    def balanced(part: Examples) -> Examples:
        own, others = np.flatnonzero(part.labels == name), np.flatnonzero(part.labels != name)
        size = min(len(own), len(others), MOST)
        rows = np.sort(np.concatenate([rng.choice(rows, size=size, replace=False) for rows in (own, others)]))
        taken = part.take(rows)
        return taken.relabelled(np.where(taken.labels == name, "class", "rest").tolist())

    return Split(balanced(parts.train), balanced(parts.dev), balanced(parts.test))


def shuffled(work: Property, top: float) -> Tables:
    """The same probe on labels in random order: its accuracy, and the layers of its top neurons, are chance."""
    parts, seed = work.split, work.settings.seed
    rng = np.random.default_rng([seed, work.index])
    train, test = (part.relabelled(rng.permutation(part.labels).tolist()) for part in (parts.train, parts.test))
    probe = refitted(work.probe, train)
    ranking = rank(train.acts, train.labels, method="lca", probe=probe, progress=False)
    neurons = ranking.top(max(1, round(top * train.n_neurons)))
    rows = [{"label": work.label} | place for place in spread(neurons, work.shared.acts.neurons())]
    measures: dict[str, Interval | float] = {"shuffled": accuracy(probe, test, seed=seed)}
    return {
        "measures": named(work.label, measures),
        "shuffled_layers": framed("shuffled_layers", ADDED["shuffled_layers"], rows),
    }


def likeness(work: Property) -> Tables:
    """How many neurons behave like those of the minimal set: how many clusters hold it, and all neurons in these."""
    try:
        clusters = work.shared.clusters()
    except RedundancyError:
        return {}  # the stage before says why
    mine = np.isin(clusters.columns, [clusters.layout.index(neuron) for neuron in work.minimal])
    held = np.unique(clusters.ids[mine])
    alike = int(np.isin(clusters.ids, held).sum())
    row = {"label": work.label, "n_set": len(work.minimal), "n_clusters": len(held), "n_alike": alike}
    return {"likeness": framed("likeness", ADDED["likeness"], [row | {"threshold": clusters.threshold}])}


def spread(neurons: NeuronSet, pool: NeuronSet) -> Iterator[dict[str, Any]]:
    """How many of some neurons lie in each layer of the site, beside how many were read there (0 in some, maybe)."""
    for layer, (n, width) in enumerate(zip(neurons.layer_histogram(), pool.layer_histogram(), strict=True)):
        yield {"layer": layer, "n": int(n), "width": int(width)}
