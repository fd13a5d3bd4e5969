"""Models whose neurons have kinks are told from smooth ones, since they need a finer integral."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import load
from neuronatlas.models.kinks import has_kinks


@pytest.mark.parametrize("activation", ["relu", "relu2", "gelu", "gelu_new", "silu"])
def test_only_relu_and_its_kin_count_as_kinked(
    activation: str, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    model = load((module_of("bert", hidden_act=activation), tokenizer))
    assert has_kinks(model) == activation.startswith("relu")
