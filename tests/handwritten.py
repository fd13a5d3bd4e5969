"""What models written by hand have in common: a BERT that does nothing yet, a token for every word, a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

import neuronatlas as na

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
"""The words that every vocabulary begins with."""


def blank_bert(n_words: int, *, width: int, neurons: int) -> Any:
    """A BERT of two layers with one head and ReLU neurons, whose weights are all 0 but those of its norms, all 1."""
    config = BertConfig(
        vocab_size=n_words,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=neurons,
        hidden_act="relu",
        max_position_embeddings=16,
        tie_word_embeddings=False,
    )
    module: Any = BertForMaskedLM(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    return module


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Each of these words is a token, numbered in this order; the first of them are `SPECIAL`."""
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def saved(model: na.Model, folder: Path) -> Path:
    """The folder, with the model and its tokenizer in it."""
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder
