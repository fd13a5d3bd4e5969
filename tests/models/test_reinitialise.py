"""Re-initialised models: every weight is new, nothing else is, and the trained model stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import neuronatlas as na
from neuronatlas.models import Model, ModelError, load
from neuronatlas.models.reinitialise import reinitialised

ModuleOf = Callable[..., PreTrainedModel]


def matrices(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.module.named_parameters() if tensor.ndim > 1}


def test_every_weight_matrix_of_every_architecture_changes(
    model: Model, fingerprint: Callable[[Model], object], ids: torch.Tensor
) -> None:
    before, generator, logits = fingerprint(model), torch.get_rng_state(), model.logits(ids)
    fresh = reinitialised(model, seed=7)
    assert matrices(fresh).keys() == matrices(model).keys()
    for name, old in matrices(model).items():
        # A row that stands for padding may be zeros in both.
        assert float((matrices(fresh)[name] != old).double().mean()) > 0.9, name
    assert not torch.allclose(fresh.logits(ids), logits)
    assert [site.widths for site in fresh.sites.values()] == [site.widths for site in model.sites.values()]
    assert fresh.kind == model.kind
    assert fresh.tokenizer is model.tokenizer
    assert not fresh.module.training
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_draw_is_the_architectures_own(module_of: ModuleOf, tokenizer: PreTrainedTokenizerBase) -> None:
    given = load((module_of("bert", hidden_size=64, vocab_size=100, initializer_range=0.05), tokenizer))
    fresh = reinitialised(given, seed=3)
    for name, matrix in matrices(fresh).items():
        assert float(matrix.std()) == pytest.approx(0.05, rel=0.1), name
    norms = [p for name, p in fresh.module.named_parameters() if name.endswith("LayerNorm.weight")]
    assert norms
    assert all(bool((norm == 1).all()) for norm in norms)
    assert torch.equal(matrices(fresh)["bert.embeddings.word_embeddings.weight"][0], torch.zeros(64))


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    module_of: ModuleOf, tokenizer: PreTrainedTokenizerBase
) -> None:
    given = load((module_of("gpt2"), tokenizer))
    torch.manual_seed(5)
    first = reinitialised(given, seed=1)
    torch.manual_seed(6)
    assert reinitialised(given, seed=1).digest == first.digest
    assert reinitialised(given, seed=2).digest != first.digest
    assert first.digest != given.digest
    assert first.layout() != given.layout()
    assert first.name == f"{given.name} (re-initialised, seed 1)"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_keep_their_dtype_and_ties(
    module_of: ModuleOf, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype
) -> None:
    module: Any = module_of("llama", tie_word_embeddings=True)
    given = load((module.to(dtype), tokenizer))
    fresh = reinitialised(given, seed=1)
    assert {p.dtype for p in fresh.module.parameters()} == {dtype}
    output = fresh.module.get_output_embeddings()
    assert output.weight is fresh.module.get_input_embeddings().weight
    kept = dict(given.module.named_buffers())
    assert all(torch.equal(buffer, kept[name]) for name, buffer in fresh.module.named_buffers())


def test_weights_that_would_not_change_are_refused(
    module_of: ModuleOf, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = load((module_of("bert"), tokenizer))
    once = reinitialised(given, seed=4)
    with pytest.raises(
        ModelError, match=r"weight matrices, such as .* came out of re-initialising as they were; .* 4$"
    ):
        reinitialised(once, seed=4)
    trained = {name: tensor.clone() for name, tensor in given.module.state_dict().items()}

    def stubborn(self: PreTrainedModel) -> None:
        # What a baseline that silently keeps its trained weights does: here to one matrix alone.
        name = "bert.encoder.layer.1.output.dense.weight"
        self.get_parameter(name).data.copy_(trained[name])

    build = type(given.module).__init__

    def built(self: PreTrainedModel, config: Any) -> None:
        build(self, config)
        stubborn(self)

    monkeypatch.setattr(type(given.module), "__init__", built)
    with pytest.raises(ModelError, match=r"1 weight matrices, such as bert.encoder.layer.1.output.dense.weight, came"):
        reinitialised(given, seed=1)


def test_a_model_that_its_configuration_does_not_give_is_refused(
    module_of: ModuleOf, tokenizer: PreTrainedTokenizerBase
) -> None:
    given = load((module_of("bert"), tokenizer))
    given.module.config.intermediate_size = 50
    with pytest.raises(ModelError, match=r"its configuration does not give the tensors it has, such as bert\."):
        reinitialised(given, seed=1)
    given.module.config.intermediate_size, given.module.config.num_attention_heads = 48, 5
    with pytest.raises(ModelError, match="cannot be built from its configuration: "):
        reinitialised(given, seed=1)


def test_the_specimen_forgets_what_it_was_trained_on() -> None:
    trained = na.load(na.specimen_folder())
    fresh = reinitialised(trained, seed=0)
    facts = na.specimen_facts()[:40]
    ranks = []
    for model in (trained, fresh):
        with torch.no_grad():
            ids = [model.tokenizer(fact.prompts[0], return_tensors="pt").input_ids for fact in facts]
            places = [int((row[0] == model.tokenizer.mask_token_id).nonzero()[0]) for row in ids]
            logits = [model.logits(row)[0, place] for row, place in zip(ids, places, strict=True)]
        answers = [model.tokenizer.convert_tokens_to_ids(fact.answer) for fact in facts]
        ranks.append(np.median([int((row > row[a]).sum()) for row, a in zip(logits, answers, strict=True)]))
    assert ranks[0] < 10
    assert ranks[1] > 300
