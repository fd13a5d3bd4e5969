"""The benchmark of edits: what it judges is unseen by the edit, its table and its targets say what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

import neuronatlas as na
from tests.knowledge.planted import planted_facts, planted_model

# The scripts find each other in their own folder, as they do when they are run.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import edit_cost
import edit_tables
import editing
import shapes


def planted_task(model: na.Model, edits: int, skip: int = 0) -> editing.Task:
    facts = planted_facts()
    made = [na.Fact(fact.relation, fact.subject, fact.answer, fact.prompts[:3]) for fact in facts]
    return editing.tasks_of(model, made, [fact.prompts[3:] for fact in facts], edits, 0, skip)


def test_edited_seen_and_judging_facts_are_apart_and_skipping_takes_others() -> None:
    model = planted_model()
    first, second = planted_task(model, 2), planted_task(model, 2, skip=2)
    subjects = [{case.fact.subject for case in task.cases} for task in (first, second)]
    assert not subjects[0] & subjects[1]
    for task in (first, second):
        parts = [{c.fact.subject for c in task.cases}, *({f.subject for f in p} for p in (task.seen, task.unseen))]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 5
        assert all(case.new_answer != case.fact.answer for case in task.cases)


def test_ways_are_compared_and_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, kept = planted_model(), tmp_path / "results.parquet"
    task = planted_task(model, 2)
    once = editing.compared(model, task, seed=0, only=["exact"], results=kept)
    both = editing.compared(model, task, seed=0, only=["exact", "update, normalised"], results=kept)
    assert capsys.readouterr().out.count("success rate") == 2  # the first way was not run again
    assert once.equals(both.head(once.height))
    found = edit_tables.as_markdown(both, ["exact", "update, normalised"]).splitlines()
    assert found[0] == "| measure | before | exact | update, normalised |"
    assert next(line for line in found if "success rate" in line).startswith("| success rate | 0.000 | 1.000")


def test_targets_say_by_how_much_they_are_met_or_missed() -> None:
    rows = [("success rate", 0.97), ("accuracy, same relation", 0.98), ("CPU seconds, median", 0.75)]
    table = pl.DataFrame([{"measure": name, "after": value, "way": "exact"} for name, value in rows])
    told = edit_tables.targets(table)
    assert "| 0.95 | 0.9700 | met by 0.0200 |" in told
    assert "| 0.99 | 0.9800 | missed by 0.0100 |" in told
    assert "| 1.00 | 0.7500 | met by 0.2500 |" in told


def test_a_block_of_a_page_is_replaced_and_a_page_without_it_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n", encoding="utf-8")
    edit_tables.write_block(page, "a", "new")
    assert page.read_text("utf-8") == "before\n<!-- a: begin -->\nnew\n<!-- a: end -->\nafter\n"
    with pytest.raises(ValueError, match="has no block 'b'"):
        edit_tables.write_block(page, "b", "new")


def test_the_cost_of_an_edit_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- cost: begin -->\n<!-- cost: end -->\n", encoding="utf-8")
    edit_cost.main("tiny BERT", facts=6, prompts=3, tokens=6, markdown=page, block="cost")
    told = page.read_text("utf-8")
    assert all(words in told for words in ("| locating", "| the exact edit, ", "| undoing it", "random weights"))
    assert shapes.SHAPES["tiny BERT"].vocabulary == 101
