"""Atlases of models that do not exist: activations in which it is known which neurons carry a property, and where."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from neuronatlas.atlas import Atlas
from neuronatlas.models import Model
from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.manifest import Lost
from neuronatlas.probing.redundancy import Clusters, correlation_tree
from neuronatlas.studies.salience.building import measure
from neuronatlas.studies.salience.property import Shared
from neuronatlas.studies.salient_neurons.measuring import stages
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.study import Member, Source

SENTENCES, WORDS, TYPES = 300, 5, 500

Copies = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Planted:
    """A model's layers, and for each property its copies: one neuron (flat index) a bit, each copy alone enough.

    `names` are the properties in order; `seed` draws the noise, that of the labels is another one, so that models may
    differ in noise and not in labels.
    """

    widths: tuple[int, ...]
    copies: Mapping[str, Copies]
    seed: int = 0
    noise: float = 0.3


def bits_of(label: str, n_bits: int) -> np.ndarray:
    """The bits of every word for a property: the same in all models, and for `x~2` those of `x`."""
    rng = np.random.default_rng([7, *label.partition("~")[0].encode()])
    return rng.integers(0, 2, size=(SENTENCES * WORDS, n_bits))


def corpora(planted: Planted) -> tuple[Corpus, ...]:
    """The sentences with the labels of each property; words say nothing about classes."""
    words = np.random.default_rng(3).integers(0, TYPES, size=(SENTENCES, WORDS))
    found = []
    for label, copies in planted.copies.items():
        named = ["".join(map(str, row)) for row in bits_of(label, max(1, len(copies[0]) if copies else 1))]
        sentences = tuple(
            Sentence.of([f"w{word}" for word in row], named[WORDS * i : WORDS * (i + 1)], source=f"{i}")
            for i, row in enumerate(words)
        )
        found.append(Corpus(sentences, label))
    return tuple(found)


def activations(planted: Planted) -> Activations:
    """Noise of another mean in every neuron, but for the planted ones."""
    rng = np.random.default_rng(planted.seed)
    values = rng.normal(size=(SENTENCES * WORDS, sum(planted.widths)))
    for label, copies in planted.copies.items():
        for copy in copies:
            bits = bits_of(label, len(copy))
            values[:, list(copy)] = 4.0 * bits - 2 + rng.normal(scale=planted.noise, size=bits.shape)
    values += rng.normal(scale=3, size=values.shape[1])
    layout = Layout(site="hidden", widths=planted.widths, digest=f"planted {planted.seed}")
    return Activations.of(values.astype(np.float32), layout)


def member(
    planted: Planted, index: int, folder: Path, settings: StudySettings, name: str, only: Collection[str] = ()
) -> Member:
    """The finished atlas of a planted model, as a member of a study; of some stages alone where they are named."""
    target, texts, acts = folder / str(index), corpora(planted), activations(planted)

    @cache
    def clusters() -> Clusters:
        return correlation_tree(acts, progress=False).cut(settings.salience.threshold)

    noise = activations(Planted(planted.widths, dict.fromkeys(planted.copies, ()), planted.seed + 1))
    model = cast(Model, SimpleNamespace(device=torch.device("cpu")))
    about: dict[str, Any] = {"id": name, "digest": f"planted {planted.seed}", "kind": "masked"}
    with Atlas.create_or_resume(target, model=about, settings={"site": "hidden"}) as atlas:
        shared = Shared(atlas, model, settings.salience, acts, Lost(), lambda: noise, clusters)
        done = [stage for stage in stages(settings) if not only or stage.name in only]
        measure(shared, texts, done, progress=False)
    return Member(index, Source(name, lambda: model), target, texts)
