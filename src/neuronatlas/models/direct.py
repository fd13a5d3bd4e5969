"""Direct paths: from a neuron to the answer by the residual stream alone, with no other neuron or head taking part.

Everything that attention and feed-forward layers write is held where it is. What is left of the model is the stream
itself, the norms on it (a BERT has two in each layer, some models one behind each projection) and the output head
with all that it puts before the output embedding: a final norm, BERT's dense layer, activation and norm. None of it is
written again here: the model runs as it is, with the inputs of its projections cut off from the stream, and gradients
say how what is left acts on small changes. Positions do not meet on these paths: they begin at the answer's place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, hooks, record_calls
from neuronatlas.models.gradients import Path
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_LOGITS
from neuronatlas.models.queries import Step, by_shape
from neuronatlas.models.taps import Edit, Point, tapped
from neuronatlas.models.ways import Plain, Prompts
from neuronatlas.models.weights import wanting_gradients

__all__ = ["DirectError", "direct_gradients", "direct_maps", "direct_paths", "output_embedding"]

WRITING = ("ffn", "attention")
"""The sites whose projections write to the residual stream."""

_TWO_STACKS = "its decoder reads its encoder by attention, which writes beside the sites"


class DirectError(ValueError):
    """A model, or a place in a prompt, that has no direct paths which could be followed, with the reason."""


@contextmanager
def direct_paths(model: Model) -> Iterator[Model]:
    """Let gradients inside follow direct paths alone; the model's values do not change.

    Proved on the loaded model, once: the logits are as they were, and no matrix inside the blocks reaches them but
    those that write to the residual stream, so that none was missed.

    Errors: DirectError with the reason.
    """
    if "direct" not in model.ways:
        with model.proving():
            model.ways["direct"] = _disproof(model)
    if model.ways["direct"]:
        raise DirectError(f"{model.name} has no direct paths that could be followed: {model.ways['direct']}")
    with _cut(model):
        yield model


@contextmanager
def _cut(model: Model) -> Iterator[None]:
    points = [point for name in WRITING for point in model.site(name).points]
    routers = [point.module for point in points if point.side == "experts"]
    # The weights that a router gives to experts come from the stream as well.
    handles = [module.register_forward_pre_hook(_detached, with_kwargs=True) for module in routers]
    with hooks(handles), tapped(model.module, dict.fromkeys(points, Tensor.detach)):
        yield


def _detached(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    def cut(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    return tuple(map(cut, args)), {name: cut(value) for name, value in kwargs.items()}


def direct_gradients(model: Model, prompts: Prompts, site: str = "ffn") -> Path:
    """Gradients of the prompts' readout with respect to the neurons, along direct paths and at their own values.

    One clean pass, one more, and one backward pass for all layers together. There is no integral and no `zeroed`.

    Errors: DirectError where neurons are looked at elsewhere than at the answer's place, at a site that writes nothing
    to the residual stream, and as `direct_paths`.
    """
    if site not in WRITING:
        raise DirectError(f"neurons of site {site!r} have no direct paths: those of {' and '.join(WRITING)} do")
    if bool((prompts.positions != prompts.answer_positions).any()):
        raise DirectError("direct paths lead to the answer from its own place alone: take position 'answer'")
    if model.kind == "seq2seq":
        raise DirectError(f"{model.name} has no direct paths that could be followed: {_TWO_STACKS}")
    clean = Plain(model, prompts, site)
    # Indices on the CPU serve layers on any device.
    rows, positions = torch.arange(len(prompts)), prompts.positions.cpu()
    leaves = [values.detach().clone().requires_grad_() for values in clean.neurons]

    def put(leaf: Tensor) -> Edit:
        return lambda values: values.index_put((rows, positions), leaf.to(values.dtype))

    edits = {point: put(leaf) for point, leaf in zip(clean.points, leaves, strict=True)}
    with torch.enable_grad(), direct_paths(model), tapped(model.module, edits):
        readings = prompts.readout(prompts.logits(model), prompts.answers)
        gradients = torch.autograd.grad(readings.sum(), leaves)
    unknown = torch.full((len(leaves), len(prompts)), torch.nan, dtype=readings.dtype)
    return Path(clean.neurons, list(gradients), clean.clean_logits, unknown, "direct")


def direct_maps(model: Model, steps: Sequence[Step], *, budget: int = 2048) -> list[Float[Tensor, "output width"]]:
    """How a small change of what a layer's neurons write, at the answer's place, moves what the output embedding gets.

    One linear map a layer, the mean over the steps of the Jacobian along direct paths at each one's own state. The
    output embedding's rows times such a map times a value slot: how fast each token's logit rises with the neuron's
    activation (before a cap on logits, which keeps their order).

    Errors: DirectError where there is no such embedding, and as `direct_paths`.
    """
    embedding = output_embedding(model)
    points = [_written(point) for point in model.site("ffn").points]
    width = first_tensor(model.blocks[-1].output).shape[-1]  # type: ignore[union-attr]
    totals = [torch.zeros(embedding.weight.shape[1], width, dtype=torch.float64) for _ in points]
    for batch in by_shape([step.shape for step in steps], budget):
        prompts = Prompts.of([steps[index] for index in batch], model.device)
        found = _jacobians(model, embedding, points, prompts)
        totals = [total + more.cpu() for total, more in zip(totals, found, strict=True)]
    return [total / len(steps) for total in totals]


def _written(point: Point) -> Point:
    return replace(point, side="output", experts=(), shared=None)


def _jacobians(
    model: Model, embedding: nn.Linear, points: Sequence[Point], prompts: Prompts
) -> list[Float[Tensor, "output width"]]:
    """Sums over the prompts, by one backward pass for each number that the output embedding is given."""
    rows, places = torch.arange(len(prompts)), prompts.answer_positions.cpu()
    leaves: dict[Point, Tensor] = {}

    def add(point: Point) -> Edit:
        def edit(written: Tensor) -> Tensor:
            leaf = leaves[point] = written.new_zeros(len(rows), written.shape[-1]).requires_grad_()
            return written.index_put((rows, places), leaf, accumulate=True)

        return edit

    calls: list[Call] = []
    with torch.enable_grad(), direct_paths(model), tapped(model.module, {point: add(point) for point in points}):
        with record_calls([embedding], calls):
            logits = prompts.logits(model)
        given = _given(model, calls)[rows, places]
        _require_order(model, first_tensor(calls[0].output), logits, prompts)
        inputs = [leaves[point] for point in points]
        found = [torch.autograd.grad(column.sum(), inputs, retain_graph=True) for column in given.unbind(1)]
    return [torch.stack([slopes[layer].double().sum(0) for slopes in found]) for layer in range(len(points))]


def output_embedding(model: Model) -> nn.Linear:
    """The output embedding, proved: one row of its weights for each token, times what it is given, and a bias at most.

    Errors: DirectError with the reason.
    """
    if model.kind == "seq2seq":
        raise DirectError(f"{model.name} has no direct paths that could be followed: {_TWO_STACKS}")
    found = model.module.get_output_embeddings()
    if not isinstance(found, nn.Linear) or not found.weight.is_floating_point() or found.weight.is_meta:
        raise DirectError(f"{model.name} has no output embedding in memory with a row for each token")
    calls: list[Call] = []
    with torch.no_grad(), model.proving(), record_calls([found], calls):
        model.logits(model.probe_ids)
        given = _given(model, calls)
        out = first_tensor(calls[0].output)
        product = nn.functional.linear(given, found.weight, found.bias)
    if out is None or out.shape != product.shape or not _near(model, product, out):
        raise DirectError(f"what the output embedding of {model.name} gives is not its weights times what it is given")
    return found


def _given(model: Model, calls: Sequence[Call]) -> Tensor:
    given = calls[0].hidden if len(calls) == 1 else None
    if given is None:
        raise DirectError(f"{model.name} calls its output embedding {len(calls)} times in a pass: once expected")
    return given


def _require_order(model: Model, products: Tensor | None, logits: Tensor, prompts: Prompts) -> None:
    """Refuse a model that does more to its logits than to cap or to scale them, which keeps the order of tokens."""
    assert products is not None
    mine = products.detach()[torch.arange(len(prompts)), prompts.answer_positions.cpu()]
    rising = logits.detach().gather(1, mine.argsort(dim=1)).diff(dim=1)
    slack = SAME_LOGITS.of(model.dtype) * logits.abs().max()
    if bool((rising < -slack).any()):
        raise DirectError(f"the logits of {model.name} are ordered otherwise than what its output embedding gives")


def _near(model: Model, found: Tensor, right: Tensor) -> bool:
    return float((found - right).abs().max()) <= SAME_LOGITS.of(model.dtype) * float(right.abs().max())


def _disproof(model: Model) -> str:
    """Why direct paths cannot be followed in this model, or nothing."""
    if model.kind == "seq2seq":
        return _TWO_STACKS
    for name in WRITING:
        if name not in model.sites:
            return f"it has no site {name!r}: {model.missing.get(name, 'not proved')}"
    matrices = {
        f"{block.path}.{name}": weight for block in model.blocks for name, weight in _matrices(block.module, model)
    }
    if odd := next((name for name, weight in matrices.items() if weight.is_meta or not weight.is_floating_point()), ""):
        return f"{odd} is quantised or not in memory, so that its part in them cannot be told"
    ids = model.probe_ids
    with torch.no_grad():
        clean = model.logits(ids)
    with wanting_gradients(matrices.values()), torch.enable_grad(), _cut(model):
        logits = model.logits(ids)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        total = (logits * weights).sum()
        slopes = torch.autograd.grad(total, list(matrices.values()), allow_unused=True) if total.requires_grad else ()
    if not _near(model, logits.detach(), clean):
        return "cutting its projections off from the residual stream changes its logits"
    for name, slope in zip(matrices, slopes, strict=False):
        if slope is not None and bool((slope != 0).any()):
            return f"{name} writes to the residual stream past its projections"
    return ""


def _matrices(block: nn.Module, model: Model) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters of two dimensions or more that do not belong to a module which writes to the stream."""
    points = [point for name in WRITING for point in model.site(name).points]
    writing = {m for p in points for m in (p.module, p.shared) if m is not None}
    for path, module in block.named_modules():
        if module not in writing:
            for name, weight in module.named_parameters(prefix=path, recurse=False):
                if sum(size > 1 for size in weight.shape) > 1:
                    yield name, weight
