"""The smallest change that satisfies linear conditions: least squares under inequalities, solved in its dual.

Minimise |x|^2 / 2 + (weight / 2m) |G x + r|^2 over x, where E x >= b. E has a row for each condition, G a row for each
of the m numbers that are to stay and r is how far they are off already. x lies in the span of the rows of both, so all
that is needed of them is their Gram matrix: x may have millions of entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

__all__ = ["Change", "Gram", "LeastChangeError", "gram_matrix", "smallest_change"]

_CHUNK = 1 << 16
RIDGE = 1e-9
"""Added to the diagonal of the dual, as a share of its largest entry: conditions that repeat are no error."""

Gram = Float[np.ndarray, "row row"]


class LeastChangeError(ValueError):
    """Conditions that no change satisfies."""


@dataclass(frozen=True, eq=False)
class Change:
    """The solution x as a combination of the rows of E and G, and the multiplier of each condition (0: not binding)."""

    of_conditions: Float[np.ndarray, " condition"]
    of_kept: Float[np.ndarray, " kept"]
    multipliers: Float[np.ndarray, " condition"]


def gram_matrix(rows: Float[Tensor, "row number"]) -> Gram:
    """Inner products of all pairs of rows, summed in float64."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for part in rows.split(_CHUNK, dim=1):
        wide = part.double()
        total += wide @ wide.T
    found: Gram = total.cpu().numpy()
    return found


def smallest_change(
    gram: Gram, wanted: Float[np.ndarray, " condition"], off: Float[np.ndarray, " kept"], weight: float
) -> Change:
    """Solve for the smallest x, given the Gram matrix of the rows of E, then G, and b and r.

    Where all conditions bind this is the closed form of equality-constrained least squares; which of them do is found
    by non-negative least squares on the dual (Lawson and Hanson 1974, chapter 23).

    Errors: LeastChangeError when no x satisfies the conditions: two of them contradict each other.

    >>> change = smallest_change(np.array([[4.0]]), np.array([2.0]), np.zeros(0), weight=0.0)
    >>> change.of_conditions.round(6).tolist()   # x = 2 * 0.5 reaches 2 x = 2
    [0.5]
    """
    n, m = len(wanted), len(off)
    stiff = weight / m if m else 0.0
    inner, cross, kept = gram[:n, :n], gram[n:, :n], gram[n:, n:]
    # (I + stiff G'G)^-1 = I - G' damp G, by Woodbury; the solution without conditions is -stiff G'(I - damp GG') r.
    damp = stiff * np.linalg.inv(np.eye(m) + stiff * kept) if m else np.zeros((0, 0))
    free = -damp @ off
    left = wanted - cross.T @ free
    dual = inner - cross.T @ damp @ cross
    multipliers = _multipliers(dual, left)
    return Change(multipliers, free - damp @ (cross @ multipliers), multipliers)


def _multipliers(dual: Gram, left: Float[np.ndarray, " condition"]) -> Float[np.ndarray, " condition"]:
    """Argmin over v >= 0 of v'Kv / 2 - left'v."""
    if not len(left) or float(left.max()) <= 0:
        return np.zeros(len(left))
    scale = float(np.diag(dual).max())
    if scale <= 0:
        raise LeastChangeError("no change moves what is asked for: its slopes are all 0")
    lower = np.linalg.cholesky(dual + RIDGE * scale * np.eye(len(dual)))
    found, _ = nnls(lower.T, np.linalg.solve(lower, left), maxiter=30 * len(left))
    reached = dual @ found
    if float((left - reached).max()) > 1e-3 * max(1.0, float(np.abs(left).max())):
        raise LeastChangeError("the conditions contradict each other: no change satisfies all of them")
    result: Float[np.ndarray, " condition"] = found
    return result
