"""Finds a model's blocks and, inside each, the projections that write to the residual stream. No list of names.

A block is a member of a module list that maps hidden states to hidden states of the same shape. Inside it a *writer* is
a projection to the model's width whose output reaches the block's output directly. A writer whose input depends on its
own position alone is the feed-forward down-projection; one whose input mixes positions is the attention output.
Everything is found by changing one position and looking at what moves, so a renamed or restructured architecture is
either understood or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, overridden, record_calls

__all__ = ["Block", "Projection", "StructureError", "find_blocks", "trace_blocks"]


class StructureError(ValueError):
    """The model's structure could not be understood, with the reason."""


@dataclass(frozen=True)
class Projection:
    """A projection back to the model's width; the neurons are its inputs."""

    path: str
    module: nn.Module
    width: int


@dataclass(frozen=True)
class Block:
    """One layer: a call of a block module, and the projections found in it.

    `call` is how often the module was called before in the same pass (0 but for models whose layers share weights).
    `attention_module` is the largest submodule that holds the attention output and not the feed-forward one; `ups` are
    the projections that feed the down-projection, each with its output's width; `output` is what the block gave in the
    traced pass, whose form its stand-ins copy.
    """

    layer: int
    path: str
    module: nn.Module
    call: int
    ffn: Projection | None
    attention: Projection | None
    attention_module: nn.Module | None
    ups: tuple[tuple[nn.Module, int], ...]
    output: Any = field(repr=False)
    reason: str = ""


def _outermost(found: Mapping[str, nn.ModuleList | nn.Sequential]) -> dict[str, nn.ModuleList | nn.Sequential]:
    return {p: m for p, m in found.items() if not any(p != other and p.startswith(f"{other}.") for other in found)}


def _is_block_call(call: Call) -> bool:
    hidden, out = call.hidden, first_tensor(call.output)
    return hidden is not None and out is not None and hidden.ndim == 3 and hidden.shape == out.shape


def trace_blocks(module: nn.Module, run: Callable[[], Any]) -> list[Call]:
    """Run the model once and return the calls of its blocks, in order.

    Errors: StructureError when there is no list of blocks, or several lists that could be it.
    """
    lists = {path: m for path, m in module.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m)}
    owner = {member: path for path, members in reversed(lists.items()) for member in members}
    calls: list[Call] = []
    with torch.no_grad(), record_calls(list(owner), calls):
        run()
    calls = [call for call in calls if _is_block_call(call) and any(True for _ in call.module.children())]
    stacks = _outermost({owner[call.module]: lists[owner[call.module]] for call in calls})
    if not stacks:
        raise StructureError(
            "no stack of blocks found: no module list whose members map hidden states to hidden states"
        )
    if len(stacks) > 1:
        raise StructureError(
            f"several stacks of blocks found ({', '.join(sorted(stacks))}): only models with one are supported"
        )
    members = set(next(iter(stacks.values())))
    return [call for call in calls if call.module in members]


def find_blocks(module: nn.Module, calls: Sequence[Call]) -> tuple[Block, ...]:
    """Find the writers of every traced block; shapes are those of the traced pass [row, position, width]."""
    names = {m: path for path, m in module.named_modules()}
    seen: dict[nn.Module, int] = {}
    blocks = []
    for layer, call in enumerate(calls):
        number = seen[call.module] = seen.get(call.module, -1) + 1
        blocks.append(_find_block(layer, names[call.module], number, call))
    return tuple(blocks)


def _find_block(layer: int, path: str, number: int, call: Call) -> Block:
    search = _Search(call)
    writers = search.writers()
    reach = {w: search.reach(w, writers) for w in writers}
    positionwise = [w for w in writers if reach[w] == "own"]
    mixers = [w for w in writers if reach[w] == "others"]
    ffn = search.projection(positionwise[0]) if len(positionwise) == 1 else None
    attention = search.projection(mixers[0]) if len(mixers) == 1 else None
    child = search.child_without(attention, ffn) if attention and ffn else None
    inside = set(child.modules()) if child is not None else set()
    ups = tuple((m, out.shape[-1]) for m, out in search.outputs.items() if m not in inside and m not in writers)
    reason = "" if ffn else f"{len(positionwise)} position-wise projections write to the residual stream, 1 expected"
    return Block(layer, path, call.module, number, ffn, attention, child, ups, call.output, reason)


class _Search:
    """Interventions inside one recorded call of a block."""

    def __init__(self, call: Call) -> None:
        self.call = call
        hidden = call.hidden
        assert hidden is not None
        self.hidden = hidden
        self.rows, self.positions, self.model_width = hidden.shape
        self.names = {m: path for path, m in call.module.named_modules()}
        self.inputs: dict[nn.Module, Tensor] = {}
        self.outputs: dict[nn.Module, Tensor] = {}
        leaves = [m for m in call.module.modules() if _is_projection(m)]
        calls: list[Call] = []
        with torch.no_grad(), record_calls(leaves, calls):
            call.run()
        counts: dict[nn.Module, int] = {}
        for leaf in calls:
            counts[leaf.module] = counts.get(leaf.module, 0) + 1
            given, out = leaf.hidden, first_tensor(leaf.output)
            if given is not None and out is not None and out.numel() % (self.rows * self.positions) == 0:
                self.inputs[leaf.module], self.outputs[leaf.module] = given, out
        for repeated in [m for m, count in counts.items() if count > 1]:
            self.inputs.pop(repeated, None)
            self.outputs.pop(repeated, None)
        self.clean = self._output(call)
        # The middle position, so that there are positions on both sides of it.
        self.place = self.positions // 2
        self.noise = torch.randn(self.rows, self.model_width, generator=torch.Generator().manual_seed(0)).to(hidden)

    @staticmethod
    def _output(call: Call) -> Tensor:
        with torch.no_grad():
            out = first_tensor(call.run())
        assert out is not None
        return out

    def _nudged(self, tensor: Tensor) -> Tensor:
        """A copy changed at one position by noise as large as the tensor itself."""
        shaped = tensor.reshape(self.rows, self.positions, -1).clone()
        scale = shaped.float().pow(2).mean().sqrt().clamp(min=1e-3).to(shaped.dtype)
        shaped[:, self.place] += scale * self.noise
        return shaped.reshape(tensor.shape)

    def writers(self) -> list[nn.Module]:
        """Projections whose output still moves the block's output when all other candidates are frozen."""
        candidates = [m for m, out in self.outputs.items() if out.shape[-1] == self.model_width]
        found = []
        for module in candidates:
            fixed = {m: self.outputs[m] for m in candidates if m is not module}
            fixed[module] = self._nudged(self.outputs[module])
            with self._fixed(fixed):
                moved = self._output(self.call)
            if not torch.equal(moved[:, self.place], self.clean[:, self.place]):
                found.append(module)
        return found

    def reach(self, writer: nn.Module, writers: Sequence[nn.Module]) -> Literal["own", "others", "none"]:
        """What the writer's input at a position depends on, the other writers being frozen: its own or others too."""
        seen: list[Call] = []
        with self._fixed({m: self.outputs[m] for m in writers if m is not writer}), record_calls([writer], seen):
            self._output(self.call.given(self._nudged(self.hidden)))
        given = seen[0].hidden
        assert given is not None
        change = (given - self.inputs[writer]).reshape(self.rows, self.positions, -1).abs().amax((0, 2))
        moved = change > 1e-4 * self.inputs[writer].abs().max()
        own = bool(moved[self.place])
        moved[self.place] = False
        return "others" if bool(moved.any()) else "own" if own else "none"

    def _fixed(self, outputs: Mapping[nn.Module, Tensor]) -> ExitStack:
        """Make modules return the given tensors."""
        stack = ExitStack()
        stack.enter_context(overridden({m: (lambda *_, out=out, **__: out) for m, out in outputs.items()}))
        return stack

    def projection(self, module: nn.Module) -> Projection:
        return Projection(self.names[module], module, self.inputs[module].shape[-1])

    def child_without(self, inside: Projection, outside: Projection) -> nn.Module | None:
        """The largest submodule of the block that holds `inside` and not `outside`; None when there is none."""
        parts = inside.path.split(".")
        for depth in range(1, len(parts)):
            module = self.call.module.get_submodule(".".join(parts[:depth]))
            if outside.module not in set(module.modules()):
                return module
        return None


def _is_projection(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return not any(True for _ in module.children()) and isinstance(weight, Tensor) and weight.ndim >= 2
