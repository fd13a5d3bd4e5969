"""How an answer's log-odds move with value slots: one gradient a row of a batch, all from one backward pass.

What a value slot adds to the output of its down-projection is the slot times what its neuron writes, position by
position. So the gradient with respect to a slot is the sum over positions of what is written times the gradient at that
output, and the rows of a batch keep theirs apart. The same sum lets a model run as if its slots were others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.asking import BUDGET, batched, lead_of, log_odds_of, step_logits
from neuronatlas.models.calls import Call, first_tensor, with_first_tensor
from neuronatlas.models.experts import edited, expert_width, route_of
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Step
from neuronatlas.models.slots import Slots

__all__ = ["RowSlopes", "slot_slopes", "slots_shifted"]

Written = Float[Tensor, "position slot"]
Act = Callable[[list[Written], Float[Tensor, "position width"]], Float[Tensor, "position width"] | None]


@dataclass(frozen=True, eq=False)
class RowSlopes:
    """Log-odds of each row's token, and how they move with the slots [row, slot * width], one group after the other."""

    log_odds: Float[Tensor, " row"]
    slopes: Float[Tensor, "row number"]


def slot_slopes(
    model: Model, slots: Sequence[Slots], rows: Sequence[Step], *, rivals: Sequence[int] = (), budget: int = BUDGET
) -> RowSlopes:
    """Gradients of each row's log-odds log(P / (1 - P)) with respect to value slots, the model being as it runs now.

    With `rivals` the log-odds are those against these tokens alone (`lead_of`).
    """
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    count = sum(len(group.neurons) for group in slots)
    odds = torch.zeros(len(rows), dtype=torch.float64, device=model.device)
    slopes = torch.zeros(len(rows), count, slots[0].width, dtype=dtype, device=model.device)
    starts = dict(zip(map(id, slots), _starts(slots), strict=True))
    for batch in batched(model, rows, budget):
        chosen, notes = [rows[index] for index in batch], list[tuple[Slots, Tensor, Tensor]]()
        with torch.enable_grad(), _acting(slots, _leaving(notes)):
            logits, tokens = step_logits(model, chosen), [row.answer_id for row in chosen]
            found = lead_of(logits, tokens, rivals) if rivals else log_odds_of(logits, tokens)
            given = torch.autograd.grad(found.sum(), [leaf for _, _, leaf in notes])
        odds[batch] = found.detach().double().to(odds.device)
        for (group, written, _), slope in zip(notes, given, strict=True):
            start, there = starts[id(group)], written.reshape(len(batch), -1, len(group.neurons)).to(dtype)
            part = torch.einsum("rps,rpw->rsw", there, slope.reshape(*there.shape[:2], -1).to(there)).to(slopes.device)
            # Added, as layers that share weights run through them several times in a pass.
            slopes[batch, start : start + part.shape[1]] += part
    return RowSlopes(odds, slopes.flatten(1))


@contextmanager
def slots_shifted(slots: Sequence[Slots], shift: Float[Tensor, "slot width"]) -> Iterator[None]:
    """Run the model as if this were added to its value slots, the weights staying as they are; differentiable."""
    starts = dict(zip(map(id, slots), _starts(slots), strict=True))

    def act(group: Slots, written: Tensor, out: Tensor) -> Tensor:
        start = starts[id(group)]
        return out + (written.to(shift) @ shift[start : start + len(group.neurons)]).to(out)

    with _acting(slots, act):
        yield


def _starts(slots: Sequence[Slots]) -> list[int]:
    return [0, *accumulate(len(group.neurons) for group in slots)][:-1]


def _leaving(notes: list[tuple[Slots, Tensor, Tensor]]) -> Callable[[Slots, Tensor, Tensor], Tensor]:
    """Add zeros to each output that take its gradient, and note them with what was written there."""

    def act(group: Slots, written: Tensor, out: Tensor) -> Tensor:
        notes.append((group, written.detach(), torch.zeros_like(out).requires_grad_()))
        return out + notes[-1][2]

    return act


@contextmanager
def _acting(slots: Sequence[Slots], act: Callable[[Slots, Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Let `act` change the output [position, width] of every module that holds slots, a group of slots at a time."""
    by_module: dict[nn.Module, list[Slots]] = {}
    for group in slots:
        by_module.setdefault(group.module, []).append(group)
    with ExitStack() as stack:
        for module, groups in by_module.items():
            neurons: list[Tensor] = []
            if groups[0].matrix is not None:
                stack.enter_context(edited(module, neurons.append))
            handle = module.register_forward_hook(_hook(groups, neurons, act), with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _hook(groups: Sequence[Slots], neurons: list[Tensor], act: Callable[[Slots, Tensor, Tensor], Tensor]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        call, out = Call(module, args, kwargs, output), first_tensor(output)
        assert out is not None
        flat = out.flatten(0, -2)
        for group in groups:
            flat = act(group, _written(group, call, neurons), flat)
        neurons.clear()
        return with_first_tensor(output, flat.reshape(out.shape))

    return hook


def _written(group: Slots, call: Call, neurons: Sequence[Tensor]) -> Written:
    """How much of each slot a call writes at each position: activations, for experts times the router's weights."""
    units = torch.tensor(group.units, device=group.weight.device)
    if group.matrix is None:
        given = call.hidden
        assert given is not None
        return given.flatten(0, -2)[:, units]
    index, weights = route_of(call)
    share = (weights * (index == group.matrix)).sum(-1, keepdim=True)
    return neurons[-1][:, group.matrix * expert_width(call.module) + units] * share
