"""Promises of correlation clusters, of overlaps between properties and of layer histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, fisher_exact
from sklearn.cluster import AgglomerativeClustering

from neuronatlas.neurons import Layout, LayoutMismatchError, NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.redundancy import (
    RedundancyError,
    correlation_tree,
    correlations,
    layer_histogram,
    overlaps,
)

LAYOUT = Layout(site="hidden", widths=(30, 20))


def mixed(rows: int, columns: int, seed: int, sources: int = 4) -> np.ndarray:
    """Columns that are noisy mixtures of a few sources, far from 0 and of very different scales."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, sources)) @ rng.normal(size=(sources, columns)) + rng.normal(size=(rows, columns))
    return (values + rng.normal(scale=20, size=columns)) * 10.0 ** rng.integers(-3, 4, size=columns)


@pytest.mark.parametrize("rows", [2, 50, 5000])
def test_correlations_are_those_of_numpy(rows: int) -> None:
    values = mixed(rows, 12, seed=rows).astype(np.float32)
    matrix, constant = correlations(Activations.of(values), progress=False)
    assert not constant.any()
    assert np.abs(matrix - np.corrcoef(values.astype(np.float64), rowvar=False)).max() < 1e-5
    assert np.array_equal(matrix, matrix.T)


def test_the_same_rows_give_the_same_correlations_wherever_they_lie() -> None:
    values = mixed(300, 8, seed=0)
    acts = Activations.of(values)
    padded = Activations.of(np.repeat(values, 2, axis=0)).chosen(rows=range(0, 600, 2))
    assert np.array_equal(correlations(acts, progress=False)[0], correlations(padded, progress=False)[0])


def test_a_constant_neuron_is_alone_and_counted() -> None:
    values = mixed(60, 5, seed=1)
    values[:, 2] = 0.1
    tree = correlation_tree(Activations.of(values), progress=False)
    clusters = tree.cut(0.99)
    assert clusters.n_constant == 1
    assert len(clusters.members(int(clusters.ids[2]))) == 1


@given(st.integers(2, 14), st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.5, 0.8]))
def test_clusters_are_those_of_scikit_learn(columns: int, seed: int, threshold: float) -> None:
    values = mixed(40, columns, seed, sources=2)
    matrix, _ = correlations(Activations.of(values), progress=False)
    distances = 1 - np.abs(matrix.astype(np.float64))
    oracle = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=threshold
    ).fit(distances)
    found = correlation_tree(Activations.of(values), progress=False).cut(threshold)
    assert partition(found.ids) == partition(oracle.labels_)
    assert found.redundant == pytest.approx(1 - oracle.n_clusters_ / columns)


def partition(ids: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(ids == index).tolist()) for index in np.unique(ids)}


def copied() -> Activations:
    """Fifty neurons: ten sources, each copied five times with a little noise, some upside down, in random places."""
    rng = np.random.default_rng(0)
    sources = np.repeat(rng.normal(size=(500, 10)), 5, axis=1) * rng.choice([-1, 1], size=50)
    values = sources + rng.normal(scale=0.1, size=(500, 50))
    return Activations.of(values[:, rng.permutation(50)], LAYOUT)


def test_planted_copies_are_found_and_the_redundant_share_told() -> None:
    acts = copied()
    clusters = correlation_tree(acts, progress=False).cut(0.3)
    assert clusters.n_clusters == 10
    assert clusters.redundant == 0.8
    sizes = [len(clusters.members(index)) for index in range(10)]
    assert sizes == [5] * 10
    correlated = np.abs(np.corrcoef(acts.array(), rowvar=False)) > 0.9
    assert all((correlated[row] == (clusters.ids == clusters.ids[row])).all() for row in range(50))


def test_clusters_are_numbered_by_their_first_neuron() -> None:
    ids = correlation_tree(copied(), progress=False).cut(0.3).ids
    first = [int(np.argmax(ids == index)) for index in range(10)]
    assert first == sorted(first)


def test_one_neuron_stands_for_each_cluster() -> None:
    acts = copied()
    clusters = correlation_tree(acts, progress=False).cut(0.3)
    by_address = clusters.representatives()
    ranking = Ranking(LAYOUT, np.arange(50)[::-1].copy(), method="by hand")
    by_rank = clusters.representatives(ranking)
    for chosen, pick in ((by_address, min), (by_rank, max)):
        flat = [LAYOUT.index(neuron) for neuron in chosen]
        assert flat == sorted(pick(np.flatnonzero(clusters.ids == index)) for index in range(10))
    with pytest.raises(LayoutMismatchError):
        clusters.representatives(Ranking(Layout(site="ffn", widths=(50,)), np.arange(50), method="by hand"))


def test_clusters_of_chosen_columns_keep_their_addresses() -> None:
    acts = copied().chosen(columns=np.arange(30, 50))
    clusters = correlation_tree(acts, progress=False).cut(0.3)
    assert {neuron.layer for neuron in clusters.representatives()} == {1}
    assert sum(len(clusters.members(index)) for index in range(clusters.n_clusters)) == 20


def test_one_neuron_is_one_cluster() -> None:
    clusters = correlation_tree(copied().chosen(columns=[7]), progress=False).cut(0.3)
    assert (clusters.n_clusters, clusters.redundant) == (1, 0.0)


def test_the_higher_the_threshold_the_fewer_clusters() -> None:
    tree = correlation_tree(Activations.of(mixed(80, 30, seed=2)), progress=False)
    counts = [tree.cut(threshold).n_clusters for threshold in (0.0, 0.2, 0.4, 0.6, 0.8, 0.99)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 30


def test_what_cannot_be_correlated_is_one_clear_line() -> None:
    acts = copied()
    with pytest.raises(RedundancyError, match="1 rows of activations: correlations need at least two"):
        correlations(acts.chosen(rows=[0]), progress=False)
    with pytest.raises(
        RedundancyError, match=r"correlations of 50 neurons need 0.0 GB, at most 40 neurons are allowed"
    ):
        correlations(acts, most=40, progress=False)
    with pytest.raises(RedundancyError, match=r"threshold 1: a distance 1 - \|correlation\| from 0 up to 1 expected"):
        correlation_tree(acts, progress=False).cut(1)
    for bad in (math.nan, math.inf):
        values = acts.array().copy()
        values[3, 31] = bad
        with pytest.raises(RedundancyError, match=f"L1.U1 is {bad} at item 3: finite activations expected"):
            correlations(Activations.of(values, LAYOUT), progress=False)


neuron_sets = st.sets(st.integers(0, 49), max_size=30).map(
    lambda flat: NeuronSet(LAYOUT, tuple(LAYOUT.neuron(index) for index in sorted(flat)))
)


@given(neuron_sets, neuron_sets)
def test_overlaps_are_tested_as_fisher_does(first: NeuronSet, second: NeuronSet) -> None:
    found = overlaps({"a": first, "b": second}).row(0, named=True)
    both, only_a, only_b = len(first & second), len(first - second), len(second - first)
    table = [[both, only_a], [only_b, LAYOUT.n_neurons - both - only_a - only_b]]
    assert found["p_value"] == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-7, abs=1e-12)
    assert found["jaccard"] == first.overlap(second)
    assert (found["n_first"], found["n_second"], found["n_both"]) == (len(first), len(second), both)


def test_chance_overlaps_are_what_random_sets_have() -> None:
    rng = np.random.default_rng(0)
    draws = 4000
    both, jaccard, layered = np.zeros(draws), np.zeros(draws), np.zeros(draws)
    first, second = LAYOUT.set([f"L0.U{u}" for u in range(12)]), LAYOUT.set([*[f"L0.U{u}" for u in range(8)], "L1.U3"])
    for draw in range(draws):
        a, b = set(rng.permutation(50)[:12].tolist()), set(rng.permutation(50)[:9].tolist())
        both[draw], jaccard[draw] = len(a & b), len(a & b) / len(a | b)
        layered[draw] = len(set(rng.permutation(30)[:12].tolist()) & set(rng.permutation(30)[:8].tolist()))
    found = overlaps({"a": first, "b": second}).row(0, named=True)
    for expected, drawn in (("expected_both", both), ("expected_jaccard", jaccard), ("expected_in_layers", layered)):
        assert found[expected] == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(draws))


def test_every_pair_is_compared_and_corrected_for_the_others() -> None:
    rng = np.random.default_rng(1)
    sets = {
        name: NeuronSet(LAYOUT, tuple(LAYOUT.neuron(int(index)) for index in rng.permutation(50)[:10]))
        for name in "abcd"
    }
    sets["e"] = sets["a"]
    found = overlaps(sets)
    assert len(found) == 10
    assert found["q_value"].to_list() == pytest.approx(false_discovery_control(found["p_value"].to_numpy()).tolist())
    alike = found.row(3, named=True)
    assert (alike["first"], alike["second"], alike["jaccard"]) == ("a", "e", 1.0)
    assert alike["q_value"] < 1e-6


def test_a_smaller_pool_makes_an_overlap_less_surprising() -> None:
    sets = {"a": LAYOUT.set([f"L0.U{u}" for u in range(10)]), "b": LAYOUT.set([f"L0.U{u}" for u in range(5, 15)])}
    pool = LAYOUT.set([f"L0.U{u}" for u in range(15)])
    assert overlaps(sets)["p_value"][0] < overlaps(sets, pool)["p_value"][0] == 1.0
    with pytest.raises(RedundancyError, match="10 of the 10 neurons of 'a' are not in the pool: widen it"):
        overlaps(sets, LAYOUT.set(["L1.U0"]))


def test_one_property_overlaps_with_none() -> None:
    assert overlaps({"a": LAYOUT.set(["L0.U0"])}).height == 0


def test_a_histogram_tells_where_neurons_lie_against_where_they_could() -> None:
    found = layer_histogram(LAYOUT.set(["L0.U0", "L1.U0", "L1.U1", "L1.U2"]))
    assert found.rows() == [(0, 1, 0.25, 0.6), (1, 3, 0.75, 0.4)]
    pool = LAYOUT.set(["L1.U0", "L1.U1"])
    assert layer_histogram(LAYOUT.set([]), pool).select("n_neurons", "pool_share").rows() == [(0, 0.0), (0, 1.0)]
