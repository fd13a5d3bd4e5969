"""Which tokens of a model each word of a sentence is, by the characters that both cover.

A sentence's own text is encoded, once, as the model expects it; the tokenizer's offsets say which characters each token
stands for. A token belongs to every word with which it shares a character, so a token over the end of one word and the
start of the next belongs to both. A word without a token (one of control characters, which some tokenizers drop)
vanishes; a word with a token beyond the model's length is cut. Neither has activations, and neither is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from neuronatlas.probing.activations import ActivationsError
from neuronatlas.probing.corpora import Sentence

__all__ = ["Aligned", "align"]

_SPACES = "\u2581\u0120"
"""What tokenizers write for a space: Metaspace and SentencePiece the first, byte-level ones the second."""


@dataclass(frozen=True)
class Aligned:
    """A sentence as the model takes it, and the tokens of its words.

    `ids` are the token ids, special tokens included, at most as many as the model takes; `words` the positions in `ids`
    of each word's tokens, in order, none for a word that vanished or is cut; `plain` the positions of the tokens that
    stand for text; `cut` the indices of the words that lie beyond the model's length, wholly or in part; `shortened`
    tells whether tokens were left off.
    """

    ids: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    plain: tuple[int, ...]
    cut: tuple[int, ...] = ()
    shortened: bool = False

    @property
    def vanished(self) -> tuple[int, ...]:
        """Indices of the words that have no token."""
        return tuple(i for i, tokens in enumerate(self.words) if not tokens and i not in self.cut)


def align(sentences: Sequence[Sentence], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Aligned]:
    """Encode sentences for a model that takes `max_length` tokens, and find the tokens of their words.

    Errors: ActivationsError for a tokenizer that does not know which characters its tokens stand for.

    >>> from neuronatlas.specimen import specimen_folder
    >>> from transformers import AutoTokenizer
    >>> tokenizer = AutoTokenizer.from_pretrained(specimen_folder())
    >>> sentence = Sentence.of(["naïve", "?"], ["ADJ", "PUNCT"], source="note, line 1")
    >>> aligned = align([sentence], tokenizer, max_length=64)[0]
    >>> tokenizer.convert_ids_to_tokens(aligned.ids), aligned.words
    (['[CLS]', 'na', '##ï', '##ve', '?', '[SEP]'], ((1, 2, 3), (4,)))
    """
    if not tokenizer.is_fast:
        raise ActivationsError(
            f"{type(tokenizer).__name__} does not know which characters its tokens stand for: a fast tokenizer "
            "expected; save the model with one (a tokenizer.json beside it)"
        )
    if not sentences:
        return []
    encoded = _encode(tokenizer, [sentence.text for sentence in sentences])
    return [
        _aligned(sentence, tokenizer, _Tokens.of(encoded, index, sentence.text), max_length)
        for index, sentence in enumerate(sentences)
    ]


@dataclass(frozen=True)
class _Tokens:
    """Ids, the characters that each token stands for (none: start = end), and which tokens are not of the text."""

    ids: list[int]
    starts: Int[np.ndarray, " token"]
    ends: Int[np.ndarray, " token"]
    special: Bool[np.ndarray, " token"]

    @classmethod
    def of(cls, encoded: Any, index: int, text: str) -> _Tokens:
        ids: list[int] = encoded["input_ids"][index]
        offsets = np.array(encoded["offset_mapping"][index], dtype=np.int64).reshape(-1, 2)
        special = np.array(encoded["special_tokens_mask"][index], dtype=bool)
        starts, ends = offsets[:, 0], offsets[:, 1].copy()
        for place, piece in enumerate(encoded.tokens(index)):
            if not piece.strip(_SPACES) and _was_added(piece, text[starts[place] : ends[place]]):
                ends[place] = starts[place]
        ends[special] = starts[special]
        return cls(ids, starts, ends, special)

    def of_words(self, spans: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
        """Positions of the tokens that share a character with each word."""
        of = np.array(spans, dtype=np.int64)
        shared = np.minimum(of[:, 1:], self.ends) - np.maximum(of[:, :1], self.starts)
        found: list[list[int]] = [[] for _ in spans]
        words, tokens = np.nonzero(shared > 0)
        for word, token in zip(words.tolist(), tokens.tolist(), strict=True):
            found[word].append(token)
        return [tuple(positions) for positions in found]


def _was_added(space: str, covered: str) -> bool:
    """Whether a space was put before the text by the tokenizer: its offsets then claim the first character."""
    return bool(covered.strip()) and space != covered


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> Any:
    return tokenizer(
        texts,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **options,
    )


def _aligned(sentence: Sentence, tokenizer: PreTrainedTokenizerBase, whole: _Tokens, max_length: int) -> Aligned:
    words = whole.of_words(sentence.spans)
    if len(whole.ids) <= max_length:
        return Aligned(tuple(whole.ids), tuple(words), _plain(whole))
    # Encoded again, since only the tokenizer knows which end it cuts and which special tokens must remain.
    encoded = _encode(tokenizer, [sentence.text], truncation=True, max_length=max_length)
    kept = _Tokens.of(encoded, 0, sentence.text)
    left = kept.of_words(sentence.spans)
    cut = tuple(i for i, (before, after) in enumerate(zip(words, left, strict=True)) if len(before) != len(after))
    tokens = tuple(() if i in cut else after for i, after in enumerate(left))
    return Aligned(tuple(kept.ids), tokens, _plain(kept), cut, shortened=True)


def _plain(tokens: _Tokens) -> tuple[int, ...]:
    return tuple(np.flatnonzero(~tokens.special).tolist())
