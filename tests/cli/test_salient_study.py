"""The command `study salient-neurons` studies models of several kinds, takes up what was there, and reports."""

from __future__ import annotations

from pathlib import Path

import pytest

import neuronatlas as na
from tests.cli.conftest import complaint, document, run, succeed
from tests.handwritten import saved
from tests.probing.planted_property import planted_model

NOTES = ("loading ", "reading ", "studying ")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [saved(planted_model(blur), root / name) for name, blur in (("clear", 0.0), ("blurred", 0.02))]


@pytest.fixture(scope="module")
def study(models: list[Path], text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("study") / "planted"
    options = ("--corpus", text, "--label", "kind", "--site", "ffn", "--sets", 1, "--classes", 2, "-o", target)
    printed = succeed("study", "salient-neurons", *models, *options)
    assert printed.endswith(str(target / "report.html"))
    return target


def test_help_teaches_with_an_example() -> None:
    assert "Example: neuronatlas study salient-neurons" in succeed("study", "salient-neurons", "--help")


def test_a_study_leaves_an_atlas_of_each_model_and_one_that_compares(study: Path) -> None:
    atlas = na.Atlas.open(study)
    assert atlas.table("members")["model"].n_unique() == 2
    for folder in atlas.table("members")["folder"]:
        assert na.Atlas.open(study / folder).state == "complete"
        assert not (study / folder / "activations").exists()
    assert atlas.table("model_pairs").filter(of="top")["label"].to_list() == ["kind"]
    kind = atlas.table("minimal_sets").filter(label="kind")
    assert min(kind["accuracy"]) == 1.0
    assert max(kind["set_size"]) < max(kind["n_neurons"])


def test_the_report_has_a_section_for_every_question(study: Path) -> None:
    page = (study / "report.html").read_text("utf-8")
    for section in ("minimal", "layers", "redundancy", "architectures"):
        assert f'<section id="{section}">' in page


def test_info_knows_a_study(study: Path) -> None:
    printed = succeed("info", study)
    assert "of the neurons are enough to read kind" in printed
    assert "depth, localised" in printed
    assert "are enough" in document("info", study)["overview"]["statement"]


def test_info_tells_of_the_atlas_of_a_single_model_what_there_is(study: Path) -> None:
    folder = next((study / "models").iterdir())
    printed = succeed("info", folder)
    assert "Few suffice?" in printed
    assert "Not measured here, `neuronatlas probe` does:" in printed
    assert "neurons" in document("info", folder)["overview"]["left_out"]


def test_a_model_given_twice_is_refused_in_one_line(models: list[Path], text: Path, tmp_path: Path) -> None:
    options = ("--corpus", text, "--label", "kind", "--site", "ffn", "-o", tmp_path / "twice")
    line = complaint(run("study", "salient-neurons", models[0], models[0], *options), NOTES)
    assert "was given twice" in line
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--language", "fr=specimen"), "the specimen's grammar has no language 'fr': en, de or es expected"),
        (("--label", "colour"), "the specimen's grammar has no label 'colour'"),
    ],
)
def test_what_the_grammar_does_not_have_is_told_before_models_are_loaded(
    options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    given = ("study", "salient-neurons", "no/model", "-c", "specimen", "-l", "upos", "-o", tmp_path / "study", *options)
    result = run(*given)
    assert said in complaint(result, NOTES)
    assert "loading" not in result.stderr


def test_a_model_without_feed_forward_neurons_is_studied_at_the_residual_stream(
    mamba: Path, text: Path, tmp_path: Path
) -> None:
    options = ("--corpus", text, "--label", "kind", "--sets", 1, "--classes", 1, "-o", tmp_path / "study")
    assert document("study", "salient-neurons", mamba, *options)["sets"][0]["n_neurons"] == 160
