"""Reads and changes the tensors at points of a model while it runs. The low level under `hooks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.calls import first_tensor, hooks, with_first_tensor
from neuronatlas.models.experts import edited

__all__ = ["Edit", "Point", "asleep", "tapped"]

Edit = Callable[[Float[Tensor, "row position unit"]], Float[Tensor, "row position unit"] | None]


@dataclass(frozen=True)
class Point:
    """Where one layer's neurons are: the input or output of a module, at its `call`-th of `calls` calls in a pass.

    Or, at the side "experts", what goes into the down-projections of a module of experts, side by side, and behind them
    into that of the `shared` expert. `experts` are their widths. Where `positions_first`, what the module has is
    [position, row, unit]; edits are given [row, position, unit] all the same. A layer without neurons has a point of
    width 0, at the input of its block, where edits are given [row, position, 0] and change nothing.
    """

    layer: int
    path: str
    module: nn.Module
    width: int
    side: Literal["input", "output", "experts"] = "input"
    call: int = 0
    calls: int = 1
    experts: tuple[int, ...] = ()
    shared: nn.Module | None = None
    positions_first: bool = False


_SEQUENCES = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")


_depths: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""How many times over the taps of a model are asleep; those that are set there act there."""


@contextmanager
def asleep(root: nn.Module) -> Iterator[None]:
    """Let the taps that are set on a model neither see nor change anything inside; those set inside act as ever."""
    before = _depths.get(root, 0)
    _depths[root] = before + 1
    try:
        yield
    finally:
        _depths[root] = before


class _Pass:
    """What a forward pass of the whole model has done so far: its rows, and how often each module was called."""

    def __init__(self, root: nn.Module, shared: set[nn.Module]) -> None:
        self.root, self.depth = root, _depths.get(root, 0)
        self.shared = shared
        self.rows: int | None = None
        self.count: dict[nn.Module, int] = {}
        self.number = 0

    @property
    def asleep(self) -> bool:
        """Whether the taps are to leave this pass alone."""
        return _depths.get(self.root, 0) != self.depth

    def begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.asleep:
            return
        self.count.clear()
        self.number += 1
        sequences = (value for value in (*map(kwargs.get, _SEQUENCES), *args[:1]) if isinstance(value, Tensor))
        given = next(sequences, None)
        self.rows = None if given is None else given.shape[0]

    def next_call(self, module: nn.Module) -> int:
        if module not in self.shared:
            return 0
        number = self.count.get(module, 0)
        self.count[module] = number + 1
        return number

    def spread(self, tensor: Tensor, positions_first: bool) -> Tensor:
        """A tensor as [row, position, unit], where rows and positions are flattened or the other way round."""
        if tensor.ndim != 3 and self.rows is not None:
            tensor = tensor.reshape(*((-1, self.rows) if positions_first else (self.rows, -1)), tensor.shape[-1])
        return tensor.transpose(0, 1) if positions_first else tensor

    def applied(self, edit: Edit, tensor: Tensor, positions_first: bool = False) -> Tensor | None:
        """Give the edit [row, position, unit] whatever the model has, and give the model's form back."""
        if self.asleep:
            return None
        changed = edit(self.spread(tensor, positions_first))
        if changed is None:
            return None
        return (changed.transpose(0, 1) if positions_first else changed).reshape(tensor.shape)


@contextmanager
def tapped(root: nn.Module, edits: Mapping[Point, Edit]) -> Iterator[None]:
    """Call each edit with its point's tensor on every pass; what it returns, if anything, takes the tensor's place.

    The hooks are removed on exit, whatever happens inside, and do nothing where they are `asleep`. Contexts nest: the
    outer one acts first. Where there is a shared expert, the edit is called for it and for the others, in the model's
    order, and each call changes those that it is for; the last one is given what all of them are.
    """
    state = _Pass(root, {point.module for point in edits if point.calls > 1})
    handles = [root.register_forward_pre_hook(state.begin, with_kwargs=True)]
    edits = {point: edit if point.width else _of_nothing(edit) for point, edit in edits.items()}
    mixtures = [_Mixture(point, edit, state) for point, edit in edits.items() if point.side == "experts"]
    for module in dict.fromkeys(point.module for point in edits if point.side != "experts"):
        inputs = {p.call: e for p, e in edits.items() if p.module is module and p.side == "input"}
        outputs = {p.call: e for p, e in edits.items() if p.module is module and p.side == "output"}
        numbers: list[int] = []
        order = any(p.positions_first for p in edits if p.module is module)
        before, after = _before(state, inputs, numbers, order), _after(state, outputs, numbers, order)
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    for mixture in mixtures:
        if mixture.point.shared is not None:
            handles.append(
                mixture.point.shared.register_forward_pre_hook(
                    _before(state, {0: mixture.shared}, []), with_kwargs=True
                )
            )
    with hooks(handles), ExitStack() as stack:
        for mixture in mixtures:
            stack.enter_context(edited(mixture.point.module, partial(state.applied, mixture.routed)))
        yield


def _of_nothing(edit: Edit) -> Edit:
    """An edit of a layer without neurons: it sees that there are none, and what it gives back is left."""

    def see(values: Tensor) -> None:
        edit(values[..., :0])

    return see


class _Mixture:
    """An edit of a layer of experts, whose neurons the model reaches in two parts when one expert is shared."""

    def __init__(self, point: Point, edit: Edit, state: _Pass) -> None:
        self.point, self.edit, self.state = point, edit, state
        self.first = point.width - (point.experts[-1] if point.shared is not None else 0)
        self.earlier: tuple[int, Tensor] | None = None

    def routed(self, values: Tensor) -> Tensor | None:
        return self._part(values, slice(0, self.first), first=True)

    def shared(self, values: Tensor) -> Tensor | None:
        return self._part(values, slice(self.first, None), first=False)

    def _part(self, values: Tensor, place: slice, first: bool) -> Tensor | None:
        if self.point.shared is None:
            return self.edit(values)
        number, other = (0, None) if self.earlier is None else self.earlier
        if other is not None and number == self.state.number:
            self.earlier = None
        else:
            # The first part to be reached leaves its neurons for the second one.
            self.earlier = self.state.number, values
            other = values.new_zeros(*values.shape[:-1], self.point.width - values.shape[-1])
        changed = self.edit(torch.cat([values, other] if first else [other, values], dim=-1))
        return None if changed is None else changed[..., place]


def _before(
    state: _Pass, edits: Mapping[int, Edit], numbers: list[int], positions_first: bool = False
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if state.asleep:
            return None
        numbers.append(state.next_call(module))
        edit = edits.get(numbers[-1])
        if edit is None:
            return None
        if args:
            changed = state.applied(edit, args[0], positions_first)
            return None if changed is None else ((changed, *args[1:]), kwargs)
        changed = state.applied(edit, kwargs["hidden_states"], positions_first)
        return None if changed is None else (args, {**kwargs, "hidden_states": changed})

    return hook


def _after(state: _Pass, edits: Mapping[int, Edit], numbers: list[int], positions_first: bool) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        if state.asleep:
            return None
        edit = edits.get(numbers.pop())
        tensor = first_tensor(output)
        if edit is None or tensor is None:
            return None
        changed = state.applied(edit, tensor, positions_first)
        return None if changed is None else with_first_tensor(output, changed)

    return hook
