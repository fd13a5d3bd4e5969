"""Each experiment's tables against a plain computation on the model written by hand."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

import neuronatlas as na
from neuronatlas.atlas import Atlas
from neuronatlas.knowledge.asked_answers import ask
from neuronatlas.knowledge.triggers import triggers
from neuronatlas.studies.knowledge_neurons import symmetry, triggering, updating
from neuronatlas.studies.knowledge_neurons.correlation import rank_correlation
from neuronatlas.studies.knowledge_neurons.experiments import EXPERIMENTS
from neuronatlas.studies.knowledge_neurons.halves import _expected
from neuronatlas.studies.knowledge_neurons.places import _Pairs
from neuronatlas.studies.knowledge_neurons.selecting import spread_facts
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study
from neuronatlas.studies.knowledge_neurons.trying import Try, tried
from tests.knowledge.planted import planted_neurons
from tests.studies.knowledge_neurons.conftest import SETTINGS, planted_relations


def test_every_experiment_leaves_the_tables_that_it_names(finished: Atlas) -> None:
    told = finished.table("experiments")
    assert told["experiment"].to_list() == list(EXPERIMENTS)
    assert told["done"].all()
    for experiment in EXPERIMENTS.values():
        refused = told.filter(experiment=experiment.name)["refused"][0]
        assert (refused is None) == (set(experiment.tables) <= set(finished.tables)), experiment.name
    assert told.drop_nulls("refused")["experiment"].to_list() == ["symmetry", "implicit"]


def test_the_planted_neurons_are_counted_where_they_lie(finished: Atlas) -> None:
    counts = finished.table("neuron_counts").filter(rule="gauss-legendre")
    assert counts["mean"].to_list() == [2.0] * 4
    layers = finished.table("layer_shares").filter(rule="gauss-legendre")
    assert layers["mean"].to_list() == [0.5, 0.5]


def test_sharing_is_the_mean_over_all_pairs_of_facts(study: Study, finished: Atlas) -> None:
    shared: dict[bool, list[int]] = {True: [], False: []}
    for one, two in combinations(study.asked.values(), 2):
        shared[one.fact.relation == two.fact.relation].append(len(study.of(one) & study.of(two)))
    table = finished.table("sharing_means")
    assert table["n_pairs"].to_list() == [len(shared[True]), len(shared[False])]
    assert table["mean"].to_list() == pytest.approx([np.mean(shared[True]), np.mean(shared[False])])


def test_a_draw_of_the_bootstrap_counts_the_pairs_of_the_facts_it_drew() -> None:
    rng = np.random.default_rng(3)
    members = (rng.random((6, 9)) < 0.4).astype(float)
    weights = rng.multinomial(6, np.full(6, 1 / 6), size=2001).astype(float)
    found = _Pairs.of(members, weights)
    drawn = np.repeat(np.arange(6), weights[7].astype(int))
    pairs = [(i, j) for i, j in combinations(drawn, 2) if i != j]
    assert found.pairs[7] == len(pairs)
    assert found.shared[7] == pytest.approx(sum(members[i] @ members[j] for i, j in pairs))


def test_a_trial_sums_what_effects_tells_prompt_by_prompt(study: Study, model: na.Model) -> None:
    fact, neurons = study.asked[1], planted_neurons(model.layout(), 1)
    rows = tried(study, [Try(fact, "own", 0.0, neurons), Try(fact, "part", 2.0, neurons, (1, 3))])
    plain = na.effects(model, fact.fact, neurons, gains=[0.0, 2.0])
    for row, gain, prompts in zip(rows.iter_rows(named=True), (0.0, 2.0), ((0, 1, 2, 3), (1, 3)), strict=True):
        mine = plain.filter(pl.col("gain") == gain, pl.col("prompt").is_in(prompts))
        assert row["p_before"] == pytest.approx(mine["p_before"].sum(), abs=1e-6)
        assert row["p_after"] == pytest.approx(mine["p_after"].sum(), abs=1e-6)
        change = (mine["log_odds_after"] - mine["log_odds_before"]).sum()
        assert row["odds_change"] == pytest.approx(change, abs=1e-4)


def test_effects_are_those_of_the_neurons_own_atlas(study: Study, finished: Atlas) -> None:
    assert finished.table("summary").equals(study.neurons.table("summary"))
    draws = finished.table("random_draws")
    assert draws.select("draw", "gain").rows() == [(0, 0.0), (0, 2.0), (1, 0.0), (1, 2.0)]
    assert draws["change"].abs().max() < 0.05  # type: ignore[operator]


def test_the_sweep_of_the_gain_gives_the_effects_of_the_sampled_facts(study: Study, finished: Atlas) -> None:
    found = finished.table("gain_sweep").filter(condition="located", gain=0.0, relation="first")
    facts = [fact for fact in study.sampled if fact.fact.relation == "first"]
    rows = pl.concat([na.effects(study.model, fact.fact, study.of(fact), gains=[0.0]) for fact in facts])
    before, after = rows["p_before"].to_numpy(), rows["p_after"].to_numpy()
    assert found["change"][0] == pytest.approx((after - before).mean() / before.mean(), abs=1e-5)
    assert found["n_facts"][0] == SETTINGS.sampled


def test_a_higher_threshold_keeps_fewer_neurons_and_the_usual_one_those_of_the_atlas(
    study: Study, finished: Atlas
) -> None:
    trials = finished.table("threshold_trials").filter(gain=0.0)
    usual = trials.filter(condition="0.2")
    assert dict(usual.select("fact", "n_neurons").iter_rows()) == {f.index: len(study.of(f)) for f in study.sampled}
    sizes = finished.table("threshold_sweep").filter(gain=0.0).sort("threshold")["neurons"].to_list()
    assert sizes == sorted(sizes, reverse=True)


def test_both_halves_find_the_planted_neurons_and_other_facts_none_of_them(finished: Atlas) -> None:
    overlaps = dict(finished.table("half_overlaps").select("condition", "overlap").iter_rows())
    assert overlaps["other half of the same fact"] == 1.0
    assert overlaps["another fact of the relation"] == 0.0
    assert overlaps["random, same layers"] == pytest.approx(1 / 30)


def test_the_overlap_by_chance_is_what_drawing_gives(model: na.Model) -> None:
    one, two = model.layout().set(["L0.U1", "L0.U2", "L1.U4"]), model.layout().set(["L0.U7", "L1.U4", "L1.U9"])
    rng, shared = np.random.default_rng(0), 0
    for _ in range(4000):
        drawn = {(0, int(rng.integers(30)))} | {(1, int(u)) for u in rng.choice(30, 2, replace=False)}
        shared += len(drawn & {(n.layer, n.unit) for n in one})
    assert _expected(one, two) == pytest.approx(shared / 4000, abs=0.02)


def test_an_update_is_judged_as_asking_before_and_after_by_hand(study: Study, finished: Atlas) -> None:
    rows = finished.table("updates").filter(method="normalised", group="edited")
    case = updating._cases(study)[0]
    mine = rows.filter(case=0)
    assert mine["prompt"].to_list() == list(case.case.fact.prompts)
    relation = [study.of(f, "a") for f in study.relations[case.fact.fact.relation] if f.index != case.fact.index]
    edit = na.update(
        study.model, case.case.fact, case.case.new_answer, neurons=study.of(case.fact, "a"), relation=relation
    )
    said, _ = ask(study.model, [(prompt, case.case.new_answer) for prompt in case.case.fact.prompts])
    edit.undo()
    assert mine["generated_after"].to_list() == [one is not None and one.generated for one in said]
    assert set(case.case.fact.prompts).isdisjoint(case.case.paraphrases)


def test_updates_leave_the_model_as_it_was_and_exact_ones_succeed(study: Study, finished: Atlas) -> None:
    assert study.model.digest == finished.meta["model"]["digest"]
    measures = finished.table("update_measures").filter(measure="success rate")
    after = dict(measures.select("method", "after").iter_rows())
    assert after["exact"] == 1.0
    assert after["random"] == 0.0


def test_a_rise_of_perplexity_is_the_ratio_of_the_two(finished: Atlas) -> None:
    for row in finished.table("update_perplexity").filter(pl.col("prompts") > 0).iter_rows(named=True):
        assert row["rise"] == pytest.approx(row["after"] / row["before"] - 1)
        assert row["low"] <= row["rise"] <= row["high"]


def test_erasing_a_relation_takes_its_answers_and_random_neurons_do_not(study: Study, finished: Atlas) -> None:
    found = finished.table("erase_measures").filter(relation="first")
    own = found.filter(condition="located", group="same relation").row(0, named=True)
    neurons = study.layout.set(n for fact in range(3) for n in planted_neurons(study.layout, fact))
    assert own["neurons"] == len(neurons)
    rows = finished.table("erasures").filter(erased="first", condition="located", group="same relation")
    edit = na.erase(study.model, neurons)
    said, _ = ask(study.model, list(rows.select("prompt", "answer").iter_rows()))
    edit.undo()
    assert rows["log_p_after"].to_list() == pytest.approx([one.log_probability for one in said if one], abs=1e-5)
    assert own["rise"] > 0
    random = found.filter(condition="random", group="same relation").row(0, named=True)
    assert abs(random["rise"]) < 0.05


def test_the_effect_on_all_relations_is_the_mean_of_theirs(finished: Atlas) -> None:
    found = finished.table("erase_measures").filter(condition="located", group="same relation")
    each = found.filter(pl.col("relation") != "all")
    together = found.filter(relation="all").row(0, named=True)
    assert together["accuracy_after"] == pytest.approx(each["accuracy_after"].to_numpy().mean())
    assert np.log1p(together["rise"]) == pytest.approx(np.log1p(each["rise"].to_numpy()).mean())


def test_texts_that_trigger_are_read_with_neurons_and_words_of_different_halves(study: Study, finished: Atlas) -> None:
    texts = triggering._own_texts(study)
    fact = study.asked[1]
    held = [fact.fact.prompts[p].replace("[MASK]", "answer1") for p, fold in fact.folds.items() if fold == "b"]
    assert set(held) <= set(texts)
    plain = triggers(study.model, fact.fact, study.of(fact, "a"), texts, progress=False).means
    mine = finished.table("trigger_activations").filter(fact=1)
    assert mine.select("kind", "n", "mean").equals(plain.select("kind", "n", "mean"))
    best = finished.table("trigger_precision").filter(of="facts", k=2).row(0, named=True)
    assert best["precision"] <= best["best"]


def test_the_neurons_of_a_fact_with_the_same_answer_do_what_its_own_do(finished: Atlas) -> None:
    found = finished.table("answer_effects").filter(relation="again", gain=0.0)
    change = dict(found.select("condition", "change").iter_rows())
    assert change["same answer, other relation"] == pytest.approx(change["own"])
    assert change["own"] < -0.3
    assert abs(change["other answer, other relation"]) < 0.05


def test_the_rank_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(5, size=40).astype(float), rng.normal(size=40)
    second += first
    found = rank_correlation(first, second, seed=0)
    assert found.estimate == pytest.approx(spearmanr(first, second).statistic)
    assert found.low < found.estimate < found.high


def test_a_constant_has_no_rank_correlation() -> None:
    assert np.isnan(rank_correlation(np.ones(12), np.arange(12.0), seed=0).low)


def test_the_rule_of_the_study_finds_what_moves_the_planted_facts(finished: Atlas) -> None:
    effects = dict(finished.table("rule_effects").select("rule", "change").iter_rows())
    assert effects["gauss-legendre"] < -0.3
    assert abs(effects["random"]) < 0.05
    overlaps = dict(finished.table("rule_overlaps").select("rule", "overlap").iter_rows())
    assert overlaps["gauss-legendre"] == 1.0


def test_a_fact_the_other_way_round_is_needed_for_symmetry(study: Study) -> None:
    with pytest.raises(NotMeasuredError, match="the other way round"):
        symmetry._pairs(study)


def test_cases_take_turns_between_relations(study: Study) -> None:
    assert [case.fact.fact.relation for case in updating._cases(study)] == ["first", "second", "first"]
    assert all(case.case.new_answer != case.fact.fact.answer for case in updating._cases(study))
    assert len(planted_relations()) == len(study.facts)


def test_interactions_are_summed_up_as_the_library_tells_them(study: Study, finished: Atlas) -> None:
    fact = study.sampled[0]
    plain = na.interactions(study.model, fact.fact, study.of(fact))
    sums, pairs = (finished.table(f"interaction_{n}").filter(fact=fact.index) for n in ("sums", "pairs"))
    assert sums.drop("fact", "relation").equals(plain.whole)
    assert pairs.drop("fact", "relation").equals(plain.pairs)
    kinds = finished.table("interaction_kinds")
    assert kinds["n"].sum() == finished.table("interaction_pairs").filter(measure="log_odds").height
    assert kinds["share"].sum() == pytest.approx(1.0)
    totals = dict(finished.table("interaction_totals").filter(measure="p").select("what", "mean").iter_rows())
    assert totals["rest"] == pytest.approx(totals["joint"] - totals["single_sum"])


def test_facts_are_spread_over_their_relation_and_some_stand_both_ways_round() -> None:
    there = [na.Fact("capital", f"land{n}", f"city{n}", [f"land{n} [MASK]"]) for n in range(20)]
    back = [na.Fact("of", f"city{n}", f"land{n}", [f"city{n} [MASK]"]) for n in (3, 5, 10, 15)]
    chosen = spread_facts([*there, *back], 4)
    assert [fact.subject for fact in chosen[:4]] == ["land0", "land5", "land10", "land15"]
    assert [fact.subject for fact in chosen[4:]] == ["city3", "city5", "city10", "city15"]
    assert [fact.subject for fact in spread_facts([*there, *back], 2)[2:]] == ["city3", "city10"]
    assert spread_facts(there, 50) == there
