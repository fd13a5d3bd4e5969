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
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import neuronatlas as na
from neuronatlas.models.queries import Query, Step

__all__ = ["FULL_SIZE", "SHAPES", "TINY", "Shape", "random_model", "random_module", "random_queries"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer whose blocks have four attention projections and two feed-forward ones."""

    name: str
    kind: Literal["masked", "causal"]
    layers: int
    width: int
    heads: int
    ffn: int
    vocabulary: int


FULL_SIZE = (
    Shape("BERT-base", "masked", 12, 768, 12, 3072, 30522),
    Shape("GPT-2 small", "causal", 12, 768, 12, 3072, 50257),
)
TINY = (
    Shape("tiny BERT", "masked", 3, 32, 4, 64, 101),
    Shape("tiny GPT-2", "causal", 3, 32, 4, 64, 101),
)
SHAPES = {shape.name: shape for shape in FULL_SIZE + TINY}


def random_module(shape: Shape, attention: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """A transformers model of that shape with its usual random weights, none of which asks for gradients."""
    make = _bert if shape.kind == "masked" else _gpt2
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make(shape, attention)
    nn.Module.to(module, dtype)
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


def random_model(
    shape: Shape, *, attention: str = "sdpa", dtype: torch.dtype = torch.float32, seed: int = 0
) -> na.Model:
    """The same as a model of this library, with a tokenizer whose words are t0, t1, ..."""
    words = Tokenizer(WordLevel({f"t{index}": index for index in range(shape.vocabulary)}, unk_token="t0"))
    return na.load((random_module(shape, attention, dtype, seed), PreTrainedTokenizerFast(tokenizer_object=words)))


def random_queries(shape: Shape, tokens: int, prompts: int, seed: int = 0) -> list[Query]:
    """Prompts of random tokens; the answer's place is in the middle, or at the end for a causal model."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, shape.vocabulary, (prompts, tokens + 1), generator=generator).tolist()
    place = tokens - 1 if shape.kind == "causal" else tokens // 2
    return [
        Query(f"random prompt {number}", f"t{row[-1]}", (Step(tuple(row[:-1]), row[-1], place, place),))
        for number, row in enumerate(ids)
    ]
