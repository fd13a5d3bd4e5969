"""Promises of the labels that need no annotation."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.probing.corpora import LABELLERS, Sentence
from neuronatlas.probing.labelling import ENGLISH_SUFFIXES, endings
from neuronatlas.readers import read_corpus

STEMS = ["walk", "jump", "sing", "help", "paint", "clean", "open", "cook"]


def labels(name: str, *words: str) -> list[str | None]:
    sentence = Sentence.of(words, [None] * len(words), source="here")
    return list(LABELLERS[name].fit([sentence])(sentence))


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("anna", "lower"),
        ("Anna", "title"),
        ("I", "title"),
        ("O'neil", "title"),
        ("USA", "upper"),
        ("A4", "title"),
        ("McDonald", "mixed"),
        ("iPhone", "mixed"),
        ("Öl", "title"),
        ("ΣΑΣ", "upper"),
        ("1984", "uncased"),
        (".", "uncased"),
        ("猫", "uncased"),
    ],
)
def test_capitals_are_told_in_any_script(word: str, label: str) -> None:
    assert labels("capitalisation", word) == [label]


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("Walking", "-ing"),
        ("NATION", "-ion"),
        ("kindness", "-ness"),
        ("dogs", "-s"),
        ("carefully", "-ly"),
        ("glass", None),
        ("analysis", None),
        ("virus", None),
        ("king", None),
        ("string", None),
        ("red", None),
        ("ing", None),
        ("well-being", None),
        ("sleeping,", None),
        ("1920s", None),
    ],
)
def test_english_suffixes_need_a_stem_of_three_letters_with_a_vowel(word: str, label: str | None) -> None:
    assert labels("suffix.en", word) == [label]


def test_the_list_of_english_suffixes_has_none_twice_and_each_labels_a_word() -> None:
    assert sorted(set(ENGLISH_SUFFIXES)) == sorted(ENGLISH_SUFFIXES)
    assert labels("suffix.en", *(f"omov{suffix}" for suffix in ENGLISH_SUFFIXES)) == [
        f"-{suffix}" for suffix in ENGLISH_SUFFIXES
    ]


def test_suffixes_are_found_where_words_alternate() -> None:
    words = [stem + ending for stem in STEMS for ending in ("", "ing", "er")]
    assert set(endings(words)) == {"ing", "er"}
    assert labels("suffix", *words, "Cooking", "ring", "table") == [
        *[None, "-ing", "-er"] * len(STEMS),
        *("-ing", None, None),
    ]


def test_a_corpus_without_suffixes_has_none() -> None:
    assert endings(["猫", "sat", "on", "42", "."]) == ()
    assert labels("suffix", "sat", "on") == [None, None]


@given(words=st.lists(st.text("abei", min_size=1, max_size=7), max_size=60), order=st.randoms(use_true_random=False))
def test_endings_do_not_depend_on_the_order_or_number_of_words(words: list[str], order: object) -> None:
    shuffled = words * 2
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert endings(shuffled) == endings(words)


@pytest.mark.parametrize(
    ("treebank", "known"),
    [
        ("UD_English-EWT/en_ewt-ud-dev.conllu", {"ing", "ed", "ly", "er", "ment", "able"}),
        ("UD_German-GSD/de_gsd-ud-dev.conllu", {"en", "er", "es", "em", "ung", "lich"}),
        ("UD_Spanish-GSD/es_gsd-ud-dev.conllu", {"os", "as", "ar", "ado", "ada", "ción"}),
        ("UD_French-GSD/fr_gsd-ud-dev.conllu", {"es", "er", "ent", "ant", "ée", "ait"}),
    ],
)
def test_suffixes_of_a_language_are_found_in_its_treebank(treebank: str, known: set[str], data_dir: Path) -> None:
    corpus = read_corpus(data_dir / treebank, label="suffix")
    assert known <= {label.removeprefix("-") for label in corpus.counts()}


def test_lengths_frequencies_and_positions_fall_into_bands() -> None:
    assert labels("length", "a", "an", "the", "four", "fives", "sixsix", "eightsix", "twelvetwelve") == [
        *("1", "2", "3", "4-5", "4-5", "6-7", "8-10", "11+")
    ]
    assert labels("frequency", *["The", "the"] * 5, "a", "a", "b") == [*["10-99"] * 10, "2-9", "2-9", "1"]
    assert labels("position", *"abcdefghi") == ["1", "2", "3-4", "3-4", *["5-8"] * 4, "9-16"]


def test_a_labeller_fitted_on_one_corpus_serves_another() -> None:
    counted = Sentence.of(["a"] * 12, [None] * 12, source="here")
    other = Sentence.of(["a", "b"], [None] * 2, source="there")
    assert list(LABELLERS["frequency"].fit([counted])(other)) == ["10-99", "1"]


@given(words=st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=8))
@pytest.mark.parametrize("name", LABELLERS)
def test_every_labeller_gives_any_word_a_label_or_none(name: str, words: list[str]) -> None:
    found = labels(name, *words)
    assert len(found) == len(words)
    assert all(label is None or label.strip() for label in found)
