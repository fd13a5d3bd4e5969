"""Words and tokens meet by the characters that both cover, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from neuronatlas.probing.activations import ActivationsError
from neuronatlas.probing.alignment import Aligned, align
from neuronatlas.probing.corpora import Sentence
from neuronatlas.specimen import specimen_folder

TEXTS = ["Once upon a time there was a girl who didn't stop, été 10 000 %", "the the a a. naïve über “Q” don't"] * 3


def byte_level(*, prefix: bool, trim: bool) -> PreTrainedTokenizerBase:
    """As GPT-2's (trimmed) or Llama 3's (not): offsets without or with the space before a word."""
    backend = Tokenizer(tokenizer_models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.post_processor = processors.ByteLevel(trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def unigram() -> PreTrainedTokenizerBase:
    """As T5's or XLM-RoBERTa's: a space becomes a visible character, the first word gets one too."""
    backend = Tokenizer(tokenizer_models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


def across_words() -> PreTrainedTokenizerBase:
    """As Llama 2's, but trained without a border between words: a token may hold parts of several."""
    backend = Tokenizer(tokenizer_models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["<unk>"], show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def word_piece() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(specimen_folder())
    return tokenizer


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "word-piece": cache(word_piece),
    "byte-level": cache(lambda: byte_level(prefix=False, trim=True)),
    "byte-level, spaces kept": cache(lambda: byte_level(prefix=False, trim=False)),
    "byte-level, a space before": cache(lambda: byte_level(prefix=True, trim=True)),
    "unigram": cache(unigram),
    "across words": cache(across_words),
}
LOSSLESS = ("byte-level", "byte-level, spaces kept", "byte-level, a space before", "unigram", "across words")


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="module")
def stories(models_dir: Path) -> PreTrainedTokenizerBase:
    folder = models_dir / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no model stories260K in {models_dir}")
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return found


def sentence(words: list[str], spaces: list[bool] | None = None) -> Sentence:
    return Sentence.of(words, [None] * len(words), "test, line 1", spaces)


def aligned_to(tokenizer: PreTrainedTokenizerBase, asked: Sentence, max_length: int = 10_000) -> Aligned:
    return align([asked], tokenizer, max_length)[0]


def texts_of(tokenizer: PreTrainedTokenizerBase, asked: Sentence, max_length: int = 10_000) -> list[list[str]]:
    """The pieces of each word."""
    found = aligned_to(tokenizer, asked, max_length)
    return [[str(tokenizer.convert_ids_to_tokens(found.ids[position])) for position in word] for word in found.words]


LETTERS = st.text(st.sampled_from("aehtné日本☃“.'1▁Ġ\u0301\u200b\u00ad🙂"), min_size=1, max_size=5)
WORDS = st.lists(st.tuples(LETTERS, st.booleans()), min_size=1, max_size=7)


def check(tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[str, bool]], *, lossless: bool) -> None:
    """Against the offsets, character by character."""
    asked = sentence([word for word, _ in pairs], [space for _, space in pairs])
    found = aligned_to(tokenizer, asked)
    encoded = tokenizer(asked.text, return_offsets_mapping=True, return_special_tokens_mask=True)
    assert list(found.ids) == encoded["input_ids"]
    assert found.plain == tuple(i for i, special in enumerate(encoded["special_tokens_mask"]) if not special)
    covered: dict[int, set[int]] = {index: set() for index in range(len(asked.words))}
    for position, (start, end) in enumerate(encoded["offset_mapping"]):
        mine = set(range(start, end))
        owners = {index for index, span in enumerate(asked.spans) if mine & set(range(*span))}
        held = {index for index, tokens in enumerate(found.words) if position in tokens}
        piece = str(tokenizer.convert_ids_to_tokens(encoded["input_ids"][position]))
        if set(piece) <= {"▁", "Ġ"} and piece != asked.text[start:end] and asked.text[start:end].strip():
            assert not held, "a space before the text belongs to no word"
            continue
        assert held == owners
        for index in held:
            covered[index] |= mine
    for index, span in enumerate(asked.spans):
        assert list(found.words[index]) == sorted(set(found.words[index]))
        if lossless:
            assert covered[index] >= set(range(*span))
    assert found.vanished == tuple(index for index in covered if not covered[index])
    assert not found.cut
    assert not found.shortened


@pytest.mark.parametrize("name", TOKENIZERS)
@given(pairs=WORDS)
def test_a_token_belongs_to_the_words_whose_characters_it_covers(name: str, pairs: list[tuple[str, bool]]) -> None:
    check(TOKENIZERS[name](), pairs, lossless=name in LOSSLESS)


def test_so_it_does_with_a_real_tokenizer(stories: PreTrainedTokenizerBase) -> None:
    @given(pairs=WORDS)
    def promise(pairs: list[tuple[str, bool]]) -> None:
        check(stories, pairs, lossless=True)

    promise()


def test_words_of_a_real_text_are_found(tokenizer: PreTrainedTokenizerBase) -> None:
    asked = sentence(["Once", "upon", "a", "time", ",", "the", "girl", "did", "n't", "."])
    found = aligned_to(tokenizer, asked)
    assert all(found.words)
    assert not found.vanished


@pytest.mark.parametrize("name", ["byte-level, spaces kept", "unigram"])
def test_a_space_before_the_first_word_is_no_part_of_it(name: str) -> None:
    first, _, last = texts_of(TOKENIZERS[name](), sentence(["éa", "b", "éa"]))
    assert "".join(first).strip("▁Ġ") == "".join(last).strip("▁Ġ")
    assert all(piece.strip("▁Ġ") for piece in first)


def test_a_token_over_two_words_belongs_to_both() -> None:
    found = aligned_to(TOKENIZERS["across words"](), sentence(["the", "the"]))
    assert set(found.words[0]) & set(found.words[1])


def test_words_that_share_their_place_in_the_text_share_their_tokens() -> None:
    melted = Sentence("im Haus", ("in", "dem", "Haus"), ((0, 2), (0, 2), (3, 7)), (None,) * 3, "test, line 1")
    found = aligned_to(TOKENIZERS["word-piece"](), melted)
    assert found.words[0] == found.words[1] != ()


def test_a_word_that_the_tokenizer_drops_vanishes() -> None:
    found = aligned_to(TOKENIZERS["word-piece"](), sentence(["a", "\u200b", "\u0007", "b"]))
    assert found.vanished == (1, 2)
    assert [len(tokens) for tokens in found.words] == [1, 0, 0, 1]
    assert not found.cut


@pytest.mark.parametrize("side", ["right", "left"])
def test_words_beyond_the_length_are_cut_even_if_only_in_part(side: str) -> None:
    tokenizer = word_piece()
    tokenizer.truncation_side = side
    asked = sentence(["city", "naïve", "river", "\u200b"])
    whole = aligned_to(tokenizer, asked)
    middle = whole.words[1]
    assert len(middle) > 1
    # One place is the closing token's; the middle word loses its last token, or on the other side its first.
    length = middle[-1] + 1 if side == "right" else len(whole.ids) - middle[0]
    found = aligned_to(tokenizer, asked, length)
    assert found.shortened
    assert len(found.ids) == length
    assert (found.ids[0], found.ids[-1]) == (whole.ids[0], whole.ids[-1])
    cut, kept = ((1, 2), 0) if side == "right" else ((0, 1), 2)
    assert found.cut == cut
    assert found.vanished == (3,)
    assert [bool(tokens) for tokens in found.words] == [index == kept for index in range(4)]
    assert texts_of(tokenizer, asked, length)[kept] == texts_of(tokenizer, asked)[kept]


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow = cast("Any", SimpleNamespace(is_fast=False))
    with pytest.raises(ActivationsError, match=r"^SimpleNamespace does not know which characters .* fast tokenizer"):
        align([sentence(["a"])], slow, 10)


def test_no_sentences_are_no_error() -> None:
    assert align([], word_piece(), 10) == []
