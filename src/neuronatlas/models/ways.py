"""Ways of running the rows of an attribution: what every way promises, and the plain one, which re-runs the model."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuronatlas.models.calls import Call, record_calls
from neuronatlas.models.experts import Route, route_of, routed_as
from neuronatlas.models.heads import Readout, logit_slopes, probability
from neuronatlas.models.model import Model
from neuronatlas.models.precision import widened
from neuronatlas.models.queries import Step
from neuronatlas.models.taps import tapped

__all__ = ["Plain", "Prompts", "Routing", "Slopes", "Values", "Way", "WayError", "gradients_of", "unscaled"]

Routing = Literal["free", "frozen"]
"""Whether rows are sent to experts as the model sends them, or as in the unchanged run (and with the same weights)."""

Values = Sequence[Float[Tensor, "prompt node unit"]]
Slopes = tuple[Float[Tensor, "layer prompt node"], list[Float[Tensor, "prompt node unit"]]]


class WayError(RuntimeError):
    """This way of running rows does not suit the model or the prompts."""


@dataclass(frozen=True)
class Prompts:
    """Prompts of one shape: token ids, where neurons are scaled, where the answer is read, the answers' ids.

    `decoder_ids` are what the decoder of a sequence-to-sequence model reads. `readout` makes of the logits at the
    answers' places what is followed along a path: P(answer), or its logarithm.
    """

    ids: Int[Tensor, "prompt position"]
    positions: Int[Tensor, " prompt"]
    answer_positions: Int[Tensor, " prompt"]
    answers: Int[Tensor, " prompt"]
    decoder_ids: Int[Tensor, "prompt answer"] | None = None
    readout: Readout = probability

    @classmethod
    def of(cls, steps: Sequence[Step], device: torch.device, readout: Readout = probability) -> Prompts:
        """Steps of one shape as tensors: ids on the device, positions on the CPU, as they index tensors anywhere."""
        return cls(
            torch.tensor([step.ids for step in steps], device=device),
            torch.tensor([step.position for step in steps]),
            torch.tensor([step.answer_position for step in steps]),
            torch.tensor([step.answer_id for step in steps], device=device),
            torch.tensor([step.decoder_ids for step in steps], device=device) if steps[0].decoder_ids else None,
            readout,
        )

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __getitem__(self, rows: slice) -> Prompts:
        decoder = None if self.decoder_ids is None else self.decoder_ids[rows]
        columns = self.ids[rows], self.positions[rows], self.answer_positions[rows], self.answers[rows]
        return Prompts(*columns, decoder, self.readout)

    @property
    def n_tokens(self) -> int:
        """How many positions a prompt has in all."""
        return self.ids.shape[1] + (0 if self.decoder_ids is None else self.decoder_ids.shape[1])

    def repeated(self, times: int) -> Prompts:
        """Every prompt several times, one after the other."""
        columns = (self.ids, self.positions, self.answer_positions, self.answers)
        decoder = None if self.decoder_ids is None else self.decoder_ids.repeat_interleave(times, dim=0)
        ids, positions, places, answers = (column.repeat_interleave(times, dim=0) for column in columns)
        return Prompts(ids, positions, places, answers, decoder, self.readout)

    def logits(self, model: Model) -> Float[Tensor, "prompt token"]:
        """Logits at the answers' places, by a run of the whole model."""
        rows = torch.arange(len(self))
        return model.logits(self.ids, self.decoder_ids)[rows, self.answer_positions]


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
    def readings(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "layer prompt node"]:
        """The readout when, layer by layer, the neurons of the chosen prompts take `values`; without gradients."""

    @abstractmethod
    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Those readings, and their gradients with respect to the values, a tensor a layer."""

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
            self.clean_logits = prompts.logits(model)
        self.neurons = [seen[point.layer] for point in self.points]
        self.routes = {call.module: route_of(call) for call in calls}

    @property
    def tokens_per_row(self) -> int:
        """All positions of the prompt."""
        return self.prompts.n_tokens

    def readings(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "layer prompt node"]:
        """The readout, by one run of the model a layer."""
        with torch.no_grad():
            return torch.stack([self._layer(layer, new, chosen) for layer, new in zip(layers, values, strict=True)])

    def gradients(self, layers: Sequence[int], values: Values, chosen: slice) -> Slopes:
        """Gradients, by one run of the model a layer."""
        readings, gradients = [], []
        for layer, new in zip(layers, values, strict=True):
            leaf = new.clone().requires_grad_()
            with torch.enable_grad():
                logits, prompts = self._logits(layer, leaf, chosen)
            found, above, units = logit_slopes(logits, prompts.answers, prompts.readout)
            gradients += unscaled(gradients_of(logits, [leaf], above), units.reshape(1, *leaf.shape[:2]))
            readings.append(found.reshape(leaf.shape[:2]))
        return torch.stack(readings), gradients

    def _layer(self, layer: int, values: Tensor, chosen: slice) -> Tensor:
        logits, prompts = self._logits(layer, values, chosen)
        return prompts.readout(logits, prompts.answers.to(logits.device)).reshape(values.shape[:2])

    def _logits(self, layer: int, values: Tensor, chosen: slice) -> tuple[Tensor, Prompts]:
        nodes = values.shape[1]
        prompts = self.prompts[chosen].repeated(nodes)
        rows = torch.arange(len(prompts))

        def put(given: Tensor) -> Tensor:
            return given.index_put((rows, prompts.positions), values.flatten(0, 1).to(given))

        with routed_as(self._routes(chosen, nodes)), tapped(self.model.module, {self.points[layer]: put}):
            return prompts.logits(self.model), prompts

    def _routes(self, chosen: slice, nodes: int) -> dict[nn.Module, Route]:
        """Frozen routes of the chosen prompts' rows; none when routing is free."""

        def rows(tensor: Tensor) -> Tensor:
            whole = tensor.reshape(len(self.prompts), -1, tensor.shape[-1])
            return whole[chosen].repeat_interleave(nodes, dim=0).flatten(0, 1)

        return {module: (rows(index), rows(weights)) for module, (index, weights) in self.routes.items()}


def unscaled(gradients: Sequence[Tensor], units: Float[Tensor, "layer prompt node"]) -> list[Tensor]:
    """Gradients in units of 1, in float32 or wider, from gradients in units of their own (see `logit_slopes`)."""
    wide = map(widened, gradients)
    return [g * unit[..., None].to(g) for g, unit in zip(wide, units, strict=True)]


def gradients_of(total: Tensor, leaves: Sequence[Tensor], slopes: Tensor) -> list[Tensor]:
    """Gradients of the leaves, given d/d(total); 0 where nothing depends on one (the answer does not see its place)."""
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(total, leaves, slopes, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
