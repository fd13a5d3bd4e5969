"""Locating: known neurons are given back, and the shared-prompts rule is the paper's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronatlas as na
from neuronatlas.knowledge import budgets
from neuronatlas.knowledge.locating import TuningWarning
from neuronatlas.knowledge.refinement import (
    RefinementError,
    Shared,
    count_prompts,
    refine,
    required_prompts,
    tune_share,
)
from neuronatlas.neurons import Neuron
from tests.knowledge.planted import FACTS, planted_facts, planted_neurons

N = [Neuron(0, unit) for unit in range(9)]


def test_a_model_written_by_hand_gives_its_fact_neurons_back(planted: na.Model) -> None:
    found = na.locate(planted, planted_facts())
    for fact in range(FACTS):
        assert list(found[fact]) == list(planted_neurons(found[fact].layout, fact)), f"fact {fact}"
        assert found[fact].shares == (1.0, 1.0)
        assert not found[fact].weak
        assert min(found[fact].scores) > 0


def test_one_fact_alone_has_the_neurons_it_has_among_others(planted: na.Model) -> None:
    fact = planted_facts()[2]
    assert list(na.locate(planted, fact)) == list(na.locate(planted, planted_facts())[2])


def test_suppressing_what_was_found_removes_the_fact_and_leaves_the_others(planted: na.Model) -> None:
    facts = planted_facts()
    neurons = na.locate(planted, facts[0])
    own, other = (na.effects(planted, fact, neurons, gains=[0.0, 2.0]) for fact in facts[:2])
    for row in own.iter_rows(named=True):
        change = row["p_after"] - row["p_before"]
        assert change < -0.2 if row["gain"] == 0 else change > 0.05
        assert (row["log_odds_after"] < row["log_odds_before"]) == (row["gain"] == 0)
    assert max(abs(own["p_after"] - own["p_before"])) > 50 * max(abs(other["p_after"] - other["p_before"]))


def test_a_fact_with_fewer_than_three_prompts_is_marked_weak(planted: na.Model) -> None:
    fact = planted_facts()[0]
    found = na.locate(planted, na.Fact("planted", fact.subject, fact.answer, fact.prompts[:2]))
    assert found.weak
    assert list(found) == list(planted_neurons(found.layout, 0))


def test_a_neuron_must_be_in_enough_coarse_sets() -> None:
    shared = count_prompts([[N[0], N[1]], [N[0], N[1]], [N[0], N[2]], [N[0]]])
    assert refine(shared, 0.7).neurons == (N[0],)
    assert refine(shared, 0.7).shares == (1.0,)
    # 0.5 of 4 prompts would be 2, but fewer than three prompts never suffice where there are three.
    assert refine(shared, 0.5).neurons == (N[0],)
    assert refine(count_prompts([[N[1]], [N[1], N[2]]]), 0.7).neurons == (N[1],)


@given(st.integers(1, 40), st.floats(0.05, 1.0))
def test_no_fact_asks_for_more_prompts_than_it_has(n_prompts: int, share: float) -> None:
    assert min(3, n_prompts) <= required_prompts(n_prompts, share) <= n_prompts


@pytest.mark.parametrize(
    ("counts", "share", "passes", "reached"),
    [
        ({7: 3}, 0.7, 1, True),
        ({9: 1, 6: 2}, 0.6, 3, True),
        ({9: 4, 7: 5}, 0.75, 2, True),
        ({10: 9}, 0.95, 6, False),
        ({3: 4}, 0.45, 6, False),
    ],
)
def test_the_share_moves_by_a_twentieth_until_facts_have_two_to_five_neurons(
    counts: dict[int, int], share: float, passes: int, reached: bool
) -> None:
    """`counts` says how many neurons are in how many of ten coarse sets."""
    units = iter(N)
    fact = Shared({next(units): in_sets for in_sets, many in counts.items() for _ in range(many)}, 10)
    tuned = tune_share([fact, fact])
    assert (tuned.share, tuned.passes, tuned.reached) == (share, passes, reached)
    assert tuned.mean_neurons == len(refine(fact, share).neurons)


def test_a_share_that_tuning_did_not_reach_is_told(planted: na.Model) -> None:
    facts = planted_facts()
    assert {found.reached for found in na.locate(planted, facts)} == {True}
    assert na.locate(planted, facts[0]).reached is None
    with pytest.warns(TuningWarning, match="in 1 of 1 relations: 'planted' has 1.0 at a share of 0.45") as told:
        missed = na.locate(planted, facts, threshold=1.0)
    assert len(told) == 1
    assert {(found.reached, found.share) for found in missed} == {(False, 0.45)}


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan"), float("inf"), "tune"])
def test_a_share_that_is_none_is_refused(planted: na.Model, share: Any) -> None:
    with pytest.raises(RefinementError, match=r"^share is .*: a number above 0 and up to 1 expected, or 'tuned'$"):
        na.locate(planted, planted_facts()[0], share=share)


@pytest.mark.parametrize("threshold", [0.0, -0.2, float("nan"), float("inf")])
def test_a_threshold_that_is_none_is_refused(planted: na.Model, threshold: float) -> None:
    with pytest.raises(RefinementError, match=r"^threshold is .*: a number above 0 expected"):
        na.locate(planted, planted_facts(), threshold=threshold)


def test_a_budget_is_found_once_for_all_facts(planted: na.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def room(_model: na.Model, budget: str) -> int:
        asked.append(budget)
        return 10**9

    monkeypatch.setattr(budgets, "_room", room)
    facts = planted_facts()
    assert na.locate(planted, facts, budget="auto") == na.locate(planted, facts)
    assert asked == ["auto"]


def test_facts_that_stand_twice_are_refused(planted: na.Model) -> None:
    with pytest.raises(na.FactError, match="stands twice"):
        na.locate(planted, planted_facts() + planted_facts()[:1])


def test_neurons_of_a_changed_model_are_refused(planted: na.Model) -> None:
    fact = planted_facts()[0]
    stale = na.Layout("ffn", planted.site("ffn").widths, digest="another").set(["L0.U0"])
    with pytest.raises(na.LayoutMismatchError, match="digest"):
        na.effects(planted, fact, stale)
