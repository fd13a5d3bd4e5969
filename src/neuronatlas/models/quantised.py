"""What is proved of quantised weights: that they are a projection of what they are given, and that gradients pass.

Codes cannot be multiplied by hand, and the kernels that compute with them come with backward passes of their own, or
with none: then autograd goes round them in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, record_calls
from neuronatlas.models.weights import coded_modules, resident

__all__ = ["CODED_TOLERANCE", "GradientError", "affine_error", "disprove_gradients"]

CODED_TOLERANCE = 3e-2
"""As a share of the largest: some methods round the inputs too, to 255 steps."""
_GRADIENT_TOLERANCE = 0.1


class GradientError(ValueError):
    """Gradients that do not pass through a part of the model, which says which and why."""


def affine_error(module: nn.Module, values: Float[Tensor, "row unit"]) -> float:
    """How far a module is from f(x + y) + f(0) = f(x) + f(y), as a share of its largest output."""
    others = values.roll(1, 0)
    with torch.no_grad(), resident(module):
        parts = module(values) + module(others)
        whole = module(values + others) + module(torch.zeros_like(values))
    return float((whole - parts).abs().max() / parts.abs().max().clamp(min=1e-12))


def disprove_gradients(root: nn.Module, run: Callable[[], object]) -> str:
    """Why gradients through the model are wrong, or nothing; `run` runs it, so that every module is given something.

    Each module with quantised weights is held to the adjoint of what it computes: for random u, the change of <u, f(x)>
    along y must be <gradient, y>. Other modules are torch's own.
    """
    names = {module: path for path, module in coded_modules(root).items()}
    calls: list[Call] = []
    with torch.no_grad(), record_calls(list(names), calls):
        run()
    for call in calls:
        given = call.args[0] if call.args and isinstance(call.args[0], Tensor) else call.hidden
        if given is None or not given.is_floating_point():
            continue  # a table of embeddings: nothing is differentiated with respect to token ids
        try:
            apart = _adjoint_error(call.module, given)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            if apart <= _GRADIENT_TOLERANCE:
                continue
            reason = (
                "autograd does not see it" if apart == math.inf else f"they are wrong by {apart:.0%} of the largest"
            )
        return f"gradients do not pass through {names[call.module]} ({type(call.module).__name__}): {reason}"
    return ""


def _adjoint_error(module: nn.Module, given: Tensor) -> float:
    """Largest deviation over rows, as a share of the largest change; infinite when there is no gradient."""
    leaf, along = given.detach().clone().requires_grad_(), given.detach().roll(1, -2)
    with torch.enable_grad():
        out = first_tensor(module(leaf))
        assert out is not None
        if not out.requires_grad:
            return math.inf
        above = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
        (slope,) = torch.autograd.grad(out, [leaf], above, allow_unused=True)
    if slope is None:
        return math.inf
    with torch.no_grad():
        changed = first_tensor(module(given + along))
        assert changed is not None
        right = ((changed - out).double() * above.double()).sum(-1)
        found = (slope.double() * along.double()).sum(-1)
    return float((right - found).abs().max() / right.abs().max().clamp(min=1e-12))
