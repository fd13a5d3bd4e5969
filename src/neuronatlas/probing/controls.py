"""Controls of a probe: does it read a property off the neurons, or has it memorised words? (Hewitt and Liang 2019)."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from neuronatlas.probing.examples import Examples, ExamplesError
from neuronatlas.probing.scoring import Classifier, fitted, hits, majority_hits, refitted
from neuronatlas.statistics import Interval, accuracy_difference, accuracy_interval

__all__ = [
    "Baselines",
    "Exposure",
    "Selectivity",
    "accuracy_by_exposure",
    "baselines",
    "control_labels",
    "selectivity",
]

Seen = Bool[np.ndarray, " row"]


@dataclass(frozen=True)
class Selectivity:
    """Accuracy on test, accuracy on the control task, and their paired difference, the selectivity.

    Each with a bootstrap 95 % interval over sentences. `n_types` counts the word types of train and test.
    """

    accuracy: Interval
    control_accuracy: Interval
    selectivity: Interval
    n_types: int


@dataclass(frozen=True)
class Baselines:
    """Accuracy on test without a model, with bootstrap 95 % intervals over sentences.

    `majority` always says train's most frequent class; `word_majority` the most frequent class in train of the word's
    type, and the majority class for a type that train lacks: what memorising alone can do.
    """

    majority: Interval
    word_majority: Interval


@dataclass(frozen=True)
class Exposure:
    """Accuracy on the rows of test whose word type is in train, and on the others; NaN where there are none."""

    seen: Interval
    unseen: Interval
    n_seen: int
    n_unseen: int


def control_labels(words: Iterable[str], labels: Iterable[str | None], seed: int = 0) -> NDArray[np.object_]:
    """One random label a word type (its word in lower case), drawn from the distribution of the labels.

    `words` and `labels` are one an item: `examples.words` and `examples.labels`, or `corpus.items` and
    `corpus.labels`; an item without a label (None) gets none. The label of a type depends on the type, the seed and
    the distribution alone. Shares of items are kept in expectation: a frequent type moves its whole mass to one label.
    Where whole sentences carry the labels each text is a type of its own, and nothing can be known of those in test.

    Errors: ExamplesError when words and labels differ in number or there is no label.

    Source: Hewitt and Liang (2019), section 2.

    >>> words, labels = ["the", "cat", "The", "cats", "mat"], ["DET", "NOUN", "DET", "NOUN", None]
    >>> control_labels(words, labels, seed=0).tolist()
    ['DET', 'NOUN', 'DET', 'DET', None]
    """
    types, real = [word.lower() for word in words], list(labels)
    if len(real) != len(types):
        raise ExamplesError(f"{len(real)} labels for {len(types)} words: one a word expected")
    counts = Counter(str(label) for label in real if label is not None)
    if not counts:
        raise ExamplesError(f"none of the {len(types)} words has a label: no control task without a distribution")
    classes = sorted(counts)
    upper = np.cumsum([counts[name] for name in classes]) / counts.total()
    drawn = {kind: classes[int(np.searchsorted(upper, _uniform(kind, seed), side="right"))] for kind in set(types)}
    control = np.array([drawn[kind] for kind in types], dtype=object)
    control[[label is None for label in real]] = None
    return control


def selectivity(
    train: Examples, test: Examples, *, probe: Classifier | None = None, control_seed: int = 0, seed: int = 0
) -> Selectivity:
    """Accuracy of a probe less that of the same probe, trained anew, on a control task.

    High accuracy at low selectivity tells that the probe has the room to memorise words. A probe that is fitted on
    train is used as it is for the real task; without one an ElasticNetProbe is trained. `control_seed` draws the
    control labels, `seed` the bootstrap.

    Errors: ExamplesError when all words of train get one control label, or the probe is of other columns.

    Source: Hewitt and Liang (2019), section 3.

    >>> from neuronatlas.probing.activations import Activations
    >>> labels, words = ["A", "B"] * 50, [f"w{row % 40}" for row in range(100)]
    >>> examples = Examples.of(np.tile([[0.0], [1.0]], (50, 1)), labels, words, range(100))
    >>> found = selectivity(examples, examples)
    >>> found.accuracy.estimate, found.selectivity.estimate > 0.3
    (1.0, True)
    """
    real = fitted(probe, train)
    words = np.concatenate([train.words, test.words])
    labels = control_labels(words, np.concatenate([train.labels, test.labels]), control_seed)
    practice, exam = train.relabelled(labels[: len(train)]), test.relabelled(labels[len(train) :])
    if len(practice.classes) < 2:
        raise ExamplesError(
            f"all {len(set(train.types()))} word types of train got the control label {practice.classes[0]!r}, two are "
            "needed: take another control_seed, or more words"
        )
    right, control_right = hits(real, test), hits(refitted(real, practice), exam)
    return Selectivity(
        accuracy_interval(right, test.sentences, seed=seed),
        accuracy_interval(control_right, test.sentences, seed=seed),
        accuracy_difference(right, control_right, test.sentences, seed=seed),
        n_types=len({*train.types(), *test.types()}),
    )


def baselines(train: Examples, test: Examples, *, seed: int = 0) -> Baselines:
    """What can be had without a model: the majority class, and the majority class of each word type.

    >>> from neuronatlas.probing.activations import Activations
    >>> words = ["the", "cat", "The", "sat", "dog"]
    >>> train = Examples.of(np.ones((5, 1)), ["DET", "NOUN", "DET", "VERB", "NOUN"], words, range(5))
    >>> found = baselines(train, train)
    >>> found.majority.estimate, found.word_majority.estimate
    (0.4, 1.0)
    """
    told = np.array(_by_type(train, test.types()))
    return Baselines(
        accuracy_interval(majority_hits(train, test), test.sentences, seed=seed),
        accuracy_interval(told == test.labels, test.sentences, seed=seed),
    )


def accuracy_by_exposure(probe: Classifier, train: Examples, test: Examples, *, seed: int = 0) -> Exposure:
    """Accuracy of a fitted probe on the words of test that occur in train (in lower case), and on the new ones.

    >>> from sklearn.dummy import DummyClassifier
    >>> from neuronatlas.probing.activations import Activations
    >>> train = Examples.of(np.ones((3, 1)), ["A", "A", "B"], ["the", "a", "cat"], range(3))
    >>> test = Examples.of(np.ones((2, 1)), ["A", "B"], ["The", "dog"], range(2))
    >>> found = accuracy_by_exposure(DummyClassifier().fit(train.array(), train.labels), train, test)
    >>> found.seen.estimate, found.n_seen, found.unseen.estimate, found.n_unseen
    (1.0, 1, 0.0, 1)
    """
    known = set(train.types())
    seen: Seen = np.array([kind in known for kind in test.types()], dtype=bool)
    right = hits(probe, test)
    old, new = (accuracy_interval(right[rows], test.sentences[rows], seed=seed) for rows in (seen, ~seen))
    return Exposure(old, new, int(seen.sum()), int((~seen).sum()))


def _by_type(train: Examples, types: list[str]) -> list[str]:
    """Most frequent class of each word type in train, ties by name; the majority class where the type is new."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for kind, label in zip(train.types(), train.labels.tolist(), strict=True):
        counts[kind][label] += 1
    best = {kind: min(found, key=lambda label: (-found[label], label)) for kind, found in counts.items()}
    majority = next(iter(train.counts()))
    return [best.get(kind, majority) for kind in types]


def _uniform(kind: str, seed: int) -> float:
    """A number from 0 up to 1 that a word type and a seed fix, whatever other words there are."""
    digest = hashlib.sha256(f"{seed}\n{kind}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
