"""Gradients of P(answer) along the paths of scaled neurons: chooses the way, plans the memory, runs it.

Memory: one clean pass of the prompts plus at most `budget` token positions under way, whatever the number of prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.models.cached import CachedReplay, steps_from_last
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_LOGITS, SAME_SCORES
from neuronatlas.models.quantised import GradientError, disprove_gradients
from neuronatlas.models.replay import FullReplay
from neuronatlas.models.ways import Plain, Prompts, Routing, Way, WayError
from neuronatlas.models.weights import letting_go
from neuronatlas.models.whole import SteppedReplay, WholeReplay

__all__ = ["Path", "choose_way", "gradients_refused", "path_gradients"]

_WAYS: tuple[type[Way], ...] = (CachedReplay, SteppedReplay, FullReplay, WholeReplay)
_OF_LAST_POSITION = (CachedReplay, SteppedReplay)


@dataclass(frozen=True)
class Path:
    """The outcome of an integration path: a layer's tensors are [prompt, unit], readings [layer, prompt].

    `gradients` is the weighted sum over nodes of dP/d(neurons); `zeroed` is P with a layer's neurons at 0 (NaN
    when there were no nodes, so no integral). Where the prompts' readout is not P, read that for it.
    """

    neurons: list[Float[Tensor, "prompt unit"]]
    gradients: list[Float[Tensor, "prompt unit"]]
    clean_logits: Float[Tensor, "prompt token"]
    zeroed: Float[Tensor, "layer prompt"]
    way: str

    def activations(self) -> Float[Tensor, "prompt neuron"]:
        """The neurons of all layers side by side, in float32 or wider; layers may lie on several devices."""
        return torch.cat([layer.to(self.gradients[0]) for layer in self.neurons], dim=1)

    def scores(self) -> Float[Tensor, "prompt neuron"]:
        """Neurons times gradients: the attribution scores."""
        return self.activations() * torch.cat([layer.to(self.gradients[0]) for layer in self.gradients], dim=1)


def path_gradients(
    model: Model,
    prompts: Prompts,
    nodes: Sequence[float],
    weights: Sequence[float],
    *,
    site: str = "ffn",
    budget: int = 2048,
    way: type[Way] | None = None,
    routing: Routing = "free",
    chunks: int | None = None,
) -> Path:
    """Weighted sum of the gradients of P(answer) with respect to each layer's neurons at `nodes` times their values.

    `budget` bounds the token positions under way; results do not depend on it but for rounding. `way` forces one.
    With `routing="frozen"` a mixture of experts sends every row where it sends the unchanged prompt. `chunks` stops
    after so many pieces of the work, of which the first takes most memory: to measure it.
    """
    with _no_weight_gradients(model), letting_go(model.module):
        if routing == "frozen" and model.has_experts:
            running: Way = Plain(model, prompts, site, routing)
        else:
            running = choose_way(model, prompts, site) if way is None else _start(way, model, prompts, site)
        if nodes:
            _require_gradients(model)
        gradients = [torch.zeros_like(values, dtype=_wide(values.dtype)) for values in running.neurons]
        zeroed = torch.full((len(running.neurons), len(prompts)), torch.nan, dtype=_wide(running.clean_logits.dtype))
        for layers, chosen, part in islice(_plan(running, len(nodes), budget), chunks) if nodes else ():
            points, factors = nodes[part], weights[part]
            readings, found = _weighted(running, layers, chosen, points, factors)
            for layer, gradient in zip(layers, found, strict=True):
                gradients[layer][chosen] += gradient
            if 0.0 in points:
                zeroed[list(layers), chosen] = readings[..., points.index(0.0)].to(zeroed.device)
        for layers, chosen, _ in islice(_plan(running, 1, budget), chunks) if nodes and 0.0 not in nodes else ():
            zeroed[list(layers), chosen] = _at_zero(running, layers, chosen).to(zeroed.device)
    return Path(running.neurons, gradients, running.clean_logits, zeroed, running.name)


def _plan(way: Way, nodes: int, budget: int) -> Iterator[tuple[range, slice, slice]]:
    """Chunks of layers, prompts and nodes that stay within the budget: prompts together first, then layers."""
    rows = max(1, budget // way.tokens_per_row)
    per_node = min(nodes, rows, way.most_packed)
    per_prompt = min(len(way.prompts), max(1, rows // per_node))
    per_layer = max(1, min(rows // (per_node * per_prompt), way.most_packed // per_node))
    depth = len(way.neurons)
    for first in range(0, len(way.prompts), per_prompt):
        for layer in range(0, depth, per_layer):
            for node in range(0, nodes, per_node):
                yield (
                    range(layer, min(layer + per_layer, depth)),
                    slice(first, first + per_prompt),
                    slice(node, node + per_node),
                )


def _weighted(
    way: Way, layers: range, chosen: slice, nodes: Sequence[float], weights: Sequence[float]
) -> tuple[Tensor, list[Tensor]]:
    values = [_scaled(way.neurons[layer][chosen, None, :], nodes) for layer in layers]
    readings, slopes = way.gradients(layers, values, chosen)
    wide = [slope.to(_wide(slope.dtype)) for slope in slopes]
    factors = torch.tensor(weights, dtype=wide[0].dtype, device=wide[0].device)
    return readings, [torch.einsum("n,pnu->pu", factors.to(slope.device), slope) for slope in wide]


def _scaled(neurons: Tensor, nodes: Sequence[float]) -> Tensor:
    """[prompt, node, unit]: neurons times the nodes, of half-precision ones rounded once."""
    wide = _wide(neurons.dtype)
    points = torch.tensor(nodes, dtype=wide, device=neurons.device)[:, None]
    return (neurons.to(wide) * points).to(neurons.dtype)


def _at_zero(way: Way, layers: range, chosen: slice) -> Tensor:
    zeros = [torch.zeros_like(way.neurons[layer][chosen, None, :]) for layer in layers]
    return way.readings(layers, zeros, chosen)[..., 0]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def gradients_refused(model: Model) -> str:
    """Why gradients do not pass through this model as they should (quantised weights), or nothing."""
    if "gradients" not in model.ways:
        with model.proving():
            model.ways["gradients"] = disprove_gradients(
                model.module, partial(model.logits, model.probe_ids, model.probe_decoder_ids)
            )
    return model.ways["gradients"]


def _require_gradients(model: Model) -> None:
    reason = gradients_refused(model)
    if reason:
        raise GradientError(
            f"{model.name} cannot be attributed: {reason}; load it with plain weights, or quantised in another way"
        )


def choose_way(model: Model, prompts: Prompts, site: str = "ffn") -> Way:
    """The fastest way that was proved on this model for prompts of this kind; plain re-runs when none was.

    Replay serves the `ffn` site; inside an intervention, and at other sites, the whole model is run again.
    """
    fast = site == "ffn" and not model.intervened_sites and prompts.decoder_ids is None
    if fast and not gradients_refused(model):
        for kind in _WAYS:
            if _suits(kind, model, prompts):
                try:
                    return kind(model, prompts)
                except WayError:  # these prompts are not of the kind that the proof was made with
                    continue
    return Plain(model, prompts, site)


def _start(way: type[Way], model: Model, prompts: Prompts, site: str) -> Way:
    return Plain(model, prompts, site) if way is Plain else way(model, prompts)


def _suits(kind: type[Way], model: Model, prompts: Prompts) -> bool:
    if kind in _OF_LAST_POSITION and not steps_from_last(model, prompts):
        return False
    if kind.name not in model.ways:
        with model.proving():
            model.ways[kind.name] = _disproof(kind, model)
    return not model.ways[kind.name]


def _disproof(kind: type[Way], model: Model) -> str:
    """Why a way is wrong for this model, found by comparing it with plain re-runs on two random prompts; or nothing.

    Ways that carry all positions are held to it for neurons at the answer's place and at others before it.
    """
    at_end = kind in _OF_LAST_POSITION
    probe = _probe(model, at_end)
    probes = [probe] if at_end else [probe, replace(probe, positions=torch.tensor([1, 3]))]
    return next(filter(None, (_disproof_on(kind, model, each) for each in probes)), "")


def _disproof_on(kind: type[Way], model: Model, probe: Prompts) -> str:
    plain = path_gradients(model, probe, [0.5], [1.0], way=Plain)
    try:
        tried = path_gradients(model, probe, [0.5], [1.0], way=kind)
        if not kind(model, probe).packs_faithfully():
            return "rows that are packed together do not give what each gives alone"
    except Exception as error:  # noqa: BLE001 - whatever an unknown architecture raises, the plain way remains
        return f"{type(error).__name__}: {error}"
    tolerance = SAME_LOGITS.of(model.dtype)
    for layer, (right, found) in enumerate(zip(plain.gradients, tried.gradients, strict=True)):
        if not right.numel():
            continue
        apart = float((right - found.to(right)).abs().max() / right.abs().max().clamp(min=1e-12))
        if not apart <= tolerance:
            return f"gradients of layer {layer} differ by {apart:.1e} of the largest from plain re-runs"
    return _disproved_scores(plain, tried, SAME_SCORES.of(model.dtype))


def _disproved_scores(plain: Path, tried: Path, tolerance: float) -> str:
    """Whether scores are further apart than what is promised of them, relative to the largest of all layers."""
    right = plain.scores()
    found = tried.scores().to(right.device)
    apart = float((right - found).abs().max() / right.abs().max().clamp(min=1e-30))
    return "" if apart <= tolerance else f"scores differ by {apart:.1e} of the largest from plain re-runs"


def _probe(model: Model, at_end: bool) -> Prompts:
    ids = model.probe_ids
    places = torch.tensor([6, 6] if at_end or model.kind == "causal" else [2, 4])
    with torch.no_grad():
        # The tokens that the model prefers there: gradients of a P near 0 would be too small to compare.
        answers = model.logits(ids)[torch.arange(len(ids)), places].argmax(-1)
    return Prompts(ids, places, places, answers)


@contextmanager
def _no_weight_gradients(model: Model) -> Iterator[None]:
    """Keep autograd from computing gradients of the weights, and give every flag back on exit."""
    # By name: offloaded weights are other tensors after a pass.
    wanting = {name for name, parameter in model.module.named_parameters() if parameter.requires_grad}
    try:
        model.module.requires_grad_(False)
        yield
    finally:
        for name, parameter in model.module.named_parameters() if wanting else ():
            parameter.requires_grad_(name in wanting)
