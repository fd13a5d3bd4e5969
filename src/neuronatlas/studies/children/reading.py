"""How well the layers of a base and of its child tell a task, on sentences that the child was not trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from neuronatlas.models import Model
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.examples import Examples
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.layers import accuracy_of_layers
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.studies.children.settings import ChildSettings
from neuronatlas.studies.children.task import Task

__all__ = ["LAYERS", "task_layers"]

LAYERS: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "layer": pl.Int64,
    "accuracy": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "chance": pl.Float64,
}
"""Columns of the table: which model, `base` or `child`, and what `accuracy_of_layers` gives."""

_SITE = "hidden"
_L1, _L2, _TOL = 1e-3, 1e-2, 1e-2
"""Penalties of the probes, those of an atlas of salient neurons, and their duality gap."""


def task_layers(models: Mapping[str, Model], corpus: Corpus, task: Task, settings: ChildSettings) -> pl.DataFrame:
    """Accuracy of a probe on each layer alone, trained on the sentences of dev and tested on those of test.

    `models` by the name that they have in the table: the base and its child. No probe sees a sentence that the child
    was trained on, and all of them see the same words. The labels are the true ones. A table without rows where dev has
    a single class, of which no probe can be made.
    """
    if len(np.unique(task.targets("dev"))) < 2:
        return pl.DataFrame(schema=LAYERS)
    sentences = {part: sorted(row.sentence for row in task.rows[part]) for part in ("dev", "test")}
    found = []
    for name, model in models.items():
        train, test = (_examples(model, corpus, task, part, sentences[part], settings) for part in sentences)
        table = accuracy_of_layers(
            train, test, probe=ElasticNetProbe(_L1, _L2, tol=_TOL), seed=settings.seed, progress=False
        )
        found.append(table.select(pl.lit(name).alias("model"), *list(LAYERS)[1:]))
    return pl.concat(found)


def _examples(
    model: Model, corpus: Corpus, task: Task, part: str, sentences: list[int], settings: ChildSettings
) -> Examples:
    text = corpus.take(sentences)
    acts: Activations = extract(model, text, _SITE, pooling=settings.pooling, progress=False)
    labels = text.labels[acts.items]
    rows = np.flatnonzero([label is not None and label in task.classes for label in labels])
    items = acts.items[rows]
    return Examples.of(acts.chosen(rows=rows), labels[rows], text.items[items], text.sentence_of[items])
