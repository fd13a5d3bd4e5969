"""Linguistic Correlation Analysis: neurons ranked by the weights of a linear probe (Durrani et al. 2023, section 3).

>>> lca_order(np.array([[4.0, 0.0, 3.0, 1.0], [0.0, 0.0, 9.0, 1.0]])).tolist()
[2, 0, 3, 1]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int

from neuronatlas.neurons import Layout, NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.labelled_rows import ByClass, Labelled, Outcome
from neuronatlas.probing.ranking import Order, RankingError

__all__ = ["EntryMasses", "entry_masses", "lca", "lca_order", "loss_gradient", "top_neurons", "union"]

Weights = Float[np.ndarray, "class column"]
RowClass = Float64[np.ndarray, "row class"]


@dataclass(frozen=True, eq=False)
class EntryMasses:
    """When neurons enter as the mass grows, class by class.

    `orders[c]` are the columns by falling |W_c|, ties by address. `masses[c, j]` is the share of class c's weight that
    lies before column j in that order, infinite where W_cj is 0. `shares[c, j]` is |W_cj| / sum|W_c|.
    """

    orders: Int[np.ndarray, "class rank"]
    masses: ByClass
    shares: ByClass

    def prefix(self, code: int, mass: float) -> Order:
        """Top neurons of a class: the shortest prefix whose weight reaches `mass` of the class'; none has one of 0."""
        entered = int((self.masses[code] < mass).sum())
        least = int(self.shares[code].any())
        return self.orders[code, : max(entered, least)]


def entry_masses(weights: Weights) -> EntryMasses:
    """Order the columns of each class and find the mass at which each enters.

    Errors: RankingError for weights that are no finite matrix [class, column].
    """
    values = np.abs(np.asarray(weights, dtype=np.float64))
    if values.ndim != 2:
        raise RankingError(f"weights of shape {values.shape}: a matrix [class, neuron] expected")
    if not np.isfinite(values).all():
        code, column = np.argwhere(~np.isfinite(values))[0]
        raise RankingError(
            f"weights must be finite: that of class {code} for neuron {column} is {values[code, column]}"
        )
    orders = np.argsort(-values, axis=1, kind="stable")
    falling = np.take_along_axis(values, orders, axis=1)
    sums = np.cumsum(falling, axis=1)
    totals = np.where(sums[:, -1:] > 0, sums[:, -1:], 1.0)
    before = np.concatenate([np.zeros((len(values), 1)), sums[:, :-1]], axis=1) / totals
    masses = np.empty_like(values)
    np.put_along_axis(masses, orders, np.where(falling > 0, before, np.inf), axis=1)
    return EntryMasses(orders, masses, values / totals)


def lca_order(weights: Weights, gradient: Weights | None = None) -> Order:
    """Rank columns by the mass at which they enter: total, deterministic, favouring no layer.

    A column's entry mass is the share of |W_c| before it in class c's falling order, at least over the classes. Ties
    go to the larger share |W_cj| / sum|W_c| in the class of entry, then to the lower address. Columns whose weights
    are all 0 come last, by their largest |gradient| [class, column] of the loss, then by address. The first columns,
    up to any mass, are the union over classes of `top_neurons` at it.

    Errors: RankingError for weights that are not finite, or a gradient of another width.
    """
    return _order(entry_masses(weights), gradient)


def _order(found: EntryMasses, gradient: Weights | None) -> Order:
    n_columns = found.masses.shape[1]
    entry = found.masses.min(axis=0)
    strength = np.where(found.masses == entry, found.shares, 0.0).max(axis=0)
    weightless = np.isinf(entry)
    if gradient is not None:
        if gradient.ndim != 2 or gradient.shape[1] != n_columns:
            raise RankingError(f"a gradient of shape {gradient.shape} for weights of {n_columns} neurons")
        strength[weightless] = np.abs(gradient).max(axis=0)[weightless]
    return np.lexsort((np.arange(n_columns), -strength, entry))


def lca(rows: Labelled, probe: Any) -> Outcome:
    """Rank by a fitted probe's weights; see `lca_order`. The scores are 1 - entry mass, 0 for neurons without weight.

    `probe` has `classes_` and `coef_` [class, column] (one row when there are two classes), and may have
    `intercept_`, and `mean_` and `scale_` when its weights are for standardised columns.

    Errors: RankingError for a probe that is not fitted, or of other classes or neurons.
    """
    read = _Read.of(probe, rows.acts)
    read.codes(rows)
    found = entry_masses(read.weights)
    weightless = np.isinf(found.masses.min(axis=0))
    order = _order(found, loss_gradient(rows, probe) if weightless.any() else None)
    empty = [name for name, code in read.rows.items() if not found.shares[code].any()]
    notes = []
    if empty:
        notes.append(f"classes without weight, skipped: {', '.join(empty)}")
    if weightless.any():
        notes.append(f"{int(weightless.sum())} of {len(weightless)} neurons have no weight and come last, by gradient")
    by_class = {name: found.orders[code] for name, code in read.rows.items() if name not in empty}
    scores = np.where(weightless, 0.0, 1.0 - np.where(weightless, 0.0, found.masses.min(axis=0)))
    return Outcome(order, scores, by_class, tuple(notes))


def loss_gradient(rows: Labelled, probe: Any) -> ByClass:
    """Gradient [class, column] of the mean cross entropy by the probe's weights, in the probe's units of the columns.

    With two classes there is one row of weights, and one of the gradient. Labels must be among the probe's classes.
    """
    read = _Read.of(probe, rows.acts)
    targets = read.codes(rows)
    active = np.flatnonzero(read.weights.any(axis=0))
    inner = read.weights[:, active] / read.scale[active]
    offset = read.intercept - inner @ read.mean[active]
    products, residuals = np.zeros(read.weights.shape), np.zeros(len(read.weights))
    for where, block in rows.blocks("Gradient"):
        residual = _residual(block[:, active] @ inner.T + offset, targets[where])
        products += residual.T @ (block - read.mean)
        residuals += residual.sum(axis=0)
    gradient: ByClass = products / read.scale / len(rows.acts)
    return gradient


def _residual(logits: RowClass, targets: Int[np.ndarray, " row"]) -> RowClass:
    """Probabilities less targets; of the second class alone where there is one logit."""
    residual: RowClass
    if logits.shape[1] == 1:
        residual = np.exp(-np.logaddexp(0.0, -logits)) - targets[:, None]
        return residual
    residual = np.exp(logits - logits.max(axis=1, keepdims=True))
    residual /= residual.sum(axis=1, keepdims=True)
    residual[np.arange(len(targets)), targets] -= 1.0
    return residual


def top_neurons(
    probe: Any,
    mass: float,
    *,
    layout: Layout | None = None,
    columns: Sequence[int] | None = None,
) -> dict[str, NeuronSet]:
    """Top neurons of each class: the shortest prefix by falling |W_c| whose sum reaches `mass` of the whole.

    `probe` is a fitted probe, or weights [class, column], whose classes are then named `0`, `1`, ... `mass` is from 0
    to 1; 0 gives one neuron a class. A class without weight has none. The layout, and the flat index of each column
    in it, are the probe's where it was fitted on activations of a model.

    Errors: RankingError for a mass outside 0 to 1, or a probe that is not fitted.

    >>> sets = top_neurons(np.array([[4.0, 0.0, 3.0, 1.0], [0.0, 0.0, 9.0, 1.0]]), 0.6)
    >>> [str(neuron) for neuron in sets["0"]], [str(neuron) for neuron in union(sets)]
    (['L0.U0', 'L0.U2'], ['L0.U0', 'L0.U2'])
    """
    if not 0 <= mass <= 1:
        raise RankingError(f"a mass of {mass}: from 0 to 1 expected")
    weights, names = _weights(probe)
    width = weights.shape[1]
    layout = layout or getattr(probe, "layout_", None) or Layout(site="array", widths=(width,), stack="")
    given = getattr(probe, "columns_", None) if columns is None else columns
    indices = np.arange(width) if given is None else np.asarray(given)
    if len(indices) != width or not 0 <= int(indices.min()) <= int(indices.max()) < layout.n_neurons:
        raise RankingError(
            f"{len(indices)} columns of {layout.n_neurons} neurons for weights of {width}: one each expected"
        )
    found = entry_masses(weights)
    return {
        name: NeuronSet.of(layout, (layout.neuron(int(indices[column])) for column in found.prefix(code, mass)))
        for name, code in names.items()
    }


def union(sets: Mapping[str, NeuronSet] | Iterable[NeuronSet]) -> NeuronSet:
    """Neurons that are in at least one of the sets; RankingError when there is no set."""
    given = list(sets.values() if isinstance(sets, Mapping) else sets)
    if not given:
        raise RankingError("no sets of neurons to unite")
    for other in given[1:]:
        given[0].layout.require(other.layout)
    return NeuronSet.of(given[0].layout, (neuron for members in given for neuron in members))


def _weights(probe: Any) -> tuple[Weights, dict[str, int]]:
    """Weights, and the row of each class: with two classes both have the only one."""
    if not hasattr(probe, "coef_"):
        if hasattr(probe, "fit"):
            raise RankingError(f"{type(probe).__name__} is not fitted: call fit(activations, labels) first")
        weights = np.asarray(probe, dtype=np.float64)
        return weights, {str(code): code for code in range(len(weights))}
    weights, names = np.atleast_2d(np.asarray(probe.coef_)), [str(name) for name in probe.classes_]
    if len(weights) not in {len(names), 1 if len(names) == 2 else len(names)}:
        raise RankingError(f"a probe of {len(names)} classes with {len(weights)} rows of weights")
    return weights, {name: min(code, len(weights) - 1) for code, name in enumerate(names)}


@dataclass(frozen=True, eq=False)
class _Read:
    """What is read from a probe: weights, where each class' row is, intercept, and the columns' mean and scale."""

    weights: Float64[np.ndarray, "class column"]
    rows: dict[str, int]
    intercept: Float64[np.ndarray, " class"]
    mean: Float64[np.ndarray, " column"]
    scale: Float64[np.ndarray, " column"]

    @classmethod
    def of(cls, probe: Any, acts: Activations) -> _Read:
        weights, rows = _weights(probe)
        width = acts.shape[1]
        if weights.shape[1] != width:
            raise RankingError(f"a probe of {weights.shape[1]} neurons for activations of {width}: fit it on these")
        layout, columns = getattr(probe, "layout_", None), getattr(probe, "columns_", None)
        if layout is not None and "array" not in {layout.site, acts.layout.site}:
            acts.layout.require(layout)
            if columns is not None and not np.array_equal(columns, acts.columns):
                raise RankingError("the probe was fitted on other neurons of this model: fit it on these")
        scale = _vector(probe, "scale_", width, 1.0)
        # A constant column has no scale; its values less their mean are 0 whatever they are divided by.
        scale = np.where(scale > 0, scale, 1.0)
        intercept = _vector(probe, "intercept_", len(weights), 0.0)
        return cls(weights.astype(np.float64), rows, intercept, _vector(probe, "mean_", width, 0.0), scale)

    def codes(self, rows: Labelled) -> Int[np.ndarray, " row"]:
        """The place of each row's class among the probe's classes."""
        known = {name: code for code, name in enumerate(self.rows)}
        for name in rows.classes:
            if name not in known:
                raise RankingError(
                    f"label {name!r} is not among the {len(known)} classes of the probe: fit it on these"
                )
        codes: Int[np.ndarray, " row"] = np.array([known[name] for name in rows.classes])[rows.codes]
        return codes


def _vector(probe: Any, name: str, length: int, default: float) -> np.ndarray:
    value = getattr(probe, name, None)
    return np.broadcast_to(np.asarray(default if value is None else value, dtype=np.float64), (length,))
