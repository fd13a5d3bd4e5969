"""The masked specimen: a BERT that is asked for words behind a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertTokenizer
from transformers.models.bert.modeling_bert import BertLayer

from neuronatlas.specimen.batches import Batch, Encoded, Vocabulary, noise
from neuronatlas.specimen.kind import Kind, Settings, Step
from neuronatlas.specimen.tokenizer import LONGEST_TEXT
from neuronatlas.specimen.world import ANYWHERE, Sentence

RANDOM_MASK = 0.15
FILLED_ROWS = 0.5


def build(settings: Settings, tokenizer: BertTokenizer) -> BertForMaskedLM:
    """A BERT with random weights drawn from the seed."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.neurons,
        hidden_act="relu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=settings.initial_spread,
        max_position_embeddings=LONGEST_TEXT,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return BertForMaskedLM(config)


def neurons(model: BertForMaskedLM) -> list[nn.Module]:
    """The down-projections."""
    return [layer.output.dense for layer in _layers(model)]


def _layers(model: BertForMaskedLM) -> list[BertLayer]:
    return [layer for layer in model.bert.encoder.layer if isinstance(layer, BertLayer)]


def logits(
    model: BertForMaskedLM, ids: Int[Tensor, "row token"], places: Int[Tensor, " place"]
) -> Float[Tensor, "place vocabulary"]:
    """The model's logits at flat places; the last feed-forward block and the output head are computed nowhere else."""
    hidden = model.bert.embeddings(input_ids=ids)
    *lower, last = _layers(model)
    for layer in lower:
        hidden = layer(hidden)
    attended, _ = last.attention(hidden)
    found: Float[Tensor, "place vocabulary"] = model.cls(last.feed_forward_chunk(attended.flatten(0, 1)[places]))
    return found


def activity(found: Sequence[Float[Tensor, "*place unit"]], positions: int) -> Float[Tensor, ""]:
    """Mean size of the neurons that were computed, each layer counting alike."""
    return torch.stack([layer.abs().mean() for layer in found]).mean()


def hide(
    group: Encoded,
    picks: Int[np.ndarray, " pick"],
    is_asked: Bool[np.ndarray, " pick"],
    vocabulary: Vocabulary,
    chance: np.random.Generator,
) -> Batch:
    """Mask the answer of the rows that are asked, and words at random in the others."""
    ids = group.ids[picks]
    hidden = np.where(
        is_asked[:, None], _hide_answer(group.answer[picks], chance), _hide_anything(ids, vocabulary, chance)
    )
    shown = np.where(hidden | noise(group, picks, is_asked, chance), vocabulary.mask, ids)
    luck = chance.random(ids.shape)
    loose = hidden & ~is_asked[:, None]  # of what is masked at random, a tenth is swapped and a tenth left as it is
    shown = np.where(
        loose & (luck < 0.2), chance.integers(vocabulary.first_ordinary, vocabulary.size, ids.shape), shown
    )
    shown = np.where(loose & (luck < 0.1), ids, shown)
    whole = is_asked & (hidden == group.answer[picks]).all(axis=1)
    rivals = np.where(whole[:, None], group.rivals[picks], 0)
    places = np.flatnonzero(hidden)
    wanted = (ids.reshape(-1)[places], rivals.reshape(-1)[places])
    return Batch(*(torch.from_numpy(array) for array in (shown, places, *wanted)))


def _hide_answer(answer: Bool[np.ndarray, "row token"], chance: np.random.Generator) -> Bool[np.ndarray, "row token"]:
    """The whole answer in half of the rows; in the others its first tokens stay, as when it is filled left to right."""
    length = answer.sum(axis=1)
    given = np.floor(chance.random(len(answer)) * np.maximum(length, 1)).astype(int)
    given = np.where(chance.random(len(answer)) < FILLED_ROWS, given, 0)
    found: Bool[np.ndarray, "row token"] = answer & (answer.cumsum(axis=1) > given[:, None])
    return found


def _hide_anything(
    ids: Int[np.ndarray, "row token"], vocabulary: Vocabulary, chance: np.random.Generator
) -> Bool[np.ndarray, "row token"]:
    """A seventh of the ordinary tokens, and always the one with the best luck."""
    luck: Float[np.ndarray, "row token"] = np.where(ids < vocabulary.first_ordinary, 1.0, chance.random(ids.shape))
    found: Bool[np.ndarray, "row token"] = luck <= np.maximum(RANDOM_MASK, luck.min(axis=1, keepdims=True))
    return found


def steps(sentence: Sentence, tokenizer: BertTokenizer) -> list[Step]:
    """For each token of the answer, the text with this and all later tokens of the answer masked."""
    encoding = tokenizer(sentence.text, return_offsets_mapping=True)
    start, end = sentence.answer_span
    ids: list[int] = encoding["input_ids"]
    places = [at for at, (a, b) in enumerate(encoding["offset_mapping"]) if a >= start and b <= end and b > a]
    return [
        Step([tokenizer.mask_token_id if at in places[n:] else i for at, i in enumerate(ids)], place, ids[place])
        for n, place in enumerate(places)
    ]


MASKED = Kind(ANYWHERE, Settings(), build, hide, neurons, logits, activity, steps)
