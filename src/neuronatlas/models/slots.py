"""Value slots: the part of a down-projection that a neuron writes to the residual stream, found and proved.

A `Linear` keeps the value slots of its inputs as columns, GPT-2's `Conv1D` as rows, and a mixture of experts as columns
or rows of one matrix of a stack. Which of them it is, is not guessed: a slot counts when a unit activation of its
neuron, run through the loaded projection, adds exactly that vector to what the projection gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from neuronatlas.models.experts import expert_output, expert_width
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_PRODUCT
from neuronatlas.models.structure import Block
from neuronatlas.neurons import Neuron, NeuronSet

__all__ = ["SlotError", "Slots", "value_slots"]

SITE = "ffn"
_PROVED_AT_ONCE = 512


class SlotError(ValueError):
    """A value slot that cannot be found, proved or changed, with the reason."""


@dataclass(frozen=True, eq=False)
class Slots:
    """Value slots of one layer, or of one of its experts: vectors of the residual width in one matrix of weights.

    `parameter` is the name of the weights in `module`, the down-projection or the experts; `matrix` says which one of a
    stack (None where there is no stack), `axis` along which axis of the matrix the neurons are. `layers` are all layers
    that use these weights: one, but where layers share theirs.
    """

    parameter: str
    module: nn.Module = field(repr=False)
    weight: nn.Parameter = field(repr=False)
    matrix: int | None
    axis: int
    neurons: tuple[Neuron, ...]
    layers: tuple[int, ...]

    @property
    def units(self) -> tuple[int, ...]:
        """Index of each slot along the axis."""
        return tuple(neuron.unit for neuron in self.neurons)

    @property
    def width(self) -> int:
        """Length of a slot: the residual width."""
        return int(self._weights().shape[1 - self.axis])

    def read(self) -> Float[Tensor, "slot width"]:
        """A copy of the slots."""
        with torch.no_grad():
            found = self._weights().index_select(self.axis, self._index())
            return (found if self.axis == 0 else found.T).clone()

    def write(self, values: Float[Tensor, "slot width"]) -> None:
        """Change the model's weights in place; other slots keep their bits."""
        if values.shape != (len(self.neurons), self.width):
            expected = (len(self.neurons), self.width)
            raise SlotError(f"{tuple(values.shape)} values for the slots of {self.parameter}, {expected} expected")
        given = values.to(self.weight)
        with torch.no_grad():
            self._weights().index_copy_(self.axis, self._index(), given if self.axis == 0 else given.T)

    def _weights(self) -> Tensor:
        return self.weight if self.matrix is None else self.weight[self.matrix]

    def _index(self) -> Tensor:
        return torch.tensor(self.units, device=self.weight.device)


@dataclass(frozen=True)
class _Holder:
    """Where a layer keeps its value slots, or those of one expert: the weights and how neurons run through them."""

    module: nn.Module
    name: str
    matrix: int | None
    width: int
    run: Callable[[Tensor], Tensor]
    axis: int | None = None


def value_slots(model: Model, neurons: NeuronSet) -> tuple[Slots, ...]:
    """Find the value slots of neurons in the feed-forward layers, by layer and expert, and prove each one.

    Proved on the loaded weights: what a unit activation of the neuron adds to the output of the down-projection is the
    slot, to within 1e-4 of the largest weight (half precision: 3e-2). Layers that share weights have one slot between
    them: neurons of two such layers with the same unit count once, under the first address that was given.

    Errors: SlotError for neurons of another site, weights that are quantised, not in memory, computed from others or
    shared with something else than down-projections, and a slot that fails its proof.

    >>> from neuronatlas.specimen import specimen_folder
    >>> from neuronatlas.models import load
    >>> model = load(specimen_folder())
    >>> [slots] = value_slots(model, model.layout().set(["L3.U10", "L3.U77"]))
    >>> slots.parameter, tuple(slots.read().shape), slots.layers
    ('bert.encoder.layer.3.output.dense.weight', (2, 64), (3,))
    """
    if model.kind not in ("masked", "causal"):
        raise SlotError(f"{model.name} is a {model.kind} model: value slots of masked and causal ones can be edited")
    if neurons.layout.site != SITE:
        raise SlotError(f"neurons of site {neurons.layout.site!r} have no value slots: only those of {SITE!r} do")
    grouped: dict[tuple[int, int | None], list[Neuron]] = {}
    layout = model.layout(SITE)
    for neuron in neurons:
        layout.index(neuron)
        grouped.setdefault((neuron.layer, neuron.expert), []).append(neuron)
    taken: set[tuple[int, int | None, int]] = set()
    found = []
    for (layer, expert), members in grouped.items():
        holder = _holder(model.blocks[layer], expert)
        weight = _weight(model, holder, members[0])
        free = [n for n in members if (id(weight), holder.matrix, n.unit) not in taken]
        taken.update((id(weight), holder.matrix, n.unit) for n in free)
        if free:
            name, layers = _sharers(model, weight, members[0])
            with model.proving():
                axis = _proved_axis(holder, weight, free)
            found.append(Slots(name, holder.module, weight, holder.matrix, axis, tuple(free), layers))
    return tuple(found)


def _holder(block: Block, expert: int | None) -> _Holder:
    """Where the slots of a layer, or of one of its experts, should be."""
    projection = block.ffn
    if block.experts is not None and expert is not None:
        if expert < block.experts.count:
            module: Any = block.experts.module
            axis = 0 if module.is_transposed else 1
            return _Holder(
                module, "down_proj", expert, expert_width(module), lambda x: expert_output(module, expert, x), axis
            )
        projection = block.experts.shared
    assert projection is not None
    return _Holder(projection.module, "weight", None, projection.width, projection.module)


def _weight(model: Model, holder: _Holder, neuron: Neuron) -> nn.Parameter:
    """The weights that hold the slots, refused where writing to them would not be a change of the model."""
    weight = holder.module._parameters.get(holder.name)
    where = f"the value slot of {neuron} in {model.name}"
    if weight is None:
        raise SlotError(f"{where} is not in a weight of {type(holder.module).__name__}: it is computed from others")
    if weight.is_meta:
        raise SlotError(f"{where} is not in memory: load the model on one device")
    if not weight.is_floating_point() or weight.ndim != (2 if holder.matrix is None else 3):
        raise SlotError(
            f"{where} is quantised ({weight.dtype}, {tuple(weight.shape)}): load the model in full precision"
        )
    return weight


def _sharers(model: Model, weight: nn.Parameter, neuron: Neuron) -> tuple[str, tuple[int, ...]]:
    """The weights' name and the layers that use them; refused when anything else than down-projections does."""
    layers = {b.layer for b in model.blocks if any(weight is held for held in _held(b))}
    own = {id(module) for b in model.blocks for module in _holding(b)}
    names = []
    for path, module in model.module.named_modules(remove_duplicate=False):
        for name, other in module._parameters.items():
            if other is not None and other.data_ptr() == weight.data_ptr() and other.shape == weight.shape:
                full = f"{path}.{name}"
                if id(module) not in own or other is not weight:
                    raise SlotError(f"the weights of {neuron} are also those of {full}: an edit would change both")
                names.append(full)
    return min(names, key=lambda name: (name.count("."), names.index(name))), tuple(sorted(layers))


def _holding(block: Block) -> Iterator[nn.Module]:
    if block.ffn is not None:
        yield block.ffn.module
    if block.experts is not None:
        yield block.experts.module
        if block.experts.shared is not None:
            yield block.experts.shared.module


def _held(block: Block) -> list[nn.Parameter | None]:
    return [parameter for module in _holding(block) for parameter in module._parameters.values()]


def _proved_axis(holder: _Holder, weight: nn.Parameter, neurons: Sequence[Neuron]) -> int:
    """The axis of the neurons for which every unit activation adds its slot to the output."""
    matrix = weight if holder.matrix is None else weight[holder.matrix]
    # Both axes of a square matrix may hold to the proof (slots of zeros): then the class of the module settles it.
    expected = 1 if isinstance(holder.module, nn.Linear) else 0 if isinstance(holder.module, Conv1D) else holder.axis
    axes = [axis for axis in (0, 1) if matrix.shape[axis] == holder.width]
    with torch.no_grad():
        errors = {axis: _error(holder, matrix, axis, neurons) for axis in axes}
    allowed = SAME_PRODUCT.of(weight.dtype)
    proved = [axis for axis in axes if errors[axis] <= allowed]
    if len(proved) == 1:
        return proved[0]
    if expected is not None and expected in proved:
        return expected
    what = f"the value slot of {neurons[0]} is not what its unit activation adds to {type(holder.module).__name__}"
    if proved:
        raise SlotError(f"{what} for certain: it may be a row or a column of a square matrix")
    apart = f"{min(errors.values()):.1e} of the largest weight apart" if errors else "its weights have another shape"
    raise SlotError(f"{what}: {apart}")


def _error(holder: _Holder, matrix: Tensor, axis: int, neurons: Sequence[Neuron]) -> float:
    """Largest deviation between the slots and what unit activations add, as a share of the largest weight."""
    units = torch.tensor([neuron.unit for neuron in neurons], device=matrix.device)
    worst = 0.0
    for part in units.split(_PROVED_AT_ONCE):
        inputs = matrix.new_zeros(1, len(part) + 1, holder.width)
        inputs[0, torch.arange(len(part)), part] = 1.0
        out = holder.run(inputs)[0]
        slots = matrix.index_select(axis, part)
        added = (out[:-1] - out[-1]).double()
        worst = max(worst, float((added - (slots if axis == 0 else slots.T).double()).abs().max()))
    return worst / max(float(matrix.abs().max()), 1e-30)
