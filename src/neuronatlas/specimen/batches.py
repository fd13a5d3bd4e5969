"""Rows of the corpus as batches of equal length, masked anew in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import BertTokenizerFast

from neuronatlas.specimen.corpus import KINDS, Row

TOKENS_A_BATCH = 1_024
RANDOM_MASK = 0.15
NOISY_ROWS, NOISE = 0.3, 0.15
FILLED_ROWS = 0.5
# What share of an epoch's rows of a kind is drawn with its answer hidden, and what share masked at random.
ASKED_SHARE = {"fact": 1.0, "framed fact": 0.4, "composition": 0.3, "grammar": 0.0}
RANDOM_SHARE = {"fact": 0.15, "framed fact": 0.0, "composition": 0.05, "grammar": 0.3}


@dataclass(frozen=True)
class Encoded:
    """All rows of one token length."""

    ids: Int[np.ndarray, "row token"]
    answer: Bool[np.ndarray, "row token"]
    frozen: Bool[np.ndarray, "row token"]  # special tokens, subject and answer: what noise leaves alone
    kind: Int[np.ndarray, " row"]


@dataclass(frozen=True)
class Batch:
    """Masked texts of one length, no padding; `places` are the flat positions where `targets` are to be found."""

    ids: Int[Tensor, "row token"]
    places: Int[Tensor, " masked"]
    targets: Int[Tensor, " masked"]


@dataclass(frozen=True)
class Vocabulary:
    """What masking has to know of the tokenizer."""

    mask: int
    size: int
    first_ordinary: int


def vocabulary_of(tokenizer: BertTokenizerFast) -> Vocabulary:
    """The mask's id, the number of tokens and the first id that is not a special token."""
    return Vocabulary(tokenizer.mask_token_id, len(tokenizer), max(tokenizer.all_special_ids) + 1)


def encode_rows(rows: Sequence[Row], tokenizer: BertTokenizerFast) -> dict[int, Encoded]:
    """Tokenize every row once; the result is grouped by length in tokens, shortest first."""
    encoding = tokenizer([row.text for row in rows], return_offsets_mapping=True)
    groups: dict[int, list[int]] = {}
    for number, ids in enumerate(encoding["input_ids"]):
        groups.setdefault(len(ids), []).append(number)
    return {length: _encode_group(rows, encoding, groups[length]) for length in sorted(groups)}


def _encode_group(rows: Sequence[Row], encoding: dict[str, list[list[int]]], members: list[int]) -> Encoded:
    ids = np.array([encoding["input_ids"][number] for number in members])
    offsets = np.array([encoding["offset_mapping"][number] for number in members])
    nothing = (0, 0)
    asked = [rows[number].asked for number in members]
    answer = _inside(offsets, [sentence.answer_span if sentence else nothing for sentence in asked])
    subject = _inside(offsets, [sentence.subject_span if sentence else nothing for sentence in asked])
    special = offsets[:, :, 1] == offsets[:, :, 0]
    kind = np.array([KINDS.index(rows[number].kind) for number in members])
    return Encoded(ids, answer, special | answer | subject, kind)


def _inside(
    offsets: Int[np.ndarray, "row token side"], spans: list[tuple[int, int]]
) -> Bool[np.ndarray, "row token"]:
    start, end = np.array(spans).T[:, :, None]
    found: Bool[np.ndarray, "row token"] = (offsets[:, :, 0] >= start) & (offsets[:, :, 1] <= end)
    return found & (offsets[:, :, 1] > offsets[:, :, 0])


def batches_an_epoch(encoded: dict[int, Encoded]) -> int:
    """How many batches `epoch_batches` yields, to within the luck of the draw."""
    shares = np.array([ASKED_SHARE[kind] + RANDOM_SHARE[kind] for kind in KINDS])
    return sum(int(np.ceil(shares[group.kind].sum() / _rows_a_batch(length))) for length, group in encoded.items())


def epoch_batches(
    encoded: dict[int, Encoded], vocabulary: Vocabulary, seed: int, epoch: int
) -> Iterator[Batch]:
    """One epoch in random order; the same for the same seed and epoch."""
    chance = np.random.default_rng((seed, epoch))
    plan: list[tuple[int, Int[np.ndarray, " pick"], Bool[np.ndarray, " pick"]]] = []
    for length, group in encoded.items():
        asked, random = _draw(group.kind, ASKED_SHARE, chance), _draw(group.kind, RANDOM_SHARE, chance)
        picks = np.concatenate([asked, random])
        is_asked = np.arange(len(picks)) < len(asked)
        order = chance.permutation(len(picks))
        for part in np.array_split(order, max(1, -(-len(order) // _rows_a_batch(length)))):
            if len(part):
                plan.append((length, picks[part], is_asked[part]))
    for number in chance.permutation(len(plan)):
        length, picks, is_asked = plan[number]
        yield _masked(encoded[length], picks, is_asked, vocabulary, chance)


def _rows_a_batch(length: int) -> int:
    return max(1, TOKENS_A_BATCH // length)


def _draw(
    kind: Int[np.ndarray, " row"], share: dict[str, float], chance: np.random.Generator
) -> Int[np.ndarray, " pick"]:
    wanted = np.array([share[name] for name in KINDS])[kind]
    return np.flatnonzero(chance.random(len(kind)) < wanted)


def _masked(
    group: Encoded,
    picks: Int[np.ndarray, " pick"],
    is_asked: Bool[np.ndarray, " pick"],
    vocabulary: Vocabulary,
    chance: np.random.Generator,
) -> Batch:
    ids = group.ids[picks]
    hidden = np.where(
        is_asked[:, None], _hide_answer(group.answer[picks], chance), _hide_anything(ids, vocabulary, chance)
    )
    noisy = is_asked & (group.kind[picks] <= KINDS.index("framed fact")) & (chance.random(len(ids)) < NOISY_ROWS)
    noise = noisy[:, None] & ~group.frozen[picks] & (chance.random(ids.shape) < NOISE)
    shown = np.where(hidden | noise, vocabulary.mask, ids)
    luck = chance.random(ids.shape)
    loose = hidden & ~is_asked[:, None]  # of what is masked at random, a tenth is swapped and a tenth left as it is
    shown = np.where(loose & (luck < 0.2), chance.integers(vocabulary.first_ordinary, vocabulary.size, ids.shape), shown)
    shown = np.where(loose & (luck < 0.1), ids, shown)
    places = np.flatnonzero(hidden)
    return Batch(torch.from_numpy(shown), torch.from_numpy(places), torch.from_numpy(ids.reshape(-1)[places]))


def _hide_answer(
    answer: Bool[np.ndarray, "row token"], chance: np.random.Generator
) -> Bool[np.ndarray, "row token"]:
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
