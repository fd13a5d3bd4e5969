"""The Gaussian probe: what a neuron tells, the greedy choice, and its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from neuronatlas.probing.gaussian import PRIOR_ROWS
from neuronatlas.probing.ranking import Ranking, RankingError
from neuronatlas.probing.rankings import rank


def ranked(values: np.ndarray, labels: np.ndarray, **options: int) -> Ranking:
    return rank(values, labels, "gaussian", progress=False, **options)


def information(shift: float, share: float) -> float:
    """Mutual information in bits of a class and a normal variable that is moved by `shift` in it, by integration."""

    def integrand(x: float) -> float:
        joint = np.array([(1 - share) * norm.pdf(x), share * norm.pdf(x, shift)])
        return float((joint * np.log2(joint / joint.sum() / [1 - share, share])).sum())

    return float(quad(integrand, -8, 8 + shift, limit=200)[0])


@pytest.mark.parametrize(("shift", "share"), [(0.0, 0.5), (0.5, 0.5), (1.0, 0.2), (3.0, 0.5)])
def test_what_one_neuron_tells_is_its_mutual_information(shift: float, share: float) -> None:
    n_rows = 20_000
    inside = int(share * n_rows)
    # Rows at the quantiles of the two normal distributions stand for a sample without noise.
    values = np.concatenate([norm.ppf((np.arange(n) + 0.5) / n) for n in (n_rows - inside, inside)])
    labels = np.repeat([0, 1], [n_rows - inside, inside])
    ranking = ranked((values + shift * labels)[:, None], labels, sample=n_rows)
    assert ranking.scores is not None
    assert ranking.scores[0] == pytest.approx(information(shift, share), abs=2e-3)


def exact_choice(values: np.ndarray, labels: np.ndarray, limit: int) -> tuple[list[int], float]:
    """Greedy choice by whole covariance matrices, all neurons tried at every step."""
    standardised = (values - values.mean(axis=0)) / values.std(axis=0)
    classes, counts = np.unique(labels, return_counts=True)
    groups = [standardised[labels == name] for name in classes]
    pooled = sum(len(group) * group.var(axis=0) for group in groups) / len(labels)
    covariances = [
        (len(group) * np.cov(group.T, bias=True) + PRIOR_ROWS * np.diag(pooled)) / (len(group) + PRIOR_ROWS)
        for group in groups
    ]
    shares = counts / counts.sum()

    def told(columns: list[int]) -> float:
        joint = np.stack(
            [
                share * multivariate_normal(group.mean(axis=0)[columns], covariance[np.ix_(columns, columns)]).pdf(x)
                for share, group, covariance in zip(shares, groups, covariances, strict=True)
                for x in [standardised[:, columns]]
            ]
        )
        right = (joint / joint.sum(axis=0))[np.searchsorted(classes, labels), np.arange(len(labels))]
        return float(np.log2(right).mean() - (shares * np.log2(shares)).sum())

    chosen: list[int] = []
    for _ in range(limit):
        chosen.append(max((j for j in range(values.shape[1]) if j not in chosen), key=lambda j: told([*chosen, j])))
    return chosen, told(chosen)


@pytest.mark.parametrize("seed", range(3))
def test_with_all_neurons_tried_the_choice_is_the_exact_greedy_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.choice(4, 296, p=[0.5, 0.3, 0.15, 0.05])])
    mixing = rng.standard_normal((9, 9)) / 3 + np.eye(9)
    values = (rng.standard_normal((300, 9)) + rng.standard_normal((4, 9))[labels]) @ mixing
    chosen, told = exact_choice(values, labels, 5)
    ranking = ranked(values, labels, limit=5, shortlist=18)
    assert ranking.order[:5].tolist() == chosen
    assert f"tell {told:.3f} of" in ranking.notes[0]


def test_a_copy_of_a_chosen_neuron_waits_for_one_that_adds_something() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 200)
    values = rng.standard_normal((600, 6))
    values[:, 1] += 4 * (labels == 1)
    values[:, 2] = values[:, 1] + 0.01 * rng.standard_normal(600)
    values[:, 3] += 2 * (labels == 2)
    order = ranked(values, labels).order.tolist()
    assert order[0] in {1, 2}
    assert order[1] == 3


def test_neurons_that_tell_only_together_are_found_by_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 500)
    values = rng.standard_normal((1000, 40))
    values[:, 7] += labels
    # Neuron 9 alone tells nothing: it is the noise of neuron 7.
    values[:, 9] = values[:, 7] - labels + 0.05 * rng.standard_normal(1000)
    assert ranked(values, labels, limit=2, shortlist=2).order[:2].tolist() == [7, 9]


def test_a_short_list_finds_as_much_as_trying_all() -> None:
    rng = np.random.default_rng(4)
    labels = rng.choice(6, 800)
    directions = rng.standard_normal((6, 120)) * (rng.random((6, 120)) < 0.1)
    hidden = rng.standard_normal((800, 20))
    values = np.tanh(directions[labels] + hidden @ rng.standard_normal((20, 120)) / 4 + rng.standard_normal((800, 120)))
    few, all_of_them = (ranked(values, labels, limit=10, shortlist=shortlist) for shortlist in (16, 240))
    bits = [float(ranking.notes[0].split()[5]) for ranking in (few, all_of_them)]
    assert bits[0] > 0.97 * bits[1]


def test_the_others_follow_by_what_they_tell_alone() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 300)
    ranking = ranked(rng.standard_normal((300, 20)) + labels[:, None] * np.linspace(0, 1, 20), labels, limit=4)
    assert ranking.scores is not None
    assert (np.diff(ranking.scores[4:]) <= 0).all()


def test_a_sample_keeps_every_class() -> None:
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat(["a", "b", "c"], [2000, 997, 3]))
    values = rng.standard_normal((3000, 5))
    values[:, 2] += 3 * (labels == "b")
    ranking = ranked(values, labels, sample=300)
    assert ranking.order[0] == 2
    assert "the 300 rows" in ranking.notes[0]


def test_the_choice_ends_where_nothing_is_added() -> None:
    labels = np.repeat([0, 1], 50)
    values = np.ones((100, 4))
    values[:, 2] += labels
    ranking = ranked(values, labels)
    assert ranking.order.tolist() == [2, 0, 1, 3]
    assert ranking.notes[0].startswith("chosen greedily: 1, which tell 1.000 of 1.000 bits")


def test_bounds_below_one_are_refused() -> None:
    for name in ("limit", "shortlist", "sample"):
        with pytest.raises(RankingError, match=f"{name}=0: a number from 1 expected"):
            ranked(np.ones((4, 2)), np.array([0, 1, 0, 1]), **{name: 0})
