"""First stages for a property: a probe on all neurons, and what its accuracy has to be compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.models import ModelError
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.controls import accuracy_by_exposure, baselines, selectivity
from neuronatlas.probing.examples import ExamplesError, examples_of, split_by_sentences, split_by_words
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.rankings import top_neurons
from neuronatlas.probing.redundancy import layer_histogram
from neuronatlas.probing.scoring import accuracy, refitted
from neuronatlas.probing.search import search
from neuronatlas.statistics import Interval, accuracy_interval
from neuronatlas.studies.salience.property import Property, loaded
from neuronatlas.studies.salience.tables import bounds, frame, named

__all__ = ["controlled", "layer_rows", "probed", "untrained"]

Tables = dict[str, pl.DataFrame]


def probed(work: Property) -> Tables:
    """Fit the probe on all neurons and keep it; how well it does in test, class by class too."""
    parts, seed = work.split, work.settings.seed
    fitted = _fitted(work)
    work.keep(fitted)
    probe, test = work.probe, parts.test
    ground = baselines(parts.train, test, seed=seed)
    exposure = accuracy_by_exposure(probe, parts.train, test, seed=seed)
    measures: dict[str, Interval | float] = {
        **_counts(work),
        "l1": probe.l1,
        "l2": probe.l2,
        "gap": fitted.gap_,
        "n_nonzero": int((probe.coef_ != 0).any(axis=0).sum()),
        "accuracy": accuracy_interval(work.test_hits, test.sentences, seed=seed),
        "majority": ground.majority,
        "word_majority": ground.word_majority,
        "seen_accuracy": exposure.seen,
        "unseen_accuracy": exposure.unseen,
        "n_unseen": exposure.n_unseen,
    }
    tops = top_neurons(probe, work.settings.mass)
    return {
        "measures": named(work.label, measures),
        "classes": frame("classes", list(_classes(work, tops))),
        "dropped_classes": frame("dropped_classes", _dropped(work)),
        "layers": frame("layers", [row for name in tops for row in layer_rows(work, name, tops[name])]),
    }


def _fitted(work: Property) -> ElasticNetProbe:
    settings, parts = work.settings, work.split
    device = "cuda" if work.shared.model.device.type == "cuda" else "cpu"
    probe = ElasticNetProbe(settings.l1, settings.l2, tol=settings.tol, device=device)
    if settings.search is None:
        return probe.fit(parts.train.acts, parts.train.labels)
    return search(probe, parts.train, parts.dev, by=settings.search, progress=False).probe


def _counts(work: Property) -> dict[str, int]:
    corpus, left_out, parts = work.corpus, work.examples.left_out, work.split
    return {
        "n_sentences": len(corpus),
        "n_items": corpus.n_items,
        "n_unlabelled": left_out.unlabelled,
        "n_vanished": work.shared.lost.vanished,
        "n_truncated": work.shared.lost.cut,
        "n_train": len(parts.train),
        "n_dev": len(parts.dev),
        "n_test": len(parts.test),
        "n_classes": len(parts.train.classes),
    }


def _classes(work: Property, tops: dict[str, NeuronSet]) -> Iterator[dict[str, Any]]:
    test, counts = work.split.test, work.split.train.counts()
    for name in work.split.train.classes:
        rows = test.labels == name
        recall = accuracy_interval(work.test_hits[rows], test.sentences[rows], seed=work.settings.seed)
        sizes = {"n_train": counts[name], "n_test": int(rows.sum())}
        top = {"n_top": len(tops[name]), "mass": work.settings.mass}
        yield {"label": work.label, "class": name, **sizes, **bounds(recall, "recall", "recall_"), **top}


def _dropped(work: Property) -> list[dict[str, Any]]:
    # A class that only dev or test have is as little to be probed as a rare one.
    dropped = (*work.examples.left_out.classes, *work.split.unseen)
    return [{"label": work.label, "class": name, "n": count} for name, count in dropped]


def layer_rows(work: Property, name: str | None, neurons: NeuronSet) -> Iterator[dict[str, Any]]:
    """Where the neurons of a class lie (of the minimal set, without a name), as rows of the table `layers`."""
    widths = work.shared.acts.neurons().layer_histogram()
    for layer, n, share, _ in layer_histogram(neurons).iter_rows():
        if widths[layer]:
            place = {"layer": layer, "n": n, "share": share, "width": int(widths[layer])}
            yield {"label": work.label, "class": name, **place}


def controlled(work: Property) -> Tables:
    """The control task, and the split by word types: what of the accuracy is memorised words."""
    settings, parts, notes = work.settings, work.split, []
    measures: dict[str, Any] = {}
    try:
        found = selectivity(parts.train, parts.test, probe=work.probe, control_seed=settings.seed, seed=settings.seed)
        measures |= {"control_accuracy": found.control_accuracy, "selectivity": found.selectivity}
    except ExamplesError as error:
        notes.append(f"no control task: {error}")
    try:
        apart = loaded(split_by_words(work.examples, settings.shares, settings.seed))
        probe = refitted(work.probe, apart.train)
        measures["by_type"] = accuracy(probe, apart.test, seed=settings.seed)
    except ExamplesError as error:
        notes.append(f"no split by word types: {error}")
    rows = [{"label": work.label, "stage": "controls", "note": note} for note in notes]
    return {"measures": named(work.label, measures), "notes": frame("notes", rows)}


def untrained(work: Property) -> Tables:
    """The same probe on the same words in the same model without its training, where it can be built without."""
    settings = work.settings
    try:
        acts = work.shared.untrained()
    except ModelError as error:
        note = {"label": work.label, "stage": "random weights", "note": str(error)}
        return {"notes": frame("notes", [note])}
    examples = examples_of(acts, work.corpus, settings.min_count)
    parts = loaded(split_by_sentences(examples, settings.shares, settings.seed))
    probe = refitted(work.probe, parts.train)
    return {"measures": named(work.label, {"random_weights": accuracy(probe, parts.test, seed=settings.seed)})}
