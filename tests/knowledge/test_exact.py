"""The exact edit: its least squares against other solvers, and what it does to models whose facts are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

import neuronatlas as na
from neuronatlas.knowledge import exact_editing
from neuronatlas.knowledge.exact import ExactSettings, Task, solve
from neuronatlas.knowledge.keeping import Kept, Seen, divided
from neuronatlas.knowledge.least_change import LeastChangeError, gram_matrix, smallest_change
from neuronatlas.models.asking import all_logits, lead_of
from neuronatlas.models.queries import Step
from neuronatlas.models.slot_gradients import slots_shifted
from neuronatlas.models.slots import value_slots
from tests.knowledge.planted import planted_facts, planted_model, planted_neurons
from tests.knowledge.test_edits import bits, top

LOOSE = ExactSettings(kept_share=0.0)


@pytest.fixture
def model() -> na.Model:
    return planted_model()


def solved(
    conditions: np.ndarray, kept: np.ndarray, wanted: np.ndarray, off: np.ndarray, weight: float
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([conditions, kept])
    change = smallest_change(gram_matrix(torch.as_tensor(rows)), wanted, off, weight)
    return rows.T @ np.concatenate([change.of_conditions, change.of_kept]), change.multipliers


def objective(x: np.ndarray, kept: np.ndarray, off: np.ndarray, weight: float) -> float:
    return float(x @ x / 2 + (weight / 2 * np.mean((kept @ x + off) ** 2) if len(off) else 0.0))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), m=st.integers(0, 7), weight=st.sampled_from([0.0, 1.0, 300.0]))
def test_the_smallest_change_is_the_one_that_a_general_solver_finds(seed: int, n: int, m: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    conditions, kept = rng.normal(size=(n, 12)), rng.normal(size=(m, 12))
    wanted, off = rng.normal(size=n), rng.normal(size=m) * rng.integers(0, 2)
    found, _ = solved(conditions, kept, wanted, off, weight)
    other = minimize(
        objective,
        np.linalg.lstsq(conditions, wanted, rcond=None)[0],
        args=(kept, off, weight),
        constraints=LinearConstraint(conditions, lb=wanted),
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert (conditions @ found >= wanted - 1e-5).all()
    assert objective(found, kept, off, weight) == pytest.approx(other.fun, rel=1e-4, abs=1e-6)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 5))
def test_where_all_conditions_bind_it_is_dense_least_squares(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    conditions, wanted = rng.normal(size=(n, 40)), np.abs(rng.normal(size=n)) + 0.1
    found, multipliers = solved(conditions, np.zeros((0, 40)), wanted, np.zeros(0), 0.0)
    expected = np.linalg.lstsq(conditions, wanted, rcond=None)[0]  # of least norm
    if (np.linalg.solve(conditions @ conditions.T, wanted) > 1e-6).all():
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
        assert (multipliers > 0).all()
    assert np.linalg.norm(found) >= np.linalg.norm(expected) * (1 - 1e-6) or not (conditions @ found >= wanted).all()


@given(seed=st.integers(0, 10_000), n=st.integers(1, 4), m=st.integers(1, 7), weight=st.sampled_from([0.0, 30.0]))
def test_floors_cost_what_falls_below_them_and_nothing_else(seed: int, n: int, m: int, weight: float) -> None:
    rng, firm = np.random.default_rng(seed), 4.0
    conditions, kept = rng.normal(size=(n, 12)), rng.normal(size=(m, 12))
    wanted, off, floor = rng.normal(size=n), rng.normal(size=m), rng.normal(size=m) - 1
    rows = np.concatenate([conditions, kept])
    change = smallest_change(gram_matrix(torch.as_tensor(rows)), wanted, off, weight, floor, firm)
    found = rows.T @ np.concatenate([change.of_conditions, change.of_kept])

    def cost(x: np.ndarray) -> float:
        fallen = np.maximum(0, floor - kept @ x - off)
        return objective(x, kept, off, weight) + firm / 2 * float(fallen @ fallen)

    other = minimize(
        cost,
        np.linalg.lstsq(conditions, wanted, rcond=None)[0],
        constraints=LinearConstraint(conditions, lb=wanted),
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert (conditions @ found >= wanted - 1e-5).all()
    assert cost(found) == pytest.approx(other.fun, rel=1e-4, abs=1e-4)


def test_what_is_there_already_is_not_changed() -> None:
    found, multipliers = solved(np.ones((2, 3)), np.zeros((0, 3)), np.array([-1.0, 0.0]), np.zeros(0), 0.0)
    assert not found.any()
    assert not multipliers.any()


def test_conditions_that_contradict_each_other_are_told() -> None:
    with pytest.raises(LeastChangeError, match="contradict each other"):
        solved(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros((0, 2)), np.array([1.0, 1.0]), np.zeros(0), 0.0)
    with pytest.raises(LeastChangeError, match="slopes are all 0"):
        solved(np.zeros((1, 2)), np.zeros((0, 2)), np.array([1.0]), np.zeros(0), 0.0)


def test_a_planted_fact_changes_and_the_others_stay_as_they_are(model: na.Model) -> None:
    facts, before = planted_facts(), bits(model)
    edit = na.exact_update(
        model, facts[1], "answer3", keep=[f for f in facts if f != facts[1]], neurons=planted_neurons(model.layout(), 1)
    )
    assert [top(model, fact) for fact in facts] == [{"answer0"}, {"answer3"}, *({f"answer{i}"} for i in (2, 3, 4))]
    assert edit.settings["chosen"]["reached"]
    assert edit.settings["chosen"]["kept_same"] == 1.0
    assert edit.settings["chosen"]["neurons"] == edit.settings["neurons_at_first"] == 2
    lowest = min(na.attribute(model, p, "answer3", rule="activation").answered.log_odds for p in facts[1].prompts)
    assert 1.05 - 0.5 <= lowest < 1.2  # about as sure as it was of the old answer, whose log-odds were 1.05 to 1.14
    assert lowest == pytest.approx(edit.settings["chosen"]["lowest_log_odds"], abs=1e-3)
    edit.undo()
    assert bits(model) == before


def test_it_is_smaller_than_the_papers_update(model: na.Model) -> None:
    fact, neurons = planted_facts()[1], planted_neurons(model.layout(), 1)
    update = na.update(model, fact, "answer3", neurons=neurons)
    update.undo()
    exact = na.exact_update(model, fact, "answer3", keep=[], neurons=neurons)
    assert exact.size < update.size


def test_a_set_that_does_not_suffice_grows_by_attribution_until_it_does(model: na.Model) -> None:
    fact = planted_facts()[1]
    for start in ([], ["L0.U29"]):  # none, and a neuron that never fires
        edit = na.exact_update(model, fact, "answer3", keep=[], neurons=model.layout().set(start))
        assert {"L0.U2", "L1.U3"} <= {str(neuron) for neuron in edit.neurons}
        sizes = [attempt["neurons"] for attempt in edit.settings["attempts"]]
        assert sizes == sorted(set(sizes))
        assert edit.settings["chosen"]["neurons"] == sizes[-1]
        assert not any(attempt["reached"] for attempt in edit.settings["attempts"][:-1])
        edit.undo()


def test_a_fact_that_no_allowed_set_can_change_is_refused_and_nothing_is_written(model: na.Model) -> None:
    before = bits(model)
    with pytest.raises(na.EditError, match=r"1 neurons do not suffice for planted of subject1: answer1 -> answer3"):
        na.exact_update(
            model, planted_facts()[1], "answer3", keep=[], neurons=model.layout().set(["L0.U29"]), most_neurons=1
        )
    assert bits(model) == before


def test_sets_grow_no_further_than_there_is_memory_for(model: na.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fact, width = planted_facts()[1], model.layout("hidden").widths[0]
    monkeypatch.setattr(exact_editing, "SLOPES", 5 * 4 * width * len(fact.prompts))
    edit = na.exact_update(model, fact, "answer3", keep=[], neurons=model.layout().set(["L0.U29"]))
    assert [attempt["neurons"] for attempt in edit.settings["attempts"]] == [1, 5]
    edit.undo()


def test_many_facts_change_in_one_edit(model: na.Model) -> None:
    facts = planted_facts()
    sets = [planted_neurons(model.layout(), number) for number in range(4)]
    edit = na.exact_update(
        model, facts[:4], ["answer1", "answer2", "answer3", "answer4"], keep=[facts[4]], neurons=sets
    )
    assert [top(model, fact) for fact in facts] == [{f"answer{i}"} for i in (1, 2, 3, 4, 4)]
    assert edit.settings["about"] == "planted of subject0: answer0 -> answer1, and 3 more"
    assert len(edit.settings["edits"]) == 4


def test_answers_of_several_tokens_are_asked_for_token_by_token() -> None:
    specimen = na.load(na.specimen_folder())
    facts = [na.Fact(r.relation, r.subject, r.answer, r.prompts[:4]) for r in na.specimen_facts()]
    capitals = [fact for fact in facts if fact.relation == "capital"][:20]
    edit = na.exact_update(specimen, capitals[0], "Buenos Aires", keep=capitals[1:], sample=40, settings=LOOSE)
    for prompt in capitals[0].prompts:
        assert na.attribute(specimen, prompt, "Buenos Aires", rule="activation").answered.is_top
    assert edit.settings["prompts"] == 2 * len(capitals[0].prompts)


def test_answers_and_sets_go_with_the_facts(model: na.Model) -> None:
    facts = planted_facts()
    with pytest.raises(na.EditError, match="1 new answers for 2 facts"):
        na.exact_update(model, facts[:2], ["answer3"], keep=[])
    with pytest.raises(na.EditError, match="1 sets of neurons for 2 facts"):
        na.exact_update(model, facts[:2], ["answer3", "answer4"], keep=[], neurons=[planted_neurons(model.layout(), 0)])
    with pytest.raises(na.EditError, match="none of the 1 facts and texts to keep suits"):
        na.exact_update(model, facts[0], "answer3", keep=["[MASK]"])


def test_the_same_edit_comes_out_to_the_bit(model: na.Model) -> None:
    facts, found = planted_facts(), []
    for _ in range(2):
        edit = na.exact_update(
            model,
            facts[1],
            "answer3",
            keep=[facts[0], "word1 subject2 answer2"],
            sample=6,
            settings=LOOSE,
        )
        found.append(bits(model))
        edit.undo()
    assert found[0] == found[1]


def test_the_edited_fact_is_never_among_what_is_kept(model: na.Model) -> None:
    """Its other wordings would hold the old answer fast."""
    facts = planted_facts()
    mine = na.Fact(facts[1].relation, facts[1].subject, facts[1].answer, facts[1].prompts[:1])
    fitted, watched = divided([*facts, "word1 subject2 answer2"], [mine], seed=0)
    assert len(fitted) + len(watched) == len(facts)
    assert facts[1] not in [*fitted, *watched]
    edit = na.exact_update(model, mine, "answer3", keep=facts, neurons=planted_neurons(model.layout(), 1))
    assert top(model, facts[1]) == {"answer3"}
    edit.undo()


def test_what_is_watched_is_not_fitted_and_stands_in_the_record(model: na.Model) -> None:
    facts, before = planted_facts(), bits(model)
    fitted, watched = divided([f for f in facts if f != facts[1]], [facts[1]], seed=0)
    assert (len(fitted), len(watched)) == (3, 1)
    edit = na.exact_update(
        model, facts[1], "answer3", keep=[f for f in facts if f != facts[1]], neurons=planted_neurons(model.layout(), 1)
    )
    told = edit.settings
    assert told["kept_prompts"] == sum(len(fact.prompts) for fact in facts if fact in fitted)
    assert told["watched_prompts"] == sum(len(fact.prompts) for fact in facts if fact in watched)
    assert told["chosen"]["watched_safe"] == told["chosen"]["kept_safe"] == 1.0
    edit.undo()
    assert bits(model) == before


def test_a_row_whose_lead_is_negative_is_safe_while_nothing_changes() -> None:
    """The first choice of a row may have less than half of P: its log-odds are below 0 against all others."""
    rows = tuple(Step((1,), 3, 0, 0) for _ in range(3))
    some = Kept(rows, (3,), torch.tensor([-3.0, 0.5, 4.0], dtype=torch.float64))
    assert some.safe(Seen(torch.ones(3, dtype=torch.bool), some.leads), safe=1.0).all()
    halved = Seen(torch.ones(3, dtype=torch.bool), torch.tensor([-3.1, 0.2, 0.6], dtype=torch.float64))
    assert some.safe(halved, safe=1.0).tolist() == [False, False, True]


def test_samples_and_sets_of_nothing_are_refused(model: na.Model) -> None:
    facts = planted_facts()
    with pytest.raises(na.EditError, match="a sample of 0 prompts to keep: 1 or more expected"):
        na.exact_update(model, facts[1], "answer3", keep=[facts[0]], sample=0)
    with pytest.raises(na.EditError, match="0 neurons a fact at most: 1 or more expected"):
        na.exact_update(model, facts[1], "answer3", keep=[facts[0]], most_neurons=0)


def test_kept_rows_hold_the_change_back() -> None:
    """The lead of what the model prefers on other prompts, against the new answer, moves less for being kept."""
    specimen = na.load(na.specimen_folder())
    records = [record for record in na.specimen_facts() if record.relation == "capital"][:60]
    rows = [_step(specimen, prompt, "Rome") for prompt in records[0].prompts[:4]]
    steps = [_step(specimen, record.prompts[0], record.answer) for record in records[1:]]
    fact = na.Fact("capital", records[0].subject, records[0].answer, records[0].prompts[:4])
    slots, aims = value_slots(specimen, na.locate(specimen, fact)), torch.ones(len(rows))
    before, moves, rival = _leads(specimen, steps, rows[0].answer_id), {}, (rows[0].answer_id,)
    kept, watched = (Kept(tuple(some), rival, _leads(specimen, some, *rival).double()) for some in (steps, []))
    for weight in (0.0, 300.0):
        found = solve(Task(specimen, rows, aims, kept, watched, ExactSettings(weight=weight)), slots)
        assert found.reached
        with slots_shifted(slots, found.shift):
            moves[weight] = float((_leads(specimen, steps, *rival) - before).pow(2).mean())
    assert moves[300.0] < moves[0.0]


def _leads(model: na.Model, steps: list[Step], rival: int) -> Tensor:
    found = torch.zeros(len(steps))
    for batch, logits in all_logits(model, steps):
        found[batch] = lead_of(logits, [steps[index].answer_id for index in batch], [rival])
    return found


def _step(model: na.Model, prompt: str, answer: str) -> Step:
    return na.attribute(model, prompt, answer, rule="activation").query.first
