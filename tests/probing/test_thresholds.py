"""Neurons as detectors: average precision against scikit-learn, intersection over union against plain masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from neuronatlas.probing import thresholds
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.thresholds import Measure, average_precisions, best_overlaps, detection

MEASURES = (average_precisions, best_overlaps)


def expected(measure: Measure, values: np.ndarray, is_class: np.ndarray) -> float:
    if measure is average_precisions:
        return float(average_precision_score(is_class, values))
    masks = values >= np.unique(values)[:, None]
    return float(((masks & is_class).sum(axis=1) / (masks | is_class).sum(axis=1)).max())


def compare(values: np.ndarray, codes: np.ndarray, n_classes: int, measure: Measure) -> None:
    found = detection(values, codes, n_classes, measure)
    for direction, sign in enumerate((1, -1)):
        for code in range(n_classes):
            wanted = [expected(measure, sign * column, codes == code) for column in values]
            np.testing.assert_allclose(found[direction, code], wanted, rtol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
@given(data=st.data())
def test_ties_count_as_one_threshold(measure: Measure, data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(3, 12))
    others = data.draw(st.lists(st.integers(0, 2), min_size=n_rows - 3, max_size=n_rows - 3))
    codes = np.array(data.draw(st.permutations([0, 1, 2, *others])))
    values = data.draw(arrays(np.float32, (2, n_rows), elements=st.integers(-2, 2)))
    compare(values, codes, 3, measure)


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_are_those_of_one_class_and_one_neuron_at_a_time(measure: Measure) -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(5), rng.choice(5, 195, p=[0.6, 0.2, 0.1, 0.06, 0.04])])
    values = rng.standard_normal((6, 200)).astype(np.float32)
    values[3] = np.round(values[3])
    compare(values, codes, 5, measure)


@pytest.mark.parametrize("method", ["average-precision", "iou"])
def test_a_constant_neuron_scores_at_chance(method: str) -> None:
    labels = np.array(["a", "b", "b", "b", "c"] * 6)
    ranking = rank(np.full((30, 2), 0.1), labels, method, progress=False)
    assert ranking.scores is not None
    np.testing.assert_allclose(ranking.scores, 0, atol=1e-12)


@pytest.mark.parametrize("method", ["average-precision", "iou"])
def test_a_neuron_that_is_low_for_a_class_counts_like_one_that_is_high(method: str) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    values = rng.standard_normal((200, 6))
    values[:, 2] -= 5 * (labels == 1)
    assert rank(values, labels, method, progress=False).order[0] == 2


@pytest.mark.parametrize("method", ["average-precision", "iou"])
def test_a_frequent_class_has_no_advantage(method: str) -> None:
    rng = np.random.default_rng(2)
    labels = np.where(np.arange(1000) < 900, "frequent", np.where(np.arange(1000) < 950, "rare", "rarer"))
    values = rng.standard_normal((1000, 6))
    values[:, 4] += 2 * (labels == "rarer")
    assert rank(values, labels, method, progress=False).order[0] == 4


def test_columns_read_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values, labels = rng.standard_normal((50, 9)), rng.integers(0, 3, 50)
    whole = rank(values, labels, "iou", progress=False)
    monkeypatch.setattr(thresholds, "BLOCK_BYTES", 50 * 4 * 2)
    assert np.array_equal(rank(values, labels, "iou", progress=False).scores, whole.scores)  # type: ignore[arg-type]
