"""Reads and changes the tensors at points of a model while it runs. The low level under `hooks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.calls import first_tensor, hooks, with_first_tensor

__all__ = ["Edit", "Point", "tapped"]

Edit = Callable[[Float[Tensor, "row position unit"]], Float[Tensor, "row position unit"] | None]


@dataclass(frozen=True)
class Point:
    """Where one layer's neurons are: the input or output of a module, at its `call`-th of `calls` calls in a pass."""

    layer: int
    path: str
    module: nn.Module
    width: int
    side: Literal["input", "output"] = "input"
    call: int = 0
    calls: int = 1


class _Pass:
    """What a forward pass of the whole model has done so far: its rows, and how often each module was called."""

    def __init__(self, shared: set[nn.Module]) -> None:
        self.shared = shared
        self.rows: int | None = None
        self.count: dict[nn.Module, int] = {}

    def begin(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.count.clear()
        given = kwargs.get("input_ids", kwargs.get("inputs_embeds", args[0] if args else None))
        self.rows = given.shape[0] if isinstance(given, Tensor) else None

    def next_call(self, module: nn.Module) -> int:
        if module not in self.shared:
            return 0
        number = self.count.get(module, 0)
        self.count[module] = number + 1
        return number

    def applied(self, edit: Edit, tensor: Tensor) -> Tensor | None:
        """Give the edit [row, position, unit], also where a model flattens rows and positions."""
        if tensor.ndim == 3 or self.rows is None:
            return edit(tensor)
        changed = edit(tensor.reshape(self.rows, -1, tensor.shape[-1]))
        return None if changed is None else changed.reshape(tensor.shape)


@contextmanager
def tapped(root: nn.Module, edits: Mapping[Point, Edit]) -> Iterator[None]:
    """Call each edit with its point's tensor on every pass; what it returns, if anything, takes the tensor's place.

    The hooks are removed on exit, whatever happens inside. Contexts nest: the outer one acts first.
    """
    state = _Pass({point.module for point in edits if point.calls > 1})
    handles = [root.register_forward_pre_hook(state.begin, with_kwargs=True)]
    for module in dict.fromkeys(point.module for point in edits):
        inputs = {p.call: e for p, e in edits.items() if p.module is module and p.side == "input"}
        outputs = {p.call: e for p, e in edits.items() if p.module is module and p.side == "output"}
        numbers: list[int] = []
        before, after = _before(state, inputs, numbers), _after(state, outputs, numbers)
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    with hooks(handles):
        yield


def _before(state: _Pass, edits: Mapping[int, Edit], numbers: list[int]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        numbers.append(state.next_call(module))
        edit = edits.get(numbers[-1])
        if edit is None:
            return None
        if args:
            changed = state.applied(edit, args[0])
            return None if changed is None else ((changed, *args[1:]), kwargs)
        changed = state.applied(edit, kwargs["hidden_states"])
        return None if changed is None else (args, {**kwargs, "hidden_states": changed})

    return hook


def _after(state: _Pass, edits: Mapping[int, Edit], numbers: list[int]) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        edit = edits.get(numbers.pop())
        tensor = first_tensor(output)
        if edit is None or tensor is None:
            return None
        changed = state.applied(edit, tensor)
        return None if changed is None else with_first_tensor(output, changed)

    return hook
