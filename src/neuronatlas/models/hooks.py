"""Reads and changes neurons while the model runs: context managers that always restore.

with capture(model) as seen:            # what the neurons are
    model.logits(ids)
with scale(model, neurons, 0.0):        # suppressed on every pass inside
    model.logits(ids)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuronatlas.models.model import Model
from neuronatlas.models.taps import Edit, Point, tapped
from neuronatlas.neurons import NeuronSet

__all__ = ["InterventionError", "amplify", "capture", "scale", "scale_rows", "set_values", "suppress"]

Positions = Int[Tensor, " row"] | int | None


class InterventionError(ValueError):
    """An intervention that makes no sense on this model or this input."""


@contextmanager
def capture(
    model: Model, site: str | None = None, layers: Sequence[int] | None = None
) -> Iterator[dict[int, Float[Tensor, "row position unit"]]]:
    """Collect the neurons of each layer; the dictionary holds those of the latest pass, layer -> [row, position, unit].

    >>> from neuronatlas.specimen import specimen_folder
    >>> from neuronatlas.models import load
    >>> model = load(specimen_folder())
    >>> with capture(model, layers=[0]) as seen:
    ...     _ = model.logits(torch.tensor([[5, 6, 7]]))
    >>> seen[0].shape[:2]
    torch.Size([1, 3])
    """
    points = model.site(site).points
    wanted = range(len(points)) if layers is None else layers
    unknown = [layer for layer in wanted if not 0 <= layer < len(points)]
    if unknown:
        raise InterventionError(
            f"no layer {unknown[0]}: site {model.site(site).name!r} has layers 0 to {len(points) - 1}"
        )
    seen: dict[int, Tensor] = {}

    def keep(layer: int) -> Edit:
        def edit(values: Tensor) -> None:
            # Cloned: a block may go on to write into the same memory.
            seen[layer] = values.clone()

        return edit

    with tapped(model.module, {points[layer]: keep(layer) for layer in wanted}):
        yield seen


@contextmanager
def scale(model: Model, neurons: NeuronSet, gain: float, positions: Positions = None) -> Iterator[Model]:
    """Multiply neurons by `gain` (0 suppresses, 2 doubles) on every pass inside, at all positions or one a row.

    `positions` is an index, or one index a row; negative ones count from the end. Nested contexts multiply.

    Errors: InterventionError for a gain that is not finite or positions outside the prompt; LayoutMismatchError when
    the neurons are not of this model as it is now.
    """
    if not math.isfinite(gain):
        raise InterventionError(f"gain {gain} is not a finite number")
    with _each_layer(model, neurons, positions, dict.fromkeys(neurons.units(), gain), multiply=True):
        yield model


@contextmanager
def set_values(
    model: Model, neurons: NeuronSet, values: Float[Tensor, " neuron"] | float, positions: Positions = None
) -> Iterator[Model]:
    """Set neurons to values (one for all, or one each in address order) on every pass inside."""
    given = torch.as_tensor(values, dtype=torch.float64)
    if given.ndim and given.shape != (len(neurons),):
        raise InterventionError(
            f"{tuple(given.shape)} values for {len(neurons)} neurons: give one number, or one a neuron"
        )
    if not bool(torch.isfinite(given).all()):
        raise InterventionError("values to set must be finite")
    by_layer: dict[int, Tensor | float] = {}
    for layer in neurons.units():
        by_layer[layer] = given[[n.layer == layer for n in neurons]] if given.ndim else float(given)
    with _each_layer(model, neurons, positions, by_layer, multiply=False):
        yield model


@contextmanager
def suppress(model: Model, neurons: NeuronSet, positions: Positions = None) -> Iterator[Model]:
    """Set neurons to 0 on every pass inside (Dai et al. 2022, section 4.1)."""
    with scale(model, neurons, 0.0, positions):
        yield model


@contextmanager
def amplify(model: Model, neurons: NeuronSet, gain: float = 2.0, positions: Positions = None) -> Iterator[Model]:
    """Multiply neurons by `gain`, by default 2, on every pass inside (Dai et al. 2022, section 4.1)."""
    with scale(model, neurons, gain, positions):
        yield model


@contextmanager
def scale_rows(
    model: Model,
    factors: Mapping[int, Float[Tensor, "row unit"]],
    positions: Int[Tensor, " row"],
    site: str | None = None,
) -> Iterator[Model]:
    """Multiply all neurons of the given layers by factors of their own in each row, at one position a row.

    What `effects` runs on: rows with different neurons and gains share one pass.
    """
    points = model.site(site).points
    for layer, factor in factors.items():
        if not 0 <= layer < len(points):
            raise InterventionError(
                f"no layer {layer}: site {model.site(site).name!r} has layers 0 to {len(points) - 1}"
            )
        expected = (len(positions), points[layer].width)
        if tuple(factor.shape) != expected:
            raise InterventionError(f"factors of shape {tuple(factor.shape)} for layer {layer}, {expected} expected")
        if not bool(torch.isfinite(factor).all()):
            raise InterventionError(f"factors of layer {layer} must be finite")

    def multiplied(factor: Tensor) -> Edit:
        def edit(values: Tensor) -> Tensor:
            rows, where = _rows(values, positions), positions.to(values.device)
            changed = values.clone()
            changed[rows, where] = values[rows, where] * factor.to(values)
            return changed

        return edit

    with (
        model.intervening(model.site(site).name),
        tapped(model.module, {points[layer]: multiplied(f) for layer, f in factors.items()}),
    ):
        yield model


@contextmanager
def _each_layer(
    model: Model, neurons: NeuronSet, positions: Positions, values: Mapping[int, Tensor | float], multiply: bool
) -> Iterator[None]:
    model.layout(neurons.layout.site).require(neurons.layout)
    points = model.site(neurons.layout.site).points
    edits: dict[Point, Edit] = {}
    for layer, units in neurons.units().items():
        edits[points[layer]] = _edit(units, values[layer], positions, multiply)
    with model.intervening(neurons.layout.site), tapped(model.module, edits):
        yield


def _edit(units: list[int], value: Tensor | float, positions: Positions, multiply: bool) -> Edit:
    def edit(values: Tensor) -> Tensor:
        changed, columns = values.clone(), torch.tensor(units, device=values.device)
        new = value.to(values) if isinstance(value, Tensor) else value
        if positions is None:
            changed[..., columns] = values[..., columns] * new if multiply else new
            return changed
        where = torch.as_tensor(positions, device=values.device).reshape(-1, 1)
        rows = _rows(values, where.flatten()).reshape(-1, 1)
        changed[rows, where, columns] = values[rows, where, columns] * new if multiply else new
        return changed

    return edit


def _rows(values: Tensor, positions: Tensor) -> Tensor:
    """Row indices that go with positions; refuses positions that do not fit the pass."""
    rows, length = values.shape[0], values.shape[1]
    if len(positions) not in (1, rows):
        raise InterventionError(f"{len(positions)} positions for {rows} rows: give one, or one a row")
    outside = [int(p) for p in positions if not -length <= int(p) < length]
    if outside:
        raise InterventionError(f"position {outside[0]} is outside a prompt of {length} tokens")
    return torch.arange(rows, device=values.device)
