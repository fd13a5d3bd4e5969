"""Composed sentences are true, and a tenth of them is kept from training."""

from __future__ import annotations

from collections import Counter

from neuronatlas.specimen.compose import compositions, is_held_out
from neuronatlas.specimen.world import facts


def test_all_kinds_are_there_and_about_a_tenth_of_each_is_held_out() -> None:
    counts = Counter((c.kind, c.held_out) for c in compositions())
    for kind in ("two-hop", "yes-no", "comparison"):
        total = counts[kind, False] + counts[kind, True]
        assert total > 1_000
        assert 0.07 < counts[kind, True] / total < 0.13


def test_two_hops_lead_through_both_tables() -> None:
    known = {(f.relation, f.subject): f.answer for f in facts() if f.language == "en"}
    for composition in compositions():
        if composition.kind == "two-hop":
            first, second, subject = composition.key
            assert composition.sentence.answer == known[second, known[first, subject]]


def test_yes_and_no_are_the_truth() -> None:
    known = {(f.relation, f.subject): f.answer for f in facts() if f.language == "en"}
    for composition in compositions():
        relation, first, second = composition.key
        if composition.kind == "yes-no":
            assert (composition.sentence.answer == "Yes") == (known[relation, first] == second)
        if composition.kind == "comparison":
            alike = known[relation, first] == known[relation, second]
            assert composition.sentence.answer in (("Yes", "true") if alike else ("No", "false"))


def test_an_answer_does_not_leak_into_its_prompt_by_the_wording() -> None:
    prompts = [c for c in compositions() if c.kind == "comparison"]
    clauses = {(c.sentence.answer, c.sentence.prompt.split()[0], c.key[0]) for c in prompts}
    for answer, opposite in (("Yes", "No"), ("true", "false")):
        assert {c[1:] for c in clauses if c[0] == answer} == {c[1:] for c in clauses if c[0] == opposite}


def test_holding_out_depends_on_what_is_asked_not_on_the_wording() -> None:
    by_key: dict[tuple[str, ...], set[bool]] = {}
    for composition in compositions():
        by_key.setdefault((composition.kind, *composition.key), set()).add(composition.held_out)
    assert all(len(found) == 1 for found in by_key.values())
    assert is_held_out("two-hop", ("a", "b", "c")) == is_held_out("two-hop", ("a", "b", "c"))
