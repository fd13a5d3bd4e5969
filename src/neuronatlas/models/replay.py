"""Replay: runs again only what lies above a layer, for many prompts, layers and points of integration at once.

Scaling the feed-forward neurons of layer l at one position changes nothing below l. So a clean pass records what every
block received; the rows of each layer then start at that layer's down-projection and travel up through the model's own
blocks, called with the arguments recorded on the clean pass. Nothing of any architecture is written again here.

Three facts save arithmetic: at its own layer a row differs from the clean pass at one position only, so the block's
attention is not run and the rest runs on that position; in the last layer only the answer's position is needed above
attention; and the output head sees the answer's position alone.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, overridden, record_calls, stop_after, with_first_tensor
from neuronatlas.models.experts import Route, route_of, routed_as
from neuronatlas.models.heads import answer_logits, head_probabilities, head_slopes, probability
from neuronatlas.models.model import Model
from neuronatlas.models.taps import tapped

__all__ = ["FullReplay", "Plain", "Prompts", "Routing", "Way", "WayError"]

Routing = Literal["free", "frozen"]
"""Whether rows are sent to experts as the model sends them, or as in the unchanged run (and with the same weights)."""

Values = Sequence[Float[Tensor, "prompt node unit"]]
Slopes = tuple[Float[Tensor, "layer prompt node"], list[Float[Tensor, "prompt node unit"]]]


class WayError(RuntimeError):
    """This way of running rows does not suit the model or the prompts."""


@dataclass(frozen=True)
class Prompts:
    """Prompts of one length: token ids, where neurons are scaled, where the answer is read, the answers' ids."""

    ids: Int[Tensor, "prompt position"]
    positions: Int[Tensor, " prompt"]
    answer_positions: Int[Tensor, " prompt"]
    answers: Int[Tensor, " prompt"]

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, rows: slice) -> Prompts:
        return Prompts(self.ids[rows], self.positions[rows], self.answer_positions[rows], self.answers[rows])


class Way(ABC):
    """A way of running rows in which the neurons of one layer, at one position, take given values.

    `neurons[layer]` are the clean values [prompt, unit]; `clean_logits` those at the answers' places [prompt, token];
    `most_packed` is how many rows of a prompt may share a sequence.
    """

    name: str
    most_packed: int = sys.maxsize
    neurons: list[Float[Tensor, "prompt unit"]]
    clean_logits: Float[Tensor, "prompt token"]

    def __init__(self, model: Model, prompts: Prompts) -> None:
        self.model, self.prompts = model, prompts

    @property
    @abstractmethod
    def tokens_per_row(self) -> int:
        """How many positions a row computes above its layer, for the planning of memory."""

    @abstractmethod
    def probabilities(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "layer prompt node"]:
        """P(answer) when, layer by layer, the neurons of the chosen prompts take `values`; without gradients."""

    @abstractmethod
    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Those probabilities, and their gradients with respect to the values, a tensor a layer."""

    def packs_faithfully(self) -> bool:
        """Whether rows that share a sequence leave each other alone; true of ways in which none do."""
        return True

    def _answers(self, chosen: slice, nodes: int) -> Int[Tensor, " row"]:
        return self.prompts.answers[chosen].repeat_interleave(nodes)


class Plain(Way):
    """Full re-runs of the model, layer by layer: slow, needs nothing of the architecture, the others' reference."""

    name = "plain"

    def __init__(self, model: Model, prompts: Prompts, site: str = "ffn", routing: Routing = "free") -> None:
        super().__init__(model, prompts)
        self.points = model.site(site).points
        rows = torch.arange(len(prompts))
        seen: dict[int, Tensor] = {}
        edits = {
            p: (lambda x, p=p: seen.__setitem__(p.layer, x[rows, prompts.positions].detach())) for p in self.points
        }
        calls: list[Call] = []
        experts = [block.experts.module for block in model.blocks if block.experts is not None]
        with torch.no_grad(), tapped(model.module, edits), record_calls(experts if routing == "frozen" else [], calls):
            self.clean_logits = model.logits(prompts.ids)[rows, prompts.answer_positions]
        self.neurons = [seen[point.layer] for point in self.points]
        self.routes = {call.module: route_of(call) for call in calls}

    @property
    def tokens_per_row(self) -> int:
        """All positions of the prompt."""
        return self.prompts.ids.shape[1]

    def probabilities(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "layer prompt node"]:
        """P(answer), by one run of the model a layer."""
        with torch.no_grad():
            return torch.stack([self._layer(layer, new, chosen) for layer, new in zip(layers, values, strict=True)])

    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Gradients, by one run of the model a layer."""
        probabilities, gradients = [], []
        for layer, new in zip(layers, values, strict=True):
            leaf = new.clone().requires_grad_()
            with torch.enable_grad():
                found = self._layer(layer, leaf, chosen)
                gradients += _gradients(found.sum(), [leaf])
            probabilities.append(found.detach())
        return torch.stack(probabilities), gradients

    def _layer(self, layer: int, values: Tensor, chosen: slice) -> Tensor:
        nodes, prompts = values.shape[1], self.prompts[chosen]
        rows = torch.arange(len(prompts) * nodes)
        positions = prompts.positions.repeat_interleave(nodes)

        def put(given: Tensor) -> Tensor:
            return given.index_put((rows, positions), values.flatten(0, 1).to(given.dtype))

        with routed_as(self._routes(chosen, nodes)), tapped(self.model.module, {self.points[layer]: put}):
            logits = self.model.logits(prompts.ids.repeat_interleave(nodes, dim=0))
        places = prompts.answer_positions.repeat_interleave(nodes)
        return probability(logits[rows, places], self._answers(chosen, nodes)).reshape(-1, nodes)

    def _routes(self, chosen: slice, nodes: int) -> dict[nn.Module, Route]:
        """Frozen routes of the chosen prompts' rows; none when routing is free."""

        def rows(tensor: Tensor) -> Tensor:
            whole = tensor.reshape(len(self.prompts), -1, tensor.shape[-1])
            return whole[chosen].repeat_interleave(nodes, dim=0).flatten(0, 1)

        return {module: (rows(index), rows(weights)) for module, (index, weights) in self.routes.items()}


@dataclass(frozen=True)
class Recorded:
    """A pass of the model: the calls of each layer's block, attention module and down-projection, and logits."""

    blocks: list[Call]
    attention: list[Call]
    downs: list[Call]
    logits: Tensor


class Replay(Way):
    """What the replaying ways share: the clean pass's records, the position-wise rest of a block, and the head."""

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        if any(b.experts is not None for b in model.blocks):
            raise WayError("the feed-forward neurons of a mixture of experts have no single down-projection")
        if any(b.ffn is None or b.attention_module is None for b in model.blocks):
            raise WayError("a block has no separate attention module")
        self.calls: list[Call] = []
        self.attended: list[Any] = []
        self.hidden: list[Tensor] = []
        self.mixed: list[Tensor] = []
        self.neurons = []

    @abstractmethod
    def _states(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "row 1 width"]:
        """What the last block gives at the answers' places, the rows ordered by layer, prompt, node."""

    def probabilities(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "layer prompt node"]:
        """P(answer) of all rows in one forward pass from their layers upwards."""
        nodes = values[0].shape[1]
        with torch.no_grad():
            states = self._states(layers, values, chosen)
        answers = self._answers(chosen, nodes).repeat(len(layers))
        return head_probabilities(self.model, states, answers).reshape(len(layers), -1, nodes)

    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Gradients of all rows by one forward and one backward pass."""
        leaves = [new.clone().requires_grad_() for new in values]
        with torch.enable_grad():
            states = self._states(layers, leaves, chosen)
        answers = self._answers(chosen, values[0].shape[1]).repeat(len(layers))
        probabilities, slopes = head_slopes(self.model, states, answers)
        return probabilities.reshape(len(layers), len(leaves[0]), -1), _gradients(states, leaves, slopes)

    def _record(self, run: Callable[[], Tensor], trim: Callable[[Call], Call]) -> Recorded:
        """Run the model and keep the calls of its blocks, attention modules and down-projections, layer by layer."""
        blocks = self.model.blocks
        attention = [b.attention_module for b in blocks if b.attention_module is not None]
        downs = [b.ffn.module for b in blocks if b.ffn is not None]
        calls: list[Call] = []
        with (
            torch.no_grad(),
            record_calls([b.module for b in blocks], calls),
            record_calls([*attention, *downs], calls, trim),
        ):
            logits = run()
        of: dict[nn.Module, list[Call]] = {}
        for call in calls:
            of.setdefault(call.module, []).append(call)
        if any(len(of.get(b.module, [])) <= b.call for b in blocks):
            raise WayError("a block was not called as it was when the model was loaded")

        def pick(modules: Sequence[nn.Module]) -> list[Call]:
            return [of[module][block.call] for module, block in zip(modules, blocks, strict=True)]

        return Recorded(pick([b.module for b in blocks]), pick(attention), pick(downs), logits)

    def _rest(self, layer: int, hidden: Tensor, mixed: Tensor, neurons: Tensor | None = None) -> Tensor:
        """Run a block on single positions, its attention's output being given, and if given its neurons as well."""
        block = self.model.blocks[layer]
        template = self.attended[layer]
        assert block.attention_module is not None
        assert block.ffn is not None
        forwards: dict[nn.Module, Callable[..., Any]] = {
            block.attention_module: lambda *_, **__: with_first_tensor(template, mixed)
        }
        if neurons is not None:
            project = block.ffn.module.forward
            forwards[block.ffn.module] = lambda x, *_, **__: project(neurons.reshape(x.shape))
            for up, width in block.ups:
                forwards[up] = lambda x, *_, width=width, **__: x.new_zeros(1).expand(*x.shape[:-1], width)
        with overridden(forwards):
            return _tensor(self.calls[layer].given(hidden).run())


class FullReplay(Replay):
    """Replay in which a row carries all positions of its prompt: for masked models, and any position of causal ones."""

    name = "replay"

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        first = self._pass(prompts[:1])
        every = first if len(prompts) == 1 else self._pass(prompts)
        self.calls, self.attended = first.blocks, [call.output for call in first.attention]
        self.clean_logits = every.logits
        self.hidden = [_tensor(call.hidden) for call in every.blocks] + [_tensor(every.blocks[-1].output)]
        self.mixed = [_tensor(call.output) for call in every.attention]
        self.neurons = [_tensor(call.hidden) for call in every.downs]

    def _pass(self, prompts: Prompts) -> Recorded:
        """A clean pass; of the attention's output and the neurons only the changed positions are kept."""
        rows = torch.arange(len(prompts))

        def trim(call: Call) -> Call:
            given, output = _tensor(call.hidden), _tensor(call.output)
            kept = given.reshape(*prompts.ids.shape, -1)[rows, prompts.positions]
            if output.ndim == 3:
                output = _at(output, rows, prompts.positions)
            return Call(call.module, (kept,), {}, with_first_tensor(call.output, output))

        return self._record(lambda: answer_logits(self.model, prompts.ids, prompts.answer_positions), trim)

    @property
    def tokens_per_row(self) -> int:
        """All positions of the prompt."""
        return self.prompts.ids.shape[1]

    def _states(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "row 1 width"]:
        nodes, last = values[0].shape[1], len(self.model.blocks) - 1
        of = dict(zip(layers, values, strict=True))
        rows = torch.arange(len(self.prompts))[chosen].repeat_interleave(nodes)
        positions, places = self.prompts.positions[rows], self.prompts.answer_positions[rows]
        state: Tensor | None = None
        for layer in range(min(layers), last + 1):
            parts = [] if state is None else [self._lift(layer, state, places)]
            if layer in of:
                new = self._rest(
                    layer, _at(self.hidden[layer], rows, positions), self.mixed[layer][rows], of[layer].flatten(0, 1)
                )
                parts.append(self._started(layer, rows, positions, places, new))
            state = parts[0] if len(parts) == 1 else torch.cat(parts)
        assert state is not None
        return state

    def _lift(self, layer: int, state: Tensor, places: Tensor) -> Tensor:
        """Rows through a block; in the last one only the answers' places go on after attention."""
        call = self.calls[layer].given(state)
        if layer < len(self.model.blocks) - 1:
            return _tensor(call.run())
        attention = self.model.blocks[layer].attention_module
        assert attention is not None
        mixed = _tensor(stop_after(attention, call.run))
        rows, where = torch.arange(len(state)), places.repeat(len(state) // len(places))
        return self._rest(layer, _at(state, rows, where), _at(mixed, rows, where))

    def _started(self, layer: int, rows: Tensor, positions: Tensor, places: Tensor, new: Tensor) -> Tensor:
        """The clean output of a block with the changed position put in; of the last block, the answers' places only."""
        if layer < len(self.model.blocks) - 1:
            return self.hidden[layer + 1][rows].index_put((torch.arange(len(rows)), positions), new[:, 0])
        return torch.where((positions == places).reshape(-1, 1, 1), new, _at(self.hidden[-1], rows, places))


def _tensor(value: Any) -> Tensor:
    tensor = first_tensor(value)
    if tensor is None:
        raise WayError(f"a block or its attention gave {type(value).__name__}, expected a tensor")
    return tensor


def _gradients(total: Tensor, leaves: Sequence[Tensor], slopes: Tensor | None = None) -> list[Tensor]:
    """Gradients of the leaves, 0 where nothing depends on one (a place that the answer does not see)."""
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(total, leaves, slopes, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


def _at(values: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """[row, 1, width]: one position of each row."""
    return values[rows, positions].unsqueeze(1)
