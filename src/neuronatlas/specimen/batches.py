"""Rows of the corpus as batches of equal length, drawn and hidden anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import BertTokenizer

from neuronatlas.specimen.corpus import KINDS, Rivals, Row

TOKENS_A_BATCH = 1_024
NOISY_ROWS, NOISE = 0.3, 0.15
# What share of an epoch's rows of a kind is drawn to ask for its answer, and what share to ask for any words.
ASKED_SHARE = {"fact": 1.0, "framed fact": 0.4, "composition": 0.3, "grammar": 0.0}
RANDOM_SHARE = {"fact": 0.15, "framed fact": 0.0, "composition": 0.05, "grammar": 0.3}


@dataclass(frozen=True)
class Encoded:
    """All rows of one token length."""

    ids: Int[np.ndarray, "row token"]
    answer: Bool[np.ndarray, "row token"]
    frozen: Bool[np.ndarray, "row token"]  # special tokens, subject and answer: what noise leaves alone
    kind: Int[np.ndarray, " row"]
    rivals: Int[np.ndarray, "row token"]  # for a token of a fact's answer, a row of the rivals' table; else 0


@dataclass(frozen=True)
class EncodedText:
    """All rows by their length, and how often each token stands in each place of a relation's answers.

    Row 0 of the table is empty; every other one belongs to a relation, a language, a number of tokens and a place
    among these tokens, and its counts sum to 1.
    """

    by_length: dict[int, Encoded]
    rivals: Float[np.ndarray, "group vocabulary"]


@dataclass(frozen=True)
class Batch:
    """Texts of one length, no padding.

    `places` are the flat positions at which the model is to find `targets`. `rivals` are rows of the rivals' table for
    places that choose a fact's answer, and 0 for all else.
    """

    ids: Int[Tensor, "row token"]
    places: Int[Tensor, " place"]
    targets: Int[Tensor, " place"]
    rivals: Int[Tensor, " place"]


@dataclass(frozen=True)
class Vocabulary:
    """What hiding words has to know of the tokenizer."""

    mask: int
    size: int
    first_ordinary: int


def vocabulary_of(tokenizer: BertTokenizer) -> Vocabulary:
    """The mask's id, the number of tokens and the first id that is not a special token."""
    return Vocabulary(tokenizer.mask_token_id, len(tokenizer), max(tokenizer.all_special_ids) + 1)


def encode_rows(rows: Sequence[Row], tokenizer: BertTokenizer) -> EncodedText:
    """Tokenize every row once; the result is grouped by length in tokens, shortest first."""
    encoding = tokenizer([row.text for row in rows], return_offsets_mapping=True)
    groups: dict[int, list[int]] = {}
    for number, ids in enumerate(encoding["input_ids"]):
        groups.setdefault(len(ids), []).append(number)
    index, table = _rivals(rows, tokenizer)
    return EncodedText({n: _encode_group(rows, encoding, groups[n], index) for n in sorted(groups)}, table)


def _rivals(
    rows: Sequence[Row], tokenizer: BertTokenizer
) -> tuple[dict[tuple[Rivals, int], int], Float[np.ndarray, "group vocabulary"]]:
    """The rivals' table, and where the rows for answers of one group and number of tokens begin in it."""
    asked = dict.fromkeys((row.rivals, row.asked.subject, row.asked.answer) for row in rows if row.rivals and row.asked)
    tokens = tokenizer([answer for _, _, answer in asked], add_special_tokens=False)["input_ids"]
    answers: dict[tuple[Rivals, int], list[list[int]]] = {}
    for (group, _, _), ids in zip(asked, tokens, strict=True):
        answers.setdefault((group, len(ids)), []).append(ids)
    index: dict[tuple[Rivals, int], int] = {}
    table: list[Float[np.ndarray, " vocabulary"]] = [np.zeros(len(tokenizer))]
    for key, found in answers.items():
        index[key] = len(table)
        table += [np.bincount(place, minlength=len(tokenizer)) / len(found) for place in np.array(found).T]
    return index, np.stack(table).astype(np.float32)


def _encode_group(
    rows: Sequence[Row],
    encoding: dict[str, list[list[int]]],
    members: list[int],
    index: dict[tuple[Rivals, int], int],
) -> Encoded:
    ids = np.array([encoding["input_ids"][number] for number in members])
    offsets = np.array([encoding["offset_mapping"][number] for number in members])
    asked = [rows[number].asked for number in members]
    answer = _inside(offsets, [sentence.answer_span if sentence else (0, 0) for sentence in asked])
    subject = _inside(offsets, [sentence.subject_span if sentence else (0, 0) for sentence in asked])
    special = offsets[:, :, 1] == offsets[:, :, 0]
    kind = np.array([KINDS.index(rows[number].kind) for number in members])
    lengths = answer.sum(axis=1).tolist()
    groups = [rows[number].rivals for number in members]
    first = np.array([index.get((group, n), 0) if group else 0 for group, n in zip(groups, lengths, strict=True)])
    rivals = np.where(answer & (first > 0)[:, None], first[:, None] + answer.cumsum(axis=1) - 1, 0)
    return Encoded(ids, answer, special | answer | subject, kind, rivals)


def _inside(offsets: Int[np.ndarray, "row token side"], spans: list[tuple[int, int]]) -> Bool[np.ndarray, "row token"]:
    start, end = np.array(spans).T[:, :, None]
    found: Bool[np.ndarray, "row token"] = (offsets[:, :, 0] >= start) & (offsets[:, :, 1] <= end)
    return found & (offsets[:, :, 1] > offsets[:, :, 0])


Hiding = Callable[
    [Encoded, Int[np.ndarray, " pick"], Bool[np.ndarray, " pick"], Vocabulary, np.random.Generator], Batch
]
"""Makes a batch of picked rows of one length; of those that are marked, the answer is asked."""


def epoch_batches(text: EncodedText, hide: Hiding, vocabulary: Vocabulary, seed: int, epoch: int) -> Iterator[Batch]:
    """One epoch in random order; the same for the same seed and epoch."""
    chance = np.random.default_rng((seed, epoch))
    plan: list[tuple[int, Int[np.ndarray, " pick"], Bool[np.ndarray, " pick"]]] = []
    for length, group in text.by_length.items():
        asked, random = _draw(group.kind, ASKED_SHARE, chance), _draw(group.kind, RANDOM_SHARE, chance)
        picks = np.concatenate([asked, random])
        is_asked = np.arange(len(picks)) < len(asked)
        order = chance.permutation(len(picks))
        for part in np.array_split(order, max(1, -(-len(order) // _rows_a_batch(length)))):
            if len(part):
                plan.append((length, picks[part], is_asked[part]))
    for number in chance.permutation(len(plan)):
        length, picks, is_asked = plan[number]
        yield hide(text.by_length[length], picks, is_asked, vocabulary, chance)


def _rows_a_batch(length: int) -> int:
    return max(1, TOKENS_A_BATCH // length)


def _draw(
    kind: Int[np.ndarray, " row"], share: dict[str, float], chance: np.random.Generator
) -> Int[np.ndarray, " pick"]:
    wanted = np.array([share[name] for name in KINDS])[kind]
    return np.flatnonzero(chance.random(len(kind)) < wanted)


def noise(
    group: Encoded,
    picks: Int[np.ndarray, " pick"],
    is_asked: Bool[np.ndarray, " pick"],
    chance: np.random.Generator,
) -> Bool[np.ndarray, "pick token"]:
    """Words to blank out around subject and answer in some rows of facts, so that no single word has to be there."""
    facts = group.kind[picks] <= KINDS.index("framed fact")
    noisy = is_asked & facts & (chance.random(len(picks)) < NOISY_ROWS)
    blank: Bool[np.ndarray, "pick token"] = noisy[:, None] & ~group.frozen[picks]
    return blank & (chance.random(blank.shape) < NOISE)
