"""Attribution takes one clean pass's memory and the rows under way, whatever the number of prompts; limits are kept."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import neuronatlas as na
from neuronatlas.knowledge import budgets
from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.budgets import found_budget
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.memory import LiveBytes, MemoryLimitError
from neuronatlas.models.queries import Query, Step

SIZES: Any = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 256}
TOKENS = 8
RULE: Any = {"rule": "midpoint", "steps": 2}


@pytest.fixture(scope="module", params=["masked", "causal"])
def model(request: pytest.FixtureRequest) -> na.Model:
    torch.manual_seed(0)
    module: PreTrainedModel = (
        BertForMaskedLM(BertConfig(vocab_size=500, **SIZES))
        if request.param == "masked"
        else LlamaForCausalLM(LlamaConfig(vocab_size=500, num_key_value_heads=2, **SIZES))
    )
    words = Tokenizer(WordLevel({f"t{index}": index for index in range(500)}, unk_token="t0"))
    return na.load((module.requires_grad_(False), PreTrainedTokenizerFast(tokenizer_object=words)))


def queries(model: na.Model, count: int) -> list[Query]:
    ids = torch.randint(5, 90, (count, TOKENS), generator=torch.Generator().manual_seed(1)).tolist()
    place = TOKENS - 1 if model.kind == "causal" else 5
    return [Query(f"prompt {n}", "x", (Step(tuple(row), 20, place, place),)) for n, row in enumerate(ids)]


def peak(model: na.Model, asked: Sequence[Query], budget: int | str) -> int:
    """Most bytes alive beside the weights and the results."""
    list(attribute_queries(model, asked[:1], **RULE))
    with LiveBytes() as live:
        found = list(attribute_queries(model, asked, budget=budget, **RULE))
    return int(live.peak) - sum(one.values.nbytes + one.activations.values.nbytes for one in found)


def clean_bytes(model: na.Model, count: int) -> int:
    """What the tensors of a forward pass take when none of them is let go before its end."""
    ids = torch.tensor([asked.first.ids for asked in queries(model, count)])
    kept = []
    with torch.no_grad(), LiveBytes() as live:
        handles = [m.register_forward_hook(lambda _, __, out: kept.append(out)) for m in model.module.modules()]
        model.logits(ids)
        for handle in handles:
            handle.remove()
    return int(live.peak)


def row_bytes(model: na.Model) -> int:
    """What one row of all positions takes with its gradients, from the first layer to the logits and back."""
    ids = torch.tensor([queries(model, 1)[0].first.ids])
    embeddings = model.module.get_input_embeddings()(ids).detach().requires_grad_()
    with LiveBytes() as live:
        logits = model.module(inputs_embeds=embeddings, attention_mask=torch.ones_like(ids), use_cache=False).logits
        torch.autograd.grad(logits.sum(), [embeddings])
    return int(live.peak)


@pytest.mark.parametrize("budget", [64, 256])
def test_the_peak_is_at_most_one_clean_pass_and_the_rows_under_way(model: na.Model, budget: int) -> None:
    found = peak(model, queries(model, 40), budget)
    assert found <= clean_bytes(model, budget // TOKENS) + budget * row_bytes(model) // TOKENS


def test_more_prompts_take_no_more_memory(model: na.Model) -> None:
    few, many = (peak(model, queries(model, count), 64) for count in (12, 36))
    assert many <= 1.02 * few


def test_a_limit_is_kept_and_used(model: na.Model) -> None:
    weights = sum(p.nbytes for p in model.module.parameters())
    asked = queries(model, 32)
    unbound = peak(model, asked, 256)
    for share in (0.3, 0.6):
        limit = int(weights + share * unbound)
        budget = found_budget(model, asked, f"{limit}", **RULE)
        taken = peak(model, asked, budget)
        assert weights + taken <= limit
        assert budget == 256 or weights + 4 * taken > limit


def test_a_budget_is_no_larger_than_what_the_prompts_can_use(model: na.Model) -> None:
    assert found_budget(model, queries(model, 1), "auto", rule="left-riemann", steps=1) == 64


def test_a_limit_below_one_prompt_is_refused_with_both_numbers(model: na.Model) -> None:
    weights = sum(p.nbytes for p in model.module.parameters())
    said = r"8 tokens takes [\d.]+ MB beside the weights, 0.0 MB are left"
    with pytest.raises(MemoryLimitError, match=said) as caught:
        list(attribute_queries(model, queries(model, 1), budget=f"{weights + 1000}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("budget", "said"), [("lots", "no amount of memory: 'lots'"), (0, "expected at least 1")])
def test_budgets_that_cannot_be_read_are_refused(model: na.Model, budget: int | str, said: str) -> None:
    with pytest.raises(MemoryLimitError, match=said):
        list(attribute_queries(model, queries(model, 1), budget=budget))


def test_a_device_without_memory_for_the_first_size_is_given_less(
    model: na.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is refused from so many token positions on, as a device does that has no memory for it."""
    right = path_gradients

    def within(most: int) -> None:
        def run(*given: Any, budget: int, chunks: int, **named: Any) -> Any:
            if budget > most:
                raise torch.OutOfMemoryError("no memory")
            return right(*given, budget=budget, chunks=chunks, **named)

        monkeypatch.setattr(budgets, "path_gradients", run)

    monkeypatch.setattr(budgets, "_FIRST", 16)
    within(32)
    assert found_budget(model, queries(model, 32), "900GB", **RULE) == 32
    monkeypatch.setattr(budgets._Work, "_prove", lambda _work: None)
    within(4)
    assert found_budget(model, queries(model, 32), "900GB", **RULE) == 4
    within(0)
    with pytest.raises(MemoryLimitError, match="8 tokens takes more memory than the device has beside the weights"):
        found_budget(model, queries(model, 32), "900GB", **RULE)
    monkeypatch.undo()
    within(0)
    with pytest.raises(MemoryLimitError, match="8 tokens takes more memory than the device has beside the weights"):
        found_budget(model, queries(model, 32), "900GB", **RULE)
