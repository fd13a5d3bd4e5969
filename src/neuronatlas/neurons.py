"""Addresses of neurons, sets of them and scores over them. Knows no model.

>>> layout = Layout(site="ffn", widths=(4, 4), digest="d1")
>>> first, second = layout.set(["L0.U1", "L1.U3"]), layout.set(["L1.U3"])
>>> sorted(map(str, first & second))
['L1.U3']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Layout", "LayoutMismatchError", "Neuron", "NeuronError", "NeuronScores", "NeuronSet"]

_ADDRESS = re.compile(r"L(\d+)\.U(\d+)")


class NeuronError(ValueError):
    """An address, a set or scores that make no sense."""


class LayoutMismatchError(NeuronError):
    """Neurons of two models, sites or stacks were about to be mixed."""


@dataclass(frozen=True, order=True)
class Neuron:
    """One unit at a site; `layer` and `unit` count from 0.

    >>> Neuron.parse("L9.U2141")
    Neuron(layer=9, unit=2141)
    >>> str(Neuron(9, 2141))
    'L9.U2141'
    """

    layer: int
    unit: int

    def __str__(self) -> str:
        return f"L{self.layer}.U{self.unit}"

    @classmethod
    def parse(cls, address: str) -> Neuron:
        """Read an address such as `L9.U2141`; NeuronError when it is none."""
        match = _ADDRESS.fullmatch(address.strip())
        if match is None:
            raise NeuronError(f"{address!r} is not a neuron's address: expected the form L9.U2141")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class Layout:
    """Where addresses count: the site, the stack, the weights' digest and how many neurons each layer has.

    Two layouts that differ in any of these never mix. Layers may have different widths.

    >>> Layout(site="ffn", widths=(3, 5)).n_neurons
    8
    """

    site: str
    widths: tuple[int, ...]
    stack: str = "encoder"
    digest: str = ""

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.widths)

    @property
    def n_neurons(self) -> int:
        """Number of neurons in all layers."""
        return sum(self.widths)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Flat index of each layer's first neuron, and the total at the end."""
        return (0, *accumulate(self.widths))

    def index(self, neuron: Neuron) -> int:
        """Flat index of a neuron; NeuronError when the model has no such neuron."""
        if not 0 <= neuron.layer < self.n_layers:
            raise NeuronError(
                f"no layer {neuron.layer} for {neuron}: site {self.site!r} has layers 0 to {self.n_layers - 1}"
            )
        if not 0 <= neuron.unit < self.widths[neuron.layer]:
            last = self.widths[neuron.layer] - 1
            raise NeuronError(f"no unit {neuron.unit} for {neuron}: layer {neuron.layer} has units 0 to {last}")
        return self.offsets[neuron.layer] + neuron.unit

    def neuron(self, index: int) -> Neuron:
        """Neuron at a flat index; NeuronError when there is none."""
        if not 0 <= index < self.n_neurons:
            raise NeuronError(f"no neuron {index}: site {self.site!r} has {self.n_neurons} neurons")
        layer = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return Neuron(layer, index - self.offsets[layer])

    def require(self, other: Layout) -> None:
        """Raise LayoutMismatchError unless `other` is the same layout."""
        if self == other:
            return
        for name in ("site", "stack", "widths", "digest"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise LayoutMismatchError(
                    f"these neurons are not of one place: {name} is {ours!r} here and {theirs!r} there; "
                    "neurons of different models or sites cannot be combined"
                )

    def set(self, neurons: Iterable[Neuron | str]) -> NeuronSet:
        """Build a NeuronSet from neurons or addresses."""
        return NeuronSet.of(self, neurons)

    def zeros(self) -> NeuronScores:
        """Scores that are 0 everywhere."""
        return NeuronScores(self, np.zeros(self.n_neurons, dtype=np.float32))


@dataclass(frozen=True)
class NeuronSet:
    """A set of neurons of one layout, in address order, with set algebra.

    >>> layout = Layout(site="ffn", widths=(2, 2))
    >>> a, b = layout.set(["L0.U0", "L1.U1"]), layout.set(["L1.U1"])
    >>> [str(n) for n in a - b], (a | b).layer_histogram().tolist(), b <= a
    (['L0.U0'], [1, 1], True)
    """

    layout: Layout
    members: tuple[Neuron, ...]

    def __post_init__(self) -> None:
        for neuron in self.members:
            self.layout.index(neuron)
        if any(a >= b for a, b in zip(self.members, self.members[1:], strict=False)):
            object.__setattr__(self, "members", tuple(sorted(set(self.members))))

    @classmethod
    def of(cls, layout: Layout, neurons: Iterable[Neuron | str]) -> NeuronSet:
        """Build from neurons or addresses in any order; duplicates count once."""
        parsed = (Neuron.parse(n) if isinstance(n, str) else n for n in neurons)
        return NeuronSet(layout, tuple(sorted(set(parsed))))

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, neuron: object) -> bool:
        return neuron in self.members

    def _combine(self, other: NeuronSet, combine: Callable[[set[Neuron], set[Neuron]], set[Neuron]]) -> NeuronSet:
        self.layout.require(other.layout)
        return NeuronSet.of(self.layout, combine(set(self.members), set(other.members)))

    def __or__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, set.union)

    def __and__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, set.intersection)

    def __sub__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, set.difference)

    def __xor__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, set.symmetric_difference)

    def __le__(self, other: NeuronSet) -> bool:
        self.layout.require(other.layout)
        return set(self.members) <= set(other.members)

    def overlap(self, other: NeuronSet) -> float:
        """Jaccard overlap: neurons in both over neurons in either (0 when both are empty)."""
        either = len(self | other)
        return len(self & other) / either if either else 0.0

    def layer_histogram(self) -> Int[np.ndarray, " layer"]:
        """Number of neurons in each layer."""
        return np.bincount([n.layer for n in self.members], minlength=self.layout.n_layers)

    def units(self) -> dict[int, list[int]]:
        """Units by layer, both ascending; layers with none are left out."""
        by_layer: dict[int, list[int]] = {}
        for neuron in self.members:
            by_layer.setdefault(neuron.layer, []).append(neuron.unit)
        return by_layer

    def random_like(self, seed: int, exclude: NeuronSet | None = None) -> NeuronSet:
        """Equally many random neurons in the same layers, none of them in this set or in `exclude`.

        Errors: NeuronError when a layer has too few other neurons.
        """
        barred = self if exclude is None else self | exclude
        by_layer, rng = barred.units(), np.random.default_rng(seed)
        chosen: list[Neuron] = []
        for layer, units in self.units().items():
            free = np.setdiff1d(np.arange(self.layout.widths[layer]), by_layer[layer])
            if len(free) < len(units):
                raise NeuronError(
                    f"layer {layer} has {len(free)} other neurons, {len(units)} are needed for a random control"
                )
            chosen += [Neuron(layer, int(unit)) for unit in rng.choice(free, size=len(units), replace=False)]
        return NeuronSet.of(self.layout, chosen)


@dataclass(frozen=True, eq=False)
class NeuronScores:
    """One number a neuron: `values[layout.index(neuron)]`, read-only. Layers may have different widths.

    >>> scores = NeuronScores(Layout(site="ffn", widths=(2, 2)), np.array([0.1, 0.9, 0.2, 0.0]))
    >>> str(scores.top(1)[0]), scores.matrix().shape, [str(n) for n in scores.at_least(0.2)]
    ('L0.U1', (2, 2), ['L0.U1', 'L1.U0'])
    """

    layout: Layout
    values: Float[np.ndarray, " neuron"]

    def __post_init__(self) -> None:
        if self.values.shape != (self.layout.n_neurons,):
            raise NeuronError(f"scores of shape {self.values.shape} for {self.layout.n_neurons} neurons")
        view = self.values.view()
        view.flags.writeable = False
        object.__setattr__(self, "values", view)

    def __getitem__(self, neuron: Neuron | str) -> float:
        address = Neuron.parse(neuron) if isinstance(neuron, str) else neuron
        return float(self.values[self.layout.index(address)])

    def layer(self, layer: int) -> Float[np.ndarray, " unit"]:
        """Scores of one layer."""
        start, end = self.layout.offsets[layer], self.layout.offsets[layer + 1]
        return self.values[start:end]

    def matrix(self) -> Float[np.ndarray, "layer unit"]:
        """Scores as [layer, unit]; NeuronError when the layers' widths differ."""
        if len(set(self.layout.widths)) > 1:
            raise NeuronError(f"layers have different widths {self.layout.widths}: use .layer(index)")
        return self.values.reshape(self.layout.n_layers, -1)

    def top(self, count: int) -> list[Neuron]:
        """The `count` neurons with the highest scores, highest first; ties by address."""
        order = np.argsort(-self.values, kind="stable")[:count]
        return [self.layout.neuron(int(index)) for index in order]

    def at_least(self, share: float) -> NeuronSet:
        """Neurons whose score is at least `share` times the highest one (none when no score is above 0)."""
        highest = float(self.values.max(initial=0.0))
        if highest <= 0:
            return NeuronSet(self.layout, ())
        found = np.flatnonzero(self.values >= share * highest)
        return NeuronSet(self.layout, tuple(self.layout.neuron(int(index)) for index in found))

    @classmethod
    def mean(cls, scores: Sequence[NeuronScores]) -> NeuronScores:
        """Mean over several scores of one layout."""
        if not scores:
            raise NeuronError("no scores to take the mean of")
        for other in scores[1:]:
            scores[0].layout.require(other.layout)
        return NeuronScores(scores[0].layout, np.mean([s.values for s in scores], axis=0))
