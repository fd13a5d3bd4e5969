"""The smallest change that satisfies linear conditions: least squares under inequalities, solved in its dual.

Minimise |x|^2 / 2 + (weight / 2m) |G x + r|^2 + (firm / 2) |max(0, f - G x - r)|^2 over x, where E x >= b. E has a row
for each condition, G one for each of the m numbers that are to stay; r is how far they are off already, f how far each
may fall without harm. x lies in the span of the rows of both, so all that is needed of them is their Gram matrix: x may
have millions of entries.
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
_NEAR = 1e-3

Gram = Float[np.ndarray, "row row"]


class LeastChangeError(ValueError):
    """Conditions that no change satisfies."""


@dataclass(frozen=True, eq=False)
class Change:
    """The solution x as a combination of the rows of E and G, and the multiplier of each condition (0: not binding)."""

    of_conditions: Float[np.ndarray, " condition"]
    of_kept: Float[np.ndarray, " kept"]
    multipliers: Float[np.ndarray, " condition"]


def gram_matrix(rows: Float[Tensor, "row number"], others: Float[Tensor, "other number"] | None = None) -> Gram:
    """Inner products of all pairs of rows, or of each row with each of others, summed in float64."""
    columns = rows if others is None else others
    total = torch.zeros(len(rows), len(columns), dtype=torch.float64, device=rows.device)
    for part, other in zip(rows.split(_CHUNK, dim=1), columns.split(_CHUNK, dim=1), strict=True):
        total += part.double() @ other.double().T
    found: Gram = total.cpu().numpy()
    return found


def smallest_change(
    gram: Gram,
    wanted: Float[np.ndarray, " condition"],
    off: Float[np.ndarray, " kept"],
    weight: float,
    floor: Float[np.ndarray, " kept"] | None = None,
    firm: float = 0.0,
) -> Change:
    """Solve for the smallest x, given the Gram matrix of the rows of E, then G, and b and r.

    With `floor` each number that is to stay has a lowest value besides, and what it falls below costs firm / 2 times
    its square. Where all conditions bind this is the closed form of equality-constrained least squares; which of them
    do is found by non-negative least squares on the dual (Lawson and Hanson 1974, chapter 23). Numbers above their
    floor cost nothing, so floors join the conditions only once a solution without them has fallen below.

    Errors: LeastChangeError when no x satisfies the conditions: two of them contradict each other.

    >>> change = smallest_change(np.array([[4.0]]), np.array([2.0]), np.zeros(0), weight=0.0)
    >>> change.of_conditions.round(6).tolist()   # x = 2 * 0.5 reaches 2 x = 2
    [0.5]
    """
    n, kept = len(wanted), gram[len(wanted) :, len(wanted) :]
    stiff = weight / len(off) if len(off) else 0.0
    # (I + stiff G'G)^-1 = I - G' damp G, by Woodbury; the solution without conditions is -stiff G'(I - damp GG') r.
    damp = stiff * np.linalg.inv(np.eye(len(off)) + stiff * kept) if len(off) else np.zeros((0, 0))
    free = -damp @ off
    low = np.zeros(0, dtype=np.intp)
    while True:
        rows = np.concatenate([np.arange(n), n + low])
        cross = gram[n:][:, rows]
        least = wanted if floor is None else np.concatenate([wanted, (floor - off)[low]])
        dual = gram[np.ix_(rows, rows)] - cross.T @ damp @ cross
        if len(low):
            dual[range(n, len(rows)), range(n, len(rows))] += 1 / firm
        multipliers = _multipliers(dual, least - cross.T @ free, n)
        of_kept = free - damp @ (cross @ multipliers)
        of_kept[low] += multipliers[n:]
        if floor is None or firm <= 0:
            break
        values = off + gram[n:, :n] @ multipliers[:n] + kept @ of_kept
        fallen = np.setdiff1d(np.flatnonzero(values < floor - _NEAR), low)
        if not len(fallen):
            break
        low = np.union1d(low, fallen)
    return Change(multipliers[:n], of_kept, multipliers[:n])


def _multipliers(dual: Gram, left: Float[np.ndarray, " condition"], hard: int) -> Float[np.ndarray, " condition"]:
    """Argmin over v >= 0 of v'Kv / 2 - left'v, of which the first, `hard`, conditions have to be satisfied."""
    if not len(left) or float(left.max()) <= 0:
        return np.zeros(len(left))
    scale = float(np.diag(dual).max())
    if scale <= 0:
        raise LeastChangeError("no change moves what is asked for: its slopes are all 0")
    lower = np.linalg.cholesky(dual + RIDGE * scale * np.eye(len(dual)))
    found, _ = nnls(lower.T, np.linalg.solve(lower, left), maxiter=30 * len(left))
    lacking = (left - dual @ found)[:hard]
    if float(lacking.max(initial=0.0)) > 1e-3 * max(1.0, float(np.abs(left).max())):
        raise LeastChangeError("the conditions contradict each other: no change satisfies all of them")
    result: Float[np.ndarray, " condition"] = found
    return result
