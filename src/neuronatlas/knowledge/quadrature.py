"""Quadratures on [0, 1]: where along the path from 0 to the full activation the gradient is taken.

Integrated gradients of a neuron h (Sundararajan et al. 2017; Dai et al. 2022, equation 4):
score = h * integral over a in [0, 1] of dP(a h)/dh. A quadrature is nodes a_k and weights w_k with
score = h * sum w_k dP(a_k h)/dh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["DEFAULT_RULE", "QUADRATURES", "Quadrature", "RuleError", "rule_nodes", "usual_steps"]

DEFAULT_RULE = "gauss-legendre"


class RuleError(ValueError):
    """A rule of attribution that does not exist, or steps that it cannot take."""


@dataclass(frozen=True)
class Quadrature:
    """A quadrature by name: what makes its nodes and weights from a number of steps, and its usual numbers of steps.

    `steps` serves neurons with a smooth activation, `kinked_steps` those with kinks such as ReLU's; docs/quadrature.md
    has the table that they come from.
    """

    name: str
    nodes: Callable[[int], tuple[tuple[float, ...], tuple[float, ...]]]
    steps: int
    kinked_steps: int
    summary: str


def _gauss_legendre(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    points, weights = np.polynomial.legendre.leggauss(steps)
    return tuple(float(x) for x in (points + 1) / 2), tuple(float(w) for w in weights / 2)


def _even(first: float) -> Callable[[int], tuple[tuple[float, ...], tuple[float, ...]]]:
    def nodes(steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return tuple((k + first) / steps for k in range(steps)), (1 / steps,) * steps

    return nodes


def _at_end(_steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (1.0,), (1.0,)


QUADRATURES: dict[str, Quadrature] = {
    found.name: found
    for found in (
        Quadrature("gauss-legendre", _gauss_legendre, 5, 18, "integrated gradients by Gauss-Legendre quadrature"),
        Quadrature("left-riemann", _even(0.0), 20, 20, "integrated gradients as Dai et al.'s official code sums them"),
        Quadrature("right-riemann", _even(1.0), 20, 20, "integrated gradients as Dai et al. print the sum"),
        Quadrature("midpoint", _even(0.5), 20, 20, "integrated gradients by the midpoint rule"),
        Quadrature("grad-x-activation", _at_end, 1, 1, "the gradient at the full activation times the activation"),
    )
}


def rule_nodes(name: str, steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of a quadrature.

    Errors: RuleError for an unknown one, or fewer than one step.

    >>> rule_nodes("left-riemann", 2)
    ((0.0, 0.5), (0.5, 0.5))
    """
    return _rule(name, steps).nodes(steps)


def usual_steps(name: str, steps: int | None, *, kinks: bool) -> int:
    """The steps that were asked for, or the quadrature's usual number for neurons with or without kinks.

    A quadrature that takes no choice (`grad-x-activation`) has its own number whatever was asked for.

    Errors: RuleError for an unknown quadrature, or fewer than one step.

    >>> usual_steps("gauss-legendre", None, kinks=True), usual_steps("gauss-legendre", 8, kinks=True)
    (18, 8)
    """
    rule = _rule(name, steps)
    usual = rule.kinked_steps if kinks else rule.steps
    return usual if steps is None or usual <= 1 else steps


def _rule(name: str, steps: int | None) -> Quadrature:
    if name not in QUADRATURES:
        raise RuleError(f"no rule {name!r}: expected one of {', '.join(QUADRATURES)}")
    if steps is not None and steps < 1:
        raise RuleError(f"{steps} steps: at least 1 expected")
    return QUADRATURES[name]
