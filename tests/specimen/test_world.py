"""The world's tables and templates keep the promises that the training text is built on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from neuronatlas.specimen import world
from neuronatlas.specimen.world import (
    ANYWHERE,
    AT_THE_END,
    Template,
    Wordings,
    WorldFact,
    facts,
    relations,
    render,
    sentences,
    suits,
    templates,
)

TRILINGUAL = {"capital", "capital_of", "continent", "currency", "language"}


def test_there_are_enough_relations_facts_and_templates() -> None:
    assert len(relations()) >= 12
    assert len({(fact.relation, fact.subject) for fact in facts() if fact.language == "en"}) >= 2_000
    counts = Counter((template.relation, template.held_out) for template in templates() if template.language == "en")
    assert all(counts[relation, False] >= 10 and counts[relation, True] == 2 for relation in relations())


def test_five_relations_speak_german_and_spanish_too() -> None:
    for language in ("de", "es"):
        assert {fact.relation for fact in facts() if fact.language == language} == TRILINGUAL
        counts = Counter((t.relation, t.held_out) for t in templates() if t.language == language)
        assert all(counts[relation, False] >= 6 and counts[relation, True] == 2 for relation in TRILINGUAL)


def test_every_relation_can_be_asked_at_the_end_in_each_of_its_languages() -> None:
    counts = Counter((t.relation, t.language, t.held_out) for t in templates(AT_THE_END))
    spoken = {(fact.relation, fact.language) for fact in facts()}
    assert all(counts[*key, False] >= 5 and counts[*key, True] == 2 for key in spoken)
    assert {key[:2] for key in counts} == spoken


def test_what_is_asked_at_the_end_has_nothing_but_a_stop_behind_the_answer() -> None:
    assert {template.text.split("{answer}")[1] for template in templates(AT_THE_END)} == {"."}


@pytest.mark.parametrize("wordings", [ANYWHERE, AT_THE_END])
def test_templates_differ_within_a_relation(wordings: Wordings) -> None:
    found = templates(wordings)
    assert len({(t.relation, t.language, t.text) for t in found}) == len(found)


def test_some_answers_have_several_words() -> None:
    long = {fact.relation for fact in facts() if len(fact.answer.split()) in (2, 3)}
    assert {"author", "director"} <= long


@pytest.mark.parametrize(("wordings", "trained", "held_out"), [(ANYWHERE, 3, 1), (AT_THE_END, 5, 2)])
def test_every_fact_has_enough_trained_prompts_and_some_held_out(
    wordings: Wordings, trained: int, held_out: int
) -> None:
    for fact in facts():
        assert len(sentences(fact, held_out=False, wordings=wordings)) >= trained, fact
        assert len(sentences(fact, held_out=True, wordings=wordings)) >= held_out, fact


def test_a_rendered_sentence_knows_its_subject_and_answer() -> None:
    sentence = render("on a map, {answer} is in {subject}.", "the Netherlands", "Utrecht").shifted("Look: ", " So.")
    assert sentence.text == "Look: On a map, Utrecht is in the Netherlands. So."
    assert sentence.answer == "Utrecht"
    assert sentence.text[slice(*sentence.subject_span)] == "the Netherlands"
    assert sentence.prompt == "Look: On a map, [MASK] is in the Netherlands. So."


def test_a_lower_case_answer_never_opens_a_sentence() -> None:
    opening = Template("currency", "en", "{answer} is the money of {subject}.", held_out=False)
    assert not suits(opening, WorldFact("currency", "en", "Japan", "yen"))
    assert suits(opening, WorldFact("currency", "en", "Japan", "Yen"))


def test_the_two_halves_share_no_relation_and_miss_none() -> None:
    choosing, reporting = set(world.choosing_relations()), set(world.reporting_relations())
    assert not choosing & reporting
    assert choosing | reporting == set(relations())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("subject\tanswer\nPeru\n", "peaks.tsv:2: 1 cells where the header has 2"),
        ("subject\tanswer\nPeru\t\n", "peaks.tsv:2: subject 'Peru' with answer '' in en"),
        ("subject\tanswer\nPeru\tLima\nPeru\tCusco\n", "peaks.tsv:3: the subject 'Peru' stands twice"),
    ],
)
def test_a_broken_line_names_file_and_line(
    table: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "peaks.tsv"
    path.write_text(table, encoding="utf-8")
    monkeypatch.setattr(world, "_table", lambda folder, relation: path)
    with pytest.raises(world.WorldError, match=message):
        list(world._facts_of("peaks"))


def test_a_template_without_an_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "peaks.tsv"
    path.write_text("language\theld_out\ttemplate\nen\t0\tThe top of {subject}.\n", encoding="utf-8")
    monkeypatch.setattr(world, "_table", lambda folder, relation: path)
    with pytest.raises(world.WorldError, match=r"peaks\.tsv:2"):
        list(world._templates_of("peaks", "templates"))
