"""Asking a model for single tokens, one logit row for each step of queries, in as few passes as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.models.batching import batches, choose_way, padded
from neuronatlas.models.heads import answer_logits
from neuronatlas.models.model import Model
from neuronatlas.models.precision import widened
from neuronatlas.models.queries import Step, by_shape
from neuronatlas.models.ways import Prompts

__all__ = ["BUDGET", "all_logits", "batched", "lead_of", "log_odds_of", "step_logits"]

BUDGET = 8192
"""Token positions computed at once."""


def batched(model: Model, steps: Sequence[Step], budget: int = BUDGET) -> list[list[int]]:
    """Indices of steps that share a pass, in a fixed order.

    Of any lengths where the model was proved not to mind padding (see `choose_way`), else of one shape, or each by
    itself where even those move each other.
    """
    way = choose_way(model)
    if way != "padded" or any(step.decoder_ids for step in steps):
        return by_shape([step.shape for step in steps], 0 if way == "single" else budget)
    return batches([len(step.ids) for step in steps], budget, "padded")


def step_logits(model: Model, steps: Sequence[Step]) -> Float[Tensor, "step token"]:
    """Logits where steps of one batch are read, differentiable."""
    if len({step.shape for step in steps}) > 1:
        ids, mask = padded(model, [step.ids for step in steps])
        return answer_logits(model, ids, torch.tensor([step.answer_position for step in steps]), mask=mask)
    prompts = Prompts.of(steps, model.device)
    return answer_logits(model, prompts.ids, prompts.answer_positions, prompts.decoder_ids)


def all_logits(
    model: Model, steps: Sequence[Step], budget: int = BUDGET
) -> Iterator[tuple[list[int], Float[Tensor, "step token"]]]:
    """Logits of steps of any shapes, batch by batch in a fixed order, with the steps' indices; no gradients."""
    for batch in batched(model, steps, budget):
        with torch.no_grad():
            yield batch, step_logits(model, [steps[index] for index in batch])


def lead_of(
    logits: Float[Tensor, "step token"], tokens: Sequence[int], rivals: Sequence[int]
) -> Float[Tensor, " step"]:
    """Log-odds of one token a row against some rivals alone, differentiable; against all where it is the only rival.

    The log-odds against all others hardly move with a rival that is unlikely as yet; these do.
    """
    wanted = torch.as_tensor(tokens, device=logits.device)[:, None]
    wide = widened(logits)
    given = torch.as_tensor(sorted(set(rivals)), device=logits.device)
    others = wide[:, given].masked_fill(wanted == given, -torch.inf)
    alone = torch.isinf(others).all(1)
    against = torch.where(alone, wide.scatter(1, wanted, -torch.inf).logsumexp(1), others.logsumexp(1))
    found: Tensor = wide.gather(1, wanted)[:, 0] - against
    return found


def log_odds_of(logits: Float[Tensor, "step token"], tokens: Sequence[int]) -> Float[Tensor, " step"]:
    """log(P / (1 - P)) of one token a row, in float32 or wider, differentiable."""
    wanted = torch.as_tensor(tokens, device=logits.device)[:, None]
    wide = widened(logits)
    others = wide.scatter(1, wanted, -torch.inf)
    found: Tensor = wide.gather(1, wanted)[:, 0] - torch.logsumexp(others, dim=1)
    return found
