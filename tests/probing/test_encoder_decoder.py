"""Of a model with an encoder and a decoder, words are read in the encoder; the decoder has no text and is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration

import neuronatlas as na
from neuronatlas.probing.extraction import extract
from tests.handwritten import word_tokenizer
from tests.probing.planted_property import VOCABULARY, planted_corpus


def t5() -> PreTrainedModel:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}
    ids: dict[str, Any] = {"decoder_start_token_id": 0, "pad_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=len(VOCABULARY), **sizes, **ids))


def bart() -> PreTrainedModel:
    heads: dict[str, Any] = {
        f"{stack}_{name}": number for stack in ("encoder", "decoder") for name, number in _PARTS.items()
    }
    ids: dict[str, Any] = {"decoder_start_token_id": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return BartForConditionalGeneration(BartConfig(vocab_size=len(VOCABULARY), d_model=16, **heads, **ids))


_PARTS = {"layers": 2, "attention_heads": 2, "ffn_dim": 24}


@pytest.mark.parametrize("build", [t5, bart])
def test_rows_are_the_encoders_own_hidden_states(build: object) -> None:
    torch.manual_seed(0)
    model = na.load((build().eval(), word_tokenizer(VOCABULARY)))  # type: ignore[operator]
    corpus = planted_corpus(6)
    acts = extract(model, corpus, "encoder.hidden", progress=False)
    words = corpus.sentences[3].words
    ids = model.tokenizer(" ".join(words), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = model.module.get_encoder()(input_ids=ids, output_hidden_states=True).hidden_states
    first = sum(len(sentence.words) for sentence in corpus.sentences[:3])
    places = [place for place, token in enumerate(ids[0].tolist()) if token not in model.tokenizer.all_special_ids]
    wanted = np.concatenate([state[0, places[0]].numpy() for state in states])
    # The last hidden state that transformers gives may have passed a last norm: neurons stand before it.
    width = states[0].shape[-1] * (len(states) - 1)
    np.testing.assert_allclose(acts.array()[first, :width], wanted[:width], rtol=1e-4, atol=1e-5)


def test_sites_of_the_decoder_are_refused_in_one_line() -> None:
    model = na.load((t5().eval(), word_tokenizer(VOCABULARY)))
    with pytest.raises(na.ActivationsError, match=r"choose site 'encoder\.hidden'"):
        extract(model, planted_corpus(6), "hidden", progress=False)
