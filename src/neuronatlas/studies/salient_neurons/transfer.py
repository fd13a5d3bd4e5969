"""Probes that are trained on one language and tested on another, and top neurons of two halves of one language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from neuronatlas.models import Model, ModelError
from neuronatlas.models.reinitialise import reinitialised
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.examples import Examples, Split, examples_of, split_by_sentences
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.scoring import Classifier, hits, refitted
from neuronatlas.statistics import accuracy_interval
from neuronatlas.studies.salience.property import REFIT_TOL, loaded
from neuronatlas.studies.salience.settings import SalienceSettings
from neuronatlas.studies.salient_neurons.reading import interval
from neuronatlas.studies.salient_neurons.study import Member

__all__ = ["Readings", "halves", "read", "transferred"]


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
                **interval("accuracy", accuracy_interval(right, test.sentences, seed=seed)),
                **{"majority": float(often.mean()), "n_new": int(new.sum())},
                **interval("new_accuracy", fresh),
                "new_majority": float(often[new].mean()) if new.any() else float("nan"),
            }


def halves(train: Examples, probe: Classifier, count: int, *, seed: int) -> tuple[NeuronSet, NeuronSet]:
    """The top `count` neurons by probes on either half of some sentences: how far sets differ by sampling alone."""
    sentences = np.unique(train.sentences)
    first = np.random.default_rng(seed).permutation(sentences)[: len(sentences) // 2]
    inside = np.isin(train.sentences, first)
    tops = []
    for rows in (np.flatnonzero(inside), np.flatnonzero(~inside)):
        half = train.take(rows)
        ranking = rank(half.acts, half.labels, method="lca", probe=refitted(probe, half), progress=False)
        tops.append(ranking.top(count))
    return tops[0], tops[1]


@dataclass(frozen=True, eq=False)
class Texts:
    """The activations of one model on the sentences of several languages, by name."""

    members: Mapping[str, Member]
    acts: Mapping[str, Activations]
    settings: SalienceSettings

    def parts(self, language: str, index: int) -> Split:
        """The examples of a property, divided as in the atlas of the language."""
        settings = self.settings
        corpus = self.members[language].corpora[index]
        examples = examples_of(self.acts[language], corpus, settings.min_count)
        return loaded(split_by_sentences(examples, settings.shares, settings.seed))


def read(members: Mapping[str, Member], settings: SalienceSettings, *, progress: bool) -> Iterator[tuple[str, Any]]:
    """Run the model, and its re-initialised self, over all languages; yields a property and its readings at a time.

    Yields (label, (readings, readings of random weights)): the latter None where the model cannot be re-initialised.
    """
    first = next(iter(members.values()))
    model = first.source.load()
    with TemporaryDirectory() as scratch:
        texts = _texts(model, members, settings, Path(scratch) / "trained", progress)
        try:
            fresh = reinitialised(model, settings.seed)
        except ModelError:
            untrained = None
        else:
            untrained = _texts(fresh, members, settings, Path(scratch) / "untrained", progress)
        for index, corpus in enumerate(first.corpora):
            kept = {
                name: ElasticNetProbe.load(member.folder / f"probe-{index}.safetensors").set_params(tol=REFIT_TOL)
                for name, member in members.items()
            }
            own = Readings({name: texts.parts(name, index) for name in members}, kept)
            yield corpus.label, (own, None if untrained is None else _refitted(untrained, index, kept))


def _texts(
    model: Model, members: Mapping[str, Member], settings: SalienceSettings, folder: Path, progress: bool
) -> Texts:
    take = partial(extract, layers=settings.layers, pooling=settings.pooling, dtype=settings.dtype, progress=progress)
    acts = {
        name: take(model, member.corpora[0], settings.site, folder / str(place))
        for place, (name, member) in enumerate(members.items())
    }
    return Texts(members, acts, settings)


def _refitted(texts: Texts, index: int, probes: Mapping[str, Classifier]) -> Readings:
    parts = {name: texts.parts(name, index) for name in texts.members}
    return Readings(parts, {name: refitted(probe, parts[name].train) for name, probe in probes.items()})
