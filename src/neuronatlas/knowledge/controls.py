"""Controls of an intervention: sets of neurons that are as many and as placed, but not the fact's own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from neuronatlas.neurons import NeuronError, NeuronScores, NeuronSet

__all__ = ["matched_control"]

NEAREST = 20


def matched_control(neurons: NeuronSet, activations: NeuronScores, seed: int) -> NeuronSet:
    """Random neurons of the same layers, matched one by one in |activation|: drawn among the 20 nearest that are free.

    In a sparse model most neurons are 0 whatever is done to them, so that plain random ones are too easy a control.

    Errors: NeuronError when a layer has too few other neurons; LayoutMismatchError.
    """
    neurons.layout.require(activations.layout)
    rng, chosen = np.random.default_rng(seed), []
    for layer, units in neurons.units().items():
        size = np.abs(activations.layer(layer).astype(np.float64))
        taken = set(units)
        for unit in units:
            free = _nearest(size, unit, taken)
            if not len(free):
                raise NeuronError(f"layer {layer} has no free neuron left to match {neurons.layout.at(layer, unit)}")
            match = int(rng.choice(free))
            taken.add(match)
            chosen.append(neurons.layout.at(layer, match))
    return NeuronSet.of(neurons.layout, chosen)


def _nearest(size: Float[np.ndarray, " unit"], unit: int, taken: set[int]) -> list[int]:
    order = np.argsort(np.abs(size - size[unit]), kind="stable")
    return [int(other) for other in order[: NEAREST + len(taken)] if int(other) not in taken][:NEAREST]
