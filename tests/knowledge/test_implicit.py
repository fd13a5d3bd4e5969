"""Implicit knowledge: neurons that write an answer move it however it is asked, and controls are what they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.knowledge.implicit import _Cast
from tests.knowledge.planted import planted_facts, planted_neurons


@pytest.fixture(scope="module")
def found(planted: na.Model) -> na.ImplicitEffects:
    """The planted facts asked in words that were not used to locate them, as if those needed two facts."""
    facts = [*planted_facts()[:4], na.Fact("other", "subject4", "answer4", planted_facts()[4].prompts)]
    sets = [planted_neurons(planted.layout(), index) for index in range(5)]
    asked = [
        na.ImplicitPrompt("hop", f"word0 word3 subject{i} [MASK]", f"answer{i}", (need(i), need((i + 1) % 5, "first")))
        for i in range(5)
    ]
    asked.append(na.ImplicitPrompt("hop", "word0 subject0 [MASK]", "answer3", (need(0),)))  # answered wrong
    asked.append(na.ImplicitPrompt("hop", "word0 subject0", "answer0", (need(0),)))  # no place for the answer
    asked.append(na.ImplicitPrompt("lone", "word1 subject1 [MASK]", "answer1", (na.Need("planted", "nobody"),)))
    return na.implicit_effects(planted, facts, sets, asked)


def need(fact: int, part: str = "second") -> na.Need:
    return na.Need("other" if fact == 4 else "planted", f"subject{fact}", part)


def test_only_prompts_that_are_answered_right_are_tested_and_all_are_counted(found: na.ImplicitEffects) -> None:
    assert found.counts.rows() == [("hop", 7, 6, 5, 5, 5), ("lone", 1, 1, 1, 0, 0)]
    assert list(found.skipped) == [6]
    assert set(found.effects.filter(kind="hop")["prompt"]) == {0, 1, 2, 3, 4}


def test_the_neurons_that_write_the_answer_move_it_and_others_do_not(found: na.ImplicitEffects) -> None:
    rows = {(part, condition): row for _, part, condition, *row in found.summary.filter(kind="hop").iter_rows()}
    columns = found.summary.columns[3:]
    own = dict(zip(columns, rows["second", "own"], strict=True))
    assert own["change_high"] < -0.5
    assert own["log_odds_high"] < -1
    for condition in ("random", "same-relation", "unrelated"):
        control = dict(zip(columns, rows["second", condition], strict=True))
        assert abs(control["log_odds"]) < 0.5
        assert control["excess_high"] < -1
    # The other fact's neurons are silent here, though the prompt is said to need it.
    assert abs(dict(zip(columns, rows["first", "own"], strict=True))["log_odds"]) < 0.5


def test_effects_are_those_of_the_same_neurons_at_the_same_place(planted: na.Model, found: na.ImplicitEffects) -> None:
    fact = na.Fact("planted", "subject2", "answer2", ["word0 word3 subject2 [MASK]"])
    table = na.effects(planted, fact, planted_neurons(planted.layout(), 2), gains=[0.0])
    row = found.effects.filter(kind="hop", prompt=2, part="second", condition="own").row(0, named=True)
    for name in ("p_before", "p_after", "log_odds_before", "log_odds_after"):
        assert row[name] == pytest.approx(table[name][0], abs=1e-5)


def test_controls_are_other_facts_that_the_prompt_does_not_need(found: na.ImplicitEffects) -> None:
    rows = found.effects.filter(kind="hop")
    counts = Counter(rows.filter(part="second")["condition"])
    # One fact is alone in its relation; two prompts need facts of both relations, so that none is unrelated to them.
    assert counts == {"own": 5, "random": 5, "same-relation": 4, "unrelated": 3}
    assert rows.filter(condition="own")["n_neurons"].to_list() == rows.filter(condition="random")["n_neurons"].to_list()


def test_the_facts_own_prompts_stand_beside_them(planted: na.Model, found: na.ImplicitEffects) -> None:
    own = found.effects.filter(kind="cloze", condition="own", fact=1)
    table = na.effects(planted, planted_facts()[1], planted_neurons(planted.layout(), 1), gains=[0.0])
    np.testing.assert_allclose(own["p_after"].to_numpy(), table["p_after"].to_numpy(), atol=1e-5)


def test_a_fact_without_neurons_counts_with_no_change(planted: na.Model) -> None:
    asked = [na.ImplicitPrompt("hop", "word0 word3 subject0 [MASK]", "answer0", (need(0),))]
    rows = na.implicit_effects(planted, planted_facts()[:1], [planted.layout().set([])], asked).effects
    assert rows.filter(kind="hop").select((pl.col("p_before") == pl.col("p_after")).all()).item()


def test_the_specimen_s_own_questions_name_the_facts_that_they_need() -> None:
    prompts = na.specimen_prompts()
    known = {(fact.relation, fact.subject): fact.answer for fact in na.specimen_facts(one_word=False)}
    assert {one.kind.split(",")[0] for one in prompts} == {"two-hop", "yes-no", "comparison"}
    for one in prompts:
        assert all((each.relation, each.subject) in known for each in one.needs)
        if one.kind.startswith("two-hop"):
            first, second = one.needs
            assert known[first.relation, first.subject] == second.subject
            assert known[second.relation, second.subject] == one.answer
    causal = na.specimen_prompts("causal")
    assert all(one.prompt.rstrip(".?!").endswith("[MASK]") for one in causal)


def test_a_causal_model_is_asked_too() -> None:
    model = na.load(na.specimen_folder("causal"))
    one = next(p for p in na.specimen_prompts("causal") if p.kind == "two-hop, taught")
    by_name = {(f.relation, f.subject): f for f in na.specimen_facts(model="causal")}
    facts = [by_name[each.relation, each.subject] for each in one.needs]
    given = [na.Fact(f.relation, f.subject, f.answer, f.prompts[:2]) for f in facts]
    sets = [model.layout().set(["L3.U1"]), model.layout().set(["L3.U2"])]
    assert na.implicit_effects(model, given, sets, [one]).counts["n_suited"].to_list() == [1]


def test_sets_that_do_not_match_the_facts_are_refused(planted: na.Model) -> None:
    with pytest.raises(na.FactError, match="1 facts, 0 sets of neurons, 0 prompts: one set a fact"):
        na.implicit_effects(planted, planted_facts()[:1], [], [])


def test_the_neurons_of_a_condition_are_drawn_once_a_fact(planted: na.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, drawn = planted_facts(), list[int]()
    right = na.NeuronSet.random_like

    def random_like(own: na.NeuronSet, seed: int) -> na.NeuronSet:
        drawn.append(seed)
        return right(own, seed)

    monkeypatch.setattr(na.NeuronSet, "random_like", random_like)
    cast = _Cast(facts, [planted_neurons(planted.layout(), n) for n in range(len(facts))], seed=0)
    first, second = (list(cast.sets(1, facts[1].answer, [1])) for _ in range(2))
    assert first == second
    assert len(drawn) == 1
