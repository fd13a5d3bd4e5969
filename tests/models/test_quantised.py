"""Quantised weights: neurons behind them are proved or refused, and gradients pass or are refused; never in silence."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuronatlas import attribute
from neuronatlas.models import Model, SiteError, capture, load, suppress
from neuronatlas.models.checking import prove_ways
from neuronatlas.models.quantised import GradientError

ModelOf = Callable[[str], Model]


class Int8Linear(nn.Module):
    """Rows of the weights as whole numbers of a step, as weight-only methods keep them."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        step = plain.weight.detach().abs().amax(1, keepdim=True) / 127
        self.codes: Tensor
        self.step: Tensor
        self.register_buffer("codes", (plain.weight.detach() / step).round().to(torch.int8))
        self.register_buffer("step", step)
        self.bias = plain.bias

    def matrix(self) -> Tensor:
        return self.codes.to(torch.float32) * self.step

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.matrix(), self.bias)


class PackedLinear(Int8Linear):
    """The same codes in a parameter called weight, of another shape than the matrix."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain)
        codes = self.codes
        self.shape = codes.shape
        del self.codes
        self.weight = nn.Parameter(codes.view(torch.uint8).reshape(-1, 1), requires_grad=False)

    def matrix(self) -> Tensor:
        return self.weight.view(torch.int8).reshape(self.shape).to(torch.float32) * self.step


class NoBackward(Int8Linear):
    """A kernel without a backward pass."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(hidden)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, matrix: Tensor) -> Tensor:
        ctx.matrix = matrix
        return hidden @ matrix.T

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        return 2 * above[0] @ ctx.matrix, None


class WrongBackward(Int8Linear):
    """A kernel whose backward pass gives twice the gradient."""

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = _Doubled.apply(hidden, self.matrix())  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias


class Bent(Int8Linear):
    """What squashes its output is no projection, whatever holds its weights."""

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(20 * super().forward(hidden))


def quantised(model: Model, kind: type[Int8Linear], only: str = "") -> nn.Module:
    """A copy of the model whose linear layers inside blocks, or those of one name, are of another kind."""
    module = deepcopy(model.module)
    for path, part in list(module.named_modules()):
        if isinstance(part, nn.Linear) and ".layer" in path and path.endswith(only):
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, kind(part))
    return module


def dequantised(module: nn.Module) -> nn.Module:
    """A plain model with the same matrices."""
    copy = deepcopy(module)
    for path, part in list(copy.named_modules()):
        if isinstance(part, Int8Linear):
            matrix, parent = part.matrix(), path.rpartition(".")
            plain = nn.Linear(matrix.shape[1], matrix.shape[0], bias=part.bias is not None)
            plain.weight.data, plain.bias = matrix, part.bias
            setattr(copy.get_submodule(parent[0]), parent[2], plain)
    return copy


def question(model: Model) -> tuple[str, str]:
    words = [str(model.tokenizer.convert_ids_to_tokens(index)) for index in (20, 21, 22, 23)]
    return f"{words[0]} {words[1]} {words[2]} {{answer}}", words[3]


@pytest.mark.parametrize("kind", [Int8Linear, PackedLinear])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_neurons_of_quantised_models_are_those_of_the_matrices_they_stand_for(
    kind: type[Int8Linear], name: str, model_of: ModelOf, ids: Tensor
) -> None:
    module: Any = quantised(model_of(name), kind)
    model, plain = (load((m, model_of(name).tokenizer)) for m in (module, dequantised(module)))  # type: ignore[arg-type]
    assert set(model.sites) == set(plain.sites) == {"ffn", "attention", "hidden"}
    assert model.layout().widths == plain.layout().widths
    found, expected = attribute(model, *question(model)), attribute(plain, *question(plain))
    assert found.way == expected.way != "plain"
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5 * np.abs(expected.values).max())
    for one in (model, plain):
        with suppress(one, one.layout().set(["L0.U3"])), capture(one) as seen:
            one.logits(ids)
        assert not seen[0][..., 3].any()


@pytest.mark.parametrize(
    ("kind", "said"), [(NoBackward, "autograd does not see it"), (WrongBackward, "they are wrong by")]
)
def test_kernels_with_no_or_a_wrong_backward_pass_are_refused_by_name(
    kind: type[Int8Linear], said: str, model_of: ModelOf, ids: Tensor
) -> None:
    module: Any = quantised(model_of("llama"), kind, only="up_proj")
    model = load((module, model_of("llama").tokenizer))
    with pytest.raises(GradientError, match=rf"layers.0.mlp.up_proj \({kind.__name__}\): {said}") as caught:
        attribute(model, *question(model))
    assert "\n" not in str(caught.value)
    assert said in prove_ways(model).refused["gradients"]
    # What needs no gradients stays.
    assert attribute(model, *question(model), rule="activation").values.any()
    with capture(model) as seen:
        model.logits(ids)
    assert set(seen) == {0, 1, 2}


def test_quantised_weights_that_act_as_no_projection_have_no_site(model_of: ModelOf) -> None:
    module: Any = quantised(model_of("llama"), Bent, only="down_proj")
    with pytest.raises(SiteError, match=r"layer 0 .* quantised, Bent .*act as no projection"):
        load((module, model_of("llama").tokenizer))


class CodedExperts(nn.Module):
    """Stacked experts as codes, beside a shared one: no projection shows what they write."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.shared = shared
        self.register_buffer("up_codes", torch.randint(-9, 9, (2, 32, 48), dtype=torch.int8))
        self.register_buffer("down_codes", torch.randint(-9, 9, (2, 48, 32), dtype=torch.int8))

    def forward(self, hidden: Tensor) -> Tensor:
        up, down = (stack.to(torch.float32) / 9 for stack in (self.up_codes, self.down_codes))  # type: ignore[operator]
        each = torch.einsum("rpd,edu->erpu", hidden, up).relu()
        written: Tensor = self.shared(hidden) + torch.einsum("erpu,eud->rpd", each, down)
        return written


def test_coded_experts_beside_a_shared_one_are_refused_and_not_overlooked(model_of: ModelOf) -> None:
    module = deepcopy(model_of("llama").module)
    layers: Any = module.get_submodule("model.layers")
    layers[1].mlp = CodedExperts(layers[1].mlp)
    with pytest.raises(SiteError, match=r"layer 1 .*mlp \(CodedExperts\) has quantised weights that may write"):
        load((module, model_of("llama").tokenizer))
