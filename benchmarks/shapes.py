"""Language models of a given size with random weights, and prompts of random tokens for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import neuronatlas as na
from neuronatlas.models.queries import Query, Step

__all__ = ["FULL_SIZE", "LARGE", "SHAPES", "TINY", "Shape", "random_model", "random_module", "random_queries"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer whose blocks have four attention projections and two feed-forward ones.

    With `key_value_heads` it is a Llama: that many heads of keys and values, shared by the others, and a gate beside
    the projection up. `lengths` are the tokens of the prompts that it is timed on.
    """

    name: str
    kind: Literal["masked", "causal"]
    layers: int
    width: int
    heads: int
    ffn: int
    vocabulary: int
    key_value_heads: int | None = None
    lengths: tuple[int, ...] = (12, 48)


FULL_SIZE = (
    Shape("BERT-base", "masked", 12, 768, 12, 3072, 30522),
    Shape("GPT-2 small", "causal", 12, 768, 12, 3072, 50257),
    Shape("Llama 16x1024", "causal", 16, 1024, 16, 2816, 32000, 4, (12, 48, 192)),
)
TINY = (
    Shape("tiny BERT", "masked", 3, 32, 4, 64, 101, None, (6, 9)),
    Shape("tiny GPT-2", "causal", 3, 32, 4, 64, 101, None, (6, 9)),
    Shape("tiny Llama", "causal", 3, 32, 4, 64, 101, 2, (6, 9)),
)
LARGE = Shape("Llama 8B", "causal", 32, 4096, 32, 14336, 128256, 8)
SHAPES = {shape.name: shape for shape in (*FULL_SIZE, *TINY, LARGE)}


def random_module(
    shape: Shape, attention: str, dtype: torch.dtype, seed: int, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """A transformers model of that shape with its usual random weights, none of which asks for gradients."""
    make = _bert if shape.kind == "masked" else _gpt2 if shape.key_value_heads is None else _llama
    device = torch.device(device)
    usual = torch.get_default_dtype()
    # Made where it belongs and as it shall be: a large one would not fit elsewhere, nor twice.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            module = make(shape, attention)
        finally:
            torch.set_default_dtype(usual)
    nn.Module.to(module, device, dtype)
    module.eval().requires_grad_(False)
    return module


def _bert(shape: Shape, attention: str) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.ffn,
    )
    config._attn_implementation = attention
    return BertForMaskedLM(config)


def _gpt2(shape: Shape, attention: str) -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=shape.vocabulary,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_inner=shape.ffn,
        bos_token_id=None,
        eos_token_id=None,
    )
    config._attn_implementation = attention
    return GPT2LMHeadModel(config)


def _llama(shape: Shape, attention: str) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.ffn,
        bos_token_id=None,
        eos_token_id=None,
    )
    config._attn_implementation = attention
    return LlamaForCausalLM(config)


def random_model(
    shape: Shape,
    *,
    attention: str = "sdpa",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> na.Model:
    """The same as a model of this library, with a tokenizer whose words are t0, t1, ..."""
    words = Tokenizer(WordLevel({f"t{index}": index for index in range(shape.vocabulary)}, unk_token="t0"))
    module = random_module(shape, attention, dtype, seed, device)
    return na.load((module, PreTrainedTokenizerFast(tokenizer_object=words)))


def random_queries(shape: Shape, tokens: int, prompts: int, seed: int = 0) -> list[Query]:
    """Prompts of random tokens; the answer's place is in the middle, or at the end for a causal model."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, shape.vocabulary, (prompts, tokens + 1), generator=generator).tolist()
    place = tokens - 1 if shape.kind == "causal" else tokens // 2
    return [
        Query(f"random prompt {number}", f"t{row[-1]}", (Step(tuple(row[:-1]), row[-1], place, place),))
        for number, row in enumerate(ids)
    ]
