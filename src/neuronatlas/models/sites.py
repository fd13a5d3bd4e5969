"""Sites: which tensor of a model the neurons are, found by structure and proved on the loaded weights.

Three sites: `ffn` (the input of the feed-forward down-projection), `attention` (the input of the attention output
projection) and `hidden` (the residual stream: layer 0 is the embeddings, layer i the output of block i).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, hooks, record_calls
from neuronatlas.models.experts import routed_output
from neuronatlas.models.parts import Projection
from neuronatlas.models.structure import Block, find_blocks, trace_blocks
from neuronatlas.models.taps import Edit, Point, tapped

__all__ = ["SITES", "LayerProof", "Site", "SiteError", "path_pattern", "propose_sites", "prove"]

SITES = ("ffn", "attention", "hidden")


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
    paths = [point.path for point in site.points]
    found = {re.sub(r"\.\d+(?=\.|$)", ".{i}", path, count=1) for path in paths}
    if len(set(paths)) == 1 or len(found) > 1:
        return " ... ".join(dict.fromkeys((paths[0], paths[-1])))
    return found.pop()


def propose_sites(blocks: Sequence[Block], calls: Sequence[Call]) -> tuple[dict[str, Site], dict[str, str]]:
    """The sites that the structure suggests, not yet proved, and the reason for each site that is missing."""
    sites, missing = {}, {}
    calls_of = Counter(block.module for block in blocks)
    for name in ("ffn", "attention"):
        points = [_point(block, name, calls_of[block.module]) for block in blocks]
        lacking = [block for block, point in zip(blocks, points, strict=True) if point is None]
        if lacking:
            reason = lacking[0].reason if name == "ffn" else "no single projection of mixed positions"
            missing[name] = f"layer {lacking[0].layer} ({lacking[0].path}): {reason}"
            continue
        sites[name] = Site(name, tuple(point for point in points if point is not None))
    sites["hidden"] = Site("hidden", _hidden_points(blocks, calls, calls_of))
    return sites, missing


def _point(block: Block, name: str, calls: int) -> Point | None:
    """Where a block has the neurons of a site."""
    experts, found = block.experts, _of(block, name)
    if name == "ffn" and experts is not None:
        shared = None if experts.shared is None else experts.shared.module
        path, widths = f"{block.path}.{experts.path}", experts.widths
        return Point(block.layer, path, experts.module, sum(widths), "experts", block.call, calls, widths, shared)
    if found is None:
        return None
    return Point(block.layer, f"{block.path}.{found.path}", found.module, found.width, "input", block.call, calls)


def _of(block: Block, name: str) -> Projection | None:
    return block.ffn if name == "ffn" else block.attention


def _hidden_points(
    blocks: Sequence[Block], calls: Sequence[Call], calls_of: Mapping[nn.Module, int]
) -> tuple[Point, ...]:
    first = calls[0].hidden
    assert first is not None
    width, start = first.shape[-1], blocks[0]
    points = [Point(0, start.path, start.module, width, "input", start.call, calls_of[start.module])]
    points += [Point(b.layer + 1, b.path, b.module, width, "output", b.call, calls_of[b.module]) for b in blocks]
    return tuple(points)


def prove(
    root: nn.Module, site: Site, run: Callable[[], Tensor], blocks: Sequence[Block] | None = None
) -> tuple[LayerProof, ...]:
    """Prove a site on the loaded weights; `run` gives the logits of a fixed input.

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
        proofs = tuple(_prove_layer(root, site, point, captured[point], logits, run) for point in site.points)
    _prove_places(site, find_blocks(root, trace_blocks(root, run)) if blocks is None else blocks)
    return proofs


def _prove_places(site: Site, blocks: Sequence[Block]) -> None:
    """Hold every point to the module, the side of it and the call that the structure of its block gives."""
    expected: list[tuple[nn.Module | None, str, int, nn.Module | None]]
    if site.name == "hidden":
        start = blocks[0].module, "input", blocks[0].call, None
        expected = [start, *((b.module, "output", b.call, None) for b in blocks)]
    else:
        found = [(_point(block, site.name, 1), block) for block in blocks]
        expected = [(p.module, p.side, b.call, p.shared) if p else (None, "", b.call, None) for p, b in found]
    if len(site.points) != len(expected):
        raise SiteError(
            f"site {site.name!r}: {len(site.points)} layers, {len(expected)} expected of {len(blocks)} blocks"
        )
    for point, (module, side, call, shared) in zip(site.points, expected, strict=True):
        if point.module is not module or point.shared is not shared or (point.side, point.call) != (side, call):
            block = blocks[max(0, point.layer - 1) if site.name == "hidden" else point.layer]
            raise SiteError(
                f"{_where(site, point)}: the {point.side} of this module is not where the block {block.path} has them"
            )


def _where(site: Site, point: Point) -> str:
    return f"site {site.name!r}, layer {point.layer} ({point.path})"


def _prove_layer(
    root: nn.Module, site: Site, point: Point, values: Tensor, logits: Tensor, run: Callable[[], Tensor]
) -> LayerProof:
    where = _where(site, point)
    if values.shape[-1] != point.width:
        raise SiteError(f"{where}: captured {values.shape[-1]} values a position, expected {point.width}")
    rows, positions = logits.shape[:2]
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
    error = 0.0
    if site.name != "hidden":
        error = _experts_error(point, values, run) if point.experts else _projection_error(root, point, values, run)
        if error > (1e-4 if values.dtype == torch.float32 else 3e-2):
            raise SiteError(
                f"{where}: the projection of what was captured differs from its output by {error:.1e} of the largest"
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


def _projection_error(root: nn.Module, point: Point, values: Tensor, run: Callable[[], Tensor]) -> float:
    """Largest deviation between `values` through the projection's weights and what the projection returned."""
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
        expected = project(point.module, values.reshape(-1, values.shape[-1]))
        apart = (expected - found.reshape(expected.shape)).abs().max()
    except (RuntimeError, TypeError):  # they do not fit: these are not the projection's inputs
        return math.inf
    return float(apart / found.abs().max().clamp(min=1e-12))


def project(module: nn.Module, values: Tensor) -> Tensor:
    """Apply a projection's weights by hand: `Linear` keeps them [out, in], GPT-2's `Conv1D` [in, out]."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    plain = isinstance(weight, Tensor) and weight.ndim == 2 and weight.is_floating_point()
    if not plain:
        result: Tensor = module(values)
        return result
    assert isinstance(weight, Tensor)
    matrix = (
        weight.T if isinstance(module, nn.Linear) or weight.shape[1] == values.shape[-1] != weight.shape[0] else weight
    )
    product = values @ matrix
    return product + bias if isinstance(bias, Tensor) else product
