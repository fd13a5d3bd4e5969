"""Promises of the reader of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuronatlas.knowledge.facts import Fact
from neuronatlas.readers import FactFileError, read_facts

GOOD: dict[str, Any] = {"relation": "capital", "subject": "Italy", "answer": "Rome", "prompts": ["a [MASK]"]}


def lines(folder: Path, *records: dict[str, Any] | str) -> Path:
    path = folder / "facts.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records), encoding="utf-8")
    return path


def test_lines_with_one_prompt_join_and_lines_with_prompts_are_whole(tmp_path: Path) -> None:
    first = {"relation": "capital", "subject": "France", "answer": "Paris", "prompt": "a [MASK]"}
    path = lines(tmp_path, first, GOOD, {**first, "prompt": "b [MASK]"})
    assert read_facts(path) == (
        Fact("capital", "France", "Paris", ["a [MASK]", "b [MASK]"]),
        Fact("capital", "Italy", "Rome", ["a [MASK]"]),
    )


@pytest.mark.parametrize("subject", [{}, {"subject": None}])
def test_a_subject_may_be_null_or_left_out(subject: dict[str, Any], tmp_path: Path) -> None:
    record = {"relation": "capital", "answer": "Rome", "prompts": ["a [MASK]"], **subject}
    assert read_facts(lines(tmp_path, record)) == (Fact("capital", None, "Rome", ["a [MASK]"]),)


def test_a_whole_fact_and_a_line_of_the_same_fact_are_a_repeat(tmp_path: Path) -> None:
    more = {"relation": "capital", "subject": "Italy", "answer": "Rome", "prompt": "b [MASK]"}
    with pytest.raises(FactFileError, match=r"facts\.jsonl, line 2: fact 'Italy' stands twice, first at line 1$"):
        read_facts(lines(tmp_path, GOOD, more))


def test_characters_that_only_some_take_for_line_ends_end_no_line(tmp_path: Path) -> None:
    record = {**GOOD, "prompts": ["a\u2028b\u0085 [MASK]"]}
    path = lines(tmp_path, json.dumps(record, ensure_ascii=False))
    assert read_facts(path)[0].prompts == ("a\u2028b\u0085 [MASK]",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"relation": "capital", ', r"the line is no JSON object \(column 25: "),
        ('{"relation": "a", "relation": "b"}', "the line is no JSON object .key 'relation' stands twice"),
        ("[" * 100_000, r"the line is no JSON object \(nested too deeply"),
        ("[1, 2]", r"the line holds list \[1, 2\]: an object expected$"),
        ("{}", "there is no 'relation': the object has nothing$"),
        ('{"relation": "capital", "prompt": "[MASK]"}', "there is no 'answer': the object has 'relation', 'prompt'$"),
        (json.dumps({**GOOD, "prompt": "[MASK]"}), "both of 'prompt' and 'prompts' found"),
        ('{"relation": "capital", "answer": "Rome"}', "neither of 'prompt' and 'prompts' found"),
        (json.dumps({**GOOD, "prompts": "a [MASK]"}), "'prompts' is 'a .MASK.': a list of texts expected$"),
        (json.dumps({**GOOD, "prompts": None}), "'prompts' is None: a list of texts expected$"),
        (json.dumps({**GOOD, "prompts": []}), "fact 'Italy' of 'capital' has no prompts"),
        (json.dumps({**GOOD, "prompts": [5]}), "prompt 1 of fact 'Italy' is 5: a text expected$"),
        (json.dumps({**GOOD, "answer": 1912}), "answer is 1912: a text expected$"),
        (json.dumps({**GOOD, "answer": " "}), "answer is empty"),
        (json.dumps({**GOOD, "subject": ["Italy"]}), r"subject is \['Italy'\]: a text expected$"),
        (json.dumps({**GOOD, "prompts": ["a [MASK]", "b"]}), r"no \[MASK\] in prompt 2 of fact 'Italy': \"b\""),
        (json.dumps({**GOOD, "prompts": ["a [MASK]", "a [MASK]"]}), "prompt 2 of fact 'Italy' repeats prompt 1"),
    ],
)
def test_a_broken_line_names_file_and_line(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FactFileError, match=rf"facts\.jsonl, line 3: {message}"):
        read_facts(lines(tmp_path, {**GOOD, "subject": "Old Italy", "prompts": ["o [MASK]"]}, "", line))
