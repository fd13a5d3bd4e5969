"""The causal specimen: a small Llama that is asked for the next word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from neuronatlas.specimen.batches import Batch, Encoded, Vocabulary, noise
from neuronatlas.specimen.kind import Kind, Settings, Step
from neuronatlas.specimen.tokenizer import LONGEST_TEXT
from neuronatlas.specimen.world import AT_THE_END, Sentence

QUERIES_A_KEY = 2
NEXT_WORDS = 0.3


def build(settings: Settings, tokenizer: BertTokenizer) -> LlamaForCausalLM:
    """A Llama with random weights drawn from the seed: gated SiLU, rotary positions, two query heads a key head."""
    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads // QUERIES_A_KEY,
        intermediate_size=settings.neurons,
        hidden_act="silu",
        initializer_range=settings.initial_spread,
        max_position_embeddings=LONGEST_TEXT,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def neurons(model: LlamaForCausalLM) -> list[nn.Module]:
    """The down-projections."""
    return [layer.mlp.down_proj for layer in _layers(model)]


def _layers(model: LlamaForCausalLM) -> list[LlamaDecoderLayer]:
    return [layer for layer in model.model.layers if isinstance(layer, LlamaDecoderLayer)]


def logits(
    model: LlamaForCausalLM, ids: Int[Tensor, "row token"], places: Int[Tensor, " place"]
) -> Float[Tensor, "place vocabulary"]:
    """The model's logits at flat places; the last feed-forward block and the output head are computed nowhere else."""
    hidden = model.model.embed_tokens(ids)
    turned = model.model.rotary_emb(hidden, position_ids=torch.arange(ids.shape[1])[None])
    *lower, last = _layers(model)
    for layer in lower:  # without a mask and without padding, each position sees those before it
        hidden = layer(hidden, position_embeddings=turned)
    attended, _ = last.self_attn(last.input_layernorm(hidden), position_embeddings=turned)
    hidden = (hidden + attended).flatten(0, 1)[places]
    hidden = hidden + last.mlp(last.post_attention_layernorm(hidden))
    found: Float[Tensor, "place vocabulary"] = model.lm_head(model.model.norm(hidden))
    return found


def activity(found: Sequence[Float[Tensor, "*place unit"]], positions: int) -> Float[Tensor, ""]:
    """Mean size of all neurons at all positions, those that were not computed counting as nothing.

    So an active neuron costs the same in the last layer, which is computed at few places, as in those below it.
    """
    return torch.stack([layer.abs().sum() / (positions * layer.shape[-1]) for layer in found]).mean()


def hide(
    group: Encoded,
    picks: Int[np.ndarray, " pick"],
    is_asked: Bool[np.ndarray, " pick"],
    vocabulary: Vocabulary,
    chance: np.random.Generator,
) -> Batch:
    """Ask for the answer after the words before it, and in the other rows for any words after those before them."""
    ids, answer = group.ids[picks], group.answer[picks]
    asked = np.where(is_asked[:, None], answer, _any_words(ids, chance))
    shown = np.where(noise(group, picks, is_asked, chance), vocabulary.mask, ids)
    first = is_asked[:, None] & answer & (answer.cumsum(axis=1) == 1)
    rivals = np.where(first, group.rivals[picks], 0)
    found = np.flatnonzero(asked)
    wanted = (ids.reshape(-1)[found], rivals.reshape(-1)[found])
    return Batch(*(torch.from_numpy(array) for array in (shown, found - 1, *wanted)))


def _any_words(ids: Int[np.ndarray, "row token"], chance: np.random.Generator) -> Bool[np.ndarray, "row token"]:
    """Some tokens of each row, the first one never: nothing stands before it."""
    luck: Float[np.ndarray, "row token"] = chance.random(ids.shape)
    luck[:, 0] = 1.0
    found: Bool[np.ndarray, "row token"] = luck <= np.maximum(NEXT_WORDS, luck.min(axis=1, keepdims=True))
    return found


def steps(sentence: Sentence, tokenizer: BertTokenizer) -> list[Step]:
    """For each token of the answer, the text before it."""
    encoding = tokenizer(sentence.text, return_offsets_mapping=True)
    start, end = sentence.answer_span
    ids: list[int] = encoding["input_ids"]
    places = [at for at, (a, b) in enumerate(encoding["offset_mapping"]) if a >= start and b <= end and b > a]
    return [Step(ids[:place], place - 1, ids[place]) for place in places]


CAUSAL = Kind(AT_THE_END, Settings(epochs=28, activation_l1=30.0), build, hide, neurons, logits, activity, steps)
