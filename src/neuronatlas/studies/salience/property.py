"""One property on its way through a study: its examples, and what earlier stages found, read back from the atlas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from neuronatlas import durable
from neuronatlas.addresses import indices_in, neurons_in
from neuronatlas.atlas import Atlas
from neuronatlas.models.model import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.examples import Examples, Split, examples_of, split_by_sentences
from neuronatlas.probing.manifest import Lost
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.redundancy import Clusters
from neuronatlas.probing.scoring import Hits, hits
from neuronatlas.studies.salience.settings import SalienceSettings

__all__ = ["LOADED_BYTES", "REFIT_TOL", "Property", "Shared", "loaded"]

REFIT_TOL = 1e-2
"""Duality gap of probes that are trained anew only to see how often they are right.

A gap of a hundredth of a nat moves accuracy by less than its interval is wide, at a fraction of the time.
"""

LOADED_BYTES = 2 * 2**30
"""Examples of so many bytes are held in memory, where fitting is fastest; others are read from the disk each time."""


@dataclass(frozen=True)
class Shared:
    """What all properties of a study have in common.

    `lost` tells how many items have no activations; `untrained` gives the activations of the re-initialised model,
    which are extracted when they are first asked for, `clusters` those of neurons that behave alike.
    """

    atlas: Atlas
    model: Model
    settings: SalienceSettings
    acts: Activations
    lost: Lost
    untrained: Callable[[], Activations]
    clusters: Callable[[], Clusters]


class Property:
    """One of the corpora with its number.

    What a stage has stored is read from the atlas, so that a run that is taken up again works with the very numbers of
    one that was not interrupted.
    """

    def __init__(self, shared: Shared, index: int, corpus: Corpus) -> None:
        self.shared = shared
        self.index = index
        self.corpus = corpus
        self.settings = shared.settings

    @property
    def label(self) -> str:
        """Name of the property."""
        return self.corpus.label

    @cached_property
    def examples(self) -> Examples:
        """The labelled rows of its classes that are frequent enough."""
        return examples_of(self.shared.acts, self.corpus, self.settings.min_count)

    @cached_property
    def split(self) -> Split:
        """Train, dev and test by whole sentences."""
        return loaded(split_by_sentences(self.examples, self.settings.shares, self.settings.seed))

    @cached_property
    def probe(self) -> ElasticNetProbe:
        """The probe on all neurons, from the atlas; what is trained anew like it is solved to `REFIT_TOL`."""
        probe: ElasticNetProbe = ElasticNetProbe.load(self._probe_file).set_params(tol=REFIT_TOL)
        return probe

    def keep(self, probe: ElasticNetProbe) -> None:
        """Put the fitted probe into the atlas, whole or not at all."""
        scratch = self.shared.atlas.folder / ".tmp"
        scratch.mkdir(exist_ok=True)
        probe.save(scratch / self._probe_file.name)
        durable.publish(scratch / self._probe_file.name, self._probe_file)

    @property
    def _probe_file(self) -> Path:
        return self.shared.atlas.folder / f"probe-{self.index}.safetensors"

    @cached_property
    def test_hits(self) -> Hits:
        """Where the probe on all neurons is right in test."""
        return hits(self.probe, self.split.test)

    @cached_property
    def rankings(self) -> dict[str, Ranking]:
        """The rankings by method, from the atlas, in the order of the settings."""
        table = self._stored("rankings")
        layout = self.shared.acts.layout
        found = {}
        for method in self.settings.methods:
            mine = table.filter(pl.col("method") == method).sort("rank")
            found[method] = Ranking(layout, indices_in(mine, layout), method)
        return found

    @property
    def ranking(self) -> Ranking:
        """The ranking that sets, interventions and descriptions come from."""
        return self.rankings["lca"]

    @cached_property
    def class_ranking(self) -> Ranking:
        """The same with the order for each class alone: anew from the probe, since the atlas keeps the whole order."""
        train = self.split.train
        return rank(train.acts, train.labels, method="lca", probe=self.probe, progress=False)

    @cached_property
    def minimal(self) -> NeuronSet:
        """The minimal set, from the atlas."""
        return NeuronSet.of(self.shared.acts.layout, neurons_in(self._stored("sets").filter(pl.col("set") == 0)))

    def let_go(self) -> None:
        """Free the memory of the rows: the next property has its own."""
        for name in ("examples", "split", "test_hits"):
            self.__dict__.pop(name, None)

    def _stored(self, table: str) -> pl.DataFrame:
        return pl.concat(self.shared.atlas.read_parts(table)).filter(pl.col("label") == self.label)


def loaded(parts: Split) -> Split:
    """The parts with their activations in memory, where these are not too many."""
    whole = sum(4 * part.acts.shape[0] * part.acts.shape[1] for part in (parts.train, parts.dev, parts.test))
    if whole > LOADED_BYTES:
        return parts
    return Split(parts.train.loaded(), parts.dev.loaded(), parts.test.loaded(), parts.unseen)
