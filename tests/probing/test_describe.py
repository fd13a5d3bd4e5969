"""Descriptions: the words and contexts that drive a neuron, and its classes, as other people's programs find them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from neuronatlas.neurons import Layout, Neuron, NeuronSet
from neuronatlas.probing import describe as module
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.describe import Description, describe, describe_many

LAYOUT = Layout(site="ffn", widths=(3, 3), digest="d")
TABLES = ("profiles", "classes", "words", "contexts")


def random_corpus(n: int = 60, seed: int = 0) -> Corpus:
    rng = np.random.default_rng(seed)
    sentences = []
    for index in range(n):
        words = [f"w{i}" for i in rng.integers(20, size=rng.integers(1, 9))]
        labels = [None if i % 7 == 0 else str(rng.choice(["A", "B", "C"])) for i in range(len(words))]
        sentences.append(Sentence.of(words, labels, source=f"file, line {index + 1}"))
    return Corpus(tuple(sentences), label="kind")


def random_activations(corpus: Corpus, seed: int = 0) -> Activations:
    """Values with ties, a constant neuron, and every tenth word without a row."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.normal(5, 2, size=(corpus.n_items, LAYOUT.n_neurons)), 4.5)
    values[:, 0] += 3 * (corpus.labels == "B")
    values[:, 4] = 0.1
    whole = replace(Activations.of(values, LAYOUT), words_digest=corpus.words_digest)
    return whole.chosen(rows=np.flatnonzero(np.arange(corpus.n_items) % 10 != 3))


@pytest.fixture(scope="module")
def given() -> tuple[Activations, Corpus]:
    corpus = random_corpus()
    return random_activations(corpus), corpus


def described(given: tuple[Activations, Corpus], k: int = 5) -> Description:
    acts, corpus = given
    return describe_many(acts, corpus, acts.neurons(), k, min_count=4, progress=False)


def test_profiles_are_eta_squared_and_areas_as_defined(given: tuple[Activations, Corpus]) -> None:
    acts, corpus = given
    found = described(given)
    values, words, labels = acts.array().astype(float), corpus.items[acts.items], corpus.labels[acts.items]
    has = np.array([label is not None for label in labels])
    for column, row in enumerate(found.profiles.iter_rows(named=True)):
        assert row["neuron"] == str(LAYOUT.neuron(column)) == f"L{row['layer']}.U{row['unit']}"
        assert (row["mean"], row["std"]) == pytest.approx((values[:, column].mean(), values[:, column].std()), abs=1e-7)
        if column == 4:
            assert row["std"] == 0
            assert np.isnan([row["eta_label"], row["eta_word"]]).all()
            continue
        for name, groups, inside in (("label", labels[has], values[has, column]), ("word", words, values[:, column])):
            means = {group: inside[groups == group].mean() for group in set(groups)}
            within = sum(
                (inside[groups == group] - mean) ** 2 @ np.ones((groups == group).sum())
                for group, mean in means.items()
            )
            total = ((inside - inside.mean()) ** 2).sum()
            assert row[f"eta_{name}"] == pytest.approx(1 - within / total, rel=1e-6)
            fair = 1 - (within / (len(inside) - len(means))) / (total / (len(inside) - 1))
            assert row[f"adjusted_eta_{name}"] == pytest.approx(fair, rel=1e-6)
        areas = {name: roc_auc_score(labels[has] == name, values[has, column]) for name in ("A", "B", "C")}
        assert row["best_auc"] == pytest.approx(areas[row["best_class"]])
        assert abs(row["best_auc"] - 0.5) == pytest.approx(max(abs(area - 0.5) for area in areas.values()))
    assert found.profiles["best_class"][0] == "B"


def test_a_class_profile_is_that_of_its_labelled_rows(given: tuple[Activations, Corpus]) -> None:
    acts, corpus = given
    values, labels = acts.array().astype(float), corpus.labels[acts.items]
    has = np.array([label is not None for label in labels])
    for row in described(given).classes.iter_rows(named=True):
        column = LAYOUT.index(Neuron.parse(row["neuron"]))
        mine, rest = values[labels == row["class"], column], values[has & (labels != row["class"]), column]
        assert row["n"] == len(mine)
        assert (row["mean"], row["std"]) == pytest.approx((mine.mean(), mine.std()), abs=1e-7)
        assert row["auc"] == pytest.approx(roc_auc_score(labels[has] == row["class"], values[has, column]))
        spread = values[has, column].std()
        expected = 0 if column == 4 else (mine.mean() - rest.mean()) / spread
        assert row["difference"] == pytest.approx(expected, abs=1e-6)


def test_words_are_those_of_the_highest_and_lowest_means_that_occur_often_enough(
    given: tuple[Activations, Corpus],
) -> None:
    acts, corpus = given
    values, words = acts.array().astype(float), corpus.items[acts.items]
    found = described(given).words
    for column, neuron in enumerate(LAYOUT.set(acts.neurons())):
        frequent = sorted(word for word in set(words) if (words == word).sum() >= 4)
        means = {word: values[words == word, column].mean() for word in frequent}
        for direction, sign in (("up", -1), ("down", 1)):
            rows = found.filter(neuron=str(neuron), direction=direction)
            assert rows["rank"].to_list() == [1, 2, 3, 4, 5]
            expected = sorted(frequent, key=lambda word: (sign * round(means[word], 9), word))[:5]
            assert rows["word"].to_list() == expected
            assert rows["mean"].to_list() == pytest.approx([means[word] for word in expected])
            assert rows["n"].to_list() == [int((words == word).sum()) for word in expected]


def test_contexts_are_the_rows_of_the_extreme_values_in_their_sentences(given: tuple[Activations, Corpus]) -> None:
    acts, corpus = given
    values = acts.array()
    found = described(given, k=7).contexts
    for column, neuron in enumerate(acts.neurons()):
        up, down = (found.filter(neuron=str(neuron), direction=direction) for direction in ("up", "down"))
        assert up["value"].to_list() == sorted(values[:, column].tolist(), reverse=True)[:7]
        assert down["value"].to_list() == sorted(values[:, column].tolist())[:7]
        assert (up["z"] >= down["z"]).all()
    for row in found.iter_rows(named=True):
        sentence = corpus.sentences[row["sentence"]]
        assert row["left"] + row["word"] + row["right"] == sentence.text
        assert row["source"] == sentence.source
        item = int(np.searchsorted(corpus.sentence_of, row["sentence"])) + len(row["left"].split())
        assert (row["word"], row["label"]) == (corpus.items[item], corpus.labels[item])
        assert row["value"] == values[list(acts.items).index(item), LAYOUT.index(Neuron.parse(row["neuron"]))]


def test_random_groups_explain_nothing_once_their_number_is_taken_off() -> None:
    corpus = random_corpus(400, seed=1)
    rare = corpus.relabelled("kind", lambda sentence: [parity(word) for word in sentence.words])
    values = np.random.default_rng(2).normal(size=(corpus.n_items, 30))
    acts = Activations.of(values, Layout(site="ffn", widths=(30,)))
    profiles = describe_many(acts, rare, acts.neurons(), progress=False).profiles
    n_types = len(set(corpus.items))
    # Of a random neuron as many groups explain their share of the degrees of freedom.
    assert profiles["eta_word"].mean() == pytest.approx((n_types - 1) / (corpus.n_items - 1), rel=0.2)
    assert np.abs(np.mean(profiles["adjusted_eta_word"].to_numpy())) < 0.005


def parity(word: str) -> str:
    """A class of a word that depends on its letters alone."""
    return "even" if int(word[1:]) % 2 else "odd"


def test_how_many_neurons_are_held_at_once_changes_nothing(
    given: tuple[Activations, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = described(given)
    monkeypatch.setattr(module, "BLOCK_VALUES", 1)
    one_by_one = described(given)
    for table in TABLES:
        assert_frame_equal(getattr(whole, table), getattr(one_by_one, table), check_exact=True)


def test_one_neurons_description_is_its_part_of_that_of_many(given: tuple[Activations, Corpus]) -> None:
    acts, corpus = given
    neuron = Neuron(1, 2)
    alone, part = describe(acts, corpus, neuron, 5, min_count=4, progress=False), described(given).of(neuron)
    assert alone.neurons == part.neurons == NeuronSet(LAYOUT, (neuron,))
    for table in TABLES:
        assert_frame_equal(getattr(alone, table), getattr(part, table), check_exact=True)


def test_a_corpus_of_labelled_sentences_is_described_by_its_texts() -> None:
    sentences = tuple(
        Sentence(text, tuple(text.split()), tuple((0, 1) for _ in text.split()), (label,), f"line {index}")
        for index, (text, label) in enumerate([("a fine day", "good"), ("a grey day", "bad"), ("so so", None)])
    )
    corpus = Corpus(sentences, label="mood", level="sentence")
    acts = Activations.of(np.array([[2.0], [1.0], [3.0]]))
    found = describe(acts, corpus, Neuron(0, 0), 2, progress=False)
    assert found.contexts.filter(direction="up")["word"].to_list() == ["so so", "a fine day"]
    assert found.contexts["left"].to_list() == [""] * 4
    assert found.contexts.filter(direction="down")["label"].to_list() == ["bad", "good"]
    assert found.words.is_empty()
    assert (found.profiles["best_class"][0], found.profiles["best_auc"][0]) == ("good", 1.0)
    assert np.isnan(found.profiles["eta_word"][0])


def test_without_two_classes_there_is_no_best_one() -> None:
    corpus = Corpus((Sentence.of(["a", "b"], ["X", None], "one"), Sentence.of(["a"], ["X"], "two")), label="x")
    found = describe(Activations.of(np.array([[1.0], [2.0], [4.0]])), corpus, Neuron(0, 0), min_count=1, progress=False)
    assert found.profiles["best_class"].to_list() == [None]
    assert np.isnan(found.profiles["best_auc"][0])
    assert found.words.filter(direction="up").select("word", "n", "mean").rows() == [("a", 2, 2.5), ("b", 1, 2.0)]
    bare = corpus.relabelled("y", lambda sentence: [None] * len(sentence.words))
    empty = describe(Activations.of(np.array([[1.0], [2.0], [4.0]])), bare, Neuron(0, 0), progress=False)
    assert empty.classes.is_empty()
    assert len(empty.contexts) == 6


def test_what_cannot_be_described_is_refused_in_one_line(given: tuple[Activations, Corpus]) -> None:
    acts, corpus = given
    other = random_corpus(seed=3)
    with pytest.raises(ActivationsError, match=r"of another corpus than the \d+ of this one: give the corpus"):
        describe(acts, other, Neuron(0, 0), progress=False)
    with pytest.raises(ActivationsError, match=r"^L1.U0 is not among the 3 neurons"):
        describe(acts.chosen(columns=[0, 1, 2]), corpus, Neuron(1, 0), progress=False)
    with pytest.raises(ActivationsError, match=r"^nothing to describe: 1 neurons over 0 rows"):
        describe(acts.chosen(rows=[]), corpus, Neuron(0, 0), progress=False)
    values = acts.array().copy()
    values[7, 2] = np.nan
    broken = replace(Activations.of(values, LAYOUT), items=acts.items, n_items=acts.n_items)
    with pytest.raises(ActivationsError, match=rf"^activations must be finite: L0.U2 is nan at item {acts.items[7]};"):
        describe_many(broken, corpus, acts.neurons(), progress=False)


def test_a_neuron_that_follows_one_word_names_it() -> None:
    corpus = random_corpus(200, seed=4)
    values = np.random.default_rng(0).normal(0, 0.1, size=(corpus.n_items, 1)) + 2.0 * (corpus.items == "w7")[:, None]
    found = describe(Activations.of(values), corpus, Neuron(0, 0), progress=False)
    assert found.words.row(0, named=True)["word"] == "w7"
    assert set(found.contexts.filter(pl.col("direction") == "up")["word"]) == {"w7"}
    assert found.profiles["adjusted_eta_word"][0] > 0.9
    assert found.profiles["adjusted_eta_label"][0] < 0.05
