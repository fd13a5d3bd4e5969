"""The command that runs every experiment on knowledge neurons: what it prints and leaves."""

from pathlib import Path

import pytest

from tests.atlas.pages import Page
from tests.cli.conftest import complaint, document, run, succeed

ONLY = ("--only", "places,suppression", "--only", "update")


@pytest.fixture(scope="module")
def study(folder: Path, facts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three experiments."""
    found: Path = tmp_path_factory.mktemp("study") / "found"
    succeed("study", "knowledge-neurons", folder, facts, "-o", found, "--edits", 2, "--sampled", 2, *ONLY)
    return found


def test_the_command_runs_what_it_is_told_and_says_what_was_found(folder: Path, facts: Path, study: Path) -> None:
    text = succeed("study", "knowledge-neurons", folder, facts, "-o", study, "--edits", 2, "--sampled", 2, *ONLY)
    assert "A fact has 2.00 neurons on average" in text
    assert "The exact edit makes the model say the new answer on 100.0" in text
    assert "erase: Can a relation be erased" in text
    assert "not run" in text
    assert str(study / "report.html") in text.replace(" ", "")


def test_as_json_it_gives_the_findings_by_experiment(folder: Path, facts: Path, study: Path) -> None:
    given = ("study", "knowledge-neurons", folder, facts, "-o", study, "--edits", 2, "--sampled", 2, *ONLY)
    found = document(*given)
    assert [row["experiment"] for row in found["experiments"] if row["done"]] == ["places", "suppression", "update"]
    assert set(found["findings"]) == {"places", "suppression", "update"}


def test_the_report_prints_what_is_published_and_nothing_that_is_not_confirmed(study: Path) -> None:
    text = Page(study / "report.html").text
    assert "suppressed -29 %; amplified +31 %" in text
    assert "success 34.4 %, random neurons 0.0 %" in text
    for unconfirmed in ("4.13", "1.23", "48.5"):
        assert unconfirmed not in text
    assert "Not run yet: triggers" in text
    assert (study / "neurons" / "report.html").is_file()


def test_info_says_what_a_study_holds(study: Path) -> None:
    text = succeed("info", study)
    assert "update_measures" in text
    assert "Not finished" in text
    assert "A fact has 2.00 neurons" in text
    assert set(document("info", study)["overview"]) == {"places", "suppression", "update"}
    assert succeed("report", study).replace(" ", "") == str(study / "report.html")


def test_an_experiment_that_there_is_not_is_told(folder: Path, facts: Path, tmp_path: Path) -> None:
    result = run("study", "knowledge-neurons", folder, facts, "-o", tmp_path / "none", "--only", "edits")
    assert result.exit_code == 2
    assert "one of places" in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "none").exists()


def test_other_settings_are_one_line(folder: Path, facts: Path, study: Path) -> None:
    result = run("study", "knowledge-neurons", folder, facts, "-o", study, "--edits", 7, "--sampled", 2)
    line = complaint(result, ("loading ", "studying "))
    assert "settings.edits was 2, now 7" in line


def test_texts_that_are_not_there_are_told_before_the_model_is_loaded(facts: Path, tmp_path: Path) -> None:
    result = run("study", "knowledge-neurons", "nowhere", facts, "-o", tmp_path / "s", "--texts", tmp_path / "none.txt")
    assert "no such file" in complaint(result, ())
