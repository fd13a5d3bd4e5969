"""`neuronatlas finetune`: from a labelled file to a child, and one line for what cannot be learnt."""

from pathlib import Path

import pytest

from tests.cli.conftest import complaint, document, run, succeed

WORDS = ("word0", "word1", "word2", "word3")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences with a label each: whether the first word comes before the second in the alphabet of WORDS."""
    pairs = [(a, b, c) for a in WORDS for b in WORDS for c in WORDS]
    lines = [f"{a} {b} {c},{'up' if a < b else 'down'}" for a, b, c in pairs]
    file = tmp_path_factory.mktemp("labelled") / "sentences.csv"
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


def test_a_file_of_labelled_sentences_makes_a_child_that_is_told_of(
    folder: Path, labelled: Path, tmp_path: Path
) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    out = tmp_path / "child"
    given = ("finetune", folder, labelled, "-o", out, "--epochs", 2, "--rate", "1e-2", "--seed", 3)
    text = succeed(*given)
    assert "for label (2 classes)" in text
    assert "read from each layer alone, on sentences that were not trained on" in text
    found = document(*given)  # opened, not trained again
    assert found["settings"]["epochs"] == 2
    assert found["task"]["items"] == {"train": 45, "dev": 9, "test": 10}
    assert (out / "classifier.safetensors").is_file()
    assert "ffn" in succeed("check", out)
    control = document(*given[:3], "-o", tmp_path / "control", *given[5:], "--shuffle-labels")
    assert control["settings"]["shuffled"] is True
    line = complaint(run(*given, "--shuffle-labels"), notes=("loading ", "reading ", "fine-tuning "))
    assert "holds another child (settings.shuffled was False, now True)" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,label\nword0 word1,up\n", "two classes"),
        ("text,sentiment\nword0 word1,up\n", "nothing has a label 'label'"),
        ("text,label\nword0,up,more\n", "3 cells where the header has 2"),
        ("", "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_told_in_one_line(
    folder: Path, tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(content)
    line = complaint(
        run("finetune", folder, file, "-o", tmp_path / "child"), notes=("loading ", "reading ", "fine-tuning ")
    )
    assert told in line
    assert not (tmp_path / "child").exists()


def test_a_rate_that_makes_no_sense_is_told_in_one_line(folder: Path, labelled: Path, tmp_path: Path) -> None:
    assert "rate 0.0: a number above 0 expected" in complaint(
        run("finetune", folder, labelled, "-o", tmp_path / "child", "--rate", 0)
    )


def test_a_language_without_a_file_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    study = ("study", "salient-neurons", folder, "-c", "specimen", "-l", "upos", "-o", tmp_path / "study")
    for wrong in ("de", "=x", "de="):
        assert run(*study, "--language", wrong).exit_code == 2
    twice = run(*study, "--language", "de=specimen", "--language", "de=specimen")
    assert twice.exit_code == 2


def test_a_child_without_its_base_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    kid = tmp_path / "kid"
    kid.mkdir()
    (kid / "child.json").write_text('{"schema": 1, "base": {"name": "a"}, "settings": {"shuffled": false}}')
    study = ("study", "salient-neurons", kid, "-c", "specimen", "-l", "upos", "-o", tmp_path / "study")
    line = complaint(run(*study), notes=("loading ", "reading "))
    assert "is a child of a, which is not among the models (none): give it as well" in line


def test_a_model_without_feed_forward_neurons_has_children_too(mamba: Path, labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    found = document("finetune", mamba, labelled, "-o", tmp_path / "child", "--epochs", 1)
    assert len(found["losses"]) == 1
