"""Promises of the recovery of subjects from prompts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.readers.subjects import recover_subjects

TEMPLATES = ["The capital of {} is [MASK].", "[MASK] is {}'s capital.", "{}, whose capital is [MASK]."]
STARTING = ["{} is [MASK].", "{} was [MASK]."]

names = st.lists(
    st.text("abcdefgh", min_size=2, max_size=6).map(str.capitalize), min_size=1, max_size=3, unique=True
).map(" ".join)


def filled(templates: list[str], subjects: list[str]) -> list[list[str]]:
    return [[template.format(subject) for template in templates] for subject in subjects]


@given(subjects=st.lists(names, min_size=10, max_size=14, unique=True))
def test_subjects_of_templates_come_back(subjects: list[str]) -> None:
    # Ten that differ in their first and last words: what all share would belong to the templates.
    subjects = [f"{letter} {name} {letter}" for letter, name in zip("KLMNOPQRSTUVWX", subjects, strict=False)]
    assert recover_subjects(filled(TEMPLATES, subjects)) == tuple(subjects)


@given(subjects=st.lists(names, min_size=1, max_size=8, unique=True))
def test_a_recovered_subject_stands_in_every_prompt(subjects: list[str]) -> None:
    bags = filled(TEMPLATES, subjects)
    for subject, prompts in zip(recover_subjects(bags), bags, strict=True):
        assert subject is None or all(subject in prompt for prompt in prompts)


def test_one_bag_alone_does_not_settle_its_subject() -> None:
    assert recover_subjects(filled(TEMPLATES, ["France"])) == (None,)


def test_a_word_before_every_subject_leaves_a_few_bags_unsettled_and_many_not() -> None:
    after = ["The language of {} is [MASK].", "[MASK] is the language of {}."]
    countries = ["France", "Italy", "Spain", "Greece", "Japan", "Peru", "Chile", "Kenya", "India", "Iran"]
    assert recover_subjects(filled(after, countries[:9])) == (None,) * 9
    assert recover_subjects(filled(after, countries)) == tuple(countries)


def test_words_that_two_subjects_share_are_not_cut_off() -> None:
    assert recover_subjects(filled(TEMPLATES, ["United States", "United Kingdom", "France"])) == (
        "United States",
        "United Kingdom",
        "France",
    )


def test_a_subject_may_hold_punctuation_and_words_of_the_templates() -> None:
    subjects = ["Mr. & Mrs. Smith", "The capital of Love", "England, Their England", "France"]
    assert recover_subjects(filled(TEMPLATES, subjects)) == tuple(subjects)


def test_a_bag_whose_templates_no_other_has_stays_unnamed() -> None:
    bags = [*filled(TEMPLATES, ["France", "Italy"]), ["Rome lies in [MASK]."]]
    assert recover_subjects(bags) == ("France", "Italy", None)
