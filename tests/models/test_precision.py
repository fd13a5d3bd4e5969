"""What counts as exact, and what proofs allow for in each precision."""

import pytest
import torch

from neuronatlas.models import precision
from neuronatlas.models.precision import Tolerance, is_exact, widened


@pytest.mark.parametrize(
    ("dtype", "exact"),
    [(torch.float64, True), (torch.float32, True), (torch.bfloat16, False), (torch.float16, False)],
)
def test_float32_and_wider_count_as_exact_and_are_left_as_they_are(dtype: torch.dtype, exact: bool) -> None:
    given = torch.tensor([0.5, -2.0], dtype=dtype, requires_grad=True)
    wide = widened(given)
    assert is_exact(dtype) == exact == (wide is given)
    assert wide.dtype == (dtype if exact else torch.float32)
    wide.sum().backward()
    assert given.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_half_precision_is_never_held_to_more_than_exact_numbers(dtype: torch.dtype) -> None:
    table = [each for each in vars(precision).values() if isinstance(each, Tolerance)]
    assert len(table) == 4
    for each in table:
        assert 0 < each.exact < each.coarse < 0.1
        assert each.of(dtype) == (each.exact if is_exact(dtype) else each.coarse)
