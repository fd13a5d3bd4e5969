"""The per-layer method of Dai et al. (2022), written plainly: what the library is timed against. Uses nothing of it.

For every layer, one prompt at a time: the scaled activations are the rows of a batch, the whole model is run on it with
a hook that puts them in at the answer's place, and autograd gives the gradients of P(answer). Nothing is padded, the
weights ask for no gradients, and the output head sees the answer's place alone, which the published code does not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BertForMaskedLM, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

__all__ = ["per_layer_scores"]


def per_layer_scores(
    module: PreTrainedModel, ids: Sequence[int], place: int, answer: int, steps: int = 20
) -> Float[Tensor, "layer unit"]:
    """Attribution scores of one prompt by the left Riemann sum, one layer after the other."""
    neurons = _clean_neurons(module, ids, place)
    batch = torch.tensor([list(ids)] * steps)
    shares = torch.arange(steps, dtype=neurons.dtype)[:, None] / steps
    scores = []
    for down, clean in zip(_down_projections(module), neurons, strict=True):
        scaled = (shares * clean).requires_grad_()
        with torch.enable_grad():
            probability = torch.softmax(_run_with(module, batch, place, down, scaled), dim=-1)[:, answer]
            (gradients,) = torch.autograd.grad(probability.sum(), scaled)
        scores.append(clean * gradients.sum(0) / steps)
    return torch.stack(scores)


def _clean_neurons(module: PreTrainedModel, ids: Sequence[int], place: int) -> Float[Tensor, "layer unit"]:
    """What every down-projection is given at the answer's place."""
    seen: list[Tensor] = []
    handles = [d.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for d in _down_projections(module)]
    with torch.no_grad():
        _answer_logits(module, torch.tensor([list(ids)]), place)
    for handle in handles:
        handle.remove()
    return torch.stack([given[0, place] for given in seen])


def _run_with(module: PreTrainedModel, batch: Tensor, place: int, down: nn.Module, scaled: Tensor) -> Tensor:
    def put_in(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        given = args[0].clone()
        given[:, place] = scaled
        return (given, *args[1:])

    handle = down.register_forward_pre_hook(put_in)
    try:
        return _answer_logits(module, batch, place)
    finally:
        handle.remove()


def _down_projections(module: PreTrainedModel) -> list[nn.Module]:
    path = "transformer.h.{}.mlp.c_proj"
    if isinstance(module, BertForMaskedLM):
        path = "bert.encoder.layer.{}.output.dense"
    elif isinstance(module, LlamaForCausalLM):
        path = "model.layers.{}.mlp.down_proj"
    return [module.get_submodule(path.format(layer)) for layer in range(module.config.num_hidden_layers)]


def _answer_logits(module: PreTrainedModel, batch: Tensor, place: int) -> Float[Tensor, "row token"]:
    logits: Tensor
    if isinstance(module, BertForMaskedLM):
        logits = module.cls(module.bert(input_ids=batch).last_hidden_state[:, place])
    elif isinstance(module, LlamaForCausalLM):
        logits = module.lm_head(module.model(input_ids=batch, use_cache=False).last_hidden_state[:, place])
    else:
        assert isinstance(module, GPT2LMHeadModel)
        logits = module.lm_head(module.transformer(input_ids=batch, use_cache=False).last_hidden_state[:, place])
    return logits
