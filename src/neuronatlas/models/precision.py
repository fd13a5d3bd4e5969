"""How exact numbers are: which precisions count as exact, and how far apart two ways to the same numbers may come."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SAME_LOGITS", "SAME_PASS", "SAME_PRODUCT", "SAME_SCORES", "Tolerance", "is_exact", "widened"]


def is_exact(dtype: torch.dtype) -> bool:
    """Whether this is float32 or wider.

    >>> is_exact(torch.float64), is_exact(torch.bfloat16)
    (True, False)
    """
    return dtype in (torch.float32, torch.float64)


def widened(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it is coarser, differentiable."""
    return tensor if is_exact(tensor.dtype) else tensor.float()


@dataclass(frozen=True)
class Tolerance:
    """Largest deviation as a share of the largest number: of float32 or wider, and of what is coarser.

    >>> SAME_PRODUCT.of(torch.float32), SAME_PRODUCT.of(torch.float16)
    (0.0001, 0.03)
    """

    exact: float
    coarse: float

    def of(self, dtype: torch.dtype) -> float:
        """The one for numbers of this precision."""
        return self.exact if is_exact(dtype) else self.coarse


SAME_PRODUCT = Tolerance(1e-4, 3e-2)
"""For one product of weights, reckoned again."""
SAME_PASS = Tolerance(1e-4, 5e-2)
"""For what a pass gives when rows or positions are put together in another way."""
SAME_LOGITS = Tolerance(1e-3, 5e-2)
"""For logits or gradients that are reckoned by another road through the layers."""
SAME_SCORES = Tolerance(1e-5, 5e-2)
"""For attribution scores, relative to the largest of all layers."""
