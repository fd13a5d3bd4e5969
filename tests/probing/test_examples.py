"""Promises of labelled rows and of their division."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.examples import (
    Examples,
    ExamplesError,
    LeftOut,
    Split,
    examples_of,
    split_by_sentences,
    split_by_words,
)

TEXTS = [
    ("the cat sat", "DET NOUN VERB"),
    ("the dog barked", "DET NOUN VERB"),
    ("oh a cat", "INTJ DET NOUN"),
    ("hm dogs sat", "_ NOUN VERB"),
]


def corpus(texts: list[tuple[str, str]] = TEXTS, label: str = "upos") -> Corpus:
    sentences = (
        Sentence.of(words.split(), [None if name == "_" else name for name in names.split()], source=f"line {index}")
        for index, (words, names) in enumerate(texts)
    )
    return Corpus(tuple(sentences), label=label, name="four.conllu")


def activations(of: Corpus, without: tuple[int, ...] = ()) -> Activations:
    """One neuron, whose value is the item's number; no row for the items in `without`."""
    items = np.array([item for item in range(of.n_items) if item not in without])
    acts = Activations.of(items[:, None].astype(float))
    return replace(acts, items=items, n_items=of.n_items, words_digest=of.words_digest)


@st.composite
def labelled(draw: st.DrawFn) -> Examples:
    """Rows whose only neuron is their number."""
    sentences = draw(st.lists(st.integers(1, 4), min_size=6, max_size=20))
    rows = sum(sentences)
    words = draw(st.lists(st.sampled_from("aAbBcdefghij"), min_size=rows, max_size=rows))
    labels = draw(st.lists(st.sampled_from("XXXYYYZ"), min_size=rows, max_size=rows))
    numbers = np.repeat(np.arange(len(sentences)) * 7, sentences)
    return Examples.of(np.arange(float(rows))[:, None], labels, words, numbers)


def divided(parts: Split) -> list[Examples]:
    return [parts.train, parts.dev, parts.test]


def rows_of(examples: Examples) -> list[int]:
    return [int(value) for value in examples.array()[:, 0]]


def require_nothing_lost(parts: Split, whole: Examples) -> None:
    kept = [row for part in divided(parts) for row in rows_of(part)]
    assert len(kept) == len(set(kept))
    unseen = set(range(len(whole))) - set(kept)
    assert sum(count for _, count in parts.unseen) == len(unseen)
    assert {label for label, _ in parts.unseen} == {whole.labels[row] for row in unseen}
    assert not {whole.labels[row] for row in unseen} & set(parts.train.classes)
    for part in divided(parts):
        for row, label, word, number in zip(rows_of(part), part.labels, part.words, part.sentences, strict=True):
            assert (label, word, number) == (whole.labels[row], whole.words[row], whole.sentences[row])


@given(labelled(), st.integers(0, 99))
def test_a_split_loses_nothing_and_tears_no_sentence(examples: Examples, seed: int) -> None:
    try:
        parts = split_by_sentences(examples, (0.5, 0.25, 0.25), seed)
    except ExamplesError as error:
        assert any(reason in str(error) for reason in ("train has 1 class", "no row of a class", "cannot be divided"))
        return
    require_nothing_lost(parts, examples)
    sentences = [set(part.sentences.tolist()) for part in divided(parts)]
    assert not any(sentences[a] & sentences[b] for a, b in ((0, 1), (0, 2), (1, 2)))


@given(labelled(), st.integers(0, 99))
def test_a_split_by_words_loses_nothing_and_shares_no_word_type(examples: Examples, seed: int) -> None:
    try:
        parts = split_by_words(examples, (0.5, 0.25, 0.25), seed)
    except ExamplesError as error:
        assert any(reason in str(error) for reason in ("train has 1 class", "no row of a class", "cannot be divided"))
        return
    require_nothing_lost(parts, examples)
    types = [set(part.types()) for part in divided(parts)]
    assert not any(types[a] & types[b] for a, b in ((0, 1), (0, 2), (1, 2)))


def many(sentences: int = 200, words: int = 5) -> Examples:
    rows = sentences * words
    rng = np.random.default_rng(0)
    named = [f"w{number}" for number in rng.integers(0, 300, size=rows)]
    labels = rng.choice(["X", "Y"], size=rows)
    return Examples.of(np.arange(float(rows))[:, None], labels, named, np.repeat(range(sentences), words))


@pytest.mark.parametrize("divide", [split_by_sentences, split_by_words])
def test_shares_are_shares_of_the_rows(divide: Callable[..., Split]) -> None:
    examples = many()
    parts = divide(examples, (0.6, 0.3, 0.1), 3)
    assert [len(part) / len(examples) for part in divided(parts)] == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


@pytest.mark.parametrize("divide", [split_by_sentences, split_by_words])
def test_the_seed_decides_on_the_split(divide: Callable[..., Split]) -> None:
    examples = many()
    first, again, other = (rows_of(divide(examples, seed=seed).test) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_same_sentence_twice_stays_on_one_side() -> None:
    words = [
        word for _ in range(10) for text in ("so it is", "no way", "go home now", "who knows") for word in text.split()
    ]
    numbers = [4 * turn + index for turn in range(10) for index, size in enumerate((3, 2, 3, 2)) for _ in range(size)]
    examples = Examples.of(np.eye(len(words)), ["X", "Y"] * (len(words) // 2), words, numbers)
    parts = split_by_sentences(examples, (0.5, 0.25, 0.25))
    texts = [{tuple(part.words[part.sentences == number]) for number in part.sentences} for part in divided(parts)]
    assert sum(map(len, texts)) == 4


def test_a_class_that_train_lacks_is_taken_out_of_test_and_told() -> None:
    examples = many()
    lone = rows_of(split_by_sentences(examples, seed=5).test)[:3]
    labels = examples.labels.copy()
    labels[lone] = "Z"
    parts = split_by_sentences(examples.relabelled(labels), seed=5)
    assert parts.unseen == (("Z", 3),)
    assert parts.test.classes == ("X", "Y")
    assert not set(lone) & set(rows_of(parts.test))


def test_what_is_left_out_adds_up_to_the_corpus() -> None:
    words = corpus()
    examples = examples_of(activations(words, without=(1, 9)), words, min_count=2)
    assert examples.labels.tolist() == ["DET", "VERB", "DET", "NOUN", "VERB", "DET", "NOUN", "NOUN", "VERB"]
    assert examples.words.tolist() == ["the", "sat", "the", "dog", "barked", "a", "cat", "dogs", "sat"]
    assert examples.sentences.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert rows_of(examples) == [0, 2, 3, 4, 5, 7, 8, 10, 11]
    assert examples.left_out == LeftOut(classes=(("INTJ", 1),), unlabelled=1, without_row=1)
    assert len(examples) + 1 + 1 + 1 == words.n_items
    assert str(examples.left_out) == "too rare: INTJ (1); 1 without a label; 1 without activations"


def test_a_class_is_rare_by_its_rows_and_not_by_its_words() -> None:
    words = corpus()
    examples = examples_of(activations(words, without=(0, 3)), words, min_count=3)
    assert examples.classes == ("NOUN", "VERB")
    assert ("DET", 1) in examples.left_out.classes


@pytest.mark.parametrize(
    ("min_count", "message"),
    [
        (
            4,
            r"^four.conllu: 'upos' has 1 of the two classes .*, at least 4 items each \(found: NOUN \(4\), .*",
        ),
        (9, r"^four.conllu: 'upos' has 0 of the two classes .*: bring more sentences or lower min_count$"),
    ],
)
def test_fewer_than_two_classes_is_one_clear_line(min_count: int, message: str) -> None:
    words = corpus()
    with pytest.raises(ExamplesError, match=message) as raised:
        examples_of(activations(words), words, min_count=min_count)
    assert "\n" not in str(raised.value)


def test_activations_of_another_corpus_are_refused() -> None:
    words = corpus()
    with pytest.raises(ExamplesError, match=r"activations of 12 items for the 9 of four.conllu"):
        examples_of(activations(words), corpus(TEXTS[:3]))
    other = corpus([("a cat sat", "DET NOUN VERB"), *TEXTS[1:]])
    with pytest.raises(ExamplesError, match=r"activations of other words \(digest \w+\) than those of four.conllu"):
        examples_of(activations(words), other)


def test_the_same_activations_serve_another_property_of_the_same_words() -> None:
    words = corpus()
    lengths = words.relabelled("length", lambda sentence: [str(min(len(word), 3)) for word in sentence.words])
    assert examples_of(activations(words), lengths, min_count=2).classes == ("1", "2", "3")[1:]


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.0), (0.5, 0.2, 0.2), (-0.5, 1.0, 0.5)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ExamplesError, match="three positive numbers of sum 1 expected"):
        split_by_sentences(many(), shares)


def test_what_does_not_match_is_refused() -> None:
    acts = Activations.of(np.eye(3))
    with pytest.raises(ExamplesError, match=r"labels of shape \(2,\) for 3 rows"):
        Examples.of(acts, ["X", "Y"], ["a", "b", "c"], [0, 0, 1])
    with pytest.raises(ExamplesError, match=r"words of shape \(4,\) for 3 rows"):
        Examples.of(acts, ["X", "Y", "X"], ["a", "b", "c", "d"], [0, 0, 1])
    with pytest.raises(ExamplesError, match="a row has no label"):
        Examples.of(acts, ["X", None, "X"], ["a", "b", "c"], [0, 0, 1])


def test_two_sentences_are_too_few_to_divide() -> None:
    examples = Examples.of(np.eye(4), ["X", "Y"] * 2, ["a", "b", "c", "d"], [0, 0, 1, 1])
    with pytest.raises(ExamplesError, match="2 different sentences cannot be divided into train, dev and test"):
        split_by_sentences(examples)
    with pytest.raises(ExamplesError, match="2 word types cannot be divided"):
        split_by_words(examples.take([0, 1]))


def test_rows_and_columns_taken_in_either_order_are_the_same() -> None:
    layout = Layout(site="hidden", widths=(3, 2))
    values = np.arange(30.0).reshape(6, 5)
    examples = Examples.of(Activations.of(values, layout), ["X", "Y"] * 3, list("abcdef"), range(6))
    neurons = layout.set(["L0.U2", "L1.U1"])
    one, other = examples.take([1, 4]).take_columns(neurons), examples.take_columns(neurons).take([1, 4])
    assert one.array().tolist() == other.array().tolist() == [[7.0, 9.0], [22.0, 24.0]]
    assert one.acts.neurons() == neurons
    loaded = one.loaded()
    assert loaded.array().tolist() == one.array().tolist()
    assert (loaded.acts.neurons(), loaded.labels.tolist()) == (neurons, ["Y", "X"])
    assert loaded.take([1]).take_columns([0]).array().tolist() == [[22.0]]
