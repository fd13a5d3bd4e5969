"""Rows of the output embedding: for each token, the direction of the residual stream that the output head looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, record_calls
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_LOGITS

__all__ = ["OutputRowError", "output_rows"]


class OutputRowError(ValueError):
    """An output embedding whose rows are no directions of the residual stream, with the reason."""


def output_rows(model: Model, tokens: Sequence[int]) -> Float[Tensor, "token width"]:
    """Rows of the output embedding for tokens, each as a vector of the residual width, in float32 or wider.

    The embedding may be tied to the input's or not. Where it is narrower than the residual stream, or wider, its rows
    are carried over by the one linear projection that the head has between the two (ALBERT, ELECTRA, OPT-350m), whose
    transpose says which direction of the stream moves a row's logit; norms and activations of the head are left aside,
    as Dai et al. (2022) do with BERT's. Proved on the loaded model: the embedding's weights times what it is given are
    the logits, but for a bias that does not depend on the prompt, a factor, and a cap.

    Errors: OutputRowError when the model has no such embedding, the proof fails, or nothing maps one width to another.

    >>> from neuronatlas.specimen import specimen_folder
    >>> from neuronatlas.models import load
    >>> model = load(specimen_folder())
    >>> tuple(output_rows(model, [10, 11]).shape)
    (2, 64)
    """
    embedding = model.module.get_output_embeddings()
    weight = getattr(embedding, "weight", None)
    if not isinstance(embedding, nn.Module) or not isinstance(weight, Tensor) or weight.ndim != 2:
        raise OutputRowError(f"{model.name} has no output embedding with a row for each token")
    if not weight.is_floating_point() or weight.is_meta:
        raise OutputRowError(
            f"the output embedding of {model.name} is not in memory in full precision ({weight.dtype})"
        )
    wrong = [token for token in tokens if not 0 <= token < weight.shape[0]]
    if wrong:
        raise OutputRowError(f"no token {wrong[0]}: the output embedding of {model.name} has {weight.shape[0]} rows")
    calls = _head_calls(model)
    _prove(model, embedding, weight, calls)
    rows = weight.detach()[list(tokens)]
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return _carried(model, rows, [call for call in calls if call.module is not embedding])


def _head_calls(model: Model) -> list[Call]:
    """Calls of modules without children outside of the blocks, after the last block, in the order of the pass."""
    inside = {module for block in model.blocks for module in block.module.modules()}
    leaves = [m for m in model.module.modules() if m not in inside and not any(True for _ in m.children())]
    last, calls = model.blocks[-1], list[Call]()
    with torch.no_grad(), model.proving(), record_calls([*leaves, last.module], calls):
        model.logits(model.probe_ids)
    ends = [index for index, call in enumerate(calls) if call.module is last.module]
    return calls[ends[last.call] + 1 :]


def _prove(model: Model, embedding: nn.Module, weight: Tensor, calls: Sequence[Call]) -> None:
    found = [call for call in calls if call.module is embedding]
    given = found[0].hidden if len(found) == 1 else None
    out = first_tensor(found[0].output) if len(found) == 1 else None
    if given is None or out is None or given.shape[-1] != weight.shape[1] or out.shape[-1] != weight.shape[0]:
        raise OutputRowError(f"{model.name} does not compute its logits by one use of its output embedding")
    with torch.no_grad():
        # Differences between positions, in which a bias falls away.
        expected = ((given[:, 1:] - given[:, :-1]) @ weight.T).double()
        apart = (expected - (out[:, 1:] - out[:, :-1]).double()).abs().max()
    allowed = SAME_LOGITS.of(weight.dtype)
    if not float(apart) <= allowed * float(out.abs().max()):
        raise OutputRowError(f"the logits of {model.name} are not its output embedding times what that is given")


def _carried(model: Model, rows: Tensor, calls: Sequence[Call]) -> Tensor:
    """Rows of the residual width: as they are, or through the head's projection from that width to theirs."""
    residual = first_tensor(model.blocks[-1].output)
    assert residual is not None
    width, own = residual.shape[-1], rows.shape[1]
    if own == width:
        return rows
    found: list[Any] = [c.module for c in calls if _maps(c, width, own)]
    if len(found) != 1:
        raise OutputRowError(
            f"the output embedding of {model.name} has rows of {own} numbers, its residual stream {width}, and "
            f"{len(found)} projections lead from one to the other: 1 expected"
        )
    carried: Tensor = rows @ found[0].weight.detach().to(rows)
    return carried


def _maps(call: Call, width: int, own: int) -> bool:
    weight = getattr(call.module, "weight", None)
    linear = isinstance(call.module, nn.Linear) and isinstance(weight, Tensor) and weight.is_floating_point()
    return linear and isinstance(weight, Tensor) and tuple(weight.shape) == (own, width)
