"""Recorded calls of modules: what a module was given and gave back, and running it again with parts replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["Call", "Stopped", "first_tensor", "hooks", "overridden", "record_calls", "stop_after", "with_first_tensor"]


def first_tensor(value: Any) -> Tensor | None:
    """The tensor itself, or the first element of a tuple when that is a tensor."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list) and value and isinstance(value[0], Tensor):
        return value[0]
    return None


def with_first_tensor(value: Any, tensor: Tensor) -> Any:
    """The same structure with its first tensor replaced."""
    if isinstance(value, Tensor):
        return tensor
    replaced = (tensor, *value[1:])
    # Lists stay lists, and tuples with names keep them.
    return type(value)(*replaced) if hasattr(value, "_fields") else type(value)(replaced)


@dataclass(frozen=True)
class Call:
    """One call of a module: its inputs and its output."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    @property
    def hidden(self) -> Tensor | None:
        """The hidden states it was given: the first argument, or the keyword `hidden_states`."""
        given = self.args[0] if self.args else self.kwargs.get("hidden_states")
        return given if isinstance(given, Tensor) else None

    def given(self, hidden: Tensor) -> Call:
        """The same call with other hidden states."""
        if self.args:
            return replace(self, args=(hidden, *self.args[1:]))
        return replace(self, kwargs={**self.kwargs, "hidden_states": hidden})

    def swapped(self, swap: Mapping[int, Any]) -> Call:
        """The same call with arguments replaced by identity: `swap[id(old)]` is the new one."""
        args = tuple(swap.get(id(value), value) for value in self.args)
        return replace(self, args=args, kwargs={k: swap.get(id(v), v) for k, v in self.kwargs.items()})

    def run(self) -> Any:
        """Call the module again."""
        return self.module(*self.args, **self.kwargs)


@contextmanager
def hooks(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    """Remove the hooks on exit, whatever happens inside."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record_calls(
    modules: Sequence[nn.Module], into: list[Call], trim: Callable[[Call], Call] = lambda call: call
) -> Iterator[None]:
    """Append every call of the modules to `into`, in order of their return; `trim` may drop what is not needed."""

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        into.append(trim(Call(module, args, dict(kwargs), output)))

    with hooks([module.register_forward_hook(note, with_kwargs=True) for module in dict.fromkeys(modules)]):
        yield


@contextmanager
def overridden(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the modules' `forward` and put the old ones back on exit, whatever happens inside."""
    with ExitStack() as stack:
        for module, forward in forwards.items():
            previous = module.__dict__.get("forward")
            module.__dict__["forward"] = forward
            if previous is None:
                stack.callback(module.__dict__.pop, "forward", None)
            else:
                stack.callback(module.__dict__.__setitem__, "forward", previous)
        yield


class Stopped(Exception):  # noqa: N818 - a signal, not an error
    """Raised to leave a forward pass early with what was wanted from it."""

    def __init__(self, output: Any) -> None:
        super().__init__("stopped on purpose")
        self.output = output


def stop_after(module: nn.Module, run: Callable[[], Any], nth: int = 0) -> Any:
    """Run until `module` has returned for the `nth` time, counted from 0, and give its output back."""
    returns = 0

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        nonlocal returns
        if returns == nth:
            raise Stopped(output)
        returns += 1

    with hooks([module.register_forward_hook(leave)]):
        try:
            run()
        except Stopped as stopped:
            return stopped.output
    raise RuntimeError(f"{type(module).__name__} was not called")
