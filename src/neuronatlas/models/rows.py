"""Recorded calls of blocks, run again on other rows: which arguments have entries for each row, and those of some.

A block is given more than hidden states: masks, distances between positions (ALiBi), inputs of its own, a language.
Some of these are the same for every row, others have one or several entries a row. Comparing a pass of one row with a
pass of two tells them apart, so no argument is known by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from jaxtyping import Int
from torch import Tensor

from neuronatlas.models.calls import Call

__all__ = ["cache_of_rows", "of_rows", "row_arguments", "tensors"]


def tensors(call: Call) -> dict[str, Tensor]:
    """The tensors among a call's arguments but for its hidden states, by their places."""
    found: dict[str, Tensor] = {}
    _mapped_call(call, found.setdefault)
    return found


def row_arguments(one: Sequence[Call], two: Sequence[Call]) -> dict[str, bool]:
    """Whether an argument, by its layer and place, has entries for each row: twice as many for two rows as for one."""
    found = {}
    for layer, (single, double) in enumerate(zip(one, two, strict=True)):
        after = tensors(double)
        for place, tensor in tensors(single).items():
            sizes = [t.shape[0] if t.ndim else 0 for t in (tensor, after[place])]
            found[f"{layer} {place}"] = sizes[1] == 2 * sizes[0] > 0
    return found


def of_rows(call: Call, layer: int, per_row: Mapping[str, bool], rows: Int[Tensor, " row"], recorded: int) -> Call:
    """A call that was recorded with `recorded` rows, its arguments being those of `rows` of them."""

    def chosen(place: str, tensor: Tensor) -> Tensor:
        if not per_row[f"{layer} {place}"]:
            return tensor
        each = tensor.reshape(recorded, tensor.shape[0] // recorded, *tensor.shape[1:])
        return each[rows.to(tensor.device)].flatten(0, 1)

    return _mapped_call(call, chosen)


def _mapped_call(call: Call, change: Callable[[str, Tensor], Tensor]) -> Call:
    hidden = call.hidden

    def unless_hidden(place: str, tensor: Tensor) -> Tensor:
        return tensor if tensor is hidden else change(place, tensor)

    args = tuple(_mapped(value, str(place), unless_hidden) for place, value in enumerate(call.args))
    return replace(call, args=args, kwargs={k: _mapped(v, k, unless_hidden) for k, v in call.kwargs.items()})


def _mapped(value: Any, place: str, change: Callable[[str, Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(place, value)
    if type(value) is dict:
        return {key: _mapped(item, f"{place}.{key}", change) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_mapped(item, f"{place}.{index}", change) for index, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


class _Layers(list[Any]):
    """Layers of a cache, each of which comes, when it is asked for, as a copy that has the chosen rows."""

    rows: Tensor

    def __getitem__(self, index: Any) -> Any:
        layer = super().__getitem__(index)
        chosen = copy(layer)
        # What a layer keeps in dictionaries would still be the original's.
        vars(chosen).update({name: dict(kept) for name, kept in vars(layer).items() if type(kept) is dict})
        chosen.reorder_cache(self.rows)
        return chosen


def cache_of_rows(cache: Any, rows: Int[Tensor, " row"]) -> Any:
    """A cache of transformers as it would be if `rows` of its rows were all; its use does not change the given one."""
    chosen = copy(cache)
    chosen.layers = _Layers(cache.layers)
    chosen.layers.rows = rows
    return chosen
