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
from jaxtyping import Float64, Int

from neuronatlas.neurons import Layout, Neuron, NeuronError, NeuronSet

__all__ = ["Ranking", "RankingError"]

Order = Int[np.ndarray, " rank"]


class RankingError(ValueError):
    """Activations, labels, a probe or options from which no ranking can be made."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Neurons in the order of their salience: `order[0]` is the flat index of the most salient one.

    `by_class` has, for methods that know it, the order for each class alone. `scores[i]` is what the method gives the
    neuron at `order[i]`, higher for more salient; `rankings.RANKINGS` says in which unit. `notes` say what a reader
    must know, such as classes that were skipped.

    Errors: NeuronError for an order that names a neuron twice or one that the layout does not have, and for scores or
    orders of classes that are not of the same neurons.
    """

    layout: Layout
    order: Order
    method: str
    by_class: Mapping[str, Order] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scores: Float64[np.ndarray, " rank"] | None = None

    def __post_init__(self) -> None:
        listed = np.sort(self.order)
        if (listed[1:] == listed[:-1]).any():
            raise NeuronError(f"the {self.method} ranking names a neuron twice")
        if len(listed) and not 0 <= int(listed[0]) <= int(listed[-1]) < self.layout.n_neurons:
            raise NeuronError(f"the {self.method} ranking names neurons beyond the {self.layout.n_neurons} there are")
        if self.scores is not None and self.scores.shape != self.order.shape:
            raise NeuronError(f"scores of shape {self.scores.shape} for the {len(self.order)} neurons of a ranking")
        for name, order in self.by_class.items():
            if not np.array_equal(np.sort(order), listed):
                raise NeuronError(f"the {self.method} ranking orders other neurons for class {name!r}")

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

    def of_class(self, name: str) -> Ranking:
        """The ranking for one class alone; RankingError when the method makes none for it."""
        if name not in self.by_class:
            known = ", ".join(self.by_class) or "none"
            raise RankingError(f"the {self.method} ranking has no order for class {name!r}: it has {known}")
        return Ranking(self.layout, self.by_class[name], self.method, notes=self.notes)

    def _set(self, order: Order) -> NeuronSet:
        return NeuronSet(self.layout, tuple(self.layout.neuron(int(index)) for index in np.sort(order)))


def _checked(count: int) -> int:
    if count < 0:
        raise NeuronError(f"{count} neurons: a number from 0 expected")
    return count
