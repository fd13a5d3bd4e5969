"""Promises of facts and their prompts."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.knowledge.facts import (
    ANSWER,
    MASK,
    PLACES,
    Fact,
    FactError,
    check_facts,
    repeated_facts,
    split_prompt,
)

# Text without the letters of the places, so that none arises by chance.
plain = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="[]{}<>"), max_size=30)
words = plain.map(str.strip).filter(bool)
prompts = st.tuples(plain, st.sampled_from(PLACES), plain).map("".join)


def france(*prompts: str) -> Fact:
    return Fact("capital", "France", "Paris", prompts)


@given(left=plain, place=st.sampled_from((*PLACES, "<mask>")), right=plain)
def test_a_prompt_splits_into_exactly_what_stands_around_its_place(left: str, place: str, right: str) -> None:
    assert split_prompt(left + place + right, (*PLACES, "<mask>")) == (left, right)


@given(text=plain)
def test_a_prompt_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(FactError, match=r"^no \[MASK\] in prompt "):
        split_prompt(text)


@given(parts=st.lists(plain, min_size=3, max_size=5), data=st.data())
def test_a_prompt_with_several_places_is_refused_with_their_number(parts: list[str], data: st.DataObject) -> None:
    prompt = parts[0] + "".join(data.draw(st.sampled_from(PLACES)) + part for part in parts[1:])
    with pytest.raises(FactError, match=f"^{len(parts) - 1} answer places in prompt "):
        split_prompt(prompt)


def test_a_place_inside_a_longer_one_counts_once() -> None:
    assert split_prompt("In [MASK].", ("MASK", MASK)) == ("In ", ".")


def test_a_missing_place_names_the_fact_and_the_number_of_the_prompt() -> None:
    fact = france("a [MASK]", "b {answer}", "The capital of France is Paris.")
    message = (
        r"""^no \[MASK\] in prompt 3 of fact 'France': "The capital of France is Paris\." \(write \[MASK\] or \{ans"""
    )
    with pytest.raises(FactError, match=message):
        fact.split()


def test_a_fact_takes_the_mask_token_of_the_tokenizer_it_is_meant_for() -> None:
    assert france("France: <mask>.", "[MASK] in France").split((*PLACES, "<mask>")) == (
        ("France: ", "."),
        ("", " in France"),
    )


def test_two_places_in_a_prompt_are_refused_with_the_fact_and_the_number() -> None:
    with pytest.raises(FactError, match=r"^2 answer places in prompt 2 of fact 'France'"):
        france("a [MASK]", "{answer} and [MASK]")


@given(relation=words, subject=st.none() | words, answer=words, asked=st.lists(prompts, min_size=1, max_size=5))
def test_a_fact_keeps_what_it_is_given_from_any_iterable(
    relation: str, subject: str | None, answer: str, asked: list[str]
) -> None:
    distinct = list({prompt.replace(ANSWER, MASK): prompt for prompt in asked}.values())
    fact = Fact(relation, subject, answer, iter(distinct))
    assert dataclasses.astuple(fact) == (relation, subject, answer, tuple(distinct))
    assert fact == dataclasses.replace(fact)
    assert hash(fact) == hash(dataclasses.replace(fact))
    assert ["".join((left, MASK, right)) for left, right in fact.split()] == [p.replace(ANSWER, MASK) for p in distinct]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("capital", "France", "", ["[MASK]"]), "^answer is empty"),
        (("capital", "France", "  ", ["[MASK]"]), "^answer is empty"),
        (("", "France", "Paris", ["[MASK]"]), "^relation is empty"),
        (("capital", "", "Paris", ["[MASK]"]), "^subject is empty"),
        (("capital", "France", " Paris", ["[MASK]"]), "^answer ' Paris' has spaces around it: 'Paris' expected"),
        (("capital", "France", 7, ["[MASK]"]), "^answer is 7: a text expected"),
        (("capital", "France", "Paris", []), "^fact 'France' of 'capital' has no prompts"),
        (("capital", None, "Paris", []), "^fact of 'capital' has no prompts"),
        (("capital", "France", "Paris", "in [MASK]"), '^prompts is one text, "in '),
        (("capital", "France", "Paris", ["[MASK]", " "]), "^prompt 2 of fact 'France' is empty"),
        (("capital", None, "Paris", [3]), "^prompt 1 of fact '3' is 3: a text expected"),
        (("capital", "France", "Paris", ["\ud800 [MASK]"]), "^prompt 1 holds half of a character at 0"),
    ],
)
def test_a_fact_that_makes_no_sense_is_refused_with_the_reason(
    arguments: tuple[str, str, str, list[str]], message: str
) -> None:
    with pytest.raises(FactError, match=message):
        Fact(*arguments)


def test_a_prompt_that_repeats_another_is_named_however_its_place_is_written() -> None:
    with pytest.raises(FactError, match=r'^prompt 3 of fact \'France\' repeats prompt 1: "In \{answer\}\."'):
        france("In [MASK].", "At [MASK].", "In {answer}.")


def test_a_fact_without_a_subject_goes_by_its_first_prompt() -> None:
    assert Fact("capital", None, "Paris", ["In [MASK].", "At [MASK]."]).label == "In [MASK]."


def test_facts_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        france("[MASK]").answer = "London"  # type: ignore[misc]


def test_the_same_subject_and_answer_twice_in_a_relation_is_a_repeat() -> None:
    assert repeated_facts([france("a [MASK]"), france("b [MASK]")]) == ((0, 1),)


def test_the_same_prompts_and_answer_in_another_order_are_a_repeat() -> None:
    first = Fact("capital", "France", "Paris", ["a [MASK]", "b [MASK]"])
    again = Fact("capital", None, "Paris", ["b {answer}", "a [MASK]"])
    assert repeated_facts([first, again]) == ((0, 1),)


def test_a_subject_may_have_several_answers_and_relations() -> None:
    twins = [
        Fact("twin", "Paris", "Rome", ["[MASK] is a twin of Paris."]),
        Fact("twin", "Paris", "Kyoto", ["[MASK] is a twin of Paris."]),
        Fact("friend", "Paris", "Rome", ["[MASK] is a friend of Paris."]),
    ]
    check_facts(twins)
    assert repeated_facts(twins) == ()


def test_every_repeat_points_to_the_first_of_its_kind() -> None:
    assert repeated_facts([france("a [MASK]"), france("b [MASK]"), france("c [MASK]")]) == ((0, 1), (0, 2))


def test_checking_facts_names_both_places_of_a_repeat() -> None:
    with pytest.raises(FactError, match=r"^fact 'France' stands twice: as fact 1 and as fact 3"):
        check_facts([france("a [MASK]"), Fact("capital", "Italy", "Rome", ["a [MASK]"]), france("b [MASK]")])


def test_checking_facts_finds_a_prompt_without_its_place() -> None:
    with pytest.raises(FactError, match=r"^no \[MASK\] in prompt 1 of fact 'France'"):
        check_facts([france("The capital of France is <mask>.")])
    check_facts([france("The capital of France is <mask>.")], (*PLACES, "<mask>"))
