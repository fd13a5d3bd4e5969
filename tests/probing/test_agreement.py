"""Differences of means, votes and agreement, against plain sums and scipy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import hypergeom, spearmanr

from neuronatlas.neurons import Layout, LayoutMismatchError, NeuronError
from neuronatlas.probing.agreement import agreement, agreements
from neuronatlas.probing.ranking import Ranking, RankingError
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.voting import vote

LAYOUT = Layout(site="hidden", widths=(20, 20))


def shuffled(seed: int, name: str = "some") -> Ranking:
    return Ranking(LAYOUT, np.random.default_rng(seed).permutation(40), name)


def by_neuron(ranking: Ranking) -> np.ndarray:
    assert ranking.scores is not None
    return ranking.scores[np.argsort(ranking.order)]


def sample(offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 300, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    return (rng.standard_normal((300, 7)) + 0.3 * labels[:, None] + offset).astype(np.float32), labels


def test_probeless_sums_the_differences_over_pairs_of_classes() -> None:
    values, labels = sample()
    means = [values[labels == code].astype(np.float64).mean(axis=0) for code in range(5)]
    wanted = sum(np.abs(one - other) for one, other in combinations(means, 2))
    np.testing.assert_allclose(by_neuron(rank(values, labels, "probeless", progress=False)), wanted, rtol=1e-12)
    scaled = rank(values, labels, "probeless", progress=False, standardise=True)
    np.testing.assert_allclose(by_neuron(scaled), wanted / values.astype(np.float64).std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_mean_difference_is_in_standard_deviations(offset: float) -> None:
    values, labels = sample(offset)
    exact = values.astype(np.float64)
    differences = [np.abs(exact[labels == code].mean(0) - exact[labels != code].mean(0)) for code in range(5)]
    found = by_neuron(rank(values, labels, "mean-difference", progress=False))
    np.testing.assert_allclose(found, np.max(differences, axis=0) / exact.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("method", ["probeless", "mean-difference"])
def test_constant_neurons_differ_by_nothing(method: str) -> None:
    labels = sample()[1]
    values = np.broadcast_to(np.array([0.1, 1e6, -3.7], dtype=np.float32), (300, 3))
    ranking = rank(values, labels, method, progress=False)
    assert ranking.scores is not None
    assert ranking.scores.tolist() == [0, 0, 0]
    assert ranking.order.tolist() == [0, 1, 2]


def test_agreement_is_the_share_of_the_first_that_both_have() -> None:
    first, second = shuffled(0), shuffled(1)
    found = agreement(first, second, count=12)
    shares = [len(set(first.order[:k]) & set(second.order[:k])) / k for k in range(1, 13)]
    assert found.shared == pytest.approx(shares[-1])
    assert found.average == pytest.approx(np.mean(shares))
    assert found.correlation == pytest.approx(spearmanr(np.argsort(first.order), np.argsort(second.order)).statistic)


def test_agreement_of_random_rankings_is_at_chance() -> None:
    found = [agreement(shuffled(2 * seed), shuffled(2 * seed + 1), count=12) for seed in range(400)]
    law = hypergeom(40, 12, 12)
    assert found[0].chance == pytest.approx(law.mean() / 12)
    assert found[0].deviation == pytest.approx(law.std() / 12)
    assert np.mean([one.shared for one in found]) == pytest.approx(found[0].chance, abs=4 * found[0].deviation / 20)
    spread = np.std([one.average for one in found])
    assert np.mean([one.average for one in found]) == pytest.approx(found[0].average_chance, abs=4 * float(spread) / 20)


def test_a_ranking_agrees_with_itself() -> None:
    found = agreement(shuffled(0), shuffled(0), count=40)
    assert (found.shared, found.average, found.correlation) == pytest.approx((1, 1, 1))
    assert found.deviation == 0


def test_every_pair_is_compared() -> None:
    found = agreements([shuffled(seed, f"m{seed}") for seed in range(3)], count=5)
    assert [(one.first, one.second) for one in found] == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]


def test_rankings_that_cannot_be_compared_are_refused() -> None:
    for count in (0, 41):
        with pytest.raises(RankingError, match=f"the first {count} of 40 neurons"):
            agreement(shuffled(0), shuffled(1), count)
    with pytest.raises(RankingError, match="the part and some rankings are of different neurons"):
        agreement(shuffled(0), Ranking(LAYOUT, np.arange(39), "part"), 5)
    with pytest.raises(LayoutMismatchError, match="site"):
        agreement(shuffled(0), Ranking(Layout(site="ffn", widths=(20, 20)), np.arange(40), "ffn"), 5)
    with pytest.raises(RankingError, match="no rankings: at least one expected"):
        vote([])
    with pytest.raises(RankingError, match="count=0: a number of neurons from 1"):
        vote([shuffled(0)], count=0)


def test_a_vote_counts_who_has_a_neuron_among_the_first() -> None:
    rankings = [shuffled(seed) for seed in range(4)]
    voted = vote(rankings, count=10)
    votes = [sum(neuron in ranking.order[:10] for ranking in rankings) for neuron in range(40)]
    places = [sum(int(np.flatnonzero(ranking.order == neuron)[0]) for ranking in rankings) for neuron in range(40)]
    assert voted.order.tolist() == sorted(range(40), key=lambda neuron: (-votes[neuron], places[neuron], neuron))


def test_a_vote_of_one_is_its_ranking() -> None:
    assert vote([shuffled(0)]).order.tolist() == shuffled(0).order.tolist()


def test_a_ranking_gives_the_order_of_a_class_alone() -> None:
    order = np.arange(40)
    ranking = Ranking(LAYOUT, order, "some", {"noun": order[::-1]})
    assert ranking.of_class("noun").order.tolist() == order[::-1].tolist()
    with pytest.raises(RankingError, match="no order for class 'verb': it has noun"):
        ranking.of_class("verb")


def test_a_ranking_of_no_sense_is_refused() -> None:
    with pytest.raises(NeuronError, match="names a neuron twice"):
        Ranking(LAYOUT, np.array([1, 1]), "some")
    with pytest.raises(NeuronError, match="beyond the 40 there are"):
        Ranking(LAYOUT, np.array([1, 40]), "some")
    with pytest.raises(NeuronError, match="scores of shape"):
        Ranking(LAYOUT, np.arange(40), "some", scores=np.zeros(3))
    with pytest.raises(NeuronError, match="orders other neurons for class 'noun'"):
        Ranking(LAYOUT, np.array([1, 2]), "some", {"noun": np.array([1, 3])})
