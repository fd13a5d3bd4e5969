"""Memory is counted as it is, by the bytes of tensors that live at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.models.memory import LiveBytes, MemoryLimitError, as_bytes, free_bytes


def test_what_lives_at_once_is_counted_and_what_is_gone_is_not() -> None:
    before = torch.ones(1000)
    with LiveBytes() as live:
        first = before * 2
        assert live.now == 4000
        view = first.reshape(10, 100).T
        assert live.now == 4000
        del first
        assert live.now == 4000
        second = view + view
        assert live.now == 8000
        del view
        assert live.now == 4000
        second += 1
        assert (live.now, live.peak) == (4000, 8000)
    assert before.sum() == 1000


def test_tensors_that_were_there_before_do_not_count() -> None:
    weight = torch.ones(50, 40)
    with LiveBytes() as live:
        turned = weight.T
        assert turned.shape == (40, 50)
    assert live.peak == 0


def test_what_autograd_keeps_for_the_way_back_counts() -> None:
    leaf = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        out = leaf.exp().exp().sum()
        assert live.now == 8004
        out.backward()
        del out
        assert leaf.grad is not None
        assert live.now == 4000


@given(st.integers(1, 4000), st.sampled_from(["MB", "mb", " MiB", "GB", " GB", "TB", ""]))
def test_amounts_are_read_as_they_are_written(number: int, unit: str) -> None:
    factor = {"mb": 10**6, "mib": 2**20, "gb": 10**9, "tb": 10**12, "": 1}[unit.strip().lower()]
    assert as_bytes(f"{number}{unit}") == number * factor


@pytest.mark.parametrize("text", ["", "much", "8 parsecs", "-3GB", "0GB", "GB", "1e3GB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(MemoryLimitError, match="no amount of memory"):
        as_bytes(text)


def test_a_machine_has_some_memory_free() -> None:
    assert free_bytes(torch.device("cpu")) > 2**20
