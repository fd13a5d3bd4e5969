"""Random neurons to compare with: of the same layers, and varying about as much."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int

from neuronatlas.neurons import NeuronError, NeuronSet

__all__ = ["NEAREST", "matched_controls"]

NEAREST = 10
"""Among how many neurons of about the same variance a control is drawn."""


def matched_controls(
    neurons: NeuronSet, variances: Float64[np.ndarray, " neuron"], n_controls: int, *, seed: int
) -> list[NeuronSet]:
    """Random sets for a set: each of its neurons is replaced by another of its layer, of about the same variance.

    `variances` are those of all neurons of the layout (flat), NaN where unknown: such a neuron is never taken. Each
    neuron's stand-in is drawn among the 10 nearest to it by rank of variance that are neither in the set nor taken.
    What a neuron does when it is replaced by its mean grows with its variance, so that plain random neurons, most of
    which hardly vary, would make any salient set look special.

    Errors: NeuronError when a layer has too few other neurons.

    >>> from neuronatlas.neurons import Layout
    >>> layout = Layout(site="ffn", widths=(4,))
    >>> [str(n) for n in matched_controls(layout.set(["L0.U1"]), np.array([1.0, 2.0, np.nan, np.nan]), 1, seed=0)[0]]
    ['L0.U0']
    """
    rng = np.random.default_rng(seed)
    layers = [(layer, *_ranked(neurons, layer, units, variances)) for layer, units in neurons.units().items()]
    sets = []
    for _ in range(n_controls):
        drawn = [neurons.layout.at(layer, unit) for layer, free, places in layers for unit in _draw(free, places, rng)]
        sets.append(NeuronSet.of(neurons.layout, drawn))
    return sets


def _ranked(
    neurons: NeuronSet, layer: int, units: list[int], variances: Float64[np.ndarray, " neuron"]
) -> tuple[Int[np.ndarray, " free"], Float64[np.ndarray, " salient"]]:
    """The layer's other neurons by rising variance, and where among them each of the set would stand."""
    start, end = neurons.layout.offsets[layer : layer + 2]
    of_layer = variances[start:end]
    known = np.flatnonzero(~np.isnan(of_layer))
    free = np.setdiff1d(known, units)
    if len(free) < len(units):
        raise NeuronError(
            f"layer {layer} has {len(free)} other neurons, {len(units)} are needed for a matched control: "
            "take a smaller set"
        )
    free = free[np.argsort(of_layer[free], kind="stable")]
    ordered = of_layer[free]
    # Between the first and the last of equal variances, half a rank before the neuron that would stand above it.
    below, up_to = (np.searchsorted(ordered, of_layer[units], side=side) for side in ("left", "right"))
    return free, (below + up_to) / 2 - 0.5


def _draw(
    free: Int[np.ndarray, " free"], places: Float64[np.ndarray, " salient"], rng: np.random.Generator
) -> list[int]:
    left = np.arange(len(free))
    chosen = []
    # In random order, so that what is left over for the last is not always left to the same neuron.
    for place in rng.permutation(places):
        # The nearest lie about the place: as many on one side, at most.
        start = max(0, int(np.searchsorted(left, place)) - NEAREST)
        about = left[start : start + 2 * NEAREST]
        pick = start + int(rng.choice(np.argsort(np.abs(about - place), kind="stable")[:NEAREST]))
        chosen.append(int(free[left[pick]]))
        left = np.delete(left, pick)
    return chosen
