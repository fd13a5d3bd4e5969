"""Texts as a model reads them: up to its limit where it has one, and less the tokens that its tokenizer adds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import Model, capture, load
from neuronatlas.models.reading import added_tokens, read_activations, text_ids, token_at


@pytest.mark.parametrize("name", ["bert", "bloom"])
def test_texts_are_read_up_to_the_limit_of_a_model_or_to_their_end(
    name: str, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    """BLOOM takes texts of any length, and its tokenizer then says 10**30."""
    model, words = load((module_of(name), tokenizer)), [f"w{index % 90}" for index in range(80)]
    length = 64 if name == "bert" else 80
    assert (model.max_length == 64) == (name == "bert")
    assert [len(row) for row in text_ids(model, [" ".join(words), "w1 w2"])] == [length, 2]
    [block] = read_activations(model, [" ".join(words), "w1 w2"], model.layout().set(["L0.U1"]))
    assert block.cut.tolist() == [name == "bert", False]
    assert token_at(model, " ".join(words), length - 1) == words[length - 1]


def test_unknown_words_are_the_texts_own(model_of: Callable[[str], Model]) -> None:
    model = model_of("bert")
    ids = torch.tensor([[model.tokenizer.unk_token_id, 7]])
    with torch.no_grad(), capture(model, layers=[0]) as seen:
        model.logits(ids)
    found = [
        next(read_activations(model, ["unheard w2", "unheard"], model.layout().set([f"L0.U{unit}"]))) for unit in (1, 2)
    ]
    assert [block.values[0, 0] for block in found] == pytest.approx(seen[0][0, :, 1:3].amax(0).tolist(), rel=1e-5)
    assert all(block.values[1, 0] == block.values[1, 0] for block in found)


def test_a_tokenizer_that_ends_its_texts_with_the_unknown_token_added_it(
    module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    model = load((module_of("gpt2"), tokenizer))
    assert model.tokenizer.unk_token_id not in added_tokens(model)
    assert model.tokenizer.cls_token_id in added_tokens(model)
    before = model.tokenizer.eos_token
    model.tokenizer.eos_token = model.tokenizer.unk_token
    try:
        assert model.tokenizer.unk_token_id in added_tokens(model)
    finally:
        model.tokenizer.eos_token = before
