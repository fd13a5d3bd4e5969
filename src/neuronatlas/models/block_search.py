"""Interventions inside one recorded call of a block: what writes to its output, and what that depends on.

Everything is found by changing one position, or by holding parts where they are, and looking at what moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, overridden, record_calls, with_first_tensor
from neuronatlas.models.parts import Projection
from neuronatlas.models.stacks import Stack
from neuronatlas.models.weights import coded_modules, is_plain, is_projection, wanting_gradients

__all__ = ["BlockSearch", "Reach"]

Reach = Literal["own", "others", "none", "encoder"]
"""What a tensor depends on at a position: that position alone, others too, nothing that was changed, or an encoder."""


class BlockSearch:
    """Interventions inside one recorded call of a block."""

    def __init__(self, call: Call, stack: Stack) -> None:
        self.call, self.positions_first, self.reads = call, stack.positions_first, stack.reads
        hidden = call.hidden
        assert hidden is not None
        self.hidden = hidden
        self.rows, self.positions, self.model_width = self._shape(hidden)
        self.names = {m: path for path, m in call.module.named_modules()}
        self.inputs: dict[nn.Module, Tensor] = {}
        self.outputs: dict[nn.Module, Tensor] = {}
        self.returned: dict[nn.Module, Any] = {}
        leaves = [m for m in call.module.modules() if is_projection(m)]
        calls: list[Call] = []
        with torch.no_grad(), record_calls(leaves, calls):
            call.run()
        counts: dict[nn.Module, int] = {}
        for leaf in calls:
            counts[leaf.module] = counts.get(leaf.module, 0) + 1
            given, out = leaf.hidden, first_tensor(leaf.output)
            if given is not None and out is not None and out.numel() % (self.rows * self.positions) == 0:
                # Cloned: a block may go on to write into the same memory.
                self.inputs[leaf.module], self.outputs[leaf.module] = given, out.clone()
                self.returned[leaf.module] = leaf.output
        self.repeated = [m for m, count in counts.items() if count > 1]
        for module in self.repeated:
            self.inputs.pop(module, None)
            self.outputs.pop(module, None)
        self.clean = self._output(call)
        # The middle position, so that there are positions on both sides of it, none of which the model appended.
        self.place = stack.positions // 2

    def _shape(self, hidden: Tensor) -> tuple[int, int, int]:
        first, second, width = hidden.shape
        return (second, first, width) if self.positions_first else (first, second, width)

    def _spread(self, tensor: Tensor) -> Tensor:
        """A tensor of all rows and positions as [row, position, rest]; a view where the tensor allows one."""
        if self.positions_first:
            return tensor.reshape(self.positions, self.rows, -1).transpose(0, 1)
        return tensor.reshape(self.rows, self.positions, -1)

    def _gathered(self, spread: Tensor, like: Tensor) -> Tensor:
        """Back from [row, position, rest] to the form that the block uses."""
        return (spread.transpose(0, 1) if self.positions_first else spread).reshape(like.shape)

    @staticmethod
    def _output(call: Call) -> Tensor:
        with torch.no_grad():
            out = first_tensor(call.run())
        assert out is not None
        return out

    def _nudged(self, tensor: Tensor) -> Tensor:
        """A copy changed at one position by noise as large as the tensor itself."""
        spread = self._spread(tensor).clone()
        spread[:, self.place] += _noise(spread[:, self.place], _size(tensor))
        return self._gathered(spread, tensor)

    def writers(self) -> list[nn.Module]:
        """Projections whose output still moves the block's output when all other candidates are frozen."""
        candidates = [m for m, out in self.outputs.items() if out.shape[-1] == self.model_width]
        found = []
        for module in candidates:
            fixed = {m: self.outputs[m] for m in candidates if m is not module}
            fixed[module] = self._nudged(self.outputs[module])
            with self._fixed(fixed):
                moved = self._output(self.call)
            if not torch.equal(self._spread(moved)[:, self.place], self._spread(self.clean)[:, self.place]):
                found.append(module)
        return found

    def reach(self, writer: nn.Module, writers: Sequence[nn.Module]) -> Reach:
        """What the writer's input at a position depends on, the other writers being frozen: its own or others too."""
        frozen = {m: self.outputs[m] for m in writers if m is not writer}
        nudged = self.call.given(self._nudged(self.hidden))
        found = self._moved(writer, frozen, nudged)
        if found != "others":
            crosses = self.reads and self._moved(writer, frozen, self._read_otherwise()) != "none"
            return "encoder" if crosses else found
        # Positions may be mixed before the neurons, by something without weights (a Fourier transform, a shift).
        feeding = {}
        for leaf in [m for m in self.outputs if m not in writers]:
            reached = self._moved(writer, {**frozen, leaf: self._nudged(self.outputs[leaf])}, self.call)
            if reached == "others":
                return "others"
            if reached == "own":
                feeding[leaf] = self.outputs[leaf]
        return "own" if feeding and self._moved(writer, {**frozen, **feeding}, nudged) == "none" else "others"

    def _read_otherwise(self) -> Call:
        """The call with every sequence of states that is as long as the encoder's changed by noise."""
        shape = (self.reads, self.rows) if self.positions_first else (self.rows, self.reads)
        given = [value for value in (*self.call.args, *self.call.kwargs.values()) if value is not self.hidden]
        states = [v for v in given if isinstance(v, Tensor) and v.is_floating_point() and v.ndim == 3]
        return self.call.swapped({id(v): v + _noise(v, _size(v)) for v in states if v.shape[:2] == shape})

    def _moved(self, writer: nn.Module, fixed: Mapping[nn.Module, Tensor], call: Call) -> Reach:
        """Where the writer's input differs from the clean one."""
        seen: list[Call] = []
        with self._fixed(fixed), record_calls([writer], seen):
            self._output(call)
        given = seen[0].hidden
        assert given is not None
        return self._reached(given, self.inputs[writer])

    def _reached(self, found: Tensor, clean: Tensor) -> Reach:
        change = self._spread(found - clean).abs().amax((0, 2))
        moved = change > 1e-4 * clean.abs().max()
        own = bool(moved[self.place])
        moved[self.place] = False
        return "others" if bool(moved.any()) else "own" if own else "none"

    def ups(self, ffn: Projection, candidates: Sequence[nn.Module]) -> tuple[tuple[nn.Module, int], ...]:
        """Those that matter to the block through the feed-forward neurons alone, each with its output's width."""
        found = []
        for module in candidates:
            with self._fixed({module: self._nudged(self.outputs[module]), ffn.module: self.outputs[ffn.module]}):
                if torch.equal(self._output(self.call), self.clean):
                    found.append((module, self.outputs[module].shape[-1]))
        return tuple(found)

    def past(self, writers: Sequence[nn.Module], frozen: Sequence[nn.Module] = ()) -> list[str]:
        """Paths of matrices that move the block's output, position by position, though all of its writers are frozen.

        Other modules may be `frozen` with them. A block whose neurons are all behind its writers has none: what is left
        is the residual stream and its norms.
        """
        weights = {
            name: weight
            for name, weight in self.call.module.named_parameters()
            if is_plain(weight) and sum(size > 1 for size in weight.shape) > 1
        }
        fixed = {m: self.outputs[m] for m in writers} | self._given_by(frozen)
        with wanting_gradients(weights.values()), self._fixed(fixed), torch.enable_grad():
            out = first_tensor(self.call.run())
            assert out is not None
            if not weights or not out.requires_grad:
                return []
            total = (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)).sum()
            slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        found = [n for n, slope in zip(weights, slopes, strict=True) if slope is not None and bool((slope != 0).any())]
        return [name for name in found if not self._accounted(name.rpartition(".")[0], fixed)]

    def why_past(self, past: Sequence[str]) -> str:
        """Why matrices lie past every writer: experts that are modules, or projections that run more than once."""
        for path, module in self.call.module.named_modules():
            own = {name[len(path) + 1 :].partition(".")[0] for name in past if name.startswith(f"{path}.")}
            if isinstance(module, nn.ModuleDict | nn.ModuleList) and len(own) > 1:
                return f"its feed-forward neurons are those of experts that are modules of their own ({path})"
        repeated = [m for m in self.repeated if f"{self.names[m]}.weight" in past]
        if repeated:
            return f"{self.names[repeated[0]]} runs more than once in a block: once is supported"
        return f"{past[0]} writes to the residual stream past every projection that was found"

    def opaque(self, writers: Sequence[nn.Module]) -> list[str]:
        """The same of modules with quantised weights, whose outputs are changed instead: codes have no gradients.

        One that is not run once, like a projection, counts as well: what it does cannot be told.
        """
        fixed, found = {m: self.outputs[m] for m in writers}, []
        for path, module in coded_modules(self.call.module).items():
            if module not in self.outputs:
                found.append(f"{path} ({type(module).__name__})")
            elif module not in writers and not self._accounted(path, fixed):
                with self._fixed({**fixed, module: self._nudged(self.outputs[module])}):
                    moved = self._output(self.call)
                if not torch.equal(self._spread(moved)[:, self.place], self._spread(self.clean)[:, self.place]):
                    found.append(f"{path} ({type(module).__name__})")
        return found

    def _given_by(self, modules: Sequence[nn.Module]) -> dict[nn.Module, Tensor]:
        """What modules return in the recorded call."""
        calls: list[Call] = []
        with record_calls(modules, calls):
            self._output(self.call)
        self.returned |= {call.module: call.output for call in calls}
        return {call.module: out for call in calls if (out := first_tensor(call.output)) is not None}

    def experts(self, weights: Sequence[str]) -> list[str]:
        """Those of the weights that are stacks of matrices [expert, out, in], and not a convolution's."""
        module = self.call.module
        stacks = [name for name in weights if module.get_parameter(name).ndim == 3]
        return [name for name in stacks if not isinstance(module.get_submodule(name.rpartition(".")[0]), nn.Conv1d)]

    def _accounted(self, path: str, frozen: Mapping[nn.Module, Tensor]) -> bool:
        """Whether a module mixes positions, or is a convolution of what the frozen ones write, channel by channel."""
        module = self.call.module.get_submodule(path)
        if isinstance(module, nn.Conv1d) and module.groups == module.in_channels:
            # Its weights may be used by the module that it belongs to.
            before, after = self._outputs_of(path.rpartition(".")[0], frozen)
            if before is not None and after is not None and torch.equal(before, after):
                return True
        before, after = self._outputs_of(path, frozen)
        if before is None or after is None or before.shape != after.shape or before.shape[:2] != self.hidden.shape[:2]:
            return False
        return self._reached(after, before) == "others"

    def _outputs_of(self, path: str, frozen: Mapping[nn.Module, Tensor]) -> list[Tensor | None]:
        """What a module first gives in the recorded call, and in one that is changed at a position."""
        module, found = self.call.module.get_submodule(path), list[Tensor | None]()
        for call in (self.call, self.call.given(self._nudged(self.hidden))):
            calls: list[Call] = []
            with self._fixed(frozen), record_calls([module], calls):
                self._output(call)
            found.append(first_tensor(calls[0].output) if calls else None)
        return found

    def _fixed(self, outputs: Mapping[nn.Module, Tensor]) -> ExitStack:
        """Make modules return the given tensors, in the form in which they return theirs."""

        def constant(module: nn.Module, out: Tensor) -> Callable[..., Any]:
            return lambda *_, **__: with_first_tensor(self.returned[module], out.clone())

        stack = ExitStack()
        stack.enter_context(overridden({module: constant(module, out) for module, out in outputs.items()}))
        return stack

    def projection(self, module: nn.Module) -> Projection:
        """A module of the block as a projection, as wide as what it is given."""
        return Projection(self.names[module], module, self.inputs[module].shape[-1])

    def child_without(self, inside: Projection, outside: Sequence[nn.Module]) -> nn.Module | None:
        """The largest submodule of the block that holds `inside` and none of `outside`; None when there is none."""
        parts = inside.path.split(".")
        for depth in range(1, len(parts)):
            module = self.call.module.get_submodule(".".join(parts[:depth]))
            if not set(outside) & set(module.modules()):
                return module
        return None


def _size(tensor: Tensor) -> Tensor:
    """Root mean square of a tensor's values, not quite 0."""
    return tensor.float().pow(2).mean().sqrt().clamp(min=1e-3).to(tensor)


def _noise(tensor: Tensor, size: Tensor) -> Tensor:
    """The same noise every time, of a tensor's shape and dtype."""
    return size * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor)
