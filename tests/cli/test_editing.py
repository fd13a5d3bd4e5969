"""The commands that edit: what they print and leave, and that an edit comes undone from its folder."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM

import neuronatlas as na
from tests.cli.conftest import complaint, document, run, succeed
from tests.knowledge.test_edits import bits

NAMED = ("--fact", "subject1", "--answer", "answer3")
NOTES = ("loading ", "locating ", "editing")


@pytest.mark.parametrize("command", ["update", "erase", "show", "undo"])
def test_help_teaches_with_an_example(command: str) -> None:
    assert f"Example: neuronatlas edit {command}" in succeed("edit", command, "--help")


@pytest.mark.parametrize("method", ["exact", "normalised", "printed"])
def test_update_leaves_a_model_with_the_new_answer(folder: Path, facts: Path, tmp_path: Path, method: str) -> None:
    text = succeed("edit", "update", folder, facts, *NAMED, "--method", method, "-o", tmp_path / "edited")
    assert "first of subject1: answer1 -> answer3" in text
    assert "success rate: prompts to which the model" in text
    assert "not measured, having no prompts: " in text
    edited = na.load(tmp_path / "edited")
    prompt = "word0 subject1 word1 [MASK]"
    assert na.attribute(edited, prompt, "answer3", rule="activation").answered.is_top
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "edited") is not None


def test_an_edit_comes_undone_to_the_bit(folder: Path, facts: Path, tmp_path: Path) -> None:
    made = document("edit", "update", folder, facts, *NAMED, "--neurons", "L0.U2,L1.U3", "-o", tmp_path / "edited")
    assert made["edit"]["neurons"] == ["L0.U2", "L1.U3"]
    assert {row["measure"]: row["after"] for row in made["measures"]}["success rate"] == 1.0
    shown = document("edit", "show", tmp_path / "edited")
    assert shown["digest"] == made["digest"] == na.load(tmp_path / "edited").digest
    assert "exact update: first of subject1" in succeed("edit", "show", tmp_path / "edited")
    undone = document("edit", "undo", tmp_path / "edited", "-o", tmp_path / "restored")
    assert undone["left"] == 0
    assert bits(na.load(tmp_path / "restored")) == bits(na.load(folder))
    line = complaint(run("edit", "undo", tmp_path / "restored", "-o", tmp_path / "again"), NOTES)
    assert "carries no edit" in line


def test_erase_says_what_became_of_the_relation(folder: Path, facts: Path, tmp_path: Path) -> None:
    made = document("edit", "erase", folder, facts, "--relation", "first", "-o", tmp_path / "erased")
    measures = {row["measure"]: row for row in made["measures"]}
    assert measures["accuracy, same relation"]["after"] < measures["accuracy, same relation"]["before"]
    assert json.loads((tmp_path / "erased" / "neuronatlas-edits.json").read_text())["edits"][0]["kind"] == "erase"


def test_bad_input_is_one_line_and_leaves_no_folder(folder: Path, facts: Path, tmp_path: Path) -> None:
    output = tmp_path / "edited"
    for arguments, message in (
        (("--fact", "subject1", "--answer", "answer1"), "is the old one"),
        (("--fact", "nobody", "--answer", "answer3"), "no fact about 'nobody'"),
        ((*NAMED, "--neurons", "L0.U99"), "no unit 99"),
        ((*NAMED, "--method", "normalised", "--neurons", "L7.U0"), "no layer 7"),
    ):
        assert message in complaint(run("edit", "update", folder, facts, *arguments, "-o", output), NOTES)
        assert not output.exists()
    assert run("edit", "update", folder, facts, *NAMED, "--method", "magic", "-o", output).exit_code == 2
    output.mkdir()
    assert "exists: give a folder" in complaint(run("edit", "update", folder, facts, *NAMED, "-o", output), NOTES)
    assert "has no neuronatlas-edits.json" in complaint(run("edit", "show", folder), NOTES)
