"""Promises of sentences and corpora."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.probing.corpora import Corpus, CorpusError, Sentence

words = st.text(min_size=1, max_size=6).filter(str.strip)


def corpus_of(labels: list[str | None], level: str = "word") -> Corpus:
    if level == "sentence":
        return Corpus(tuple(Sentence.of(["a", "b"], [one], "s, line 1") for one in labels), "x", "sentence")
    return Corpus((Sentence.of([f"w{n}" for n in range(len(labels))], labels, "s, line 1"),), "x")


@given(pieces=st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=6))
def test_every_word_stands_at_its_place_in_the_text(pieces: list[tuple[str, bool]]) -> None:
    forms = [word for word, _ in pieces]
    sentence = Sentence.of(forms, [None] * len(forms), "here", [space for _, space in pieces])
    assert [sentence.text[start:end] for start, end in sentence.spans] == forms
    gaps = [" " if space else "" for _, space in pieces[:-1]]
    assert sentence.text == "".join(word + gap for word, gap in zip(forms, [*gaps, ""], strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sentence.of([], [], "here"), "here: the sentence has no words"),
        (lambda: Sentence.of(["a", " "], [None, None], "here"), "here: a word is empty"),
        (lambda: Sentence.of(["a", "b", "c"], ["x", "y"], "here"), "here: 3 words, but 2 labels"),
        (lambda: Sentence.of(["a"], ["x"], "here", [True, True]), "here: 1 words, but 2 entries that say where"),
        (lambda: Sentence("a", ("a", "b"), ((0, 1),), (None, None), "here"), "here: 2 words, but 1 places in the text"),
        (lambda: Sentence("a", ("a",), ((0, 2),), (None,), "here"), "here: word 'a' has no place in the text 'a'"),
        (lambda: Corpus((), "x", name="note"), "note has no sentences"),
        (lambda: Corpus((Sentence.of(["a", "b"], ["x"], "here"),), "x"), "here: 1 labels, 2 expected"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(make: object, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        make()  # type: ignore[operator]


def test_labels_can_be_numbers_and_what_has_none_is_not_a_number() -> None:
    numbers = corpus_of(["1", "-2.5", None, "1e3"]).numbers()
    assert numbers.dtype == np.float64
    assert np.array_equal(numbers, [1, -2.5, np.nan, 1000], equal_nan=True)
    assert corpus_of(["3", "4"], "sentence").numbers().tolist() == [3, 4]


@pytest.mark.parametrize("label", ["NOUN", "nan", "inf", "1_000", ""])
def test_the_first_label_that_is_no_number_is_named(label: str) -> None:
    with pytest.raises(CorpusError, match=rf"^s, line 1: label '{label}' of 'w1' is no number$"):
        corpus_of(["1", label, "x"]).numbers()


def test_another_label_leaves_words_and_their_digest_alone() -> None:
    corpus = corpus_of(["A", "B"])
    other = corpus.relabelled("first", lambda sentence: [word[0] for word in sentence.words])
    assert (other.label, other.labels.tolist()) == ("first", ["w", "w"])
    assert other.words_digest == corpus.words_digest
    assert other.digest != corpus.digest


def test_words_of_labelled_sentences_can_be_labelled_by_name() -> None:
    corpus = corpus_of(["good", "bad"], "sentence").relabelled("position")
    assert (corpus.level, corpus.labels.tolist()) == ("word", ["1", "2"] * 2)
    with pytest.raises(CorpusError, match=r"no labeller 'upos': suffix, .* need no annotation"):
        corpus.relabelled("upos")
