"""Promises of control tasks, selectivity and the baselines that need no model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.probing.controls import accuracy_by_exposure, baselines, control_labels, selectivity
from neuronatlas.probing.examples import Examples, ExamplesError, split_by_words
from neuronatlas.probing.scoring import accuracy, refitted
from neuronatlas.statistics import accuracy_interval
from tests.probing.planted import halves, logistic, planted

WORDS = ["the", "The", "THE", "cat", "Cat", "sat", "mat"]
tokens = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from(["A", "B", "C", None])),
    min_size=1,
    max_size=40,
).filter(lambda pairs: any(label is not None for _, label in pairs))


@given(tokens, st.integers(0, 2**40))
def test_a_word_type_has_one_control_label(pairs: list[tuple[str, str | None]], seed: int) -> None:
    words, labels = zip(*pairs, strict=True)
    control = control_labels(words, labels, seed)
    drawn: dict[str, set[str]] = {}
    for word, label, given_label in zip(words, control, labels, strict=True):
        assert (label is None) == (given_label is None)
        if label is not None:
            drawn.setdefault(word.lower(), set()).add(label)
    assert all(len(names) == 1 for names in drawn.values())
    assert set().union(*drawn.values()) <= {label for label in labels if label is not None}
    assert control.tolist() == control_labels(words, labels, seed).tolist()


@given(tokens, st.integers(0, 99), st.randoms(use_true_random=False))
def test_control_labels_do_not_depend_on_the_order_of_words(
    pairs: list[tuple[str, str | None]], seed: int, random: np.random.Generator
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    found = []
    for some in (pairs, shuffled):
        words, labels = [word for word, label in some if label], [label for _, label in some if label]
        found.append(dict(zip(words, control_labels(words, labels, seed), strict=True)))
    assert found[0] == found[1]


def test_the_distribution_of_labels_is_kept_over_word_types() -> None:
    n_types, shares = 20_000, {"A": 0.6, "B": 0.3, "C": 0.1}
    labels = np.repeat(list(shares), [int(share * n_types) for share in shares.values()])
    control = control_labels([f"w{number}" for number in range(n_types)], labels, seed=3)
    for name, share in shares.items():
        # Four standard errors of a share.
        assert np.mean(control == name) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n_types))


def test_the_distribution_of_labels_is_kept_over_words_in_expectation() -> None:
    # One type has half of all words, so one draw is far off; the mean over draws is not.
    words, labels = ["the"] * 10 + [f"w{number}" for number in range(10)], ["A"] * 6 + ["B"] * 14
    shares = [float(np.mean(control_labels(words, labels, seed) == "A")) for seed in range(3000)]
    assert max(shares) >= 0.7
    assert np.mean(shares) == pytest.approx(0.3, abs=4 * float(np.std(shares)) / math.sqrt(3000))


def test_seeds_draw_independent_control_labels() -> None:
    words, labels = [f"w{number}" for number in range(4000)], ["A", "B"] * 2000
    first, second = control_labels(words, labels, 0), control_labels(words, labels, 1)
    assert np.mean(first == second) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))


def test_words_and_labels_that_do_not_match_are_refused() -> None:
    with pytest.raises(ExamplesError, match="2 labels for 1 words: one a word expected"):
        control_labels(["a"], ["A", "B"])
    with pytest.raises(ExamplesError, match="none of the 2 words has a label"):
        control_labels(["a", "b"], [None, None])


def memorising(n_types: int = 40, rows: int = 800) -> Examples:
    """Neurons that name the word and nothing else; each word always has the same label."""
    types = np.random.default_rng(0).integers(0, n_types, size=rows)
    labels = np.where(types % 2, "odd", "even")
    return Examples.of(np.eye(n_types)[types], labels, [f"w{kind}" for kind in types], np.arange(rows) // 5)


def test_a_probe_that_memorises_words_has_no_selectivity() -> None:
    train, test = halves(memorising())
    found = selectivity(train, test, probe=logistic())
    assert found.accuracy.estimate == 1.0
    assert found.control_accuracy.estimate == 1.0
    assert found.selectivity.estimate == found.selectivity.low == found.selectivity.high == 0.0
    assert found.n_types == 40


def test_a_probe_that_reads_the_property_off_is_selective() -> None:
    train, test = halves(planted(((3,),), rows=1000))
    found = selectivity(train, test, probe=logistic(), control_seed=1)
    assert found.accuracy.estimate > 0.99
    # Words tell nothing in these neurons, so the control task is guessed.
    assert found.control_accuracy.low < 0.55
    assert found.selectivity.low > 0.35
    assert found.selectivity.estimate == pytest.approx(found.accuracy.estimate - found.control_accuracy.estimate)


def test_selectivity_needs_no_probe_and_repeats() -> None:
    train, test = halves(planted(((3,),), rows=300))
    assert selectivity(train, test) == selectivity(train, test)


def test_selectivity_uses_a_fitted_probe_as_it_is() -> None:
    train, test = halves(planted(((3,),), rows=300))
    flipped = refitted(logistic(), train.relabelled(np.where(train.labels == "0", "1", "0")))
    assert selectivity(train, test, probe=flipped).accuracy.estimate < 0.1


def test_one_control_label_for_all_is_one_clear_line() -> None:
    train = Examples.of(np.eye(4), ["A", "B"] * 2, ["the"] * 4, range(4))
    with pytest.raises(ExamplesError, match=r"all 1 word types of train got the control label '[AB]', two are needed"):
        selectivity(train, train, probe=logistic())


def test_a_split_by_words_shows_memorising() -> None:
    examples = memorising()
    parts = split_by_words(examples, (0.6, 0.2, 0.2), seed=1)
    probe = refitted(logistic(), parts.train)
    assert accuracy(probe, parts.train).estimate == 1.0
    # Each new word is a neuron that train never saw, so all get one and the same answer.
    shares = [float(np.mean(parts.test.labels == name)) for name in ("odd", "even")]
    assert accuracy(probe, parts.test).estimate in shares


def test_baselines_are_what_counting_gives() -> None:
    words = ["the", "The", "the", "a", "cat", "run", "run", "Run", "saw", "saw"]
    labels = ["D", "D", "D", "D", "N", "V", "V", "N", "N", "V"]
    train = Examples.of(np.ones((10, 1)), labels, words, range(10))
    numbers = [0, 0, 1, 1, 1]
    test = Examples.of(np.ones((5, 1)), ["D", "V", "D", "V", "N"], ["THE", "run", "bird", "saw", "Cat"], numbers)
    found = baselines(train, test, seed=2)
    # D is the majority; "run" is V oftener than N; "bird" is new, so D; "saw" is N and V once each, so N, by name.
    assert found.majority == accuracy_interval([1, 0, 1, 0, 0], numbers, seed=2)
    assert found.word_majority == accuracy_interval([1, 1, 1, 0, 1], numbers, seed=2)
    assert baselines(train, train).word_majority.estimate == 8 / 10


def test_memorising_words_is_as_good_as_the_word_baseline() -> None:
    train, test = halves(memorising())
    found = baselines(train, test)
    assert found.word_majority.estimate == 1.0
    assert found.majority.estimate < 0.6


def test_accuracy_on_words_seen_and_unseen_is_that_of_their_rows() -> None:
    train, test = halves(planted(((3,),), rows=400, n_words=250))
    probe = refitted(logistic(), train.relabelled(np.random.default_rng(0).choice(["0", "1"], size=len(train))))
    found = accuracy_by_exposure(probe, train, test, seed=5)
    seen = np.isin(test.types(), train.types())
    right = probe.predict(test.array()) == test.labels
    assert (found.n_seen, found.n_unseen) == (int(seen.sum()), int((~seen).sum()))
    assert found.seen == accuracy_interval(right[seen], test.sentences[seen], seed=5)
    assert found.unseen == accuracy_interval(right[~seen], test.sentences[~seen], seed=5)


def test_where_every_word_was_seen_the_rest_is_nan() -> None:
    train, _ = halves(planted(((3,),), rows=100))
    found = accuracy_by_exposure(refitted(logistic(), train), train, train)
    assert found.n_unseen == 0
    assert math.isnan(found.unseen.estimate)
