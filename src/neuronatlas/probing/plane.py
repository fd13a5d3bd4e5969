"""A point of a fit, and the lowest point of the objective in the plane of two directions from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.probing.losses import Loss

__all__ = ["Direction", "Elastic", "Point", "evaluate", "lowest"]

Weights = Float[Tensor, "output column"]
Scores = Float[Tensor, "row output"]
Bias = Float[Tensor, " output"]
Shares = Float[Tensor, " step"]

_AT_ONCE = 2048
"""Rows that are worked on at once: few enough to stay in the processor's cache."""
_STEPS, _THIRDS = 5, 3
_ROUNDING = 1e-13


class Elastic(Protocol):
    """A penalty on weights."""

    @property
    def l1(self) -> float:
        """Of the absolute weights."""

    @property
    def l2(self) -> float:
        """Of half their squares."""

    def value(self, weights: Weights) -> float:
        """What the weights cost."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A change of weights and bias, and of the scores with them."""

    weights: Weights
    bias: Bias
    scores: Scores

    def __sub__(self, other: Direction) -> Direction:
        return Direction(self.weights - other.weights, self.bias - other.bias, self.scores - other.scores)

    def along(self, directions: Sequence[Direction], shares: Sequence[float]) -> Direction:
        """The point that is so much of each direction away."""
        weights, bias, scores = self.weights, self.bias, self.scores
        for direction, share in zip(directions, shares, strict=True):
            weights, bias = weights + share * direction.weights, bias + share * direction.bias
            scores = scores + share * direction.scores
        return Direction(weights, bias, scores)


Point = Direction
"""Weights, bias, and the scores of all rows with both."""


def slices(rows: int) -> Iterator[slice]:
    """All rows, so many at a time."""
    for start in range(0, rows, _AT_ONCE):
        yield slice(start, min(start + _AT_ONCE, rows))


def evaluate(loss: Loss, scores: Scores) -> tuple[float, Scores]:
    """Mean loss, and what the model predicts."""
    means, value = torch.empty_like(scores), 0.0
    for where in slices(len(scores)):
        found, means[where] = loss.part(where).value_and_means(scores[where])
        value += found * (where.stop - where.start)
    return value / len(scores), means


@dataclass(frozen=True, eq=False)
class _Seen:
    """The objective at some shares of the directions, with its derivatives by them."""

    shares: Shares
    value: float
    slope: Shares
    bend: Float[Tensor, "step step"]


def lowest(
    loss: Loss, penalty: Elastic, base: Point, directions: Sequence[Direction], floor: float
) -> tuple[list[float], float]:
    """The shares at which base + shares of the directions is lowest, by Newton's method from shares 1, 0.

    The objective bends smoothly there as long as no weight changes its sign; steps that a change makes too long are
    cut. It ends when a step promises less than `floor`. Returns the shares and the objective.
    """
    first = torch.zeros(len(directions), dtype=torch.float64)
    first[0] = 1.0
    now = _seen(loss, penalty, base, directions, first)
    start = now.value
    for _ in range(_STEPS):
        size = now.bend.diagonal().clamp(min=1e-300).sqrt()
        scaled = now.bend / torch.outer(size, size) + 1e-7 * torch.eye(len(size), dtype=torch.float64)
        step = -torch.linalg.solve(scaled, now.slope / size) / size
        promised = -float(now.slope @ step)
        if not promised > floor:
            break
        trials = (_seen(loss, penalty, base, directions, now.shares + step / 3**cut) for cut in range(_THIRDS))
        better = next((trial for trial in trials if trial.value <= now.value), None)
        if better is None:
            break
        gained, now = now.value - better.value, better
        if gained < 0.1 * promised or gained < 0.01 * (start - now.value):
            break
    return now.shares.tolist(), now.value


def _seen(loss: Loss, penalty: Elastic, base: Point, directions: Sequence[Direction], shares: Shares) -> _Seen:
    rows, value = len(base.scores), 0.0
    slope = torch.zeros(len(directions), dtype=torch.float64)
    bend = torch.zeros(len(directions), len(directions), dtype=torch.float64)
    for where in slices(rows):
        part, steps = loss.part(where), [direction.scores[where] for direction in directions]
        scores = base.scores[where]
        for share, step in zip(shares.tolist(), steps, strict=True):
            scores = torch.add(scores, step, alpha=share)
        found, means = part.value_and_means(scores)
        residual = means - part.targets.to(means.dtype)
        value += found * len(scores)
        slope += torch.tensor(
            [float(torch.dot(residual.reshape(-1), step.reshape(-1))) for step in steps], dtype=torch.float64
        )
        bend += part.bend(means, steps)
    weights, moved = base.along(directions, shares.tolist()).weights.double(), [d.weights.double() for d in directions]
    pull = penalty.l1 * torch.sign(weights) + penalty.l2 * weights
    slope = slope / rows + torch.tensor([float((pull * step).sum()) for step in moved], dtype=torch.float64)
    ridge = [[float((a * b).sum()) for b in moved] for a in moved]
    bend = bend / rows + penalty.l2 * torch.tensor(ridge, dtype=torch.float64)
    return _Seen(shares, value / rows + penalty.value(weights), slope, bend)
