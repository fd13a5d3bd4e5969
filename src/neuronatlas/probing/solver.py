"""Fits the elastic net: mean loss + l1 |W|_1 + l2/2 |W|_2^2 over standardised columns, to a proved distance.

A proximal Newton method made for columns as correlated as a model's neurons, where methods that use slopes alone creep.
A step minimises a quadratic model of each output in its working set (`working_sets`). The outputs' models leave out how
outputs depend on each other; that is made up for as conjugate gradients do it: from the weights that the step leaves at
0, the solver goes to the lowest point in the plane of the step and the previous one (`plane`). It comes down to l1 from
the largest slope in steps, so that working sets stay small. The duality gap says when to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.probing.columns import Columns, Doubled, Held, Streamed, gradient, products, scores
from neuronatlas.probing.losses import Loss
from neuronatlas.probing.plane import Direction, Point, evaluate, lowest
from neuronatlas.probing.working_sets import WorkingSets

__all__ = ["Certificate", "Penalty", "Solution", "certificate", "solve"]

_FALL = 0.25
"""How l1 comes down, step by step, to where it shall be."""
_HALVINGS = 12
_FLOOR = {torch.float32: 1e-8, torch.float64: 1e-16}
"""Changes of the objective below which rounding decides."""
_LONGEST = 1.0
"""Longest step of a bias, for a loss that is no parabola."""
_GIVE_UP = 5
"""Steps in a row without a gain that end a fit."""
_RIDGES = (1e-6, 0.1)
"""Least and largest share of its mean that is added to the diagonal of an output's Hessian."""
_FRESH_EVERY = 20
"""Steps after which scores are taken anew, before the rounding of their changes adds up."""

Weights = Float[Tensor, "output column"]
Bias = Float[Tensor, " output"]
Scores = Float[Tensor, "row output"]
Watch = Callable[[float, "Certificate"], None]


@dataclass(frozen=True)
class Penalty:
    """The elastic net's two penalties."""

    l1: float
    l2: float

    def value(self, weights: Weights) -> float:
        """l1 |W|_1 + l2/2 |W|_2^2."""
        exact = weights.double()
        return self.l1 * float(exact.abs().sum()) + self.l2 / 2 * float((exact**2).sum())

    def conjugate(self, slopes: Float[Tensor, "output column"]) -> float:
        """What the dual pays for slopes beyond l1: infinite without an l2."""
        beyond = (slopes.abs() - self.l1).clamp(min=0)
        if self.l2 > 0:
            return float((beyond**2).sum()) / (2 * self.l2)
        return 0.0 if float(beyond.max()) <= 1e-15 else float("inf")

    def evened(self, weights: Weights) -> Weights:
        """The cheapest weights that differ from these by one number a column, the same for all outputs.

        The c that minimises l1 sum |w - c| + l2/2 sum (w - c)^2 over a column's n weights is a median: of the weights
        and the n + 1 numbers that c would be if 0, 1, ... n weights were below it.
        """
        n, used = len(weights), torch.nonzero((weights != 0).any(0))[:, 0]
        part = weights[:, used]
        candidates = part
        if self.l2 > 0:
            pull = torch.arange(n, -n - 1, -2, device=weights.device).to(weights)[:, None] * (self.l1 / self.l2)
            candidates = torch.cat([part, (part.sum(0) + pull) / n])
        evened = weights.clone()
        evened[:, used] = part - candidates.median(0).values
        return evened


@dataclass(frozen=True)
class Certificate:
    """The objective at some weights, how far above the optimum it can be at most, and the slopes of the loss."""

    objective: float
    gap: float
    slopes: Float[Tensor, "output column"] = field(repr=False)


@dataclass(frozen=True)
class Solution:
    """Weights and bias for standardised columns, with the certificate and the number of iterations."""

    weights: Weights
    bias: Bias
    certificate: Certificate
    iterations: int


def certificate(columns: Columns, loss: Loss, penalty: Penalty, weights: Weights, bias: Bias) -> Certificate:
    """Objective, duality gap and slopes; the bias must be the best one for the weights.

    By Fenchel duality every residual r whose sum over rows is 0 bounds the optimum from below by
    -mean loss*(r) - penalty*(mean r x). Residuals of the fit, shrunk towards 0 by a few factors, are tried.
    """
    return _certificate(columns, loss, penalty, weights, scores(columns, weights), bias)


def _certificate(
    columns: Columns, loss: Loss, penalty: Penalty, weights: Weights, plain: Scores, bias: Bias
) -> Certificate:
    together = plain.double() + bias
    residual = loss.means(together) - loss.targets
    slopes = gradient(columns, residual.to(plain.dtype))
    objective = loss.value(together) + penalty.value(weights)
    return Certificate(objective, objective - _dual(loss, penalty, weights, residual, slopes), slopes)


def _dual(loss: Loss, penalty: Penalty, weights: Weights, residual: Scores, slopes: Weights) -> float:
    """The best lower bound that shrinking the residual gives."""
    steepest = float(slopes.abs().max()) if slopes.numel() else 0.0
    shares = {min(1.0, penalty.l1 / steepest) if steepest > 0 else 1.0}
    if penalty.l2 > 0:
        shares |= {1.0, _share(penalty, weights, slopes)}
    return max(-loss.conjugate(share * residual) - penalty.conjugate(share * slopes) for share in shares)


def _share(penalty: Penalty, weights: Weights, slopes: Weights) -> float:
    """Where a Newton step from 1 puts the best factor, by what the penalty alone makes of it."""
    steep, exact = slopes.abs(), weights.double()
    beyond = (steep - penalty.l1).clamp(min=0)
    gain = penalty.l1 * float(exact.abs().sum()) + penalty.l2 * float((exact**2).sum())
    loss = float((beyond * steep).sum()) / penalty.l2
    bend = float((steep[beyond > 0] ** 2).sum()) / penalty.l2
    return min(1.0, max(0.5, 1 + (gain - loss) / bend)) if bend > 0 else 1.0


def solve(
    columns: Held | Streamed,
    loss: Loss,
    penalty: Penalty,
    *,
    tol: float,
    max_iter: int,
    start: tuple[Weights, Bias] | None = None,
    watch: Watch | None = None,
) -> Solution:
    """Minimise until the duality gap is at most `tol` or `max_iter` iterations are done.

    `start` are weights and bias to begin from, `watch` is told the certificates on the way.
    """
    found = _descended(_Descent.begin(columns, loss, penalty, start), tol, max_iter, watch)
    if found.certificate.gap <= tol or found.iterations >= max_iter or found.weights.dtype == torch.float64:
        return found
    # Single precision cannot tell any more where down is.
    began = found.weights.double(), found.bias
    descent = _Descent.begin(Doubled(columns), loss, penalty, began, found.iterations)
    return _descended(descent, tol, max_iter, watch)


def _descended(descent: _Descent, tol: float, max_iter: int, watch: Watch | None) -> Solution:
    """Step until the gap is small enough, there have been too many steps, or rounding is all that is left."""
    while True:
        ended, gap = descent.iterations >= max_iter or descent.stuck >= _GIVE_UP, descent.gap()
        now = Certificate(descent.objective, gap, descent.slopes)
        if ended or gap <= tol:
            now = descent.certified()
        if watch is not None:
            watch(now.gap, now)
        if ended or now.gap <= tol:
            return Solution(descent.point.weights, descent.point.bias, now, descent.iterations)
        descent.step()


@dataclass
class _Descent:
    """Where a fit is, how it came there, and what it knows of the way ahead."""

    columns: Columns
    loss: Loss
    penalty: Penalty
    sets: WorkingSets
    point: Point
    level: float
    momentum: Direction | None = None
    means: Scores = field(init=False)
    slopes: Weights = field(init=False)
    objective: float = field(init=False)
    iterations: int = 0
    stuck: int = 0
    ridge: float = 0.01

    @classmethod
    def begin(
        cls,
        columns: Columns,
        loss: Loss,
        penalty: Penalty,
        start: tuple[Weights, Bias] | None,
        iterations: int = 0,
    ) -> _Descent:
        """Start from weights, with the best bias for them, at the l1 that would have led there."""
        weights, bias = start or _nothing(columns, loss)
        plain = scores(columns, weights)
        bias = loss.best_bias(plain, bias)
        point = Point(weights, bias, (plain + bias).to(plain.dtype))
        made = cls(columns, loss, penalty, WorkingSets(columns, weights), point, penalty.l1, iterations=iterations)
        made._look()
        made.level = max(float(made.slopes.abs().max()) if made.slopes.numel() else 0.0, penalty.l1)
        return made

    @property
    def floor(self) -> float:
        """Changes of the objective that are below rounding."""
        return _FLOOR[self.point.scores.dtype] * max(1.0, abs(self.objective))

    def _look(self) -> None:
        """Move the bias to its best, about, and take slopes and objective there."""
        point = self.point
        step = self.loss.bias_step(evaluate(self.loss, point.scores)[1]).clamp(-_LONGEST, _LONGEST)
        self.point = replace(point, bias=point.bias + step, scores=(point.scores + step).to(point.scores.dtype))
        value, self.means = evaluate(self.loss, self.point.scores)
        residual = self.means - self.loss.targets.to(self.means.dtype)
        self.slopes = gradient(self.columns, residual)
        self.objective = value + self.penalty.value(self.point.weights)

    def gap(self) -> float:
        """The duality gap, as far as can be seen without another pass over the rows."""
        residual = self.means.double() - self.loss.targets
        return self.objective - _dual(self.loss, self.penalty, self.point.weights, residual, self.slopes)

    def certified(self) -> Certificate:
        """Take scores, bias and certificate anew, with no rounding gathered on the way."""
        plain = scores(self.columns, self.point.weights)
        bias = self.loss.best_bias(plain, self.point.bias)
        self.point = Point(self.point.weights, bias, (plain + bias).to(plain.dtype))
        return _certificate(self.columns, self.loss, self.penalty, self.point.weights, plain, bias)

    def step(self) -> None:
        """One step of all outputs, then the lowest point in the plane of it and the last step."""
        self.level = max(self.level * _FALL, self.penalty.l1)
        penalty = replace(self.penalty, l1=self.level)
        dtype, point = self.point.scores.dtype, self.point
        residual = self.means - self.loss.targets.to(dtype)
        aim, follow = self.sets.step(
            point.weights, self.slopes.to(dtype), residual.mean(0), self.loss.curvature(self.means), penalty, self.ridge
        )
        follow = follow - follow.mean() if self.loss.relative else follow
        base, directions = self._plane(aim, follow)
        before = self.objective - self.penalty.value(point.weights) + penalty.value(point.weights)
        shares, value = lowest(self.loss, penalty, base, directions, self.floor)
        found = base.along(directions, shares)
        if value <= before + self.floor:
            self.momentum = _combined(directions, shares)
            ended = self.level == self.penalty.l1 and value >= before - self.floor
            self.stuck = self.stuck + 1 if ended else 0
        else:
            found, self.momentum = self._halfway(base.along(directions[:1], [1.0]), before, penalty), None
        self._trust(shares[0])
        self.point = found if not self.loss.relative else replace(found, weights=penalty.evened(found.weights))
        self.iterations += 1
        if self.iterations % _FRESH_EVERY == 0:
            fresh = scores(self.columns, self.point.weights) + self.point.bias
            self.point = replace(self.point, scores=fresh.to(dtype))
        self._look()

    def _trust(self, share: float) -> None:
        """Damp the models less when a step turns out too short, and more when it turns out far too long."""
        change = 0.3 if share > 1 else 3.0 if share < 0.5 else 1.0
        self.ridge = min(max(self.ridge * change, _RIDGES[0]), _RIDGES[1])

    def _plane(self, aim: Weights, follow: Bias) -> tuple[Point, list[Direction]]:
        """The point without the weights that the step makes 0, the step from there, and the last one as far as it fits.

        Weights at 0 stay there in the whole plane: zeros are exact, and the objective bends smoothly.
        """
        weights, kept = self.point.weights, aim != 0
        last = self.momentum
        gone = torch.where(kept, 0.0, weights)
        lost = torch.where(kept, 0.0, last.weights) if last is not None else gone
        moved, off, away = products(self.columns, [aim - (weights - gone), gone, lost])
        base = Point(weights - gone, self.point.bias, self.point.scores - off)
        directions = [Direction(aim - base.weights, follow.double(), moved + follow)]
        if last is not None:
            directions.append(Direction(last.weights - lost, last.bias, last.scores - away))
        return base, directions

    def _halfway(self, aim: Point, before: float, penalty: Penalty) -> Point:
        """A point between here and the aim that is no worse than here; here when there is none."""
        for halving in range(1, _HALVINGS):
            between = self.point.along([aim - self.point], [0.5**halving])
            value = evaluate(self.loss, between.scores)[0] + penalty.value(between.weights)
            if value <= before:
                return between
        self.stuck += 1
        return self.point


def _combined(directions: list[Direction], shares: list[float]) -> Direction:
    """So much of each direction."""
    nothing = Direction(
        *(torch.zeros_like(part) for part in (directions[0].weights, directions[0].bias, directions[0].scores))
    )
    return nothing.along(directions, shares)


def _nothing(columns: Columns, loss: Loss) -> tuple[Weights, Bias]:
    outputs, device = loss.targets.shape[1], loss.targets.device
    weights = torch.zeros(outputs, columns.shape[1], dtype=columns.dtype, device=device)
    return weights, torch.zeros(outputs, dtype=torch.float64, device=device)
