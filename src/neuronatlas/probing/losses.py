"""The losses of linear probes: what a fit minimises beside the penalty, its curvature, and its dual.

Scores are [row, output]: one output a class, a single one where there are two classes (its sigmoid is the probability
of the second), or a single number to be predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["CrossEntropy", "Loss", "SquaredError"]

Scores = Float[Tensor, "row output"]
Bias = Float[Tensor, " output"]

_BIAS_STEPS = 50
_HALVINGS = 30
_SHORT = 0.2
"""Steps up to which four terms of the exponential are exact to a ten-thousandth of what is measured."""


class Loss(Protocol):
    """The mean over rows of a convex loss of scores."""

    @property
    def targets(self) -> Scores:
        """What the residual is 0 at, in float64."""

    def value(self, scores: Scores) -> float:
        """The mean loss."""

    def means(self, scores: Scores) -> Scores:
        """What the model predicts, such as probabilities: the residual is this less the targets."""

    def curvature(self, means: Scores) -> Scores:
        """Second derivative of a row's loss by each of its scores, at its means."""

    def divergence(self, means: Scores, step: Scores) -> float:
        """How far the mean loss after a step lies above its tangent: exact where a difference would cancel."""

    def conjugate(self, residual: Scores) -> float:
        """The mean conjugate of the loss at a residual: what the dual loses beside the penalty."""

    def best_bias(self, scores: Scores, bias: Bias) -> Bias:
        """The bias that minimises the loss of scores to which it is added, from a first guess."""


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Cross entropy of the softmax, or of the sigmoid of one score where there are two classes."""

    codes: Int[Tensor, " row"]
    n_classes: int
    targets: Scores

    @classmethod
    def of(cls, codes: Int[Tensor, " row"], n_classes: int) -> CrossEntropy:
        """The loss of rows whose classes are numbered."""
        if n_classes == 2:
            return cls(codes, 2, (codes == 1).double()[:, None])
        return cls(codes, n_classes, torch.nn.functional.one_hot(codes, n_classes).double())

    def value(self, scores: Scores) -> float:
        """Mean cross entropy, in nats."""
        logits = self._logits(scores.double())
        return float((torch.logsumexp(logits, 1) - logits.gather(1, self.codes[:, None])[:, 0]).mean())

    def means(self, scores: Scores) -> Scores:
        """Probabilities."""
        return torch.sigmoid(scores) if self.n_classes == 2 else torch.softmax(scores, 1)

    def curvature(self, means: Scores) -> Scores:
        """Variance of a class, p (1 - p): how classes depend on each other is left out."""
        return means * (1 - means)

    def divergence(self, means: Scores, step: Scores) -> float:
        """Log of the mean over classes of exp(step), the step's own mean taken off; a series where it is short."""
        shares = torch.cat([1 - means, means], 1) if self.n_classes == 2 else means
        moved = self._logits(step)
        moved = moved - (shares * moved).sum(1, keepdim=True)
        if float(moved.abs().max()) > _SHORT:
            moved = moved.double()
            return float(torch.log1p((shares * (torch.expm1(moved) - moved)).sum(1)).mean())
        rise = (shares * moved.square() * (0.5 + moved * (1 / 6 + moved / 24))).sum(1)
        return float((rise * (1 - rise / 2)).mean(dtype=torch.float64))

    def conjugate(self, residual: Scores) -> float:
        """Negative entropy of targets plus residual, which are probabilities."""
        shares = (self.targets + residual).clamp(0, 1)
        if self.n_classes == 2:
            shares = torch.cat([1 - shares, shares], 1)
        return float(torch.special.xlogy(shares, shares).sum(1).mean())

    def best_bias(self, scores: Scores, bias: Bias) -> Bias:
        """Newton's method with step halving, in float64; of many classes the one of mean 0."""
        scores, bias, wanted = scores.double(), bias.double().clone(), self.targets.mean(0)

        def loss(bias: Bias) -> float:
            return float(torch.logsumexp(self._logits(scores + bias), 1).mean() - (bias * wanted).sum())

        least = loss(bias)
        for _ in range(_BIAS_STEPS):
            means = self.means(scores + bias)
            slope = means.mean(0) - wanted
            if float(slope.abs().max()) < 1e-15:
                break
            step = -self._solve(means, slope)
            found, size = loss(bias + step), 1.0
            while found > least and size > 2.0**-_HALVINGS:
                size /= 2
                found = loss(bias + size * step)
            if found > least:
                break
            done, least, bias = least - found <= 1e-16 * max(1.0, abs(least)), found, bias + size * step
            if done:
                break
        return bias if self.n_classes == 2 else bias - bias.mean()

    def _solve(self, means: Scores, slope: Bias) -> Bias:
        if self.n_classes == 2:
            return slope / self.curvature(means).mean(0).clamp(min=1e-300)
        hessian = torch.diag(means.mean(0)) - means.T @ means / len(means)
        # Adding the same to all biases changes nothing: that direction is closed by the matrix of ones.
        closed = hessian + 1.0 / len(hessian) + 1e-13 * torch.eye(len(hessian)).to(hessian)
        step: Bias = torch.linalg.solve(closed, slope)
        return step

    def _logits(self, scores: Scores) -> Scores:
        return torch.cat([torch.zeros_like(scores), scores], 1) if self.n_classes == 2 else scores


@dataclass(frozen=True, eq=False)
class SquaredError:
    """Half the squared difference from a number."""

    targets: Scores

    @classmethod
    def of(cls, numbers: Float[Tensor, " row"]) -> SquaredError:
        """The loss of rows with numbers."""
        return cls(numbers.double()[:, None])

    def value(self, scores: Scores) -> float:
        """Half the mean squared error."""
        return float(((scores.double() - self.targets) ** 2).mean() / 2)

    def means(self, scores: Scores) -> Scores:
        """The scores themselves."""
        return scores

    def curvature(self, means: Scores) -> Scores:
        """1 everywhere."""
        return torch.ones_like(means)

    def divergence(self, means: Scores, step: Scores) -> float:
        """Half the mean squared step."""
        return float((step.double() ** 2).mean() / 2)

    def conjugate(self, residual: Scores) -> float:
        """Half the mean square of the residual, and its product with the targets."""
        return float((residual**2 / 2 + residual * self.targets).mean())

    def best_bias(self, scores: Scores, bias: Bias) -> Bias:
        """The mean of what is left."""
        return (self.targets - scores.double()).mean(0)
