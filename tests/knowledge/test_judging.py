"""What an edit did: each number from edits whose outcome is known, on a model written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest
import torch

import neuronatlas as na
from neuronatlas.knowledge.asked_answers import ask
from neuronatlas.knowledge.attribution import PromptWarning
from neuronatlas.models.output_rows import OutputRowError
from neuronatlas.models.queries import QueryError
from neuronatlas.models.slots import SlotError
from tests.knowledge.planted import planted_facts, planted_model, planted_neurons
from tests.knowledge.test_edits import bits


@pytest.fixture(scope="module")
def model() -> na.Model:
    return planted_model()


def case_of(number: int, new: str) -> na.EditCase:
    """A planted fact edited on two of its wordings, with the other two as paraphrases."""
    fact = planted_facts()[number]
    made = na.Fact(fact.relation, fact.subject, fact.answer, fact.prompts[:2])
    return na.EditCase(
        made,
        new,
        paraphrases=fact.prompts[2:],
        locality=(("word0 subject4 word1 [MASK]", "answer4"), ("word0 subject2 word1 [MASK]", "answer2")),
        portability=((fact.prompts[2], new), ("word0 subject0 word1 [MASK]", new)),
    )


def updated(model: na.Model, case: na.EditCase) -> na.Edit:
    number = int(str(case.fact.subject)[-1])
    return na.update(model, case.fact, case.new_answer, neurons=planted_neurons(model.layout(), number))


def measured(table: pl.DataFrame) -> dict[str, tuple[float, float, int]]:
    rows = na.edit_measures(table).select("measure", "before", "after", "prompts").iter_rows()
    return {name: (before, after, prompts) for name, before, after, prompts in rows}


def test_asking_tells_rank_probability_and_first_choices(model: na.Model) -> None:
    prompt = planted_facts()[1].prompts[0]
    said, skipped = ask(model, [(prompt, "answer1"), (prompt, "answer3"), (prompt, "elsewhere"), ("word0", "answer1")])
    assert list(skipped) == [2, 3]
    assert said[2] is said[3] is None
    first, second = said[0], said[1]
    assert first is not None
    assert second is not None
    logits = na.attribute(model, prompt, "answer1", rule="activation").answered
    assert first.probability == pytest.approx(logits.probability)
    assert (first.rank, first.right, first.generated, first.tokens) == (1, 1.0, True, 1)
    assert (second.right, second.generated) == (0.0, False)
    assert second.rank > 1
    assert first.choices == second.choices


def test_an_update_of_a_planted_fact_is_judged_as_it_is(model: na.Model) -> None:
    before, facts = bits(model), planted_facts()
    table = na.judge_edits(model, [case_of(1, "answer3"), case_of(0, "answer4")], updated, others=facts, seed=3)
    assert bits(model) == before
    found = measured(table)
    assert found["change rate"] == (0.0, 1.0, 4)
    assert found["success rate"] == (0.0, 1.0, 4)
    assert found["reliability"] == (0.0, 1.0, 4)
    assert found["generalisation"] == found["generalisation, generated"] == (0.0, 1.0, 4)
    assert found["generalisation, known"] == (0.0, 1.0, 4)
    assert found["locality"] == (1.0, 1.0, 4)
    assert found["portability"][:2] == (0.0, 0.75)  # the last of case 0 is the edited fact itself
    assert found["rank(new)"][1] == 1.0
    assert found["rank(old)"][0] == 1.0
    assert found["P(new)"][0] < 0.1 < found["P(new)"][1]
    assert found["accuracy, same relation"] == (1.0, 1.0, 8)
    assert found["accuracy, other relations"][2] == 0
    perplexity = table.filter(pl.col("group") == "same relation")["log_p_before"].mean()
    assert isinstance(perplexity, float)
    assert found["perplexity, same relation"][0] == pytest.approx(math.exp(-perplexity))


def test_paraphrases_that_the_model_did_not_know_are_told_apart(model: na.Model) -> None:
    """Case 1 is asked under a wording of another subject, to which the model never gave the old answer."""
    stranger = planted_facts()[2].prompts[0]
    case = replace(case_of(1, "answer3"), paraphrases=(planted_facts()[1].prompts[0], stranger))
    table = na.judge_edits(model, [case], updated)
    knew = dict(table.filter(pl.col("group") == "paraphrase").select("prompt", "knew").iter_rows())
    assert knew == {planted_facts()[1].prompts[0]: True, stranger: False}
    assert measured(table)["generalisation, known"] == (0.0, 1.0, 1)


def test_a_model_whose_logits_are_no_numbers_has_lost_everything(model: na.Model) -> None:
    """Comparisons with NaN are all false, so that its answers would stand first of all."""

    def broken(edited: na.Model, case: na.EditCase) -> na.Edit:
        edit = updated(edited, case)
        edited.module.get_output_embeddings().register_forward_hook(lambda _m, _a, out: out * torch.nan)
        return edit

    table = na.judge_edits(model, [case_of(1, "answer3")], broken, others=planted_facts())
    model.module.get_output_embeddings()._forward_hooks.clear()
    found = measured(table)
    assert (found["success rate"][1], found["reliability"][1], found["locality"][1]) == (0.0, 0.0, 0.0)
    assert found["P(new)"][1] == found["accuracy, same relation"][1] == 0.0
    assert found["perplexity, same relation"][1] == math.inf
    assert found["rank(new)"][1] == found["rank(old)"][1] == len(model.tokenizer)
    assert not table["generated_after"].any()


def test_random_neurons_change_nothing(model: na.Model) -> None:
    def at_random(edited: na.Model, case: na.EditCase) -> na.Edit:
        dead = edited.layout().set(["L0.U28", "L1.U29"])
        return na.update(edited, case.fact, case.new_answer, neurons=dead, rule="printed")

    found = measured(na.judge_edits(model, [case_of(1, "answer3")], at_random))
    assert (found["success rate"][1], found["change rate"][1], found["locality"][1]) == (0.0, 0.0, 1.0)


def test_answers_of_several_tokens_are_told_apart_token_by_token(model: na.Model) -> None:
    """Teacher-forced, half of the answer is right; generated, it is not."""
    case = na.EditCase(planted_facts()[1], "answer1 answer2")
    table = na.judge_edits(model, [case], lambda edited, _: na.erase(edited, edited.layout().set(["L0.U29", "L0.U12"])))
    row = table.filter(pl.col("group") == "edited").row(0, named=True)
    assert (row["tokens"], row["right_before"], row["generated_before"]) == (2, 0.5, False)


def test_an_edit_that_is_refused_counts_as_what_it_did(model: na.Model) -> None:
    def refuse(_model: na.Model, _case: na.EditCase) -> na.Edit:
        raise na.EditError("no such luck")

    table = na.judge_edits(model, [case_of(1, "answer3")], refuse)
    assert set(table["refused"]) == {"no such luck"}
    assert measured(table)["success rate"][1] == 0.0


def test_one_case_that_does_not_suit_loses_nothing_of_the_others(model: na.Model) -> None:
    stranger = na.EditCase(planted_facts()[2], "elsewhere")
    case = replace(case_of(1, "answer3"), locality=(("word0 subject4 word1 [MASK]", "nowhere"),))
    with pytest.warns(PromptWarning) as told:
        table = na.judge_edits(model, [stranger, case], updated)
    assert set(table["case"]) == {1}
    assert measured(table)["success rate"] == (0.0, 1.0, 2)
    assert [str(one.message).split(":")[0] for one in told] == [
        "1 of 2 cases left out, of which nothing was judged",
        "1 of 11 prompts to judge by left out",
    ]


@pytest.mark.parametrize("kind", [QueryError, SlotError, OutputRowError])
def test_an_edit_that_cannot_be_made_of_one_case_is_refused_and_bugs_are_not(
    model: na.Model, kind: type[ValueError]
) -> None:
    def refuse(_model: na.Model, _case: na.EditCase) -> na.Edit:
        raise kind("not here")

    def broken(_model: na.Model, _case: na.EditCase) -> na.Edit:
        raise TypeError("a bug")

    assert set(na.judge_edits(model, [case_of(1, "answer3")], refuse)["refused"]) == {"not here"}
    with pytest.raises(TypeError, match="a bug"):
        na.judge_edits(model, [case_of(1, "answer3")], broken)


def test_other_facts_are_all_but_the_edited_one(model: na.Model) -> None:
    """Those of its subject under other relations too, and those whose subject is not known."""
    facts = planted_facts()
    others = [
        *facts,
        na.Fact("another", facts[1].subject, "answer1", facts[1].prompts[2:]),
        *(na.Fact("nameless", None, fact.answer, fact.prompts) for fact in facts[:3]),
    ]

    def erased(edited: na.Model, _case: na.EditCase) -> na.Edit:
        return na.erase(edited, edited.layout().set(["L0.U1"]))

    def asked(fact: na.Fact) -> dict[str, int]:
        table = na.judge_edits(model, [na.EditCase(fact, "answer4")], erased, others=others)
        counts = table.group_by("group").len()
        return {group: n for group, n in counts.iter_rows() if group.endswith("relation") or group.endswith("s")}

    assert asked(facts[1]) == {"same relation": len(facts) - 1, "other relations": 4}
    nameless = na.Fact("nameless", None, facts[0].answer, facts[0].prompts[:1])
    assert asked(nameless) == {"same relation": 2, "other relations": len(facts) + 1}


def test_a_model_is_given_back_whatever_happens_after_the_edit(model: na.Model) -> None:
    before = bits(model)

    def broken(edited: na.Model, case: na.EditCase) -> na.Edit:
        edit = updated(edited, case)
        edited.module.register_forward_pre_hook(_fail)
        return edit

    with pytest.raises(RuntimeError, match="broken on purpose"):
        na.judge_edits(model, [case_of(1, "answer3")], broken)
    model.module._forward_pre_hooks.clear()
    assert bits(model) == before


def _fail(*_: object) -> None:
    raise RuntimeError("broken on purpose")


def test_batches_and_erasures_are_judged_together(model: na.Model) -> None:
    facts, cases = planted_facts(), [case_of(0, "answer1"), case_of(1, "answer2")]

    def both(edited: na.Model, given: object) -> na.Edit:
        assert given is cases
        sets = [planted_neurons(edited.layout(), number) for number in (0, 1)]
        return na.exact_update(
            edited, [c.fact for c in cases], [c.new_answer for c in cases], keep=facts[2:], neurons=sets
        )

    found = measured(na.judge_together(model, cases, both, others=facts))
    assert (found["success rate"], found["accuracy, same relation"]) == ((0.0, 1.0, 4), (1.0, 1.0, 6))
    erased = na.judge_erasure(
        model,
        facts[:2],
        facts[2:],
        lambda edited: na.erase(edited, [planted_neurons(edited.layout(), n) for n in (0, 1)]),
    )
    told = measured(erased)
    assert (told["accuracy, same relation"], told["accuracy, other relations"]) == ((1.0, 0.0, 2), (1.0, 1.0, 3))
    assert told["perplexity, same relation"][1] > told["perplexity, same relation"][0]


def test_cases_and_prompts_are_needed(model: na.Model) -> None:
    with pytest.raises(na.EditError, match="no edits to judge"):
        na.judge_edits(model, [], updated)
    with pytest.raises(na.EditError, match="no prompt to judge the edit by suits"):
        na.judge_edits(model, [na.EditCase(planted_facts()[1], "elsewhere")], updated)


def test_every_measure_has_its_definition(model: na.Model) -> None:
    table = na.edit_measures(na.judge_edits(model, [case_of(1, "answer3")], updated))
    assert table["measure"].to_list() == list(na.EDIT_MEASURES)
    assert all(len(text) > 20 for text in table["definition"])
    assert torch.isfinite(torch.tensor(table.filter(pl.col("prompts") > 0)["low"].to_list())).all()
