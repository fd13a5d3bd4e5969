"""A BERT written by hand, weight by weight, in which it is known which neurons express which fact.

Attention spreads the subject over the prompt. In each of two layers one neuron a fact fires where the subject meets the
mask, and writes the fact's answer. Other neurons fire at the mask whatever the fact, or at other words, and write where
the output head does not look.
"""

from __future__ import annotations

from typing import Any

import torch

import neuronatlas as na
from tests.handwritten import SPECIAL, blank_bert, word_tokenizer

FACTS, FILLERS, WIDTH, NEURONS = 5, 4, 48, 30
SUBJECT, MASK, FILLER, MOVED, ANSWER, JUNK = 0, 6, 7, 16, 24, 32
WORDS = [
    *SPECIAL,
    *(f"subject{i}" for i in range(FACTS)),
    *(f"answer{i}" for i in range(FACTS)),
    *(f"word{i}" for i in range(FILLERS)),
]


def planted_facts() -> list[na.Fact]:
    """Each fact in four wordings."""
    patterns = ("word0 {} word1 [MASK]", "[MASK] word2 {}", "word3 word1 {} [MASK] word0", "word2 [MASK] word3 {}")
    return [
        na.Fact("planted", f"subject{i}", f"answer{i}", [p.format(f"subject{i}") for p in patterns])
        for i in range(FACTS)
    ]


def planted_neurons(layout: na.Layout, fact: int) -> na.NeuronSet:
    """The neurons that express a fact."""
    return layout.set([na.Neuron(0, 2 * fact), na.Neuron(1, 2 * fact + 1)])


def planted_model() -> na.Model:
    """The model with its tokenizer."""
    module = blank_bert(len(WORDS), width=WIDTH, neurons=NEURONS)
    with torch.no_grad():
        _write_embeddings(module)
        _write_attention(module)
        for layer in (0, 1):
            _write_neurons(module, layer)
        _write_head(module)
    return na.load((module, word_tokenizer(WORDS)))


def _write_embeddings(module: Any) -> None:
    table = module.bert.embeddings.word_embeddings.weight
    for fact in range(FACTS):
        table[WORDS.index(f"subject{fact}"), SUBJECT + fact] = 1.0
    for word in range(FILLERS):
        table[WORDS.index(f"word{word}"), FILLER + word] = 1.0
    table[WORDS.index("[MASK]"), MASK] = 1.0
    table[WORDS.index("[CLS]"), FILLER + FILLERS] = table[WORDS.index("[SEP]"), FILLER + FILLERS + 1] = 1.0


def _write_attention(module: Any) -> None:
    attention = module.bert.encoder.layer[0].attention
    for fact in range(FACTS):
        attention.self.value.weight[MOVED + fact, SUBJECT + fact] = 7.0
    attention.output.dense.weight.copy_(torch.eye(WIDTH))
    # The second layer's attention carries words to where nothing looks, so that it is alive all the same.
    second = module.bert.encoder.layer[1].attention
    second.output.dense.weight.copy_(torch.eye(WIDTH))
    for word in range(FILLERS):
        second.self.value.weight[JUNK + 8 + word, FILLER + word] = 0.5


def _write_neurons(module: Any, layer: int) -> None:
    block = module.bert.encoder.layer[layer]
    up, down = block.intermediate.dense, block.output.dense
    for fact in range(FACTS):
        unit = 2 * fact + layer
        up.weight[unit, MOVED + fact] = up.weight[unit, MASK] = 1.0
        up.bias[unit] = -5.0
        down.weight[ANSWER + fact, unit] = 1.0
    for other in range(8):
        up.weight[2 * FACTS + other, MASK if other < 4 else FILLER + other - 4] = 1.0
        down.weight[JUNK + other, 2 * FACTS + other] = 0.2


def _write_head(module: Any) -> None:
    module.cls.predictions.transform.dense.weight.copy_(torch.eye(WIDTH))
    decoder = module.cls.predictions.decoder.weight
    for fact in range(FACTS):
        decoder[WORDS.index(f"answer{fact}"), ANSWER + fact] = 0.8
