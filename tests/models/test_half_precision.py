"""Half-precision weights: scores are what float32 gives to within the format, and are added up in float32."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from neuronatlas import attribute
from neuronatlas.models import Model, load
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.heads import log_probability, logit_slopes, probability
from neuronatlas.models.ways import Plain, Prompts

ModelOf = Callable[[str], Model]


def pair(model: Model, dtype: torch.dtype) -> tuple[Model, Model]:
    """The model in half precision, and in float32 with the very weights that half precision leaves."""
    half = nn.Module.to(deepcopy(model.module), dtype)
    wide = nn.Module.to(deepcopy(half), torch.float32)
    return load((half, model.tokenizer)), load((wide, model.tokenizer))


def question(model: Model) -> tuple[str, str]:
    words = [str(model.tokenizer.convert_ids_to_tokens(index)) for index in (20, 21, 22, 23)]
    return f"{words[0]} {words[1]} {words[2]} {{answer}}", words[3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_scores_are_those_of_float32_within_the_format(name: str, dtype: torch.dtype, model_of: ModelOf) -> None:
    half, wide = pair(model_of(name), dtype)
    found, expected = attribute(half, *question(half)), attribute(wide, *question(wide))
    assert found.way == expected.way
    assert found.values.dtype == np.float32
    # A few roundings of the format one after the other, in three layers.
    apart = np.abs(found.values - expected.values).max() / np.abs(expected.values).max()
    assert apart < 16 * torch.finfo(dtype).eps
    assert found.answered.probability == pytest.approx(expected.answered.probability, rel=16 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("way", [None, Plain], ids=["replay", "plain"])
def test_gradients_are_added_up_in_float32(way: type[Plain] | None, model_of: ModelOf) -> None:
    half, _ = pair(model_of("llama"), torch.bfloat16)
    prompts = Prompts.of(attribute(half, *question(half)).query.steps, half.device)
    once = path_gradients(half, prompts, [1.0], [1.0], way=way)
    # 1,024 equal terms, piece by piece: in bfloat16 a sum would stop growing at 256.
    many = path_gradients(half, prompts, [1.0] * 1024, [1.0] * 1024, way=way, budget=64 if way is None else 512)
    assert {g.dtype for g in (*once.gradients, once.zeroed)} == {torch.float32}
    for one, sum_ in zip(once.gradients, many.gradients, strict=True):
        assert float((sum_ / 1024 - one).abs().max()) <= 3 * torch.finfo(torch.bfloat16).eps * float(one.abs().max())


def test_gradients_of_a_small_probability_do_not_vanish_in_float16(model_of: ModelOf) -> None:
    model = model_of("llama")
    module = deepcopy(model.module)
    output = module.get_output_embeddings()
    assert isinstance(output, nn.Linear)
    # A bias makes the answer a million times less likely, and so its gradients smaller than float16's least number.
    output.bias = nn.Parameter(torch.zeros(output.out_features))
    half, wide = pair(load((module, model.tokenizer)), torch.float16)
    for one in (half, wide):
        table = one.module.get_output_embeddings()
        assert isinstance(table, nn.Linear)
        with torch.no_grad():
            table.bias[23] = -14.0
    found, expected = attribute(half, *question(half)), attribute(wide, *question(wide))
    assert found.answered.probability < 1e-6
    largest = np.abs(expected.values).max()
    assert np.abs(found.values - expected.values).max() < 0.02 * largest


@pytest.mark.parametrize("readout", [probability, log_probability])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_slopes_of_logits_are_exact_in_units_of_their_own(readout: object, dtype: torch.dtype) -> None:
    logits = 4 * torch.randn(6, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[:, 3] -= torch.arange(6) * 5.0
    given, answers = logits.to(dtype), torch.full((6,), 3)
    found, slopes, units = logit_slopes(given, answers, readout)  # type: ignore[arg-type]
    leaf = given.double().requires_grad_()
    expected = readout(leaf, answers)  # type: ignore[operator]
    (right,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(found.double(), expected.detach(), rtol=1e-5, atol=0)
    error = (slopes.double() * units[:, None].double() - right).abs().amax(1) / right.abs().amax(1)
    assert float(error.max()) <= max(torch.finfo(dtype).eps, 1e-5)
    halves = dtype in (torch.bfloat16, torch.float16)
    assert bool((units == 1).all()) != halves
    assert bool((torch.frexp(units).mantissa == 0.5).all())
