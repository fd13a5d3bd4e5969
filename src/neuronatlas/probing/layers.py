"""What each layer knows: a probe on every layer alone, and on all layers up to each, so that one sees which can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int
from tqdm.auto import tqdm

from neuronatlas.probing.examples import Examples
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.scoring import Classifier, Hits, hits, majority_hits, refitted
from neuronatlas.statistics import accuracy_difference, accuracy_interval

__all__ = ["accuracy_of_layers", "accuracy_up_to_layers", "lowest_layers"]

Places = Int[np.ndarray, " place"]


def accuracy_of_layers(
    train: Examples,
    test: Examples,
    *,
    dev: Examples | None = None,
    probe: Classifier | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pl.DataFrame:
    """Accuracy on test of a probe trained on each layer alone; one row a layer that the examples hold.

    `probe` gives kind and settings (ElasticNetProbe without one); it is trained anew each time. Columns: layer,
    n_neurons, accuracy and its bootstrap 95 % interval over sentences (low, high), chance (accuracy of train's most
    frequent class). With `dev` also dev_accuracy, the same on dev: choose a layer by this one, for the accuracy that
    it was chosen by flatters it.

    >>> from neuronatlas.neurons import Layout
    >>> from neuronatlas.probing.activations import Activations
    >>> values = np.stack([np.tile([0.0, 0.0, 1.0, 1.0], 10), np.tile([0.0, 1.0], 20)], axis=1)
    >>> acts = Activations.of(values, Layout(site="hidden", widths=(1, 1)))
    >>> examples = Examples.of(acts, ["A", "B"] * 20, ["w"] * 40, range(40))
    >>> accuracy_of_layers(examples, examples, progress=False).select("layer", "accuracy").rows()
    [(0, 0.5), (1, 1.0)]
    """
    layers = _layers(train)
    parts = {int(layer): np.flatnonzero(layers == layer) for layer in np.unique(layers)}
    return _frame(_right(train, test, dev, parts, probe, progress), train, test, seed)


def accuracy_up_to_layers(
    train: Examples,
    test: Examples,
    *,
    dev: Examples | None = None,
    probe: Classifier | None = None,
    seed: int = 0,
    progress: bool = True,
) -> pl.DataFrame:
    """Accuracy on test of a probe trained on all layers up to each one, together; else as `accuracy_of_layers`.

    Three more columns: loss, the accuracy with all layers less that of the row, paired, and its interval (loss_low,
    loss_high).

    Source: Dalvi, Sajjad, Durrani and Belinkov (2020), layer selection.

    >>> from neuronatlas.neurons import Layout
    >>> from neuronatlas.probing.activations import Activations
    >>> idle, salient = np.tile([0.0, 0.0, 1.0, 1.0], 10), np.tile([0.0, 1.0], 20)
    >>> values = np.stack([idle, salient, idle], axis=1)
    >>> acts = Activations.of(values, Layout(site="hidden", widths=(1, 1, 1)))
    >>> examples = Examples.of(acts, ["A", "B"] * 20, ["w"] * 40, range(40))
    >>> up_to = accuracy_up_to_layers(examples, examples, progress=False)
    >>> up_to["accuracy"].to_list(), up_to["loss"].to_list(), lowest_layers(up_to)
    ([0.5, 1.0, 1.0], [0.5, 0.0, 0.0], 1)
    """
    layers = _layers(train)
    parts = {int(layer): np.flatnonzero(layers <= layer) for layer in np.unique(layers)}
    right = _right(train, test, dev, parts, probe, progress)
    losses = [accuracy_difference(right[-1].right, one.right, test.sentences, seed=seed) for one in right]
    return _frame(right, train, test, seed).with_columns(
        loss=pl.Series([loss.estimate for loss in losses]),
        loss_low=pl.Series([loss.low for loss in losses]),
        loss_high=pl.Series([loss.high for loss in losses]),
    )


def lowest_layers(up_to: pl.DataFrame, delta: float = 0.01) -> int:
    """Lowest layer up to which the layers together lose at most `delta` of accuracy: those above can go.

    `up_to` comes from `accuracy_up_to_layers`; the accuracy with all layers is its last row. It is chosen by the
    accuracy on dev where that was measured.

    >>> up_to = pl.DataFrame({"layer": [0, 1, 2], "accuracy": [0.7, 0.895, 0.9]})
    >>> lowest_layers(up_to), lowest_layers(up_to.with_columns(dev_accuracy=pl.Series([0.7, 0.85, 0.9])))
    (1, 2)
    """
    score = up_to["dev_accuracy" if "dev_accuracy" in up_to.columns else "accuracy"]
    enough = up_to.filter(score >= score[-1] - delta - 1e-9)
    return int(enough["layer"][0])


@dataclass(frozen=True, eq=False)
class _Judged:
    """Where a probe on some layers is right, and how often on dev."""

    layer: int
    n_neurons: int
    right: Hits
    on_dev: float | None


def _right(
    train: Examples,
    test: Examples,
    dev: Examples | None,
    parts: Mapping[int, Places],
    probe: Classifier | None,
    progress: bool,
) -> list[_Judged]:
    model = ElasticNetProbe() if probe is None else probe
    judged = []
    for layer, places in tqdm(parts.items(), desc="layers", unit="layer", disable=not progress):
        own = refitted(model, train.take_columns(places))
        on_dev = None if dev is None else float(hits(own, dev.take_columns(places)).mean())
        judged.append(_Judged(layer, len(places), hits(own, test.take_columns(places)), on_dev))
    return judged


def _frame(judged: Sequence[_Judged], train: Examples, test: Examples, seed: int) -> pl.DataFrame:
    chance = float(majority_hits(train, test).mean())
    intervals = [accuracy_interval(one.right, test.sentences, seed=seed) for one in judged]
    on_dev = [one.on_dev for one in judged]
    chosen_by = {} if None in on_dev else {"dev_accuracy": on_dev}
    return pl.DataFrame(
        {
            "layer": [one.layer for one in judged],
            "n_neurons": [one.n_neurons for one in judged],
            **chosen_by,
            "accuracy": [interval.estimate for interval in intervals],
            "low": [interval.low for interval in intervals],
            "high": [interval.high for interval in intervals],
            "chance": chance,
        }
    )


def _layers(examples: Examples) -> Places:
    """Layer of each column."""
    return np.searchsorted(examples.acts.layout.offsets, examples.acts.columns, side="right") - 1
