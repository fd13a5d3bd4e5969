"""Batches hold every sentence once, keep to their budget, and cost no more than any other division."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuronatlas as na
from neuronatlas.models.asking import all_logits, batched, step_logits
from neuronatlas.models.batching import WAYS, batches, choose_way

LENGTHS = st.lists(st.integers(1, 40), max_size=30)


@pytest.mark.parametrize("way", WAYS)
@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_each_sentence_is_in_one_batch_that_keeps_to_the_budget(way: str, lengths: list[int], budget: int) -> None:
    found = batches(lengths, budget, way)
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
        assert way == "padded" or len({lengths[index] for index in batch}) == 1
        assert way != "single" or len(batch) == 1
    ends = [(lengths[batch[0]], lengths[batch[-1]]) for batch in found]
    assert all(last <= first for (_, last), (first, _) in pairwise(ends)), "in order of length"


def cost(lengths: list[int], bounds: tuple[int, ...], budget: int) -> float:
    """Padded tokens and passes of a division of rising lengths; infinite where a batch is over its budget."""
    total = 0.0
    for start, stop in pairwise((0, *bounds, len(lengths))):
        padded = (stop - start) * lengths[stop - 1]
        total += padded + budget // 16 if padded <= budget or stop - start == 1 else float("inf")
    return total


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8), budget=st.integers(1, 400))
def test_no_other_division_costs_less(lengths: list[int], budget: int) -> None:
    rising, found = sorted(lengths), batches(lengths, budget, "padded")
    sizes = [len(batch) for batch in found]
    bounds = tuple(sum(sizes[:n]) for n in range(1, len(sizes)))
    every = [cut for n in range(len(rising)) for cut in combinations(range(1, len(rising)), n)]
    assert cost(rising, bounds, budget) == min(cost(rising, cut, budget) for cut in every)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_prompts_of_any_lengths_share_a_pass_and_get_what_they_get_alone(kind: str) -> None:
    model = na.load(na.specimen_folder(kind))
    facts = [record for record in na.specimen_facts(model=kind) if record.relation == "capital"][:3]
    steps = [
        na.attribute(model, prompt, fact.answer, rule="activation").query.first
        for fact in facts
        for prompt in fact.prompts[:4]
    ]
    assert len({step.shape for step in steps}) > 1
    assert len(batched(model, steps)) == 1
    for batch, logits in all_logits(model, steps):
        alone = torch.cat([step_logits(model, [steps[index]]) for index in batch])
        torch.testing.assert_close(logits, alone.detach(), rtol=1e-4, atol=1e-4)
    with na.suppress(model, model.layout().set(["L0.U1"])):  # it may name positions that padding would move
        assert len(batched(model, steps)) == len({step.shape for step in steps})


def test_a_model_whose_rows_move_each_other_is_asked_one_prompt_at_a_time() -> None:
    module = na.load(na.specimen_folder())
    head = module.module.get_submodule("bert.encoder.layer.1.output.dense")
    # Rows of one pass take from each other: what a fault of some kernels or of routing does.
    head.register_forward_hook(lambda _module, _given, out: out - out.mean(0, keepdim=True))
    prompts = ["The capital of France is [MASK].", "The capital of Japan is [MASK]."]
    steps = [na.attribute(module, prompt, "Paris", rule="activation").query.first for prompt in prompts]
    assert len({step.shape for step in steps}) == 1
    assert batched(module, steps) == [[0], [1]]
    assert "moves by" in module.ways["equal batches"]
    for batch, logits in all_logits(module, steps):
        torch.testing.assert_close(logits, step_logits(module, [steps[index] for index in batch]).detach())


def test_a_model_that_raises_in_a_batch_is_asked_one_prompt_at_a_time() -> None:
    model = na.load(na.specimen_folder())

    def alone(_module: object, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].shape[0] > 1:
            raise RuntimeError("one row at a time")

    model.module.get_submodule("bert.encoder.layer.1.output.dense").register_forward_pre_hook(alone)
    assert choose_way(model) == "single"
    assert model.ways["equal batches"] == model.ways["padded batches"] == "RuntimeError: one row at a time"
