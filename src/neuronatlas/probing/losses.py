"""The losses of linear probes: what a fit minimises beside the penalty, its curvature, and its dual.

Scores are [row, output]: one output a class, a single one where there are two classes (its sigmoid is the probability
of the second), or a single number to be predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_LEAST, _EVEN = 1e-6, 1e-2


class Loss(Protocol):
    """The mean over rows of a convex loss of scores."""

    @property
    def targets(self) -> Scores:
        """What the residual is 0 at, in float64."""

    @property
    def relative(self) -> bool:
        """Whether it is the same when one number is added to all scores of a row."""

    def value(self, scores: Scores) -> float:
        """The mean loss."""

    def means(self, scores: Scores) -> Scores:
        """What the model predicts, such as probabilities: the residual is this less the targets."""

    def value_and_means(self, scores: Scores) -> tuple[float, Scores]:
        """Both at once, the value summed in float64."""

    def curvature(self, means: Scores) -> Scores:
        """How strongly a row's loss bends with each of its scores, on the way that a step will take it."""

    def bend(self, means: Scores, steps: Sequence[Scores]) -> Float[Tensor, "step step"]:
        """Second derivatives along steps of the scores, summed over rows, on the CPU."""

    def part(self, rows: slice) -> Loss:
        """The loss of some rows alone."""

    def conjugate(self, residual: Scores) -> float:
        """The mean conjugate of the loss at a residual: what the dual loses beside the penalty."""

    def bias_step(self, means: Scores) -> Bias:
        """Newton's step of the bias at some means, in float64."""

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

    @property
    def relative(self) -> bool:
        """With one score a class."""
        return self.n_classes > 2

    def value(self, scores: Scores) -> float:
        """Mean cross entropy, in nats."""
        logits = self._logits(scores.double())
        return float((torch.logsumexp(logits, 1) - logits.gather(1, self.codes[:, None])[:, 0]).mean())

    def means(self, scores: Scores) -> Scores:
        """Probabilities."""
        return torch.sigmoid(scores) if self.n_classes == 2 else torch.softmax(scores, 1)

    def value_and_means(self, scores: Scores) -> tuple[float, Scores]:
        """Mean cross entropy and probabilities."""
        logits = self._logits(scores)
        highest = logits.amax(1, keepdim=True)
        right = logits.gather(1, self.codes[:, None])
        odds = (logits - highest).exp_()
        total = odds.sum(1, keepdim=True)
        value = float((total.log() + highest - right).mean(dtype=torch.float64))
        shares = odds.div_(total)
        return value, shares[:, 1:] if self.n_classes == 2 else shares

    def curvature(self, means: Scores) -> Scores:
        """Variance of a class, p (1 - p); where a class is misjudged, |p - 1/2| / |log odds|.

        The latter is the mean second derivative between a score and its negative, Jaakkola and Jordan's bound: a
        misjudged row will be moved across 0, where the loss bends more. How classes depend on each other is left out.
        """
        variance = means * (1 - means)
        misjudged = (means > 0.5) != (self.targets > 0.5)
        shares = means.clamp(_LEAST, 1 - _LEAST)
        odds = torch.log(shares / (1 - shares)).abs()
        bound = torch.where(odds > _EVEN, (shares - 0.5).abs() / odds, 0.25)
        return torch.where(misjudged, bound, variance)

    def bend(self, means: Scores, steps: Sequence[Scores]) -> Float[Tensor, "step step"]:
        """Covariances of the steps under a row's probabilities, summed over rows."""
        weighted = [means * step for step in steps]
        middles = torch.stack([step.sum(1) for step in weighted])
        return _products(weighted, steps) - (middles.double() @ middles.double().T).cpu()

    def part(self, rows: slice) -> CrossEntropy:
        """The loss of some rows alone."""
        return CrossEntropy(self.codes[rows], self.n_classes, self.targets[rows])

    def conjugate(self, residual: Scores) -> float:
        """Negative entropy of targets plus residual, which are probabilities."""
        shares = (self.targets + residual).clamp(0, 1)
        if self.n_classes == 2:
            shares = torch.cat([1 - shares, shares], 1)
        return float(torch.special.xlogy(shares, shares).sum(1).mean())

    def bias_step(self, means: Scores) -> Bias:
        """By the covariance of the classes' probabilities; of many classes the step of mean 0."""
        middle = means.mean(0, dtype=torch.float64)
        slope = middle - self.targets.mean(0)
        if self.n_classes == 2:
            return -slope / (means * (1 - means)).mean(0, dtype=torch.float64).clamp(min=1e-300)
        hessian = torch.diag(middle) - (means.T @ means).double() / len(means)
        # Adding the same to all biases changes nothing: that direction is closed by the matrix of ones.
        closed = hessian + 1.0 / len(hessian) + 1e-13 * torch.eye(len(hessian)).to(hessian)
        step: Bias = -torch.linalg.solve(closed, slope)
        return step - step.mean()

    def best_bias(self, scores: Scores, bias: Bias) -> Bias:
        """Newton's method with step halving, in float64; of many classes the one of mean 0."""
        scores, bias, wanted = scores.double(), bias.double().clone(), self.targets.mean(0)

        def loss(bias: Bias) -> float:
            return float(torch.logsumexp(self._logits(scores + bias), 1).mean() - (bias * wanted).sum())

        least = loss(bias)
        for _ in range(_BIAS_STEPS):
            means = self.means(scores + bias)
            if float((means.mean(0) - wanted).abs().max()) < 1e-15:
                break
            step = self.bias_step(means)
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

    @property
    def relative(self) -> bool:
        """Never."""
        return False

    def value(self, scores: Scores) -> float:
        """Half the mean squared error."""
        return float(((scores.double() - self.targets) ** 2).mean() / 2)

    def means(self, scores: Scores) -> Scores:
        """The scores themselves."""
        return scores

    def value_and_means(self, scores: Scores) -> tuple[float, Scores]:
        """Half the mean squared error, and the scores."""
        return self.value(scores), scores

    def curvature(self, means: Scores) -> Scores:
        """1 everywhere."""
        return torch.ones_like(means)

    def bend(self, means: Scores, steps: Sequence[Scores]) -> Float[Tensor, "step step"]:
        """Products of the steps."""
        return _products(steps, steps)

    def part(self, rows: slice) -> SquaredError:
        """The loss of some rows alone."""
        return SquaredError(self.targets[rows])

    def conjugate(self, residual: Scores) -> float:
        """Half the mean square of the residual, and its product with the targets."""
        return float((residual**2 / 2 + residual * self.targets).mean())

    def bias_step(self, means: Scores) -> Bias:
        """The mean of what is left."""
        return self.targets.mean(0) - means.mean(0, dtype=torch.float64)

    def best_bias(self, scores: Scores, bias: Bias) -> Bias:
        """The mean of what is left."""
        return (self.targets - scores.double()).mean(0)


def _products(some: Sequence[Scores], others: Sequence[Scores]) -> Float[Tensor, "some other"]:
    """Sums of the products of each with each."""
    return torch.tensor(
        [[float(torch.dot(a.reshape(-1), b.reshape(-1))) for b in others] for a in some], dtype=torch.float64
    )
