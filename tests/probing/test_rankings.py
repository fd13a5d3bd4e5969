"""What every ranking in the registry promises, and what `rank` refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations, ActivationsError, Block, Indices
from neuronatlas.probing.agreement import agreement
from neuronatlas.probing.ranking import Ranking, RankingError
from neuronatlas.probing.rankings import RANKINGS, rank

METHODS = list(RANKINGS)
CLASSES = ("adj", "noun", "num", "verb")
PLANTED = (5, 17, 30, 44)
"""One neuron for each class."""


@dataclass
class ClassMeans:
    """A sparse linear probe without training: class means of standardised columns, less those near 0."""

    classes_: Any
    coef_: Any
    mean_: Any
    scale_: Any

    @classmethod
    def fitted(cls, values: np.ndarray, labels: np.ndarray) -> ClassMeans:
        mean, scale = values.mean(axis=0), values.std(axis=0) + (values.std(axis=0) == 0)
        classes = np.unique(labels)
        means = np.stack([((values - mean) / scale)[labels == name].mean(axis=0) for name in classes])
        coefficients = np.sign(means) * np.maximum(np.abs(means) - 0.03, 0)
        return cls(classes, coefficients[1:] if len(classes) == 2 else coefficients, mean, scale)


def noise(seed: int, n_rows: int = 400, n_columns: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_rows, n_columns)).astype(np.float32)
    return values, rng.choice(CLASSES, n_rows, p=[0.1, 0.4, 0.2, 0.3])


def planted(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each planted neuron is raised by three standard deviations where its class is."""
    values, labels = noise(seed)
    for neuron, name in zip(PLANTED, CLASSES, strict=True):
        values[labels == name, neuron] += 3
    return values, labels


def ranked(values: np.ndarray, labels: np.ndarray, method: str, **options: Any) -> Ranking:
    probe = ClassMeans.fitted(values, labels) if RANKINGS[method].needs_probe else None
    return rank(values, labels, method, probe, progress=False, **options)


def by_neuron(ranking: Ranking) -> np.ndarray:
    assert ranking.scores is not None
    scores = np.empty(len(ranking))
    scores[ranking.order] = ranking.scores
    return scores


@pytest.mark.parametrize("method", METHODS)
def test_planted_neurons_come_first(method: str) -> None:
    ranking = ranked(*planted(0), method)
    assert set(ranking.order[: len(PLANTED)]) == set(PLANTED)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in {"gaussian", "vote"}])
def test_each_class_has_its_planted_neuron_first(method: str) -> None:
    ranking = ranked(*planted(1), method)
    assert {name: order[0] for name, order in ranking.by_class.items()} == dict(zip(CLASSES, PLANTED, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_planted_neurons_come_first_of_two_classes(method: str) -> None:
    values, labels = noise(2)
    labels = np.where(np.isin(labels, ["noun", "num"]), "noun", "verb")
    values[:, 7] += 2 * (labels == "noun")
    values[:, 8] -= 2 * (labels == "noun")
    assert set(ranked(values, labels, method).order[:2]) == {7, 8}


@pytest.mark.parametrize("method", METHODS)
def test_random_labels_put_nothing_special_first(method: str) -> None:
    values, labels = noise(3)
    other = np.random.default_rng(4).permutation(labels)
    found = agreement(ranked(values, labels, method), ranked(values, other, method), count=10)
    assert abs(found.shared - found.chance) < 4 * found.deviation


@pytest.mark.parametrize("method", METHODS)
def test_every_column_is_ranked_once_constants_too(method: str) -> None:
    values, labels = planted(5)
    values[:, 3], values[:, 4] = 0.1, 1e5
    assert sorted(ranked(values, labels, method).order) == list(range(50))


@pytest.mark.parametrize("method", METHODS)
def test_more_neurons_than_rows_are_ranked_too(method: str) -> None:
    values, labels = noise(5, n_rows=30, n_columns=80)
    assert sorted(ranked(values, labels, method).order) == list(range(80))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_input_gives_the_same_ranking_and_stays_as_it_is(method: str) -> None:
    values, labels = planted(6)
    before = values.copy(), labels.copy()
    first, second = ranked(values, labels, method), ranked(values, labels, method)
    assert first.scores is not None
    assert second.scores is not None
    assert first.order.tobytes() == second.order.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()
    assert first.notes == second.notes
    assert np.array_equal(values, before[0])
    assert np.array_equal(labels, before[1])


@pytest.mark.parametrize("method", METHODS)
def test_moving_columns_moves_their_places_and_nothing_else(method: str) -> None:
    values, labels = planted(7)
    moved = np.random.default_rng(8).permutation(50)
    here, there = ranked(values, labels, method), ranked(values[:, moved], labels, method)
    np.testing.assert_allclose(by_neuron(there), by_neuron(here)[moved], rtol=1e-5, atol=1e-9)
    if method not in {"iou", "vote"}:  # whose scores tie, and ties go by address
        assert np.array_equal(moved[there.order], here.order)


@pytest.mark.parametrize("method", METHODS)
def test_renaming_classes_changes_no_order(method: str) -> None:
    values, labels = planted(9)
    numbers = np.searchsorted(CLASSES, labels)
    assert np.array_equal(ranked(values, labels, method).order, ranked(values, numbers, method).order)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "gaussian"])
def test_scores_fall_along_the_order(method: str) -> None:
    scores = ranked(*planted(10), method).scores
    assert scores is not None
    assert (np.diff(scores) <= 0).all()


@dataclass(frozen=True)
class Shards:
    """Rows that are read in pieces and never all at once."""

    array: Block

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[0], self.array.shape[1]

    def read(self, rows: slice | Indices, columns: Indices | None) -> Block:
        block = self.array[rows].copy()
        assert len(block) <= 2048
        return block if columns is None else block[:, columns]


@pytest.mark.parametrize("method", METHODS)
def test_rows_on_disk_rank_as_rows_in_memory(method: str) -> None:
    values, labels = noise(11, n_rows=2500, n_columns=12)
    values[:, 5] += labels == "num"
    probe = ClassMeans.fitted(values, labels)
    layout = Layout(site="hidden", widths=(6, 6))
    memory = Activations.of(values, layout)
    here = rank(memory, labels, method, probe, progress=False)
    there = rank(replace(memory, source=Shards(values)), labels, method, probe, progress=False)
    assert here.layout == layout
    assert np.array_equal(here.order, there.order)


@pytest.mark.parametrize("method", METHODS)
def test_a_ranking_names_neurons_by_their_address_in_the_model(method: str) -> None:
    values, labels = planted(12)
    kept = np.array([2, 5, 17, 30, 33, 44, 49])
    acts = Activations.of(values, Layout(site="hidden", widths=(25, 25))).chosen(columns=kept)
    ranking = rank(acts, labels, method, ClassMeans.fitted(values[:, kept], labels), progress=False)
    assert sorted(ranking.order) == kept.tolist()
    assert set(ranking.order[:4]) == set(PLANTED)
    assert all(sorted(order) == kept.tolist() for order in ranking.by_class.values())


@pytest.mark.parametrize("method", METHODS)
def test_rows_without_a_label_are_left_out(method: str) -> None:
    values, labels = planted(13)
    some = labels.astype(object)
    some[::7] = None
    there = some != None  # noqa: E711
    probe = ClassMeans.fitted(values, labels)
    here = rank(values, some, method, probe, progress=False)
    alone = rank(values[there], labels[there], method, probe, progress=False)
    assert np.array_equal(here.order, alone.order)


def test_labels_may_be_those_of_the_corpus_items() -> None:
    values, labels = planted(14)
    acts = replace(Activations.of(values), items=np.arange(400) * 2, n_items=800)
    of_items = np.repeat(labels, 2)
    here, there = rank(acts, of_items, "probeless", progress=False), rank(values, labels, "probeless", progress=False)
    assert np.array_equal(here.order, there.order)


def test_probeless_orders_as_the_toolkit_does(golden_dir: Path) -> None:
    golden = load_file(golden_dir / "neurox" / "inputs.safetensors")
    ranking = rank(golden["X"], golden["y"], "probeless", progress=False)
    assert np.array_equal(ranking.order, golden["probeless"])


def test_without_a_probe_one_is_fitted_and_told() -> None:
    values, labels = planted(15)
    ranking = rank(values, labels, "lca", progress=False)
    assert set(ranking.order[: len(PLANTED)]) == set(PLANTED)
    assert "ElasticNetProbe" in ranking.notes[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_place(method: str, bad: float) -> None:
    values, labels = planted(16)
    probe = ClassMeans.fitted(values, labels)
    values[321, 12] = bad
    with pytest.raises(RankingError, match=rf"L0\.U12 is {bad} at item 321"):
        rank(values, labels, method, probe, progress=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 4, "at least two classes: there is one, 'a', in 4 rows"),
        ([None] * 4, "at least two classes: there is none, in 0 rows"),
        (["a", "b", 1, 2], "labels of several types"),
        ([0.5, 1.5, 2.0, 3.0], "labels are numbers such as 0.5: classes expected"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_labels_that_are_no_classes_are_refused(method: str, labels: list[Any], message: str) -> None:
    given = np.array(labels, dtype=object if isinstance(labels[0], str | None) else None)
    with pytest.raises(RankingError, match=message):
        rank(np.ones((4, 2)), given, method, progress=False)


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(ActivationsError, match="labels of shape"):
        rank(np.ones((4, 2)), ["a", "b"], "probeless", progress=False)


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(RankingError, match="no ranking 'lda': the methods are lca, probeless"):
        rank(np.ones((4, 2)), ["a", "b"] * 2, "lda", progress=False)


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_option_is_refused_with_those_there_are(method: str) -> None:
    with pytest.raises(RankingError, match=f"the {method} ranking has no option 'depth'; its options: "):
        rank(np.ones((4, 2)), ["a", "b"] * 2, method, progress=False, depth=3)


def test_a_vote_takes_its_voters_by_name() -> None:
    ranking = ranked(*planted(17), "vote", methods=("probeless", "iou"), count=4)
    assert set(ranking.order[:4]) == set(PLANTED)
    assert ranking.notes == ("a vote of probeless, iou by their first 4 neurons",)
    with pytest.raises(RankingError, match="no voter 'vote': the methods that can vote are lca"):
        ranked(*planted(17), "vote", methods=("probeless", "vote"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_what_it_does_and_in_which_unit(method: str) -> None:
    assert RANKINGS[method].name == method
    assert RANKINGS[method].description
    assert RANKINGS[method].score
