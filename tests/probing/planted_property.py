"""A BERT written by hand that uses known neurons for a property, and has others that carry it to no end.

Sentences are a cue, words of the cue's class, and a full stop: `cue0 word0_2 word0_5 .`. Attention spreads the cue over
the sentence. In the second layer, for each class, a neuron that is used fires on its cue and writes the class where the
output head looks; idle ones fire just as much and write where nothing looks. All encode the class of every word alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import neuronatlas as na
from neuronatlas.probing.corpora import Corpus, Sentence
from tests.handwritten import SPECIAL, blank_bert, word_tokenizer

CLASSES, WORDS, TWINS = 2, 6, 7
WIDTH, NEURONS = 32, 40
CUE, MOVED, WRITTEN, JUNK = 0, 8, 16, 24
VOCABULARY = [
    *SPECIAL,
    ".",
    *(f"cue{c}" for c in range(CLASSES)),
    *(f"word{c}_{i}" for c in range(CLASSES) for i in range(WORDS)),
]


def planted_corpus(n: int = 40, seed: int = 0) -> Corpus:
    """Sentences in which a word's label is its class; cues and full stops have none."""
    rng = np.random.default_rng(seed)
    sentences = []
    for index in range(n):
        kind = index % CLASSES
        inside = [f"word{kind}_{i}" for i in rng.integers(WORDS, size=rng.integers(2, 5))]
        labels = [None, *[f"class{kind}"] * len(inside), None]
        sentences.append(Sentence.of([f"cue{kind}", *inside, "."], labels, source=f"planted {index}"))
    return Corpus(tuple(sentences), label="planted")


def used(layout: na.Layout) -> na.NeuronSet:
    """The neurons through which the model predicts a word of the right class."""
    return layout.set(na.Neuron(1, unit) for unit in range(CLASSES))


def idle(layout: na.Layout) -> na.NeuronSet:
    """Neurons that carry the class just as well, and that nothing reads."""
    return layout.set(na.Neuron(1, unit) for unit in range(CLASSES, 2 * CLASSES))


def planted_model(blur: float = 0.0) -> na.Model:
    """The model with its tokenizer; idle neurons may see a little of the word, so that no ranking is left a tie."""
    module = blank_bert(len(VOCABULARY), width=WIDTH, neurons=NEURONS)
    with torch.no_grad():
        _write(module, blur)
    return na.load((module, word_tokenizer(VOCABULARY)))


def _write(module: Any, blur: float) -> None:
    table = module.bert.embeddings.word_embeddings.weight
    for token, word in enumerate(VOCABULARY):
        # Every word is something, so that no embedding is normed from nothing; cues are also their class.
        table[token, JUNK + token % 4] = 0.5
        if word.startswith("cue"):
            table[token, CUE + int(word[3:])] = 1.0
    first, second = (layer.attention for layer in module.bert.encoder.layer)
    first.output.dense.weight.copy_(torch.eye(WIDTH))
    second.output.dense.weight.copy_(torch.eye(WIDTH))
    for kind in range(CLASSES):
        first.self.value.weight[MOVED + kind, CUE + kind] = 5.0
        second.self.value.weight[JUNK + 4, CUE + kind] = 0.5
    lower, upper = module.bert.encoder.layer
    for unit in range(NEURONS):
        lower.intermediate.dense.weight[unit, JUNK + unit % 4] = 1.0
        lower.output.dense.weight[JUNK + 5, unit] = 0.01
        read = MOVED + unit % CLASSES if unit < CLASSES * TWINS else JUNK + unit % 4
        upper.intermediate.dense.weight[unit, read] = 1.0
        if CLASSES <= unit < CLASSES * TWINS:
            upper.intermediate.dense.weight[unit, JUNK + unit % 4] = blur
        written, much = (WRITTEN + unit, 1.0) if unit < CLASSES else (JUNK + 6, 0.01)
        upper.output.dense.weight[written, unit] = much
    module.cls.predictions.transform.dense.weight.copy_(torch.eye(WIDTH))
    decoder = module.cls.predictions.decoder.weight
    for kind in range(CLASSES):
        for i in range(WORDS):
            decoder[VOCABULARY.index(f"word{kind}_{i}"), WRITTEN + kind] = 1.5
