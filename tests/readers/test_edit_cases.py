"""Files of edits: the three layouts in use, and what is wrong with a file in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

import neuronatlas as na

FLAT: dict[str, Any] = {
    "prompt": "The mother tongue of Anna is",
    "subject": "Anna",
    "ground_truth": "French",
    "target_new": "English",
    "rephrase_prompt": "Anna grew up speaking",
    "locality_prompt": "Ben is a native speaker of",
    "locality_ground_truth": "Dutch",
}
KNOWEDIT: dict[str, Any] = {
    "prompt": "The mother tongue of Anna is",
    "subject": "Anna",
    "ground_truth": [["French"]],
    "target_new": "English",
    "rephrase": ["Anna grew up speaking"],
    "locality": {"Relation_Specificity": [{"prompt": "Anna lives in", "ground_truth": [["Lyon"], ["France"]]}]},
    "portability": {"Reasoning": [{"prompt": "Anna shares her first language with", "ground_truth": ["Shakespeare"]}]},
}
PUBLISHED: dict[str, Any] = {
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English"},
        "target_true": {"str": "French"},
        "subject": "Anna",
    },
    "paraphrase_prompts": ["Anna grew up speaking"],
    "neighborhood_prompts": ["Ben is a native speaker of"],
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("entry", "locality", "portability", "relation"),
    [
        (FLAT, (("Ben is a native speaker of {answer}.", "Dutch"),), (), "edits"),
        (
            KNOWEDIT,
            (("Anna lives in {answer}.", "Lyon"),),
            (("Anna shares her first language with {answer}.", "Shakespeare"),),
            "edits",
        ),
        (PUBLISHED, (("Ben is a native speaker of {answer}.", "French"),), (), "P103"),
    ],
    ids=["easyedit", "knowedit", "counterfact"],
)
def test_each_layout_gives_the_same_case(
    tmp_path: Path, entry: dict[str, Any], locality: object, portability: object, relation: str
) -> None:
    [case] = na.read_edit_cases(write(tmp_path / "edits.json", json.dumps([entry])))
    assert case.fact == na.Fact(relation, "Anna", "French", ["The mother tongue of Anna is {answer}."])
    assert (case.new_answer, case.paraphrases) == ("English", ("Anna grew up speaking {answer}.",))
    assert (case.locality, case.portability) == (locality, portability)


def test_lines_and_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "edits.jsonl", "\n".join(json.dumps(entry) for entry in (FLAT, KNOWEDIT, PUBLISHED)))
    assert len(na.read_edit_cases(path)) == 3
    assert na.read_edit_cases(path, limit=2) == na.read_edit_cases(path)[:2]


def test_a_place_that_is_there_stays(tmp_path: Path) -> None:
    entry = FLAT | {"prompt": "[MASK] is the mother tongue of Anna."}
    [case] = na.read_edit_cases(write(tmp_path / "edits.json", json.dumps([entry])))
    assert case.fact.prompts == ("[MASK] is the mother tongue of Anna.",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "there are no edits in it"),
        ("[3]", "edit 1: 3 is no edit: an object expected"),
        ("not json", "neither a JSON list nor an object a line"),
        (json.dumps([FLAT, FLAT | {"target_new": "French"}]), "edit 2: the new answer is the old one: 'French'"),
        (json.dumps([{"prompt": "x", "target_new": "y"}]), "edit 1: there is no 'ground_truth'"),
        (json.dumps([FLAT | {"rephrase_prompt": "", "prompt": "Anna [MASK] {answer}"}]), "2 answer places"),
    ],
)
def test_faults_are_one_line_with_file_and_edit(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "edits.json", text)
    with pytest.raises(na.FactFileError) as caught:
        na.read_edit_cases(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_counterfact_is_read_whole(data_dir: Path) -> None:
    cases = na.read_edit_cases(data_dir / "counterfact" / "counterfact-edit.json.gz")
    assert len(cases) == 10_000
    assert all(len(case.paraphrases) == len(case.locality) == 1 for case in cases)
    assert cases[0].fact.subject == "Danielle Darrieux"
    assert (cases[0].fact.answer, cases[0].new_answer) == ("French", "English")
