"""Promises of ablation, of minimal sets and of how many of these there are."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuronatlas.neurons import Layout, LayoutMismatchError
from neuronatlas.probing.ablation import Ablation, ablation_curve, ablations
from neuronatlas.probing.examples import Examples, ExamplesError
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.scoring import Classifier, accuracy, hits, refitted
from neuronatlas.probing.selection import (
    SelectionError,
    _first_that_serves,
    disjoint_minimal_sets,
    minimal_set,
)
from neuronatlas.statistics import accuracy_interval
from tests.probing.planted import halves, logistic, planted, planted_first

PLANTED = (3, 11)
TRAIN, TEST = halves(planted((PLANTED,)))
RANKING = planted_first(TRAIN, PLANTED)


def curve(plan: tuple[Ablation, ...], seed: int = 0) -> pl.DataFrame:
    return ablation_curve(TRAIN, TEST, RANKING, plan, probe=logistic(), seed=seed, progress=False)


def accuracies(which: str, mode: str, *, retrained: bool) -> float:
    plan = ablations((which,), (mode,), (2 / 40,), (retrained,))  # type: ignore[arg-type]
    return float(curve(plan)["accuracy"][0])


@pytest.mark.parametrize("retrained", [False, True])
def test_without_its_top_neurons_a_property_is_gone_and_without_the_bottom_ones_it_is_not(retrained: bool) -> None:
    everything = accuracy(refitted(logistic(), TRAIN), TEST).estimate
    assert everything > 0.95
    assert accuracies("top", "drop", retrained=retrained) < 0.4
    assert accuracies("bottom", "drop", retrained=retrained) == pytest.approx(everything, abs=0.02)
    assert accuracies("top", "keep", retrained=retrained) > 0.95
    assert accuracies("bottom", "keep", retrained=retrained) < 0.4


def test_a_masked_neuron_stands_at_zero_in_standardised_units() -> None:
    probe = make_pipeline(StandardScaler(), logistic()).fit(TRAIN.array(), TRAIN.labels)
    found = ablation_curve(TRAIN, TEST, RANKING, ablations(("top",), shares=(0.25,)), probe=probe, progress=False)
    standard = probe[0].transform(TEST.array())
    standard[:, np.setdiff1d(range(40), RANKING.order[:10])] = 0
    assert found["accuracy"][0] == float(np.mean(probe[1].predict(standard) == TEST.labels))


def test_retraining_is_training_on_the_columns_that_are_left() -> None:
    found = curve(ablations(("bottom",), ("keep", "drop"), (0.3,), (True,)))
    for mode, left in (("keep", RANKING.order[-12:]), ("drop", RANKING.order[:-12])):
        columns = np.sort(left)
        fresh = logistic().fit(TRAIN.array()[:, columns], TRAIN.labels)
        expected = fresh.score(TEST.array()[:, columns], TEST.labels)
        assert found.filter(pl.col("mode") == mode)["accuracy"][0] == pytest.approx(expected)


def test_a_curve_has_a_row_an_ablation_with_its_interval_and_chance() -> None:
    plan = ablations(modes=("keep", "drop"), shares=(0.05, 0.5), retrained=(False, True))
    found = curve(plan)
    assert found.columns == ["which", "mode", "retrained", "share", "n_neurons", "accuracy", "low", "high", "chance"]
    assert [Ablation(*row) for row in found.select("which", "mode", "share", "retrained").iter_rows()] == list(plan)
    assert found["n_neurons"].to_list() == [2 if ablation.share == 0.05 else 20 for ablation in plan]
    assert (found["low"] <= found["accuracy"]).all()
    assert (found["accuracy"] <= found["high"]).all()
    labels, counts = np.unique(TRAIN.labels, return_counts=True)
    assert found["chance"].unique().to_list() == [float(np.mean(TEST.labels == labels[counts.argmax()]))]


def test_intervals_of_a_curve_resample_sentences() -> None:
    found = curve(ablations(("top",), shares=(1 / 40,), retrained=(True,)), seed=4)
    lone = [int(RANKING.order[0])]
    right = hits(refitted(logistic(), TRAIN.take_columns(lone)), TEST.take_columns(lone))
    expected = accuracy_interval(right, TEST.sentences, seed=4)
    assert found.select("accuracy", "low", "high").row(0) == (expected.estimate, expected.low, expected.high)
    assert expected.low < expected.estimate < expected.high


def test_all_kept_and_none_dropped_is_the_probe_itself_and_all_dropped_is_a_constant_answer() -> None:
    found = curve(ablations(("top", "random"), ("keep", "drop"), (1.0,), (False, True)))
    kept, dropped = (found.filter(pl.col("mode") == mode)["accuracy"] for mode in ("keep", "drop"))
    assert kept.to_list() == pytest.approx(4 * [accuracy(refitted(logistic(), TRAIN), TEST).estimate])
    shares = [float(np.mean(TEST.labels == label)) for label in TRAIN.classes]
    assert all(any(math.isclose(value, share) for share in shares) for value in dropped)
    retrained = found.filter(pl.col("mode") == "drop", pl.col("retrained"))
    assert retrained["accuracy"].to_list() == pytest.approx(retrained["chance"].to_list())


def test_the_same_seed_gives_the_same_curve_and_another_seed_other_random_neurons() -> None:
    plan = ablations(shares=(0.2, 0.5))
    assert curve(plan, seed=1).equals(curve(plan, seed=1))
    assert (
        not curve(plan, seed=1)
        .filter(pl.col("which") == "random")
        .equals(curve(plan, seed=2).filter(pl.col("which") == "random"))
    )
    exact = ["which", "share", "accuracy"]
    ranked = [curve(plan, seed=seed).filter(pl.col("which") != "random").select(exact) for seed in (1, 2)]
    assert ranked[0].equals(ranked[1])


def test_an_ablation_changes_no_activations() -> None:
    before = TEST.array().copy()
    curve(ablations(modes=("keep", "drop"), shares=(0.5,)))
    assert np.array_equal(TEST.array(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("best", "keep", 0.5), "which is 'best': one of top, bottom, random expected"),
        (("top", "hide", 0.5), "mode is 'hide': one of keep, drop expected"),
        (("top", "keep", 0.0), "a share of 0.0: above 0 and at most 1 expected"),
        (("top", "keep", float("nan")), "a share of nan: above 0"),
    ],
)
def test_an_ablation_that_is_none_is_refused(arguments: tuple[str, str, float], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        Ablation(*arguments)  # type: ignore[arg-type]


def test_a_ranking_that_does_not_suit_is_refused() -> None:
    layout = TRAIN.acts.layout
    short = Ranking(layout, np.arange(30), method="lca")
    with pytest.raises(SelectionError, match="the lca ranking names 30 of the 40 neurons of these examples"):
        minimal_set(TRAIN, TEST, short, probe=logistic(), progress=False)
    with pytest.raises(SelectionError, match="0 draws of random neurons: at least 1 expected"):
        ablation_curve(TRAIN, TEST, RANKING, probe=logistic(), draws=0, progress=False)
    other = Ranking(Layout(site="ffn", widths=layout.widths), np.arange(40), method="lca")
    with pytest.raises(LayoutMismatchError, match="site"):
        ablation_curve(TRAIN, TEST, other, probe=logistic(), progress=False)
    with pytest.raises(ExamplesError, match="the probe was fitted on 40 neurons, these examples have 2"):
        ablation_curve(TRAIN.take_columns([0, 1]), TEST, RANKING, probe=refitted(logistic(), TRAIN), progress=False)


def test_a_ranking_of_more_neurons_than_are_held_serves() -> None:
    columns = [*PLANTED, 5, 30, 31]
    part = [examples.take_columns(np.sort(columns)) for examples in (TRAIN, TEST)]
    found = minimal_set(part[0], part[1], RANKING, probe=logistic(), progress=False)
    assert [TRAIN.acts.layout.index(neuron) for neuron in found.neurons] == list(PLANTED)


@pytest.mark.parametrize("probe", [logistic(), ElasticNetProbe()], ids=["logistic", "elastic-net"])
def test_the_minimal_set_is_what_was_planted(probe: Classifier) -> None:
    columns = (3, 11, 25)
    train, dev = halves(planted((columns,), rows=800))
    found = minimal_set(train, dev, planted_first(train, (25, 3, 11)), probe=probe, progress=False)
    assert [train.acts.layout.index(neuron) for neuron in found.neurons] == list(columns)
    assert found.size == 3
    assert found.accuracy.estimate > 0.99
    assert found.loss.estimate == pytest.approx(found.accuracy_all.estimate - found.accuracy.estimate)
    kept = dev.take_columns(found.neurons)
    assert accuracy(found.probe, kept) == found.accuracy


def test_what_was_tried_is_told() -> None:
    found = minimal_set(TRAIN, TEST, RANKING, probe=logistic(), progress=False)
    assert found.tried.columns == ["n_neurons", "share", "accuracy", "low", "high", "loss", "serves"]
    assert found.tried["n_neurons"].is_sorted()
    assert found.tried["n_neurons"].to_list()[-1] == 40
    assert found.tried.filter("serves")["n_neurons"].min() == found.size == 2
    assert found.tried.filter(~pl.col("serves"))["n_neurons"].max() == 1


def test_sizes_of_ones_own_are_kept_to() -> None:
    found = minimal_set(TRAIN, TEST, RANKING, sizes=[10, 1, 5], probe=logistic(), progress=False)
    assert found.size == 5
    assert set(found.tried["n_neurons"]) <= {1, 5, 10, 40}
    with pytest.raises(SelectionError, match="a size of 41 neurons: from 1 to 40 expected"):
        minimal_set(TRAIN, TEST, RANKING, sizes=[41], probe=logistic(), progress=False)


def test_the_whole_is_its_own_minimal_set_where_nothing_may_be_lost() -> None:
    train, dev = (examples.take_columns(np.array(PLANTED)) for examples in (TRAIN, TEST))
    found = minimal_set(train, dev, RANKING, delta=0.0, probe=logistic(), progress=False)
    assert found.size == 2
    assert found.loss.estimate == 0.0
    with pytest.raises(SelectionError, match=r"delta is -0.1: a loss of accuracy from 0 to 1 expected, such as 0.01"):
        minimal_set(TRAIN, TEST, RANKING, delta=-0.1, probe=logistic(), progress=False)


def test_the_more_may_be_lost_the_fewer_neurons_are_needed() -> None:
    sizes = [
        minimal_set(TRAIN, TEST, RANKING, delta=delta, probe=logistic(), progress=False).size
        for delta in (0.01, 0.6, 0.9)
    ]
    assert sizes == [2, 1, 1]


@given(st.integers(1, 400), st.data())
def test_the_search_finds_the_smallest_size_and_tries_few(n_sizes: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(1, n_sizes))
    tried = []

    def serves(size: int) -> bool:
        tried.append(size)
        return size >= least

    assert _first_that_serves(list(range(1, n_sizes + 1)), serves) == least
    assert len(tried) <= 2 * math.log2(least + 1) + 2


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_where_scores_waver_the_set_serves_and_the_next_smaller_one_does_not(serves: list[bool]) -> None:
    serves[-1] = True
    found = _first_that_serves(list(range(len(serves))), lambda size: serves[size])
    assert serves[found]
    assert found == 0 or not serves[found - 1]


@pytest.mark.parametrize("copies", [1, 2, 4])
@pytest.mark.parametrize("probe", [logistic(), ElasticNetProbe()], ids=["logistic", "elastic-net"])
def test_there_are_as_many_disjoint_sets_as_copies_were_planted(copies: int, probe: Classifier) -> None:
    columns = (7, 21, 2, 38)[:copies]
    train, dev = halves(planted(tuple((column,) for column in columns)))
    found = disjoint_minimal_sets(
        train, dev, ranker=lambda part, _: planted_first(part, held(part, columns)), probe=probe, progress=False
    )
    assert len(found) == copies
    assert found.complete
    assert [addresses(train, one.neurons) for one in found.sets] == [[column] for column in columns]
    assert found.accuracy_all.estimate >= 0.99
    assert found.remaining.estimate < 0.7
    assert found.rest_probe is not None
    assert not set(columns) & set(addresses(train, found.rest))
    assert accuracy(found.rest_probe, dev.take_columns(found.rest)) == found.remaining


def test_sets_of_several_neurons_are_disjoint_too() -> None:
    copies = ((3, 11), (30, 6), (1, 22))
    train, dev = halves(planted(copies))
    order = tuple(column for copy in copies for column in copy)
    found = disjoint_minimal_sets(
        train, dev, ranker=lambda part, _: planted_first(part, held(part, order)), probe=logistic(), progress=False
    )
    assert [addresses(train, one.neurons) for one in found.sets] == [sorted(copy) for copy in copies]
    assert all(one.accuracy_all == found.accuracy_all for one in found.sets)


def test_the_ranking_by_the_probes_own_weights_finds_the_copies() -> None:
    train, dev = halves(planted(((7,), (21,))))
    found = disjoint_minimal_sets(train, dev, progress=False)
    assert sorted(addresses(train, one.neurons) for one in found.sets) == [[7], [21]]
    assert found.complete


def test_no_more_sets_are_looked_for_than_wanted() -> None:
    train, dev = halves(planted(((7,), (21,), (2,))))
    found = disjoint_minimal_sets(
        train,
        dev,
        ranker=lambda part, _: planted_first(part, held(part, (7, 21, 2))),
        most=2,
        probe=logistic(),
        progress=False,
    )
    assert len(found) == 2
    assert not found.complete
    assert found.remaining.estimate > 0.99


def test_when_every_neuron_is_taken_nothing_remains() -> None:
    train, dev = (examples.take_columns(np.array([7, 21])) for examples in halves(planted(((7,), (21,)))))
    found = disjoint_minimal_sets(
        train, dev, ranker=lambda part, _: planted_first(part, ()), probe=logistic(), progress=False
    )
    assert len(found) == 2
    assert found.complete
    assert math.isnan(found.remaining.estimate)


def test_random_labels_give_chance() -> None:
    rng = np.random.default_rng(0)
    train, test = halves(TRAIN.relabelled(rng.choice(["X", "Y"], size=len(TRAIN))))
    found = ablation_curve(train, test, planted_first(train, ()), probe=logistic(), progress=False)
    # 100 rows: four standard errors of a fair coin.
    assert found["accuracy"].to_list() == pytest.approx([0.5] * len(found), abs=0.2)


def addresses(examples: Examples, neurons: object) -> list[int]:
    return [examples.acts.layout.index(neuron) for neuron in neurons]  # type: ignore[attr-defined]


def held(examples: Examples, columns: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(column for column in columns if column in examples.acts.columns)
