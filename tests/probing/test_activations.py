"""Rows of neurons know which corpus, model and neurons they are of, and refuse others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.models import Model, load
from neuronatlas.neurons import Layout, LayoutMismatchError
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.extraction import extract
from neuronatlas.specimen import specimen_folder

LAYOUT = Layout("hidden", (2, 3))
VALUES = np.arange(20.0).reshape(4, 5)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(specimen_folder())


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    words = (["Paris", "is", "a", "city"], ["it", "is"])
    return Corpus(
        tuple(Sentence.of(w, w, f"test, line {i}") for i, w in enumerate(words, start=1)), "word", name="test"
    )


@pytest.fixture(scope="module")
def acts(model: Model, corpus: Corpus) -> Activations:
    return extract(model, corpus, "attention", progress=False)


INDEX = st.integers(-4, 3)


@given(rows=st.lists(INDEX), then=st.lists(st.booleans(), min_size=5, max_size=5), again=st.slices(4))
def test_a_view_of_a_view_reads_what_numpy_would(rows: list[int], then: list[bool], again: slice) -> None:
    acts = Activations.of(VALUES, LAYOUT)
    view = acts.chosen(rows=rows).chosen(columns=then)
    expected = VALUES[np.array(rows, dtype=int)][:, then]
    np.testing.assert_array_equal(view.array(), expected)
    np.testing.assert_array_equal(view.items, np.arange(4)[np.array(rows, dtype=int)])
    np.testing.assert_array_equal(view.columns, np.flatnonzero(then))
    np.testing.assert_array_equal(acts.chosen(rows=again).array(), VALUES[again])
    assert np.asarray(view).dtype == np.float32


def test_neurons_are_found_by_their_addresses_in_any_view() -> None:
    acts = Activations.of(VALUES, LAYOUT).chosen(columns=[4, 0, 2])
    np.testing.assert_array_equal(acts.chosen(columns=LAYOUT.set(["L0.U0", "L1.U2"])).array(), VALUES[:, [0, 4]])
    assert acts.neurons() == LAYOUT.set(["L0.U0", "L1.U0", "L1.U2"])
    with pytest.raises(ActivationsError, match=r"^L0\.U1 is not among the 3 neurons of these activations$"):
        acts.chosen(columns=LAYOUT.set(["L0.U0", "L0.U1"]))
    with pytest.raises(LayoutMismatchError, match="site is 'hidden' here and 'ffn' there"):
        acts.chosen(columns=replace(LAYOUT, site="ffn").set(["L0.U0"]))


@pytest.mark.parametrize("rows", [[4], [-5], [True, False]])
def test_places_that_are_not_there_are_refused(rows: list[int]) -> None:
    with pytest.raises(ActivationsError, match="no such rows among 4"):
        Activations.of(VALUES).chosen(rows=rows)


def test_labels_of_items_and_of_rows_meet_their_rows() -> None:
    acts = replace(Activations.of(VALUES, LAYOUT), items=np.array([0, 2, 3, 5]), n_items=6)
    view, labels = acts.align(np.array(["a", "x", None, "b", "x", "c"], dtype=object))
    assert labels.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(view.array(), VALUES[[0, 2, 3]])
    assert acts.align(["a", "b", "c", "d"])[1].tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ActivationsError, match=r"^labels of shape \(5,\) for 4 rows, or 6 for the items"):
        acts.align(["a"] * 5)


def test_they_go_with_their_corpus_whatever_its_labels(acts: Activations, corpus: Corpus, model: Model) -> None:
    acts.require(corpus.relabelled("length", lambda sentence: [str(len(word)) for word in sentence.words]), model)
    Activations.of(VALUES).require(replace(corpus, sentences=corpus.sentences[:1]))
    with pytest.raises(ActivationsError, match=r"^activations of 6 items do not go with test, which has 2: extract"):
        acts.require(corpus.take([1]))
    others = tuple(replace(sentence, words=tuple(w[::-1] for w in sentence.words)) for sentence in corpus.sentences)
    with pytest.raises(ActivationsError, match=r"^activations of other words \(digest \w{16}\) than those of test"):
        acts.require(replace(corpus, sentences=others))


def test_they_go_with_their_model_as_it_is_now(acts: Activations, corpus: Corpus, model: Model) -> None:
    changed = replace(acts, layout=replace(acts.layout, digest="0123456789abcdef"))
    with pytest.raises(ActivationsError, match=r"^activations of another model than .*: digest is '0123456789abcdef'"):
        changed.require(corpus, model)
    with pytest.raises(ActivationsError, match=r"^activations of another model than .*: widths is \(3,\)"):
        replace(acts, layout=replace(acts.layout, widths=(3,))).require(corpus, model)


def test_they_say_what_they_are(acts: Activations) -> None:
    assert repr(acts).startswith("Activations(6 rows of 256 neurons, site 'attention' of ")
    assert repr(Activations.of(VALUES)) == "Activations(4 rows of 5 neurons, site 'array')"
