"""Probes that are trained on one language and tested on another, and top neurons of two halves of one language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuronatlas import durable
from neuronatlas.models import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.examples import Examples, ExamplesError, Split, examples_of, split_by_sentences
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.scoring import Classifier, hits, refitted
from neuronatlas.statistics import accuracy_interval
from neuronatlas.studies.salience.property import REFIT_TOL, loaded
from neuronatlas.studies.salience.settings import SalienceSettings
from neuronatlas.studies.salient_neurons.study import Member

__all__ = ["Readings", "Texts", "halves", "in_halves", "texts_of", "transferred"]


@dataclass(frozen=True, eq=False)
class Readings:
    """One property in several languages, by name: the examples of each, and a probe that was fitted on its train."""

    parts: Mapping[str, Split]
    probes: Mapping[str, Classifier]


def transferred(found: Readings, *, seed: int) -> Iterator[dict[str, Any]]:
    """Accuracy of each language's probe on the test sentences of each, itself included; one row a pair.

    Words of classes that train lacks are left out, `n_unknown` of them. `majority` is the accuracy of train's most
    frequent class; `new_accuracy` that on the `n_new` words (in lower case) that train does not have, as languages
    share punctuation and names, with `new_majority` there.
    """
    for trained, probe in found.probes.items():
        train = found.parts[trained].train
        frequent, known = next(iter(train.counts())), set(train.types())
        for tested, parts in found.parts.items():
            whole = parts.test
            test = whole.take(np.flatnonzero(np.isin(whole.labels, train.classes)))
            if not len(test):
                continue
            right, often = hits(probe, test), test.labels == frequent
            new = np.array([word not in known for word in test.types()], dtype=bool)
            fresh = accuracy_interval(right[new], test.sentences[new], seed=seed)
            yield {
                **{"trained": trained, "tested": tested, "n_test": len(test), "n_unknown": len(whole) - len(test)},
                **accuracy_interval(right, test.sentences, seed=seed).columns("accuracy"),
                **{"majority": float(often.mean()), "n_new": int(new.sum())},
                **fresh.columns("new_accuracy"),
                "new_majority": float(often[new].mean()) if new.any() else float("nan"),
            }


def halves(train: Examples, probe: Classifier, count: int, *, seed: int) -> tuple[NeuronSet, NeuronSet]:
    """The top `count` neurons by probes on either half of some sentences: how far sets differ by sampling alone.

    Both probes are of the classes of `in_halves`.

    Errors: ExamplesError where fewer than two classes are in both halves.
    """
    first, second, _ = in_halves(train, seed=seed)
    tops = []
    for half in (first, second):
        ranking = rank(half.acts, half.labels, method="lca", probe=refitted(probe, half), progress=False)
        tops.append(ranking.top(count))
    return tops[0], tops[1]


_ORDERS = 50
"""So many orders of the sentences are tried for one whose halves both have all classes."""


def in_halves(train: Examples, *, seed: int) -> tuple[Examples, Examples, tuple[str, ...]]:
    """Two halves of the sentences that have the same classes, and the classes that had to be left out for it.

    Of some random orders the first one counts whose halves share the most classes: a class of few sentences may be in
    one half alone, and one of a single sentence always is.

    Errors: ExamplesError where fewer than two classes are in both halves.

    >>> examples = Examples.of(np.eye(9), list("AABBAABBC"), ["w"] * 9, [0, 0, 0, 1, 1, 2, 2, 3, 3])
    >>> first, second, left_out = in_halves(examples, seed=0)
    >>> first.classes, second.classes, left_out
    (('A', 'B'), ('A', 'B'), ('C',))
    """
    sentences, rng = np.unique(train.sentences), np.random.default_rng(seed)
    inside, both = np.zeros(len(train), dtype=bool), set[str]()
    for _ in range(_ORDERS):
        chosen = np.isin(train.sentences, rng.permutation(sentences)[: len(sentences) // 2])
        shared = set(train.labels[chosen].tolist()) & set(train.labels[~chosen].tolist())
        if len(shared) > len(both):
            inside, both = chosen, shared
        if len(both) == len(train.classes):
            break
    if len(both) < 2:
        raise ExamplesError(
            f"{len(both)} of {len(train.classes)} classes in both halves of {len(sentences)} sentences, two or more "
            "needed: bring more sentences"
        )
    kept = np.isin(train.labels, sorted(both))
    first, second = (train.take(np.flatnonzero(part & kept)) for part in (inside, ~inside))
    return first, second, tuple(name for name in train.classes if name not in both)


@dataclass(frozen=True, eq=False)
class Texts:
    """The activations of one model on the sentences of several languages, by name."""

    members: Mapping[str, Member]
    acts: Mapping[str, Activations]
    settings: SalienceSettings

    def readings(self, index: int) -> Readings:
        """A property, divided as in the atlas of each language, with the probes that are kept there."""
        return Readings(self._parts(index), self._probes(index))

    def refitted(self, index: int) -> Readings:
        """The same with probes that are trained anew on these activations."""
        parts = self._parts(index)
        return Readings(
            parts, {name: refitted(probe, parts[name].train) for name, probe in self._probes(index).items()}
        )

    def _probes(self, index: int) -> dict[str, Classifier]:
        return {
            name: ElasticNetProbe.load(member.folder / f"probe-{index}.safetensors").set_params(tol=REFIT_TOL)
            for name, member in self.members.items()
        }

    def _parts(self, index: int) -> dict[str, Split]:
        settings, found = self.settings, dict[str, Split]()
        for name, member in self.members.items():
            examples = examples_of(self.acts[name], member.corpora[index], settings.min_count)
            found[name] = loaded(split_by_sentences(examples, settings.shares, settings.seed))
        return found


@contextmanager
def texts_of(
    members: Mapping[str, Member],
    settings: SalienceSettings,
    folder: Path,
    prepared: Callable[[Model], Model],
    *,
    progress: bool,
) -> Iterator[Texts]:
    """Run the model, as `prepared` makes it, over the sentences of all languages, where the atlases read it.

    The activations lie in `folder`, which is gone at the end, whatever happens inside.
    """
    try:
        yield Texts(members, _extracted(members, settings, folder, prepared, progress), settings)
    finally:
        durable.remove(folder)


def _extracted(
    members: Mapping[str, Member],
    settings: SalienceSettings,
    folder: Path,
    prepared: Callable[[Model], Model],
    progress: bool,
) -> dict[str, Activations]:
    model = prepared(next(iter(members.values())).source.load())
    found = {}
    for place, (name, member) in enumerate(members.items()):
        # A model with an encoder and a decoder is read at another site than the settings say.
        made = member.atlas.meta["settings"]
        found[name] = extract(
            model,
            member.corpora[0],
            made["site"],
            folder / str(place),
            layers=None if made["layers"] is None else tuple(made["layers"]),
            pooling=settings.pooling,
            dtype=settings.dtype,
            progress=progress,
        )
    return found
