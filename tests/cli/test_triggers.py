"""`neuronatlas triggers`: texts read with the neurons of a fact or of a relation."""

from pathlib import Path

import pytest

from tests.cli.conftest import complaint, document, run, succeed

TEXTS = ["word0 word1", "word0 subject1 [MASK] answer1", "", "word2 subject1 word3", "answer1 word0", "subject0 [MASK]"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return file


def test_a_fact_is_read_with_the_neurons_of_its_atlas(folder: Path, facts: Path, atlas: Path, texts: Path) -> None:
    found = document("triggers", folder, facts, "--text", texts, "--atlas", atlas, "--fact", "subject1", "--top", 2)
    assert found["neurons"] == ["L0.U2", "L1.U3"]
    assert [row["n"] for row in found["means"]] == [1, 1, 1, 2]
    first = found["sentences"][0]
    assert (first["direction"], first["rank"], first["line"], first["text"]) == ("top", 1, 2, TEXTS[1])
    assert (found["n_texts"], found["n_empty"]) == (6, 1)
    text = succeed("triggers", folder, facts, "--text", texts, "--neurons", "L0.U2,L1.U3", "--fact", "subject1")
    assert "subject1: L0.U2, L1.U3" in text
    assert "6 sentences read, 1 of them empty; activation: max over tokens" in text
    assert "the sentences that activate them most" in text


def test_a_relation_is_read_with_the_neurons_of_most_of_its_facts(
    folder: Path, facts: Path, atlas: Path, texts: Path
) -> None:
    found = document("triggers", folder, facts, "--text", texts, "--atlas", atlas, "--relation", "first")
    assert found["neurons"] == ["L0.U0", "L0.U2", "L0.U4", "L1.U1", "L1.U3", "L1.U5"]
    assert len(found["facts"]) == 3
    assert {row["text"] for row in found["sentences"][:2]} == {TEXTS[1], TEXTS[5]}


def test_what_is_missing_is_said_in_a_line(folder: Path, facts: Path, atlas: Path, texts: Path, tmp_path: Path) -> None:
    common = "triggers", folder, facts
    assert "no such file" in complaint(run(*common, "--text", tmp_path / "none", "--atlas", atlas))
    wrong = run(*common, "--text", texts, "--atlas", atlas, "--relation", "third")
    assert "has no relation 'third': it has first, second" in complaint(wrong)
    assert "no pooling 'sum'" in complaint(run(*common, "--text", texts, "--atlas", atlas, "--pooling", "sum"))
    assert run(*common, "--text", texts).exit_code == 2


def test_attribution_by_a_corrupted_prompt_takes_the_subjects_given(folder: Path) -> None:
    prompt = "--prompt", "word0 subject1 word1 [MASK]", "--answer", "answer1"
    asked = "attribute", folder, *prompt, "--rule", "attribution-patching", "--subject", "subject1"
    for others in ((), ("--others", "subject0,subject2")):
        found = document(*asked, *others)
        assert {row["neuron"] for row in found["neurons"][:2]} == {"L0.U2", "L1.U3"}
        assert found["gap"] is None
    assert "no integral, so no completeness gap; scores in P" in succeed(*asked)


def test_locate_corrupts_as_it_is_told(folder: Path, facts: Path, tmp_path: Path) -> None:
    options = "--rule", "attribution-patching", "--corruption", "other-subject"
    found = document("locate", folder, facts, "-o", tmp_path / "atlas", *options)
    assert found["overview"]["neurons_per_fact"] == 2.0
    assert document("info", tmp_path / "atlas")["settings"]["corruption"] == "other-subject"
    line = complaint(run("locate", folder, facts, "-o", tmp_path / "other", "--corruption", "fog"))
    assert "corruption 'fog': expected one of noise, other-subject" in line
