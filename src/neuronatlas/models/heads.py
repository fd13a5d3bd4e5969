"""The output head on single positions: what comes after the last block, run by the model with its blocks stubbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuronatlas.models.calls import first_tensor, overridden, stop_after, with_first_tensor
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_PASS, widened
from neuronatlas.models.taps import asleep

__all__ = [
    "Readout",
    "answer_logits",
    "disprove_head",
    "head",
    "head_readings",
    "head_slopes",
    "log_probability",
    "logit_slopes",
    "probability",
]

Readout = Callable[[Tensor, Tensor], Tensor]
"""What is made of logits [row, token] and the answers' ids [row]: a number a row, such as `probability`."""

HEAD_ROWS = 128
"""Rows whose logits are held at once: enough for a fast matrix product, few enough to fit beside the rest."""


def head(model: Model, hidden: Float[Tensor, "row 1 width"]) -> Float[Tensor, "row token"]:
    """Logits of what the last block gave at one position a row."""
    # The blocks are replaced by their result, so the tokens that the model is run on do not matter.
    tokens = torch.zeros(len(hidden), 1, dtype=torch.long, device=model.device)
    forwards = {block.module: _stub(block.output, hidden) for block in model.blocks} | _turned(model)
    # Taps are of the pass that gave `hidden`: here the blocks are stand-ins, and tokens anything.
    with asleep(model.module), overridden(forwards):
        return model.logits(tokens)[:, 0]


def _turned(model: Model) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """A stand-in for the output embedding that computes its product the other way round."""
    output = model.module.get_output_embeddings()
    if type(output) is not nn.Linear or "forward" in output.__dict__ or output._forward_hooks:
        return {}
    return {output: lambda hidden: _turned_product(hidden, output.weight, output.bias)}


def _turned_product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = _TurnedProduct.apply(hidden, weight.detach())  # type: ignore[no-untyped-call]
    return product if bias is None else product + bias


class _TurnedProduct(torch.autograd.Function):
    """hidden @ weight.T as (weight @ hidden.T).T, the tokens kept as rows in memory.

    Rows of a vocabulary's length that is no multiple of the vector width make the plain product a third slower.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight
        return (weight @ hidden.flatten(0, -2).T).T.reshape(*hidden.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        slope = (ctx.weight.T @ above[0].flatten(0, -2).T).T
        return slope.reshape(*above[0].shape[:-1], -1), None


def _stub(output: Any, hidden: Tensor) -> Any:
    return lambda *_, **__: with_first_tensor(output, hidden)


def head_readings(
    model: Model, hidden: Float[Tensor, "row 1 width"], answers: Int[Tensor, " row"], readout: Readout
) -> Float[Tensor, " row"]:
    """The readout of what the last block gave, in blocks of rows: a vocabulary's worth of numbers a row is large."""
    with torch.no_grad():
        blocks = zip(hidden.split(HEAD_ROWS), answers.split(HEAD_ROWS), strict=True)
        return torch.cat([readout(logits := head(model, rows), wanted.to(logits.device)) for rows, wanted in blocks])


def head_slopes(
    model: Model, hidden: Float[Tensor, "row 1 width"], answers: Int[Tensor, " row"], readout: Readout
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row 1 width"], Float[Tensor, " row"]]:
    """The readout and its slope d/d(hidden) of every row, each block of rows' logits being let go before the next.

    The slopes are divided by the third, as those of `logit_slopes` are.
    """
    readings: list[Tensor] = []
    slopes: list[Tensor] = []
    units: list[Tensor] = []
    for rows, wanted in zip(hidden.detach().split(HEAD_ROWS), answers.split(HEAD_ROWS), strict=True):
        leaf = rows.clone().requires_grad_()
        with torch.enable_grad():
            logits = head(model, leaf)
            found, above, unit = logit_slopes(logits, wanted, readout)
            slopes += torch.autograd.grad(logits, [leaf], above)
        readings.append(found)
        units.append(unit)
    return torch.cat(readings), torch.cat(slopes), torch.cat(units)


def logit_slopes(
    logits: Float[Tensor, "row token"], answers: Int[Tensor, " row"], readout: Readout
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row token"], Float[Tensor, " row"]]:
    """The readout, its slope d/d(logits) in units of its own, and that unit of each row.

    The unit is 1 but in half precision, where the gradients of a small P would fall below the smallest number on their
    way down. There it is a power of two, so that nothing is lost, and a row's largest slope lies between 1/2 and 1.
    """
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        wide = widened(leaf)
        found = readout(wide, answers.to(leaf.device))
        (slopes,) = torch.autograd.grad(found.sum(), [wide])
    units = torch.ones_like(found)
    if wide is not leaf:
        units = torch.ldexp(units, torch.frexp(slopes.abs().amax(-1)).exponent)
    return found.detach(), (slopes / units[:, None]).to(leaf.dtype), units.detach()


class _Probability(torch.autograd.Function):
    """softmax(logits)[answer] whose backward pass touches the vocabulary once."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, answers: Tensor) -> Tensor:
        shares = torch.softmax(logits.T, dim=0).T
        chosen = shares.gather(-1, answers[:, None])
        others = shares.scatter_(-1, answers[:, None], 0.0)
        ctx.save_for_backward(others, chosen, answers)
        return chosen[:, 0]

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        others, chosen, answers = ctx.saved_tensors
        weight = chosen * above[0][:, None]
        # 1 - P as the sum of the others: taken as a difference it would lose its digits where P is near 1.
        slope = others * -weight
        return slope.scatter_(-1, answers[:, None], weight * others.sum(-1, keepdim=True)), None


def probability(logits: Float[Tensor, "row token"], answers: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """P(answer) of each row, in float32 or wider, with its gradient."""
    wide = widened(logits)
    found: Tensor = _Probability.apply(wide, answers)  # type: ignore[no-untyped-call]
    return found


def log_probability(logits: Float[Tensor, "row token"], answers: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """Log P(answer) of each row, in float32 or wider, with its gradient."""
    wide = widened(logits)
    return torch.log_softmax(wide, dim=-1).gather(-1, answers[:, None])[:, 0]


def answer_logits(
    model: Model,
    ids: Int[Tensor, "row position"],
    places: Int[Tensor, " row"],
    decoder_ids: Int[Tensor, "row answer"] | None = None,
    mask: Int[Tensor, "row position"] | None = None,
) -> Float[Tensor, "row token"]:
    """Logits at one place a row, the head being run there only where that was proved to give the same.

    Rows that carry padding come with their attention mask.
    """
    rows, places = torch.arange(len(ids)), places.cpu()  # the last block may be on another device than the prompts
    if decoder_ids is not None or model.ways.get("head") != "":
        return model.logits(ids, decoder_ids, mask)[rows, places]
    last = model.blocks[-1]
    hidden = first_tensor(stop_after(last.module, lambda: model.logits(ids, mask=mask), nth=last.call))
    assert hidden is not None
    return head(model, hidden[rows, places].unsqueeze(1))


def disprove_head(model: Model) -> str:
    """Why the head does not work position by position, found by comparing with the whole pass; empty when it does."""
    ids, last = model.probe_ids, model.blocks[-1]
    with torch.no_grad():
        whole = model.logits(ids)
        hidden = first_tensor(stop_after(last.module, lambda: model.logits(ids), nth=last.call))
        assert hidden is not None
        try:
            single = head(model, hidden.flatten(0, 1).unsqueeze(1)).reshape(whole.shape)
        except Exception as error:  # noqa: BLE001 - whatever an unknown architecture raises, the whole pass remains
            return f"{type(error).__name__}: {error}"
    apart = float((whole - single).abs().max() / whole.abs().max().clamp(min=1e-12))
    return "" if apart <= SAME_PASS.of(whole.dtype) else f"its logits differ by {apart:.1e} of the largest"
