"""A cased WordPiece tokenizer in which every word of an answer is one token."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from transformers import BertTokenizer

from neuronatlas.specimen.world import facts

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 9_000
PIECES = 1_200
LONGEST_PIECE = 5
LONGEST_TEXT = 64
# Known as single characters whether or not the training text has them: ASCII, Latin-1 and some typography.
PRINTABLE = tuple(map(chr, (*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)))) + tuple("–—‘’“”„…€")

_WORD = re.compile(r"\w+|[^\w\s]")


def build_tokenizer(texts: Iterable[str]) -> BertTokenizer:
    """The tokenizer of a training text: all answer words, the text's most frequent words, then pieces of words.

    The vocabulary is counted and sorted here rather than trained, so the same texts give the same ids everywhere.
    """
    vocabulary = {token: number for number, token in enumerate(_vocabulary(texts))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=False, strip_accents=False, model_max_length=LONGEST_TEXT)


def _vocabulary(texts: Iterable[str]) -> list[str]:
    words = Counter(word for text in texts for word in _WORD.findall(text))
    answers = sorted({word for fact in facts() for word in _WORD.findall(fact.answer)})
    characters = sorted({c for word in words for c in word}.union(PRINTABLE))
    base = [*SPECIAL, *characters, *("##" + c for c in characters)]
    pieces = _frequent(_piece_counts(words))[:PIECES]
    frequent_words = _frequent(words)[: VOCABULARY - len(set(base) | set(answers) | set(pieces))]
    return list(dict.fromkeys([*base, *answers, *frequent_words, *pieces]))


def _piece_counts(words: Counter[str]) -> Counter[str]:
    """How many different words begin with a piece, and how many go on with a `##piece`."""
    pieces: Counter[str] = Counter()
    for word in words:
        for length in range(2, min(LONGEST_PIECE, len(word) - 1) + 1):
            pieces[word[:length]] += 1
            pieces.update(f"##{word[start : start + length]}" for start in range(1, len(word) - length + 1))
    return pieces


def _frequent(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda token: (-counts[token], token))
