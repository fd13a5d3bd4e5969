"""Promises of the reader of CSV and TSV tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronatlas.knowledge.facts import Fact
from neuronatlas.readers import FactFileError, read_facts

HEADER = "relation,subject,answer,prompt\n"


def table(folder: Path, text: str, name: str = "facts.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_rows_of_a_relation_subject_and_answer_form_a_fact_wherever_they_stand(tmp_path: Path) -> None:
    rows = "capital,France,Paris,a [MASK]\ncapital,Italy,Rome,a [MASK]\ncapital,France,Paris,b [MASK]\n"
    assert read_facts(table(tmp_path, HEADER + rows)) == (
        Fact("capital", "France", "Paris", ["a [MASK]", "b [MASK]"]),
        Fact("capital", "Italy", "Rome", ["a [MASK]"]),
    )


def test_a_row_without_a_subject_is_a_fact_of_its_own(tmp_path: Path) -> None:
    assert read_facts(table(tmp_path, HEADER + "capital,,Paris,a [MASK]\ncapital,,Paris,b [MASK]\n")) == (
        Fact("capital", None, "Paris", ["a [MASK]"]),
        Fact("capital", None, "Paris", ["b [MASK]"]),
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["facts.csv", "facts.tsv"])
def test_the_header_tells_the_delimiter_and_the_columns(delimiter: str, name: str, tmp_path: Path) -> None:
    rows = [["id", "Prompt", "answer", " subject", "relation"], ["7", "a [MASK]", "Paris ", "France", "capital"]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert read_facts(table(tmp_path, text, name)) == (Fact("capital", "France", "Paris", ["a [MASK]"]),)


def test_blank_lines_and_line_ends_in_quotes_count_as_lines(tmp_path: Path) -> None:
    rows = 'capital,France,Paris,"two\nlines [MASK]"\n\n,,,\ncapital,Italy,Rome\n'
    with pytest.raises(FactFileError, match=r"facts\.csv, line 6: 3 cells where the header has 4: one is missing$"):
        read_facts(table(tmp_path, HEADER + rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "relation,subject,prompt\n",
            r"line 1: there is no column 'answer': the columns are 'relation', 'subject', 'pr",
        ),
        ("relation,answer,subject,answer,prompt\n", "line 1: column 'answer' stands twice"),
        (
            HEADER + "capital,France,Paris,In France, [MASK].\n",
            "line 2: 5 cells where the header has 4: is a cell that",
        ),
        (HEADER + 'capital,France,Paris,"[MASK]\n', r"line 2: the line is broken \("),
        (HEADER + 'capital,France,Paris,"In" [MASK]\n', r"line 2: the line is broken \("),
        (HEADER + "capital,France,,a [MASK]\n", "line 2: answer is empty"),
        (HEADER + ",France,Paris,a [MASK]\n", "line 2: relation is empty"),
        (HEADER + "capital,France,Paris,\n", "line 2: prompt 1 of fact 'France' is empty"),
        (HEADER + "capital,France,Paris,a\n", r"line 2: no \[MASK\] in prompt 1 of fact 'France': \"a\""),
        (HEADER + "capital,France,Paris,[MASK] [MASK]\n", "line 2: 2 answer places in prompt 1 of fact 'France'"),
        (
            HEADER + "capital,France,Paris,a [MASK]\ncapital,France,Paris,b [MASK]\ncapital,France,Paris,a {answer}\n",
            "line 4: the prompt of fact 'France' repeats that of line 2$",
        ),
        (
            HEADER + "capital,,Athens,a [MASK]\ncapital,Greece,Athens,a [MASK]\n",
            "line 3: fact 'Greece' stands twice, first at line 2$",
        ),
    ],
)
def test_a_broken_line_names_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=rf"facts\.csv, {message}"):
        read_facts(table(tmp_path, text))
