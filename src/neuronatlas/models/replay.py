"""Replay: runs again only what lies above a layer, for many prompts, layers and points of integration at once.

Scaling the feed-forward neurons of layer l at one position changes nothing below l. So a clean pass records what every
block received; the rows of each layer then start at that layer's down-projection and travel up through the model's own
blocks, called with the arguments recorded on the clean pass. Nothing of any architecture is written again here.

Three facts save arithmetic: at its own layer a row differs from the clean pass at one position only, so the block's
attention is not run and the rest runs on that position; in the last layer only the answer's position is needed above
attention; and the output head sees the answer's position alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, overridden, record_calls, stop_after, with_first_tensor
from neuronatlas.models.heads import answer_logits, head_readings, head_slopes
from neuronatlas.models.model import Model
from neuronatlas.models.taps import Edit, Point, tapped
from neuronatlas.models.ways import Prompts, Slopes, Values, Way, WayError, gradients_of, unscaled

__all__ = ["FullReplay", "PartReplay", "Recorded", "Replay", "at_places", "tensor_of"]


@dataclass(frozen=True)
class Recorded:
    """A pass of the model: the calls of each layer's block and attention module, its neurons, and logits.

    `neurons` are those at the prompts' positions [prompt, unit].
    """

    blocks: list[Call]
    attention: list[Call]
    neurons: list[Tensor]
    logits: Tensor


class Replay(Way):
    """What the replaying ways share: the clean pass's records, a block's place of neurons, and the head."""

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        if prompts.decoder_ids is not None:
            raise WayError("a decoder's blocks are given the encoder's states, which differ between prompts")
        self.points = model.site("ffn").points
        self.calls: list[Call] = []
        self.hidden: list[Tensor] = []
        self.neurons = []

    @abstractmethod
    def _states(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "row 1 width"]:
        """What the last block gives at the answers' places, the rows ordered by layer, prompt, node."""

    def readings(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "layer prompt node"]:
        """The readout of all rows in one forward pass from their layers upwards."""
        nodes = values[0].shape[1]
        with torch.no_grad():
            states = self._states(layers, values, chosen)
        answers = self._answers(chosen, nodes).repeat(len(layers))
        return head_readings(self.model, states, answers, self.prompts.readout).reshape(len(layers), -1, nodes)

    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Gradients of all rows by one forward and one backward pass."""
        leaves = [new.clone().requires_grad_() for new in values]
        with torch.enable_grad():
            states = self._states(layers, leaves, chosen)
        answers = self._answers(chosen, values[0].shape[1]).repeat(len(layers))
        readings, slopes, units = head_slopes(self.model, states, answers, self.prompts.readout)
        shape = len(layers), len(leaves[0]), -1
        return readings.reshape(shape), unscaled(gradients_of(states, leaves, slopes), units.reshape(shape))

    def _record(
        self,
        run: Callable[[], Tensor],
        places: Tensor,
        attention: Sequence[nn.Module] = (),
        trim: Callable[[Call], Call] = lambda call: call,
    ) -> Recorded:
        """Run the model and keep, layer by layer, the calls of its blocks and attention modules and its neurons.

        `places` are the positions of the neurons in that run; `trim` may drop what is not needed of attention.
        """
        blocks, rows = self.model.blocks, torch.arange(len(places))
        calls: list[Call] = []
        seen: dict[int, Tensor] = {}

        def keep(layer: int, given: Tensor) -> None:
            seen[layer] = given[rows, places]

        edits: dict[Point, Edit] = {p: partial(keep, p.layer) for p in self.points if p.width}
        with (
            torch.no_grad(),
            record_calls([b.module for b in blocks], calls),
            record_calls(attention, calls, trim),
            tapped(self.model.module, edits),
        ):
            logits = run()
        of: dict[nn.Module, list[Call]] = {}
        for call in calls:
            of.setdefault(call.module, []).append(call)
        if any(len(of.get(b.module, [])) <= b.call for b in blocks):
            raise WayError("a block was not called as it was when the model was loaded")

        def pick(modules: Sequence[nn.Module]) -> list[Call]:
            return [of[module][block.call] for module, block in zip(modules, blocks, strict=True)]

        none = logits.new_zeros(len(places), 0)
        neurons = [seen[point.layer] if point.width else none for point in self.points]
        return Recorded(pick([b.module for b in blocks]), pick(attention) if attention else [], neurons, logits)

    def _alone(self, layer: int) -> Point:
        """A layer's neurons in a pass of its block by itself."""
        return replace(self.points[layer], call=0, calls=1)


class PartReplay(Replay):
    """Replay that runs of a row's own block only what follows attention, on the changed position alone."""

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        self.attention = [b.attention_module for b in model.blocks if b.attention_module is not None]
        if len(self.attention) < len(model.blocks):
            raise WayError("a block has no separate attention module")
        self.attended: list[Any] = []
        self.mixed: list[Tensor] = []

    def _rest(self, layer: int, hidden: Tensor, mixed: Tensor, neurons: Tensor | None = None) -> Tensor:
        """Run a block on single positions, its attention's output being given, and if given its neurons as well."""
        block, template = self.model.blocks[layer], self.attended[layer]
        forwards: dict[nn.Module, Callable[..., Any]] = {
            self.attention[layer]: lambda *_, **__: with_first_tensor(template, mixed)
        }
        with ExitStack() as stack:
            if neurons is not None:
                stack.enter_context(tapped(block.module, {self._alone(layer): _replacing_all(neurons)}))
                for up, width in block.ups:
                    forwards[up] = lambda x, *_, width=width, **__: x.new_zeros(1).expand(*x.shape[:-1], width)
            stack.enter_context(overridden(forwards))
            return tensor_of(self.calls[layer].given(hidden).run())


class FullReplay(PartReplay):
    """Replay in which a row carries all positions of its prompt: for masked models, and any position of causal ones."""

    name = "replay"

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        first = self._pass(prompts[:1])
        every = first if len(prompts) == 1 else self._pass(prompts)
        self.calls, self.attended = first.blocks, [call.output for call in first.attention]
        self.clean_logits = every.logits
        self.hidden = [tensor_of(call.hidden) for call in every.blocks] + [tensor_of(every.blocks[-1].output)]
        self.mixed = [tensor_of(call.output) for call in every.attention]
        self.neurons = every.neurons

    def _pass(self, prompts: Prompts) -> Recorded:
        """A clean pass; of the attention's output only the changed positions are kept."""
        rows = torch.arange(len(prompts))

        def trim(call: Call) -> Call:
            output = tensor_of(call.output)
            if output.ndim == 3:
                output = at_places(output, rows, prompts.positions)
            return Call(call.module, (), {}, with_first_tensor(call.output, output))

        def run() -> Tensor:
            return answer_logits(self.model, prompts.ids, prompts.answer_positions)

        return self._record(run, prompts.positions, self.attention, trim)

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
                    layer,
                    at_places(self.hidden[layer], rows, positions),
                    self.mixed[layer][rows],
                    of[layer].flatten(0, 1),
                )
                parts.append(self._started(layer, rows, positions, places, new))
            state = parts[0] if len(parts) == 1 else torch.cat(parts)
        assert state is not None
        return state

    def _lift(self, layer: int, state: Tensor, places: Tensor) -> Tensor:
        """Rows through a block; in the last one only the answers' places go on after attention."""
        call = self.calls[layer].given(state)
        if layer < len(self.model.blocks) - 1:
            return tensor_of(call.run())
        mixed = tensor_of(stop_after(self.attention[layer], call.run))
        rows, where = torch.arange(len(state)), places.repeat(len(state) // len(places))
        return self._rest(layer, at_places(state, rows, where), at_places(mixed, rows, where))

    def _started(self, layer: int, rows: Tensor, positions: Tensor, places: Tensor, new: Tensor) -> Tensor:
        """The clean output of a block with the changed position put in; of the last block, the answers' places only."""
        if layer < len(self.model.blocks) - 1:
            return self.hidden[layer + 1][rows].index_put((torch.arange(len(rows)), positions), new[:, 0])
        changed = (positions == places).reshape(-1, 1, 1).to(new.device)
        return torch.where(changed, new, at_places(self.hidden[-1], rows, places))


def _replacing_all(neurons: Tensor) -> Edit:
    """An edit that gives every row and position its neurons, in whatever shape the model has them."""
    return lambda given: neurons.reshape(given.shape).to(given.dtype)


def tensor_of(value: Any) -> Tensor:
    """The tensor that a block or its attention was given or gave; WayError when there is none."""
    tensor = first_tensor(value)
    if tensor is None:
        raise WayError(f"a block or its attention gave {type(value).__name__}, expected a tensor")
    return tensor


def at_places(values: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """[row, 1, width]: one position of each row."""
    return values[rows, positions].unsqueeze(1)
