"""Fits the elastic net: mean loss + l1 |W|_1 + l2/2 |W|_2^2 over standardised columns, to a proved distance.

Accelerated proximal gradient (FISTA, Beck and Teboulle 2009) with restarts (O'Donoghue and Candes 2015), and three
things that make it fast on columns as correlated as a model's neurons. Each output has its own step, from the largest
eigenvalue of its own curvature, which shrinks as the output is learned; a step that is too long is found out and
shortened. Columns whose weights are surely 0 are left out: a working set grows by the columns that violate optimality
most, until none does. And the duality gap says when to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuronatlas.probing.columns import Columns, Held, Streamed, gradient, scores
from neuronatlas.probing.losses import Loss

__all__ = ["Certificate", "Penalty", "Solution", "certificate", "solve"]

_CHECK_EVERY = 25
_SCALE_EVERY = 50
_FIRST_COLUMNS = 256
_FLOOR = 1e-4
"""Least curvature of an output: one that is learned perfectly still needs a finite step."""

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

    def shrunk(self, weights: Weights, curvature: Float[Tensor, "output 1"]) -> Weights:
        """The proximal step."""
        soft = torch.sign(weights) * (weights.abs() - self.l1 / curvature).clamp(min=0)
        return soft / (1 + self.l2 / curvature)


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
    steepest = float(slopes.abs().max()) if slopes.numel() else 0.0
    shares = [1.0, 0.999, 0.99, 0.97, 0.9, min(1.0, penalty.l1 / steepest) if steepest > 0 else 1.0]
    dual = max(-loss.conjugate(share * residual) - penalty.conjugate(share * slopes) for share in shares)
    return Certificate(objective, objective - dual, slopes)


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
    weights, bias = start or _nothing(columns, loss)
    working = torch.zeros(columns.shape[1], dtype=torch.bool, device=weights.device)
    iterations, before = 0, float("inf")
    while True:
        plain = scores(columns, weights)
        bias = loss.best_bias(plain, bias)
        now = _certificate(columns, loss, penalty, weights, plain, bias)
        if watch is not None:
            watch(now.gap, now)
        if now.gap <= tol or iterations >= max_iter:
            return Solution(weights, bias, now, iterations)
        working, found = _grown(working, weights, now.slopes, penalty)
        places = torch.nonzero(working)[:, 0]
        part = _part(columns, places)
        # While columns are missing an exact fit of those at hand would be thrown away.
        wanted = tol / 2 if found == 0 or now.gap > before / 2 else max(tol / 2, now.gap / 20)
        descent = _Descent.begin(part, loss, penalty, weights[:, places], bias)
        descent.run(wanted, max_iter - iterations, watch)
        iterations, before = iterations + descent.iterations, now.gap
        weights = torch.zeros_like(weights)
        weights[:, places] = descent.weights
        bias = descent.bias.double()


def _nothing(columns: Held | Streamed, loss: Loss) -> tuple[Weights, Bias]:
    dtype, device = (columns.dtype, columns.device) if isinstance(columns, Streamed) else _kind(columns)
    outputs = loss.targets.shape[1]
    weights = torch.zeros(outputs, columns.shape[1], dtype=dtype, device=device)
    return weights, torch.zeros(outputs, dtype=torch.float64, device=device)


def _kind(columns: Held) -> tuple[torch.dtype, torch.device]:
    return columns.values.dtype, columns.values.device


def _grown(
    working: Bool[Tensor, " column"], weights: Weights, slopes: Weights, penalty: Penalty
) -> tuple[Bool[Tensor, " column"], int]:
    """The working set with the columns that violate optimality most, and how many more there are that do."""
    active = (weights != 0).any(0)
    steepest = slopes.abs().amax(0)
    violating = (steepest > penalty.l1) & ~active & ~working
    room = max(int(active.sum()), _FIRST_COLUMNS)
    count = int(violating.sum())
    order = torch.argsort(torch.where(violating, steepest, -1.0), descending=True, stable=True)
    grown = working | active
    grown[order[: min(room, count)]] = True
    return grown, max(0, count - room)


def _part(columns: Held | Streamed, places: Int[Tensor, " place"]) -> Held | Streamed:
    if len(places) == columns.shape[1]:
        return columns
    if isinstance(columns, Streamed):
        return columns.held(places.cpu().numpy())
    return Held(columns.values[:, places])


@dataclass
class _Descent:
    """FISTA on some columns: where it is, where it looks, and how long its steps are."""

    columns: Columns
    loss: Loss
    penalty: Penalty
    weights: Weights
    bias: Bias
    plain: Scores
    look: tuple[Weights, Bias, Scores]
    direction: Weights
    curvature: Bias
    bias_curvature: Bias
    targets: Scores
    momentum: float = 1.0
    stretch: float = 1.0
    iterations: int = 0

    @classmethod
    def begin(cls, columns: Columns, loss: Loss, penalty: Penalty, weights: Weights, bias: Bias) -> _Descent:
        """Start from weights, with the best bias for them."""
        plain = scores(columns, weights)
        bias = loss.best_bias(plain, bias).to(weights.dtype)
        noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)).to(weights)
        targets = loss.targets.to(plain.dtype)
        made = cls(columns, loss, penalty, weights, bias, plain, (weights, bias, plain), noise, bias, bias, targets)
        made._measure(8)
        return made

    def run(self, tol: float, most: int, watch: Watch | None) -> None:
        """Step until the gap on these columns is at most `tol`, or so many iterations are done."""
        while self.iterations < most:
            self._step()
            if self.iterations % _SCALE_EVERY == 0:
                self._measure(3)
            if self.iterations % _CHECK_EVERY == 0 and self._certified(watch) <= tol:
                break

    def _certified(self, watch: Watch | None) -> float:
        best = self.loss.best_bias(self.plain, self.bias)
        now = _certificate(self.columns, self.loss, self.penalty, self.weights, self.plain, best)
        if watch is not None:
            watch(float("nan"), replace(now, gap=float("nan")))
        return now.gap

    def _measure(self, rounds: int) -> None:
        """Largest eigenvalue of each output's own curvature, by power iteration; momentum starts anew."""
        means = self.loss.means(self.plain + self.bias)
        weight = self.loss.curvature(means)
        largest = self.curvature
        for _ in range(rounds):
            turned = gradient(self.columns, scores(self.columns, self.direction) * weight).to(self.direction)
            largest = turned.norm(dim=1) / self.direction.norm(dim=1).clamp(min=1e-30)
            self.direction = turned / turned.norm(dim=1, keepdim=True).clamp(min=1e-30)
        self.curvature, self.bias_curvature = largest + _FLOOR, weight.mean(0) + _FLOOR / 10
        self.stretch = max(0.8 * self.stretch, 0.5)
        self.momentum, self.look = 1.0, (self.weights, self.bias, self.plain)

    def _step(self) -> None:
        weights, bias, plain = self.look
        means = self.loss.means(plain + bias)
        residual = means - self.targets
        slopes, bias_slopes = gradient(self.columns, residual).to(plain.dtype), residual.mean(0)
        while True:
            steep, bias_steep = self.stretch * self.curvature[:, None], self.stretch * self.bias_curvature
            new = self.penalty.shrunk(weights - slopes / steep, steep)
            new_bias = bias - bias_slopes / bias_steep
            new_plain = scores(self.columns, new)
            away, bias_away = new - weights, new_bias - bias
            bound = float((steep * away**2).sum() + (bias_steep * bias_away**2).sum()) / 2
            if self.loss.divergence(means, new_plain - plain + bias_away) <= bound * (1 + 1e-4) + 1e-13:
                break
            self.stretch *= 1.5
        forward, bias_forward = new - self.weights, new_bias - self.bias
        turning = float((steep * away * forward).sum() + (bias_steep * bias_away * bias_forward).sum()) < 0
        momentum = 1.0 if turning else self.momentum
        self.momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        share = (momentum - 1) / self.momentum
        ahead = (new + share * forward, new_bias + share * bias_forward, new_plain + share * (new_plain - self.plain))
        self.weights, self.bias, self.plain, self.look = new, new_bias, new_plain, ahead
        self.iterations += 1
