"""Sets of single classes are measured on enough words of both sides, or said to be left out."""

from __future__ import annotations

import numpy as np
import pytest

import neuronatlas as na
from neuronatlas.probing.examples import Examples, Split
from neuronatlas.probing.selection import SelectionError
from neuronatlas.studies.salient_neurons.measuring import against_rest, too_few


def part(own: int, others: int) -> Examples:
    labels = ["A"] * own + ["B"] * others
    values = np.random.default_rng(own).normal(size=(len(labels), 3)).astype(np.float32)
    return Examples.of(na.Activations.of(values), labels, ["w"] * len(labels), range(len(labels)))


@pytest.mark.parametrize(
    ("dev", "test", "why"),
    [
        ((20, 20), (20, 20), ""),
        ((9, 20), (20, 20), "9 words of it in dev or in test, at least 10 needed"),
        ((20, 20), (20, 9), "9 words of other classes in dev or in test, at least 10 needed"),
        ((20, 0), (20, 20), "0 words of other classes in dev or in test, at least 10 needed"),
    ],
)
def test_a_class_needs_words_of_its_own_and_of_the_others(
    dev: tuple[int, int], test: tuple[int, int], why: str
) -> None:
    parts = Split(part(50, 50), part(*dev), part(*test))
    assert too_few(parts, "A") == why
    if not why:
        assert min(against_rest(parts, "A", seed=0).dev.counts().values()) == 20


def test_no_set_is_chosen_on_no_data() -> None:
    train = part(30, 30)
    ranking = na.rank(train.acts, train.labels, method="lca", progress=False)
    with pytest.raises(SelectionError, match="dev has no rows"):
        na.minimal_set(train, train.take(np.array([], dtype=int)), ranking, progress=False)
