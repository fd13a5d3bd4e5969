"""A ranking: neurons in the order of their salience, total and deterministic.

>>> layout = Layout(site="hidden", widths=(2, 2))
>>> ranking = Ranking(layout, np.array([3, 0, 1]), method="lca")
>>> [str(neuron) for neuron in ranking.top(2)], [str(neuron) for neuron in ranking.bottom(1)]
(['L0.U0', 'L1.U1'], ['L0.U1'])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from neuronatlas.neurons import Layout, Neuron, NeuronError, NeuronSet

__all__ = ["Ranking"]

Order = Int[np.ndarray, " rank"]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Neurons in the order of their salience: `order[0]` is the flat index of the most salient one.

    `by_class` has, for methods that know it, the order for each class alone. `notes` say what a reader must know, such
    as classes that were skipped.

    Errors: NeuronError for an order that names a neuron twice or one that the layout does not have.
    """

    layout: Layout
    order: Order
    method: str
    by_class: Mapping[str, Order] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(np.unique(self.order)) != len(self.order):
            raise NeuronError(f"the {self.method} ranking names a neuron twice")
        if len(self.order) and not 0 <= int(self.order.min()) <= int(self.order.max()) < self.layout.n_neurons:
            raise NeuronError(f"the {self.method} ranking names neurons beyond the {self.layout.n_neurons} there are")

    def __len__(self) -> int:
        return len(self.order)

    def neurons(self) -> list[Neuron]:
        """The neurons, most salient first."""
        return [self.layout.neuron(int(index)) for index in self.order]

    def top(self, count: int) -> NeuronSet:
        """The `count` most salient neurons."""
        return self._set(self.order[: _checked(count)])

    def bottom(self, count: int) -> NeuronSet:
        """The `count` least salient neurons."""
        return self._set(self.order[len(self.order) - min(_checked(count), len(self.order)) :])

    def _set(self, order: Order) -> NeuronSet:
        return NeuronSet(self.layout, tuple(self.layout.neuron(int(index)) for index in np.sort(order)))


def _checked(count: int) -> int:
    if count < 0:
        raise NeuronError(f"{count} neurons: a number from 0 expected")
    return count
