"""Addresses of neurons, sets of them and scores over them. Knows no model.

>>> layout = Layout(site="ffn", widths=(4, 4), digest="d1")
>>> first, second = layout.set(["L0.U1", "L1.U3"]), layout.set(["L1.U3"])
>>> sorted(map(str, first & second))
['L1.U3']
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import total_ordering
from itertools import accumulate

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Layout", "LayoutMismatchError", "Neuron", "NeuronError", "NeuronScores", "NeuronSet"]

_ADDRESS = re.compile(r"L(\d+)(?:\.E(\d+))?\.U(\d+)")


class NeuronError(ValueError):
    """An address, a set or scores that make no sense."""


class LayoutMismatchError(NeuronError):
    """Neurons of two models, sites or stacks were about to be mixed."""


@total_ordering
@dataclass(frozen=True)
class Neuron:
    """One unit at a site; `layer` and `unit` count from 0, and so does `expert` in a mixture of experts.

    Order is by layer, expert, unit.

    >>> Neuron.parse("L9.U2141")
    Neuron(layer=9, unit=2141, expert=None)
    >>> str(Neuron(4, 17, expert=3))
    'L4.E3.U17'
    """

    layer: int
    unit: int
    expert: int | None = None

    def __str__(self) -> str:
        expert = "" if self.expert is None else f".E{self.expert}"
        return f"L{self.layer}{expert}.U{self.unit}"

    def __lt__(self, other: Neuron) -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.layer, -1 if self.expert is None else self.expert, self.unit

    @classmethod
    def parse(cls, address: str) -> Neuron:
        """Read an address such as `L9.U2141` or `L4.E3.U17`; NeuronError when it is none."""
        match = _ADDRESS.fullmatch(address.strip())
        if match is None:
            raise NeuronError(f"{address!r} is not a neuron's address: expected the form L9.U2141 or L4.E3.U17")
        return cls(int(match[1]), int(match[3]), None if match[2] is None else int(match[2]))


@dataclass(frozen=True)
class Layout:
    """Where addresses count: the site, the stack, the weights' digest and how many neurons each layer has.

    Two layouts that differ in any of these never mix. Layers may have different widths, and width 0 where they have no
    neurons. `experts` says of each layer how many neurons each of its experts has, or () where it has none; it is empty
    where no layer has experts.

    >>> Layout(site="ffn", widths=(3, 5)).n_neurons
    8
    >>> mixed = Layout(site="ffn", widths=(3, 5), experts=((), (2, 3)))
    >>> [str(mixed.neuron(index)) for index in (2, 3, 7)]
    ['L0.U2', 'L1.E0.U0', 'L1.E1.U2']
    """

    site: str
    widths: tuple[int, ...]
    stack: str = "encoder"
    digest: str = ""
    experts: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        sums = tuple(sum(layer) or width for layer, width in zip(self.experts, self.widths, strict=False))
        if self.experts and (len(self.experts) != self.n_layers or sums != self.widths):
            raise NeuronError(f"experts of {self.experts} neurons do not make layers of {self.widths}")

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
        widths = self._groups(neuron.layer)
        if (neuron.expert is None) == bool(self.experts_of(neuron.layer)):
            form = f"L{neuron.layer}.E0.U0" if neuron.expert is None else f"L{neuron.layer}.U0"
            has = "has experts" if neuron.expert is None else "has no experts"
            raise NeuronError(f"no {neuron}: layer {neuron.layer} {has}, its neurons are written as {form}")
        expert = neuron.expert or 0
        if not 0 <= expert < len(widths):
            last = len(widths) - 1
            raise NeuronError(f"no expert {expert} for {neuron}: layer {neuron.layer} has experts 0 to {last}")
        if not 0 <= neuron.unit < widths[expert]:
            where = f"layer {neuron.layer}" + ("" if neuron.expert is None else f", expert {expert}")
            units = f"units 0 to {widths[expert] - 1}" if widths[expert] else "no neurons"
            raise NeuronError(f"no unit {neuron.unit} for {neuron}: {where} has {units}")
        return self.offsets[neuron.layer] + sum(widths[:expert]) + neuron.unit

    def neuron(self, index: int) -> Neuron:
        """Neuron at a flat index; NeuronError when there is none."""
        if not 0 <= index < self.n_neurons:
            raise NeuronError(f"no neuron {index}: site {self.site!r} has {self.n_neurons} neurons")
        layer = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return self.at(layer, index - self.offsets[layer])

    def at(self, layer: int, place: int) -> Neuron:
        """Neuron at a place of a layer: its unit, or where there are experts its index among all of their units."""
        if not self.experts_of(layer):
            return Neuron(layer, place)
        starts = (0, *accumulate(self._groups(layer)))
        expert = int(np.searchsorted(starts, place, side="right")) - 1
        return Neuron(layer, place - starts[expert], expert)

    def place(self, neuron: Neuron) -> int:
        """Index of a neuron among those of its layer; NeuronError when the model has no such neuron."""
        return self.index(neuron) - self.offsets[neuron.layer]

    def experts_of(self, layer: int) -> tuple[int, ...]:
        """How many neurons each expert of a layer has; () for a layer without experts."""
        return self.experts[layer] if self.experts else ()

    def group(self, neuron: Neuron) -> range:
        """Places of the neurons of the same expert, or of the whole layer where there are no experts."""
        widths, expert = self._groups(neuron.layer), neuron.expert or 0
        start = sum(widths[:expert])
        return range(start, start + widths[expert])

    def _groups(self, layer: int) -> tuple[int, ...]:
        return self.experts_of(layer) or (self.widths[layer],)

    def require(self, other: Layout) -> None:
        """Raise LayoutMismatchError unless `other` is the same layout."""
        if self == other:
            return
        for name in ("site", "stack", "widths", "experts", "digest"):
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
        """Places of the neurons in their layers, by layer, both ascending; layers with none are left out.

        A neuron's place is its unit, or where there are experts its index among all of their units.
        """
        by_layer: dict[int, list[int]] = {}
        for neuron in self.members:
            by_layer.setdefault(neuron.layer, []).append(self.layout.place(neuron))
        return by_layer

    def random_like(self, seed: int, exclude: NeuronSet | None = None) -> NeuronSet:
        """Equally many random neurons in the same layers and experts, none of them in this set or in `exclude`.

        Errors: NeuronError when a layer or an expert has too few other neurons.
        """
        barred = self if exclude is None else self | exclude
        by_layer, rng = barred.units(), np.random.default_rng(seed)
        wanted = Counter((neuron.layer, self.layout.group(neuron)) for neuron in self.members)
        chosen: list[Neuron] = []
        for (layer, group), count in wanted.items():
            free = np.setdiff1d(np.array(group), by_layer[layer])
            if len(free) < count:
                expert = self.layout.at(layer, group.start).expert
                where = f"layer {layer}" + ("" if expert is None else f", expert {expert},")
                raise NeuronError(f"{where} has {len(free)} other neurons, {count} are needed for a random control")
            chosen += [self.layout.at(layer, int(place)) for place in rng.choice(free, size=count, replace=False)]
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
        """Scores as [layer, unit], experts one after the other; NeuronError when the layers' widths differ."""
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
