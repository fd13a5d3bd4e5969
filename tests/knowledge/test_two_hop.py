"""Two-hop prompts: they need both facts, say neither answer, and are sentences."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronatlas as na
from neuronatlas.knowledge.descriptions import descriptions, put_description, says


@pytest.fixture(scope="module")
def world() -> list[na.Fact]:
    """The specimen's facts."""
    return [na.Fact(f.relation, f.subject, f.answer, f.prompts) for f in na.specimen_facts()]


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("[MASK] is the author of Hamlet.", "the author of Hamlet"),
        ("[MASK], the author of Hamlet.", "the author of Hamlet"),
        ("The one who wrote Hamlet was [MASK].", "the one who wrote Hamlet"),
        ("The author of Hamlet is called [MASK].", "the author of Hamlet"),
        ("Hamlet's author is {answer}", "Hamlet's author"),
        ("The play Hamlet is [MASK].", None),  # the phrase names the play
        ("Hamlet is [MASK].", None),
        ("[MASK] is an author of Hamlet.", None),  # one of several
        ("[MASK] is the author, some say, of Hamlet.", None),
        ("The fact is that the author of Hamlet is [MASK].", None),
        ("The author of Hamlet was born as [MASK].", None),
        ("The author of Macbeth is [MASK].", None),  # does not say of what it speaks
        ("Scholars say [MASK] is the author of Hamlet.", None),
        ("The mask of Hamlet is missing.", None),
    ],
)
def test_a_phrase_is_taken_only_where_it_names_the_answer(prompt: str, phrase: str | None) -> None:
    assert descriptions(na.Fact("author", "Hamlet", "Shakespeare", [prompt])) == (() if phrase is None else (phrase,))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Japan pays in [MASK].", "The land of Noh pays in [MASK]."),
        ("One pays in [MASK] in Japan.", "One pays in [MASK] in the land of Noh."),
        ("In the Japan of today one pays in [MASK].", "In the land of Noh of today one pays in [MASK]."),
        ("Japan's currency is the [MASK].", None),
        ("The country Japan pays in [MASK].", None),
        ("Japan is Japan, where one pays in [MASK].", None),
        ("A Japanese pays in [MASK].", None),
    ],
)
def test_a_description_is_put_only_where_it_reads(prompt: str, expected: str | None) -> None:
    assert put_description(prompt, "Japan", "the land of Noh") == expected


def test_prompts_of_a_real_file_chain_and_say_neither_answer(world: list[na.Fact]) -> None:
    hops = na.two_hop(world)
    assert len(hops) > 5_000
    pairs = {hop.relations for hop in hops}
    assert {("capital_of", "currency"), ("maker", "headquarters"), ("born_in", "continent")} <= pairs
    # A country's capital's country is where one began, and a state with a country's name is not the country.
    assert not {("capital", "capital_of"), ("capital_of", "capital"), ("capital_of", "state_capital")} & pairs
    for hop in hops:
        assert hop.first.answer.removeprefix("the ") == (hop.second.subject or "").removeprefix("the ")
        assert says(hop.prompt, hop.first.subject or "")
        assert not says(hop.prompt, hop.first.answer)
        assert not says(hop.prompt, hop.answer)
        assert hop.prompt.count("[MASK]") == 1
        assert hop.prompt[0].isupper() or hop.prompt.startswith("[MASK]")
        assert not re.search(r"\bthe the\b", hop.prompt, re.IGNORECASE)
    assert na.two_hop(world) == hops


def test_prompts_for_a_causal_model_end_in_the_answer(world: list[na.Fact]) -> None:
    hops = na.two_hop(world[:1500], answer_last=True, each=1)
    assert hops
    assert all(hop.prompt.rstrip(".").endswith("[MASK]") for hop in hops)
    assert len({(hop.first, hop.second) for hop in hops}) == len(hops)


def relation(name: str, prompt: str, **answers: str) -> list[na.Fact]:
    return [na.Fact(name, subject, answer, [prompt.format(subject)]) for subject, answer in answers.items()]


def test_phrases_and_whole_prompts_of_the_user_s_own_serve_any_language() -> None:
    facts = relation("Hauptstadt von", "{} regiert [MASK].", Rom="Italien", Oslo="Norwegen")
    facts += relation("Sprache", "In {} spricht man [MASK].", Italien="Italienisch", Norwegen="Norwegisch")
    assert na.two_hop(facts) == ()
    hops = na.two_hop(facts, bridges={"Hauptstadt von": ["dem Land mit der Hauptstadt {subject}"]})
    assert [hop.prompt for hop in hops] == [
        "In dem Land mit der Hauptstadt Rom spricht man [MASK].",
        "In dem Land mit der Hauptstadt Oslo spricht man [MASK].",
    ]
    hops = na.two_hop(facts, templates={("Hauptstadt von", "Sprache"): ["Wer in {subject} regiert, spricht [MASK]."]})
    assert (hops[0].prompt, hops[0].answer) == ("Wer in Rom regiert, spricht [MASK].", "Italienisch")


def test_a_subject_with_two_answers_takes_no_part() -> None:
    facts = relation("born", "The place where {} was born is [MASK].", Ann="Rome", Bo="Oslo", Cy="Bonn")
    facts += relation("river", "The river of {} is the [MASK].", Rome="Tiber", Oslo="Akerselva", Bonn="Rhine")
    assert {hop.answer for hop in na.two_hop(facts)} == {"Tiber", "Akerselva", "Rhine"}
    facts += relation("river", "The river of {} is the [MASK].", Rome="Aniene")
    assert {hop.answer for hop in na.two_hop(facts)} == {"Akerselva", "Rhine"}


def test_what_follows_from_an_edit_is_asked_at_both_hops(world: list[na.Fact]) -> None:
    tokyo = next(f for f in world if f.relation == "capital_of" and f.subject == "Tokyo")
    hops = na.follow_up_prompts(tokyo, "France", world)
    found = {hop.relations[1]: hop.answer for hop in hops}
    assert found["currency"] == "euro"
    assert found["continent"] == "Europe"
    assert found["language"] == "French"
    for hop in hops:
        # Either the new answer's own fact is asked by way of the edited one, or the edited one by way of another.
        if hop.relations[0] == "capital_of":
            assert (hop.first.subject, hop.first.answer, hop.second.subject) == ("Tokyo", "France", "France")
        else:
            assert (hop.second.subject, hop.first.answer, hop.answer) == ("Tokyo", "Tokyo", "France")
        assert not says(hop.prompt, hop.answer)
    assert any(hop.relations == ("headquarters", "capital_of") for hop in hops)
    # The same continent as before tells nothing of an edit.
    assert "continent" not in {hop.relations[1] for hop in na.follow_up_prompts(tokyo, "China", world)}
    case = na.EditCase(tokyo, "France", portability=tuple((hop.prompt, hop.answer) for hop in hops))
    assert len(case.portability) == len(hops) > 10


def test_phrases_and_templates_without_their_places_are_refused(world: list[na.Fact]) -> None:
    with pytest.raises(na.FactError, match=r"exactly one \{subject\} expected"):
        na.two_hop(world[:2], bridges={"capital": ["the capital"]})
    with pytest.raises(na.FactError, match=r"no \[MASK\] in prompt"):
        na.two_hop(world[:2], templates={("a", "b"): ["{subject} is it."]})
    with pytest.raises(na.FactError, match="0 prompts of each pair of facts: 1 or more expected"):
        na.two_hop(world[:2], each=0)
    with pytest.raises(na.FactError, match="0 prompts of each pair of facts: 1 or more expected"):
        na.follow_up_prompts(world[0], "elsewhere", world[:2], each=0)


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_a_prompt_or_none(prompt: str, subject: str, description: str) -> None:
    found = put_description(prompt, subject, description)
    assert found is None or description[1:] in found
