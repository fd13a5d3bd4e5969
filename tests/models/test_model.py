from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import Model, load
from neuronatlas.neurons import Layout

ModelOf = Callable[[str], Model]


@pytest.fixture
def fresh(module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> Model:
    """A model that a test may change."""
    return load((module_of("bert"), tokenizer))


def down(model: Model) -> nn.Linear:
    module = model.module.get_submodule("bert.encoder.layer.1.output.dense")
    assert isinstance(module, nn.Linear)
    return module


def test_the_layout_says_site_stack_widths_and_digest(model_of: ModelOf) -> None:
    bert, gpt2 = model_of("bert"), model_of("gpt2")
    assert bert.layout() == Layout("ffn", (48, 48, 48), "encoder", bert.digest)
    assert gpt2.layout("hidden") == Layout("hidden", (32, 32, 32, 32), "decoder", gpt2.digest)
    assert bert.digest != gpt2.digest


def test_equal_weights_have_equal_digests(
    fresh: Model, model_of: ModelOf, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    assert fresh.digest == model_of("bert").digest
    assert len(fresh.digest) == 16
    assert load((module_of("electra"), tokenizer)).digest != fresh.digest


def test_the_digest_follows_a_change_in_place_and_back(fresh: Model) -> None:
    before, weight = fresh.digest, down(fresh).weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(9.0))
    assert fresh.digest != before
    with torch.no_grad():
        weight.copy_(kept)
    assert fresh.digest == before


def test_the_digest_follows_a_change_of_dtype(fresh: Model) -> None:
    before = fresh.digest
    fresh.module.double()
    assert fresh.digest != before


def test_the_digest_follows_replaced_parameters(fresh: Model) -> None:
    digests = [fresh.digest]
    for _ in range(20):
        weight = down(fresh).weight.detach().clone()
        # Replaced twice, so that the second one may well lie where the one before lay.
        down(fresh).weight = nn.Parameter(weight * 1.5)
        down(fresh).weight = nn.Parameter(weight * 1.25)
        digests.append(fresh.digest)
    assert len(set(digests)) == 21


def test_the_digest_covers_single_numbers(fresh: Model) -> None:
    before = fresh.digest
    fresh.module.register_buffer("temperature", torch.tensor(1.0))
    warm = fresh.digest
    assert warm != before
    fresh.module.get_buffer("temperature").fill_(2.0)
    assert fresh.digest not in {before, warm}


def test_the_longest_prompt_runs_and_a_longer_one_does_not(
    architecture_with_position_table: str, model_of: ModelOf
) -> None:
    model = model_of(architecture_with_position_table)
    ids = torch.full((1, model.max_length), 20)
    with torch.no_grad():
        assert model.logits(ids).isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            model.logits(torch.full((1, model.max_length + 1), 20))


def test_a_tokenizers_limit_counts_too(module_of: Callable[..., PreTrainedModel], model_of: ModelOf) -> None:
    model = load((module_of("llama"), model_of("bert").tokenizer))
    assert model.max_length == 64
    model.tokenizer.model_max_length = 20
    assert model.max_length == 20
    model.tokenizer.model_max_length = 10**30


def test_proofs_run_on_tokens_that_are_not_special(model_of: ModelOf) -> None:
    model = model_of("roberta")
    assert not set(model.probe_ids.flatten().tolist()) & set(model.tokenizer.all_special_ids)
    assert torch.equal(model.probe_ids, model.probe_ids)
