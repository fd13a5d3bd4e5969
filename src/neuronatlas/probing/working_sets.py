"""What a step of the solver moves: a few columns for each output, with a quadratic model of the loss in their weights.

A step minimises, for each output on its own, a quadratic model of the loss plus the elastic net over the output's
working set: the columns whose weights are not 0, and those that violate optimality most. The model's Hessian is the
weighted Gram matrix of the columns, from a sample of rows where there are many; a Hessian that is a little off makes a
step shorter, never the answer wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuronatlas.probing.columns import Columns

__all__ = ["WorkingSets"]

Weights = Float[Tensor, "output column"]
Scores = Float[Tensor, "row output"]
Bias = Float[Tensor, " output"]
Padded = Float[Tensor, "output place"]

ROOM = 2**30
"""Bytes that the Gram matrices of all outputs may take together."""

_SAMPLE = 6000
_ROWS_A_COLUMN = 6
_PASSES = 40
"""Gram matrices may cost as much as so many products of all rows with weights for all columns."""
_LITTLE = 2 * 10**10
"""Multiplications that are no matter."""
_COLUMNS_COST = 8
_FIRST_COLUMNS = 50
_NEAR = 0.9
_DRIFT = 0.5
"""Share of an output's row weights that may change before its Gram matrix is made anew."""
_POWER_ROUNDS = 12
_ROUNDS, _CHECK_EVERY, _SHARPNESS = 200, 5, 0.05


class Elastic(Protocol):
    """The two penalties."""

    @property
    def l1(self) -> float:
        """Of the absolute weights."""

    @property
    def l2(self) -> float:
        """Of half their squares."""


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """Second-order model of one output in its working set, its bias at its best: x'Gx, and how the bias follows."""

    columns: Int[Tensor, " place"]
    gram: Float[Tensor, "place place"]
    centre: Float[Tensor, " place"]
    heft: float
    steepest: float


class WorkingSets:
    """The working sets of all outputs and their quadratic models."""

    def __init__(self, columns: Columns, like: Weights) -> None:
        outputs, n_columns = like.shape
        rows = columns.shape[0]
        self._columns = columns
        self._models: list[_Quadratic | None] = [None] * outputs
        self._member = torch.zeros(outputs, n_columns, dtype=torch.bool, device=like.device)
        self._built_at = like.new_zeros(rows, outputs)
        self._draw = torch.rand(rows, generator=torch.Generator().manual_seed(0)).to(like)
        self._room = ROOM // like.element_size()
        self._work = max(_PASSES * rows * n_columns * outputs, _LITTLE)

    def step(
        self, weights: Weights, slopes: Weights, bias_slopes: Bias, curvature: Scores, penalty: Elastic, ridge: float
    ) -> tuple[Weights, Bias]:
        """Weights that minimise the models, and by how much the biases follow.

        `slopes` are the loss's alone, `curvature` is the weight of each row in each output's model, `ridge` the share
        of its mean that is added to the models' diagonals.
        """
        self._refresh(weights, slopes, curvature, penalty)
        found, follow = weights.clone(), torch.zeros_like(bias_slopes)
        known = [(output, model) for output, model in enumerate(self._models) if model is not None]
        heft = curvature.mean(0)
        if known:
            given = [(m, slopes[o, m.columns] - m.centre * bias_slopes[o], weights[o, m.columns]) for o, m in known]
            for (output, model), new in zip(known, _minimised(given, penalty, ridge), strict=True):
                moved = new - weights[output, model.columns]
                found[output, model.columns] = new
                follow[output] = -(model.centre @ moved)
        return found, follow - bias_slopes / heft.clamp(min=1e-12)

    def _refresh(self, weights: Weights, slopes: Weights, curvature: Scores, penalty: Elastic) -> None:
        """Let in columns that violate optimality, and renew the models that this or new row weights make stale."""
        wanted = self._wanted(weights, slopes, penalty)
        lacking = (wanted & ~self._member).any(1)
        drifted = (curvature - self._built_at).abs().sum(0) > _DRIFT * self._built_at.sum(0)
        stale = torch.nonzero((lacking | drifted) & wanted.any(1))[:, 0].tolist()
        near = self._member & (slopes.abs() > _NEAR * penalty.l1)
        chosen = {output: torch.nonzero(wanted[output] | near[output])[:, 0] for output in stale}
        self._fit_in(chosen, weights, slopes, penalty)
        self._member[stale] = False
        for output, places in chosen.items():
            self._member[output, places] = True
        self._built_at[:, stale] = curvature[:, stale]
        self._models = [None if output in chosen else model for output, model in enumerate(self._models)]
        for output, model in self._modelled(chosen, curvature).items():
            self._models[output] = model

    def _wanted(self, weights: Weights, slopes: Weights, penalty: Elastic) -> Bool[Tensor, "output column"]:
        """Columns with weights, and of the others those that violate most, as many again at most."""
        active = weights != 0
        beyond = torch.where(active | self._member, 0.0, slopes.abs() - penalty.l1).clamp(min=0)
        wanted = active.clone()
        rooms = active.sum(1).clamp(min=_FIRST_COLUMNS).tolist()
        for output, (room, count) in enumerate(zip(rooms, (beyond > 0).sum(1).tolist(), strict=True)):
            if count:
                order = torch.argsort(beyond[output], descending=True, stable=True)
                wanted[output, order[: min(room, count)]] = True
        return wanted

    def _fit_in(
        self, chosen: dict[int, Int[Tensor, " place"]], weights: Weights, slopes: Weights, penalty: Elastic
    ) -> None:
        """Cut the largest working sets until all Gram matrices fit; the columns farthest from optimal stay."""
        kept = sum(len(m.columns) ** 2 for o, m in enumerate(self._models) if m is not None and o not in chosen)
        cap = self._cap([len(places) for places in chosen.values()], self._room - kept)
        for output, places in chosen.items():
            if len(places) <= cap:
                continue
            w, slope = weights[output, places], slopes[output, places] + penalty.l2 * weights[output, places]
            off = torch.where(w != 0, (slope + penalty.l1 * torch.sign(w)).abs(), slope.abs() - penalty.l1)
            order = torch.argsort(off, descending=True, stable=True)[:cap]
            chosen[output] = places[torch.sort(order).values]

    def _cap(self, sizes: list[int], room: int) -> int:
        """The largest size of a working set for which Gram matrices take neither too much memory nor too much work."""

        def fits(cap: int) -> bool:
            cut = [min(size, cap) for size in sizes]
            work = sum(self._sample(size) * size**2 for size in cut)
            return sum(size**2 for size in cut) <= room and work <= self._work

        return (
            bisect_right(range(max(sizes, default=0) + 1), False, lo=_FIRST_COLUMNS, key=lambda cap: not fits(cap)) - 1
        )

    def _sample(self, n_columns: int) -> int:
        """Rows from which the Gram matrix of so many columns is taken."""
        rows, outputs = self._built_at.shape
        return min(rows, max(_SAMPLE, _ROWS_A_COLUMN * n_columns, rows // outputs))

    def _modelled(self, chosen: dict[int, Int[Tensor, " place"]], curvature: Scores) -> dict[int, _Quadratic]:
        """Models of some outputs, in one pass over the rows."""
        rows = len(curvature)
        sampled = {o: self._sampled(curvature[:, o], len(places)) for o, places in chosen.items()}
        grams = {o: curvature.new_zeros(len(places), len(places)) for o, places in chosen.items()}
        sums = {o: curvature.new_zeros(len(places)) for o, places in chosen.items()}
        if chosen:
            for where, block in self._columns.chunks():
                for output, places in chosen.items():
                    weight = sampled[output][where]
                    used = torch.nonzero(weight)[:, 0]
                    if len(used):
                        root = weight[used].sqrt()
                        part = _picked(block, used, places) * root[:, None]
                        grams[output].addmm_(part.T, part)
                        sums[output].addmv_(part.T, root)
        return {
            o: _model(chosen[o], grams[o] / rows, sums[o] / rows, float(sampled[o].sum(dtype=torch.float64)) / rows)
            for o in chosen
        }

    def _sampled(self, curvature: Float[Tensor, " row"], n_columns: int) -> Tensor:
        """Row weights of which most are 0 where there are many rows; in the mean what they were."""
        size = self._sample(n_columns)
        if size == len(curvature):
            return curvature
        chance = (size * curvature / curvature.sum()).clamp(max=1.0)
        return torch.where(self._draw < chance, curvature / chance, torch.zeros_like(curvature))


def _picked(block: Tensor, rows: Int[Tensor, " row"], places: Int[Tensor, " place"]) -> Float[Tensor, "row place"]:
    """Some rows and columns of a block, in the cheaper order; gathering columns is slow, rows lie together."""
    if len(rows) * block.shape[1] < _COLUMNS_COST * len(places) * block.shape[0]:
        return block.index_select(0, rows).index_select(1, places)
    return block.index_select(1, places).index_select(0, rows)


def _model(places: Int[Tensor, " place"], gram: Tensor, mean: Tensor, heft: float) -> _Quadratic:
    """The model once the bias, which moves freely, is eliminated."""
    heft = max(heft, 1e-12)
    gram = gram - torch.outer(mean, mean) / heft
    # Any start that is not at right angles to the steepest direction will do; this one is the same on every run.
    direction = torch.cos(torch.arange(len(places), device=gram.device).to(gram))
    steepest = 0.0
    for _ in range(_POWER_ROUNDS):
        direction = direction / direction.norm().clamp(min=1e-30)
        direction = gram @ direction
        steepest = float(direction.norm())
    return _Quadratic(places, gram, mean / heft, heft, 1.05 * steepest + 1e-12)


def _minimised(
    given: list[tuple[_Quadratic, Float[Tensor, " place"], Float[Tensor, " place"]]], penalty: Elastic, ridge: float
) -> list[Float[Tensor, " place"]]:
    """Minimise model plus penalty for all outputs at once by FISTA with restarts; slopes and weights are given."""
    models = [model for model, _, _ in given]
    widths = [len(model.columns) for model in models]
    start = given[0][1].new_zeros(len(models), max(widths))
    slopes = start.clone()
    for row, (_, slope, weight) in enumerate(given):
        slopes[row, : widths[row]], start[row, : widths[row]] = slope, weight

    def product(weights: Padded) -> Padded:
        out = torch.zeros_like(weights)
        for row, model in enumerate(models):
            torch.mv(model.gram, weights[row, : widths[row]], out=out[row, : widths[row]])
        return out

    damping = ridge * start.new_tensor([model.heft for model in models])[:, None]
    size = 1 / (start.new_tensor([model.steepest for model in models])[:, None] + damping + penalty.l2)
    shrink, constant = penalty.l1 * size, slopes - product(start) - damping * start
    weights, look, momentum, first = start, start, torch.ones_like(size), 0.0
    for round_ in range(_ROUNDS):
        ahead = look - (constant + product(look) + (damping + penalty.l2) * look) * size
        new = torch.sign(ahead) * (ahead.abs() - shrink).clamp(min=0)
        forward, back = new - weights, look - new
        if round_ % _CHECK_EVERY == 0:
            off = float((back.abs() / size).amax())
            first = first or off
            if off <= _SHARPNESS * first and round_:
                weights = new
                break
        turning = (back * forward).sum(1, keepdim=True) > 0
        momentum = torch.where(turning, torch.ones_like(momentum), momentum)
        grown = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        weights, look, momentum = new, new + (momentum - 1) / grown * forward, grown
    return [weights[row, :width] for row, width in enumerate(widths)]
