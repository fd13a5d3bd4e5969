"""A BERT written by hand in which two neurons feed a gate: an answer needs either of them, or both, or they add up.

Its norms have an epsilon so large, and weights to match, that they leave vectors of mean 0 as they are to eight digits;
every dimension has a mirror with the opposite sign, which keeps the mean at 0. So P is known in closed form.
"""

from __future__ import annotations

import math
from typing import Any

import torch

import neuronatlas as na
from tests.handwritten import SPECIAL, blank_bert, word_tokenizer

MASK, SUM_IN, EITHER, BOTH, ADDED, UNREAD, ZERO, WORD, OTHER = range(9)
MIRROR, WIDTH, NEURONS, STRENGTH, EPSILON = 9, 18, 12, 4.0, 1e10
WORDS = [*SPECIAL, "either", "both", "added", "word0", "word1", "word2"]
PLACES = {"either": EITHER, "both": BOTH, "added": ADDED}
GATES = {"either": "degenerate", "both": "synergy", "added": "none found"}
"""What the first two neurons are to each gate's answer, when they are suppressed."""


def wired_fact(gate: str) -> na.Fact:
    """The fact whose answer a gate writes: its relation and its answer are the gate's name."""
    return na.Fact(gate, "word0", gate, ("word0 [MASK]", "word1 word2 [MASK]", "[MASK] word1 word0"))


def wired_log_odds(gate: str, suppressed: int) -> float:
    """Log-odds of a gate's answer with the neurons of layer 0 suppressed whose bits are set."""
    first, second = (0.0 if suppressed >> bit & 1 else 1.0 for bit in range(2))
    out = {"either": max(first, second), "both": min(first, second), "added": (first + second) / 2}[gate]
    return STRENGTH * out - math.log(len(WORDS) - 1)


def wired_model(gate: str) -> na.Model:
    """The model of one gate with its tokenizer: L0.U0 and L0.U1 feed the gates, L0.U2 fires and is not heard."""
    module = blank_bert(len(WORDS), width=WIDTH, neurons=NEURONS)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.LayerNorm):
                part.eps = EPSILON
                part.weight.fill_(math.sqrt(EPSILON))
        table = module.bert.embeddings.word_embeddings.weight
        _put(table[WORDS.index("[MASK]")], MASK)
        for number in range(len(WORDS)):
            _put(table[number], WORD, 1.0 + number / len(WORDS))
        first, second = module.bert.encoder.layer
        for attention in (first.attention, second.attention):
            # Attention carries words to where nothing looks, so that it is alive all the same.
            attention.output.dense.weight.copy_(torch.eye(WIDTH))
            _put(attention.self.value.weight[:, WORD], WORD)
        for unit, target in ((0, SUM_IN), (1, SUM_IN), (2, UNREAD)):
            first.intermediate.dense.weight[unit, MASK] = 1.0
            _put(first.output.dense.weight[:, unit], target)
        for layer in (first, second):
            # Neurons that fire on any token but the mask, one of them whichever way a probe nudges it.
            for unit, sign in ((3, 1.0), (4, -1.0)):
                layer.intermediate.dense.weight[unit, WORD] = sign
                layer.intermediate.dense.weight[unit, MASK] = -100.0
                _put(layer.output.dense.weight[:, unit], OTHER)
        # Gates on x, which is 0, 1 or 2: x - max(x - 1, 0) is min(x, 1), and max(x - 1, 0) is 1 where both are there.
        for unit, bias, writes in ((0, 0.0, ((EITHER, 1.0), (ADDED, 0.5))), (1, -1.0, ((EITHER, -1.0), (BOTH, 1.0)))):
            second.intermediate.dense.weight[unit, SUM_IN] = 1.0
            second.intermediate.dense.bias[unit] = bias
            for target, weight in writes:
                _put(second.output.dense.weight[:, unit], target, weight)
        _write_head(module, gate)
    return na.load((module, word_tokenizer(WORDS)))


def _put(vector: torch.Tensor, place: int, value: float = 1.0) -> None:
    vector[place] += value
    vector[place + MIRROR] -= value


def _write_head(module: Any, gate: str) -> None:
    module.cls.predictions.transform.dense.weight.copy_(torch.eye(WIDTH))
    decoder = module.cls.predictions.decoder.weight
    for place, answer in ((PLACES[gate], gate), (OTHER, "[UNK]")):
        # Read against a dimension that is always 0, since the transform's ReLU leaves the mirrors behind.
        decoder[WORDS.index(answer), place] += STRENGTH
        decoder[WORDS.index(answer), ZERO] -= STRENGTH
