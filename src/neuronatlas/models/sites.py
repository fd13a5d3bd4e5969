"""Sites: which tensor of a model the neurons are, found by structure and proved on the loaded weights.

Three sites: `ffn` (the input of the feed-forward down-projection), `attention` (the input of the attention output
projection) and `hidden` (the residual stream: layer 0 is the embeddings, layer i the output of block i). Of a model
with an encoder and a decoder these are the decoder's, beside `cross_attention` (the input of the output projection of
the attention to the encoder); the encoder's are `encoder.ffn`, `encoder.attention` and `encoder.hidden`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, hooks, record_calls
from neuronatlas.models.experts import routed_output
from neuronatlas.models.parts import Projection
from neuronatlas.models.precision import SAME_PRODUCT
from neuronatlas.models.quantised import CODED_TOLERANCE, affine_error
from neuronatlas.models.stacks import Stack, trace_blocks
from neuronatlas.models.structure import Block, find_blocks
from neuronatlas.models.taps import Edit, Point, tapped
from neuronatlas.models.weights import is_coded, is_plain, resident

__all__ = ["SITES", "SITE_NAMES", "LayerProof", "Site", "SiteError", "path_pattern", "propose_sites", "prove"]

SITES = ("ffn", "attention", "hidden")
SITE_NAMES = (*SITES, "cross_attention", *(f"encoder.{name}" for name in SITES))


class SiteError(ValueError):
    """A site that the model does not have, or that failed its proof."""


@dataclass(frozen=True)
class LayerProof:
    """What was proved of one layer of a site; `error` is the largest deviation of the recomputed projection."""

    layer: int
    path: str
    width: int
    error: float


@dataclass(frozen=True)
class Site:
    """The neurons of one kind: one point a layer."""

    name: str
    points: tuple[Point, ...]
    proofs: tuple[LayerProof, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of neurons in each layer."""
        return tuple(point.width for point in self.points)

    @property
    def experts(self) -> tuple[tuple[int, ...], ...]:
        """Number of neurons of each layer's experts; empty when no layer has any."""
        found = tuple(point.experts for point in self.points)
        return found if any(found) else ()


def path_pattern(site: Site) -> str:
    """The path of a site's modules with {i} for the layer's number, or the first and the last one."""
    paths = [point.path for point in site.points if point.width]
    found = {re.sub(r"\.\d+(?=\.|$)", ".{i}", path, count=1) for path in paths}
    if len(set(paths)) == 1 or len(found) > 1:
        return " ... ".join(dict.fromkeys((paths[0], paths[-1])))
    return found.pop()


def propose_sites(blocks: Sequence[Block], stack: Stack, prefix: str = "") -> tuple[dict[str, Site], dict[str, str]]:
    """The sites that the structure of a stack suggests, not yet proved, and the reason for each that is missing.

    `prefix` goes before their names.
    """
    sites, missing = {}, {}
    for name in ("ffn", "attention", "cross_attention") if stack.reads else ("ffn", "attention"):
        points = [_point(block, name) for block in blocks]
        if not any(point is not None and point.width for point in points):
            points = [None] * len(blocks)  # where no layer has such neurons there is no such site
        lacking = [block for block, point in zip(blocks, points, strict=True) if point is None]
        if lacking:
            reason = lacking[0].reason if name == "ffn" else _NO_ATTENTION[name]
            missing[prefix + name] = f"layer {lacking[0].layer} ({lacking[0].path}): {reason}"
            continue
        sites[prefix + name] = Site(prefix + name, tuple(point for point in points if point is not None))
    if stack.halved:
        missing[f"{prefix}hidden"] = f"its layers are no modules of their own ({blocks[0].path} is a part of one)"
    else:
        sites[f"{prefix}hidden"] = Site(f"{prefix}hidden", _hidden_points(blocks, stack))
    return sites, missing


_NO_ATTENTION = {
    "attention": "no single projection of mixed positions",
    "cross_attention": "no single projection of what was read of the encoder",
}


def _base(site: Site) -> str:
    """Its name without the stack's."""
    return site.name.rpartition(".")[2]


def _point(block: Block, name: str) -> Point | None:
    """Where a block has the neurons of a site; a point of width 0 where it has no feed-forward neurons at all."""
    experts, found = block.experts, _of(block, name)
    if name == "ffn" and experts is not None:
        shared = None if experts.shared is None else experts.shared.module
        path, widths = f"{block.path}.{experts.path}", experts.widths
        point = Point(block.layer, path, experts.module, sum(widths), "experts", experts=widths, shared=shared)
    elif name == "ffn" and block.bare:
        point = Point(block.layer, block.path, block.module, 0)
    elif found is not None:
        point = Point(block.layer, f"{block.path}.{found.path}", found.module, found.width)
    else:
        return None
    return replace(point, call=block.call, calls=block.calls, positions_first=block.positions_first)


def _of(block: Block, name: str) -> Projection | None:
    parts = {"ffn": block.ffn, "attention": block.attention, "cross_attention": block.cross_attention}
    return parts[name]


def _hidden_points(blocks: Sequence[Block], stack: Stack) -> tuple[Point, ...]:
    first = stack.calls[0].hidden
    assert first is not None
    width, start, order = first.shape[-1], blocks[0], stack.positions_first
    points = [Point(0, start.path, start.module, width, "input", start.call, start.calls, positions_first=order)]
    points += [
        Point(b.layer + 1, b.path, b.module, width, "output", b.call, b.calls, positions_first=order) for b in blocks
    ]
    return tuple(points)


def prove(
    root: nn.Module,
    site: Site,
    run: Callable[[], Tensor],
    blocks: Sequence[Block] | None = None,
    positions: int | None = None,
) -> tuple[LayerProof, ...]:
    """Prove a site on the loaded weights; `run` gives the logits of a fixed input.

    `positions` is the length of the sequence that the site's stack runs on, by default that of the logits.

    The four invariants: (1) what is captured is [row, position, unit], as wide as the layer, and positions that the
    model appends for itself leave the logits bit-equal whatever they hold; (2) the down-projection applied to what was
    captured gives the output of the block's projection; (3) writing back what was captured leaves the logits bit-equal;
    (4) zeroing it changes them. And the place is the one that the structure of its own block gives: `blocks`, or what
    is found there now. Values before the activation, or of a gate alone, can hold to all four.

    Errors: SiteError with the layer, the invariant that failed, and what was found.
    """
    captured: dict[Point, Tensor] = {}

    def keep(point: Point) -> Edit:
        return lambda values: captured.__setitem__(point, values.clone())

    def write_back(point: Point) -> Edit:
        return lambda _: captured[point]

    with torch.no_grad():
        logits = run()
        with tapped(root, {point: keep(point) for point in site.points}):
            run()
        if set(captured) != set(site.points):
            lost = next(p for p in site.points if p not in captured)
            raise SiteError(f"site {site.name!r}, layer {lost.layer} ({lost.path}): not reached when the model runs")
        if list(captured) != list(site.points):
            late = next(found for found, p in zip(captured, site.points, strict=True) if found != p)
            raise SiteError(
                f"site {site.name!r}, layer {late.layer} ({late.path}): the model reaches it before the layer below"
            )
        with tapped(root, {point: write_back(point) for point in site.points}):
            if not torch.equal(run(), logits):
                raise SiteError(f"site {site.name!r}: writing back what was captured changes the model's output")
        length = logits.shape[1] if positions is None else positions
        proofs = tuple(_prove_layer(root, site, point, captured[point], logits, run, length) for point in site.points)
    _prove_places(site, find_blocks(root, trace_blocks(root, run)) if blocks is None else blocks)
    return proofs


def _prove_places(site: Site, blocks: Sequence[Block]) -> None:
    """Hold every point to the module, the side of it and the call that the structure of its block gives."""
    expected: list[tuple[nn.Module | None, str, int, nn.Module | None]]
    if _base(site) == "hidden":
        start = blocks[0].module, "input", blocks[0].call, None
        expected = [start, *((b.module, "output", b.call, None) for b in blocks)]
    else:
        found = [(_point(block, _base(site)), block) for block in blocks]
        expected = [(p.module, p.side, b.call, p.shared) if p else (None, "", b.call, None) for p, b in found]
    if len(site.points) != len(expected):
        raise SiteError(
            f"site {site.name!r}: {len(site.points)} layers, {len(expected)} expected of {len(blocks)} blocks"
        )
    for point, (module, side, call, shared) in zip(site.points, expected, strict=True):
        if point.module is not module or point.shared is not shared or (point.side, point.call) != (side, call):
            block = blocks[max(0, point.layer - 1) if _base(site) == "hidden" else point.layer]
            raise SiteError(
                f"{_where(site, point)}: the {point.side} of this module is not where the block {block.path} has them"
            )


def _where(site: Site, point: Point) -> str:
    return f"site {site.name!r}, layer {point.layer} ({point.path})"


def _prove_layer(
    root: nn.Module,
    site: Site,
    point: Point,
    values: Tensor,
    logits: Tensor,
    run: Callable[[], Tensor],
    positions: int,
) -> LayerProof:
    where, rows, coded = _where(site, point), logits.shape[0], is_coded(point.module)
    if values.shape[-1] != point.width:
        raise SiteError(f"{where}: captured {values.shape[-1]} values a position, expected {point.width}")
    if values.shape[0] != rows or values.shape[1] < positions:
        raise SiteError(f"{where}: captured {tuple(values.shape)} for {rows} rows of {positions} positions")
    if values.shape[1] > positions:
        with tapped(
            root, {point: lambda given: torch.cat([given[:, :positions], 2 * given[:, positions:] + 1], dim=1)}
        ):
            if not torch.equal(run(), logits):
                raise SiteError(
                    f"{where}: the output depends on {values.shape[1]} positions for a prompt of {positions}"
                )
    if point.width == 0:
        return LayerProof(point.layer, point.path, 0, 0.0)
    error = 0.0
    if _base(site) != "hidden":
        with resident(point.module), resident(point.shared or nn.Module()):
            error = _experts_error(point, values, run) if point.experts else _projection_error(point, values, run)
        if error > (CODED_TOLERANCE if coded else SAME_PRODUCT.of(values.dtype)):
            raise SiteError(
                f"{where}: the projection of what was captured differs from its output by {error:.1e} of the largest"
                + (f" ({_coding(point.module)})" if coded else "")
            )
    with tapped(root, {point: torch.zeros_like}):
        if torch.equal(run(), logits):
            raise SiteError(f"{where}: zeroing it does not change the model's output")
    return LayerProof(point.layer, point.path, point.width, error)


def _experts_error(point: Point, values: Tensor, run: Callable[[], Tensor]) -> float:
    """Largest deviation between `values` through the experts' weights, by hand, and what each module returned."""
    calls: list[Call] = []
    with record_calls([m for m in (point.module, point.shared) if m is not None], calls):
        run()
    routed = point.width - (point.experts[-1] if point.shared is not None else 0)
    flat, worst = values.flatten(0, 1), 0.0
    for call in calls:
        found = first_tensor(call.output)
        assert found is not None
        try:
            if call.module is point.module:
                expected = routed_output(call, flat[:, :routed])
            else:
                expected = project(call.module, flat[:, routed:])
            apart = (expected - found.reshape(expected.shape)).abs().max()
        except RuntimeError:  # the shapes do not fit: these are not what goes into the down-projections
            return math.inf
        worst = max(worst, float(apart / found.abs().max().clamp(min=1e-12)))
    return worst


def _projection_error(point: Point, values: Tensor, run: Callable[[], Tensor]) -> float:
    """Largest deviation between `values` through the projection's weights and what the projection returned.

    Quantised weights compute by themselves, and are held to what makes a projection as well.
    """
    returned: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        assert tensor is not None
        # Cloned: a block may add to what the projection returned, in the same memory.
        returned.append(tensor.clone())

    with hooks([point.module.register_forward_hook(keep)]):
        run()
    found = returned[point.call]
    try:
        given = values.transpose(0, 1) if point.positions_first else values
        expected = project(point.module, given.reshape(-1, values.shape[-1]))
        apart = (expected - found.reshape(expected.shape)).abs().max()
        bent = affine_error(point.module, values.flatten(0, -2)) if is_coded(point.module) else 0.0
    except Exception:  # noqa: BLE001 - whatever a module raises for what does not fit, these are not its inputs
        return math.inf
    return max(bent, float(apart / found.abs().max().clamp(min=1e-12)))


def _coding(module: nn.Module) -> str:
    weight = getattr(module, "weight", None)
    return f"its weights are quantised, {type(module).__name__} with {type(weight).__name__}, and act as no projection"


def project(module: nn.Module, values: Tensor) -> Tensor:
    """Apply a projection's weights by hand: `Linear` keeps them [out, in], GPT-2's `Conv1D` [in, out]."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not (isinstance(weight, Tensor) and weight.ndim == 2 and is_plain(weight)):
        result: Tensor = module(values)
        return result
    matrix = (
        weight.T if isinstance(module, nn.Linear) or weight.shape[1] == values.shape[-1] != weight.shape[0] else weight
    )
    product = values @ matrix
    return product + bias if isinstance(bias, Tensor) else product
