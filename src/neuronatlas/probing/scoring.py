"""Fit a probe and score it: what ablation, minimal sets, controls and redundancy share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool
from sklearn.base import clone

from neuronatlas.probing.examples import Examples, ExamplesError
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.statistics import Interval, accuracy_interval

__all__ = ["Classifier", "accuracy", "fitted", "hits", "majority_hits", "refitted"]

Hits = Bool[np.ndarray, " row"]


class Classifier(Protocol):
    """A scikit-learn classifier: ElasticNetProbe, or one of scikit-learn's own."""

    def fit(self, x: Any, y: Any, /) -> Any:
        """Learn from rows and their classes."""

    def predict(self, x: Any, /) -> Any:
        """Class of each row."""


def refitted(probe: Classifier, train: Examples) -> Classifier:
    """Fit a fresh copy of a probe, of the same settings, on all columns of some examples."""
    fresh: Classifier = clone(probe)
    fresh.fit(train.acts, train.labels)
    return fresh


def fitted(probe: Classifier | None, train: Examples) -> Classifier:
    """Give the probe back where it is fitted; else fit a copy of it (ElasticNetProbe without one) on the examples.

    Errors: ExamplesError where it was fitted on another number of columns.
    """
    probe = ElasticNetProbe() if probe is None else probe
    if not hasattr(probe, "classes_"):
        return refitted(probe, train)
    columns = getattr(probe, "n_features_in_", train.n_neurons)
    if columns != train.n_neurons:
        raise ExamplesError(
            f"the probe was fitted on {columns} neurons, these examples have {train.n_neurons}: fit it on these"
        )
    return probe


def hits(probe: Classifier, examples: Examples) -> Hits:
    """Where a fitted probe is right, [row]; rows are read in chunks."""
    right = np.empty(len(examples), dtype=bool)
    for rows, block in examples.acts.chunks():
        right[rows] = np.asarray(probe.predict(block)) == examples.labels[rows]
    return right


def majority_hits(train: Examples, test: Examples) -> Hits:
    """Where the most frequent class of train (ties by name) is right in test, [row]: chance level."""
    return np.asarray(test.labels == next(iter(train.counts())))


def accuracy(probe: Classifier, examples: Examples, *, seed: int = 0) -> Interval:
    """Share of rows that a fitted probe gets right, with a bootstrap 95 % interval over sentences."""
    return accuracy_interval(hits(probe, examples), examples.sentences, seed=seed)
