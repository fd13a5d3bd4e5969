"""Finds a model's blocks and, inside each, the projections that write to the residual stream. No list of names.

A block is a member of a module list that maps hidden states to hidden states of the same shape. Inside it a *writer* is
a projection to the model's width whose output reaches the block's output directly. A writer whose input depends on its
own position alone is the feed-forward down-projection; one whose input mixes positions is the attention output.
Everything is found by changing one position and looking at what moves, so a renamed or restructured architecture is
either understood or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, overridden, record_calls, with_first_tensor
from neuronatlas.models.experts import expert_width, interface_reason
from neuronatlas.models.parts import Experts, Projection

__all__ = ["Block", "StructureError", "find_blocks", "trace_blocks"]

Reach = Literal["own", "others", "none"]
"""What a tensor depends on at a position: that position alone, others too, or nothing that was changed."""


class StructureError(ValueError):
    """The model's structure could not be understood, with the reason."""


@dataclass(frozen=True)
class Block:
    """One layer: a call of a block module, and the projections found in it.

    `call` is how often the module was called before in the same pass (0 but for models whose layers share weights).
    `attention_module` is the largest submodule that holds the attention output and not the feed-forward one; `ups` are
    the projections that feed the down-projection, each with its output's width; `output` is what the block gave in the
    traced pass, whose form its stand-ins copy. A mixture of experts has `experts` in place of `ffn`. `reason` says why
    there is neither, and `unaccounted` whether weights behind no projection write to the residual stream.
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
    unaccounted: bool = False
    experts: Experts | None = None


def _outermost(found: Mapping[str, nn.ModuleList | nn.Sequential]) -> dict[str, nn.ModuleList | nn.Sequential]:
    return {p: m for p, m in found.items() if not any(p != other and p.startswith(f"{other}.") for other in found)}


def _is_block_call(call: Call) -> bool:
    hidden, out = call.hidden, first_tensor(call.output)
    return hidden is not None and out is not None and hidden.ndim == 3 and hidden.shape == out.shape


def _streams(call: Call) -> int:
    """How many tensors of the hidden states' shape a block gives; a reversible one gives two."""
    given = call.output if isinstance(call.output, tuple | list) else [call.output]
    shape = None if call.hidden is None else call.hidden.shape
    return sum(isinstance(tensor, Tensor) and tensor.shape == shape for tensor in given)


def trace_blocks(module: nn.Module, run: Callable[[], Tensor]) -> list[Call]:
    """Run the model once, which gives logits [row, position, token], and return the calls of its blocks, in order.

    Errors: StructureError when there is no list of blocks, or several lists that could be it, or when what goes through
    them is not [row, position, width].
    """
    lists = {path: m for path, m in module.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m)}
    owner = {member: path for path, members in reversed(lists.items()) for member in members}
    calls: list[Call] = []
    with torch.no_grad(), record_calls(list(owner), calls):
        logits = run()
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
    blocks = [call for call in calls if call.module in members]
    for call in blocks:
        if _streams(call) > 1:
            raise StructureError(
                f"a block gives {_streams(call)} streams of hidden states ({type(call.module).__name__}): only one is "
                "supported"
            )
        # Proofs and interventions index hidden states by row and position. A model may pad its positions at the end.
        assert call.hidden is not None
        if call.hidden.shape[0] != logits.shape[0] or call.hidden.shape[1] < logits.shape[1]:
            raise StructureError(
                f"a block takes hidden states of shape {tuple(call.hidden.shape)} for {logits.shape[0]} rows of "
                f"{logits.shape[1]} positions: only [row, position, width] is supported"
            )
    return blocks


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
    try:
        search = _Search(call)
        writers = search.writers()
        reach = {w: search.reach(w, writers) for w in writers}
        past = search.past(writers)
    except Exception as error:  # noqa: BLE001 - whatever an unknown block raises, its other sites remain
        reason = f"the block cannot be run by itself ({type(error).__name__}: {' '.join(str(error).split())})"
        return Block(layer, path, call.module, number, None, None, None, (), call.output, reason)
    experts = search.experts([*past, *(f"{search.names[w]}.weight" for w in writers)])
    own = [w for w in writers if reach[w] == "own"]
    ffn, mixture = None, None
    if experts:
        mixture, reason = _mixture(search, writers, own, experts)
    else:
        ffn, reason = _feed_forward(search, own, past)
    mixers = [w for w in writers if reach[w] == "others"]
    attention = search.projection(mixers[0]) if len(mixers) == 1 else None
    child = search.child_without(attention, ffn) if attention and ffn else None
    inside = set(child.modules()) if child is not None else set()
    ups = search.ups(ffn, [m for m in search.outputs if m not in inside and m not in writers]) if ffn else ()
    unaccounted = bool(experts or past) and mixture is None
    return Block(
        layer, path, call.module, number, ffn, attention, child, ups, call.output, reason, unaccounted, mixture
    )


def _feed_forward(
    search: _Search, candidates: Sequence[nn.Module], past: Sequence[str]
) -> tuple[Projection | None, str]:
    """The down-projection among the position-wise writers, or why there is none."""
    if past:
        return None, f"{past[0]} writes to the residual stream past every projection that was found"
    found = [search.projection(writer) for writer in candidates]
    # Narrower ones beside it are bottlenecks: adapters, gates of inputs that a layer has for itself.
    wide = [p for p in found if p.width >= search.model_width] if len(found) > 1 else found
    if len(wide) == 1:
        return wide[0], ""
    return None, f"{len(wide)} position-wise projections write to the residual stream, 1 expected"


def _mixture(
    search: _Search, writers: Sequence[nn.Module], own: Sequence[nn.Module], weights: Sequence[str]
) -> tuple[Experts | None, str]:
    """The experts of a block and the one that they share, or why their neurons cannot be told."""
    said = f"its feed-forward neurons are those of a mixture of experts ({weights[0]})"
    paths = sorted({name.rpartition(".")[0] for name in weights})
    if len(paths) > 1:
        return None, f"{said}, and of another ({paths[1]})"
    module: Any = search.call.module.get_submodule(paths[0])
    reason = interface_reason(module)
    if reason:
        return None, f"{said}: {reason}"
    left = search.past(writers, frozen=[module])
    if left:
        return None, f"{said}, and {left[0]} writes to the residual stream past them"
    if len(own) > 1:
        return None, f"{said}, beside {len(own)} position-wise projections: 1 is supported, of a shared expert"
    shared = search.projection(own[0]) if own else None
    return Experts(paths[0], module, len(module.down_proj), expert_width(module), shared), ""


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
        self.returned: dict[nn.Module, Any] = {}
        leaves = [m for m in call.module.modules() if _is_projection(m)]
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
        for repeated in [m for m, count in counts.items() if count > 1]:
            self.inputs.pop(repeated, None)
            self.outputs.pop(repeated, None)
        self.clean = self._output(call)
        # The middle position, so that there are positions on both sides of it.
        self.place = self.positions // 2

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
        noise = torch.randn(self.rows, shaped.shape[-1], generator=torch.Generator().manual_seed(0))
        shaped[:, self.place] += scale * noise.to(shaped)
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

    def reach(self, writer: nn.Module, writers: Sequence[nn.Module]) -> Reach:
        """What the writer's input at a position depends on, the other writers being frozen: its own or others too."""
        frozen = {m: self.outputs[m] for m in writers if m is not writer}
        nudged = self.call.given(self._nudged(self.hidden))
        found = self._moved(writer, frozen, nudged)
        if found != "others":
            return found
        # Positions may be mixed before the neurons, by something without weights (a Fourier transform, a shift).
        feeding = {}
        for leaf in [m for m in self.outputs if m not in writers]:
            reached = self._moved(writer, {**frozen, leaf: self._nudged(self.outputs[leaf])}, self.call)
            if reached == "others":
                return "others"
            if reached == "own":
                feeding[leaf] = self.outputs[leaf]
        return "own" if feeding and self._moved(writer, {**frozen, **feeding}, nudged) == "none" else "others"

    def _moved(self, writer: nn.Module, fixed: Mapping[nn.Module, Tensor], call: Call) -> Reach:
        """Where the writer's input differs from the clean one."""
        seen: list[Call] = []
        with self._fixed(fixed), record_calls([writer], seen):
            self._output(call)
        given = seen[0].hidden
        assert given is not None
        return self._reached(given, self.inputs[writer])

    def _reached(self, found: Tensor, clean: Tensor) -> Reach:
        change = (found - clean).reshape(self.rows, self.positions, -1).abs().amax((0, 2))
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
            if weight.is_floating_point() and sum(size > 1 for size in weight.shape) > 1
        }
        fixed = {m: self.outputs[m] for m in writers} | self._given_by(frozen)
        with _wanting_gradients(weights.values()), self._fixed(fixed), torch.enable_grad():
            out = first_tensor(self.call.run())
            assert out is not None
            if not out.requires_grad:
                return []
            total = (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)).sum()
            slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        found = [n for n, slope in zip(weights, slopes, strict=True) if slope is not None and bool((slope != 0).any())]
        return [name for name in found if not self._mixes(name.rpartition(".")[0], fixed)]

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

    def _mixes(self, path: str, frozen: Mapping[nn.Module, Tensor]) -> bool:
        """Whether a module inside the block mixes positions, the writers being frozen."""
        module = self.call.module.get_submodule(path)
        clean: list[Call] = []
        nudged: list[Call] = []
        with self._fixed(frozen):
            with record_calls([module], clean):
                self._output(self.call)
            with record_calls([module], nudged):
                self._output(self.call.given(self._nudged(self.hidden)))
        before, after = (first_tensor(calls[0].output) if calls else None for calls in (clean, nudged))
        if before is None or after is None or before.shape != after.shape or before.shape[:2] != self.hidden.shape[:2]:
            return False
        return self._reached(after, before) == "others"

    def _fixed(self, outputs: Mapping[nn.Module, Tensor]) -> ExitStack:
        """Make modules return the given tensors, in the form in which they return theirs."""

        def constant(module: nn.Module, out: Tensor) -> Callable[..., Any]:
            return lambda *_, **__: with_first_tensor(self.returned[module], out.clone())

        stack = ExitStack()
        stack.enter_context(overridden({module: constant(module, out) for module, out in outputs.items()}))
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


@contextmanager
def _wanting_gradients(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let autograd follow the weights, and give every flag back on exit."""
    still = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in still:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in still:
            weight.requires_grad_(False)
