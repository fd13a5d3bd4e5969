"""Replay by whole blocks, which asks nothing of a block but that it can be called again on other rows.

A row's own block is run again too, its neurons being put in on their way to the down-projection. That serves blocks
whose attention is no module of its own, and arguments that differ from row to row.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors

from neuronatlas.models.cached import filled_cache, steps_from_last
from neuronatlas.models.calls import Call
from neuronatlas.models.heads import answer_logits
from neuronatlas.models.model import Model
from neuronatlas.models.replay import Recorded, Replay, at_places, tensor_of
from neuronatlas.models.rows import cache_of_rows, of_rows, row_arguments, tensors
from neuronatlas.models.taps import Edit, Point, tapped
from neuronatlas.models.ways import Prompts, Slopes, Values, WayError

__all__ = ["SteppedReplay", "WholeReplay"]


class WholeReplay(Replay):
    """Replay of whole blocks, a row carrying all positions of its prompt."""

    name = "replay-whole"

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        self.recorded: Recorded = self._pass(prompts)
        recorded = self.recorded
        self.per_row = self._row_arguments(recorded)
        self.calls, self.clean_logits, self.neurons = recorded.blocks, recorded.logits, recorded.neurons
        self.hidden = [tensor_of(call.hidden) for call in recorded.blocks]
        self.changed, self.read = self._places()

    @property
    def tokens_per_row(self) -> int:
        """All positions of the prompt."""
        return self.prompts.ids.shape[1]

    def _places(self) -> tuple[Tensor, Tensor]:
        """Where, in what the blocks are given, each prompt is changed and where its answer is read."""
        return self.prompts.positions, self.prompts.answer_positions

    def _pass(self, prompts: Prompts) -> Recorded:
        def run() -> Tensor:
            return answer_logits(self.model, prompts.ids, prompts.answer_positions)

        return self._record(run, prompts.positions)

    def _row_arguments(self, recorded: Recorded) -> dict[str, bool]:
        """Which arguments of the blocks have entries for each row; found once for those that a model gives them."""
        known = self.model.row_arguments.setdefault(self.name, {})
        given = {f"{layer} {place}" for layer, call in enumerate(recorded.blocks) for place in tensors(call)}
        if given - known.keys():
            one, two = (self._pass(self.prompts[:1].repeated(rows)).blocks for rows in (1, 2))
            known |= row_arguments(one, two)
        return known

    def _states(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "row 1 width"]:
        of = dict(zip(layers, values, strict=True))
        new = torch.arange(len(self.prompts))[chosen].repeat_interleave(values[0].shape[1])
        rows = new[:0]
        states: list[Tensor] = []
        for layer in range(min(layers), len(self.model.blocks)):
            edits: dict[Point, Edit] = {}
            if layer in of:
                if of[layer].shape[-1]:
                    edits[self._alone(layer)] = self._put(len(rows), self.changed[new], of[layer].flatten(0, 1))
                clean = self.hidden[layer][new]
                rows, states = torch.cat([rows, new]), [*(state.to(clean.device) for state in states), clean]
            call = self._call(layer, rows).given(torch.cat(states))
            with tapped(self.model.blocks[layer].module, edits):
                states = [tensor_of(call.run())]
        return at_places(states[0], torch.arange(len(rows)), self.read[rows])

    def _put(self, first: int, places: Int[Tensor, " row"], neurons: Float[Tensor, "row unit"]) -> Edit:
        """An edit that gives the rows from `first` on their neurons at one position each."""
        rows = first + torch.arange(len(places))

        def put(given: Tensor) -> Tensor:
            spread = given.reshape(first + len(places), -1, given.shape[-1])
            return spread.index_put((rows, places), neurons.to(given)).reshape(given.shape)

        return put

    def _call(self, layer: int, rows: Int[Tensor, " row"]) -> Call:
        return of_rows(self.calls[layer], layer, self.per_row, rows, len(self.prompts))


@dataclass(frozen=True)
class _Step(Recorded):
    """A recorded step of the last token: the cache that blocks were given, and a copy of it as it was before."""

    given: Any
    before: Any


class SteppedReplay(WholeReplay):
    """Replay of the last position of causal prompts, each row with the prompt's cache as if it were a prompt alone.

    Where rows cannot be packed into one sequence: distances reckoned by the model itself, states in place of keys.
    """

    name = "replay-stepped"
    recorded: _Step

    def __init__(self, model: Model, prompts: Prompts) -> None:
        if not steps_from_last(model, prompts):
            raise WayError("the changed position is not the last one of a causal prompt")
        super().__init__(model, prompts)

    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Gradients of all rows, also where a model writes the states that it keeps in place of keys over old ones."""
        if not any(hasattr(layer, "recurrent_states") for layer in self.recorded.before.layers):
            return super().gradients(layers, values, chosen)
        with allow_mutation_on_saved_tensors():
            return super().gradients(layers, values, chosen)

    def _places(self) -> tuple[Tensor, Tensor]:
        only = torch.zeros_like(self.prompts.positions)
        return only, only

    def _pass(self, prompts: Prompts) -> _Step:
        cache, last_step = filled_cache(self.model, prompts.ids)
        before = deepcopy(cache)  # the step adds to its cache, and may do so in place
        step = self._record(last_step, torch.zeros_like(prompts.positions))
        return _Step(**vars(step), given=cache, before=before)

    def _call(self, layer: int, rows: Int[Tensor, " row"]) -> Call:
        cache = cache_of_rows(self.recorded.before, rows)
        return super()._call(layer, rows).swapped({id(self.recorded.given): cache})
