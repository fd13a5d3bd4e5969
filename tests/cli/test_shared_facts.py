"""The command `study shared-facts` reads facts in several languages, reports, and refuses what does not match."""

from __future__ import annotations

from pathlib import Path

import pytest

import neuronatlas as na
from tests.cli.conftest import complaint, document, run, succeed, write_facts
from tests.knowledge.planted import planted_facts

NOTES = ("loading ", "studying ")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root, found = tmp_path_factory.mktemp("languages"), []
    for name, own in (("a", slice(0, 2)), ("b", slice(2, 4))):
        facts = [na.Fact("planted", fact.subject, fact.answer, fact.prompts[own]) for fact in planted_facts()]
        found.append(f"{name}={write_facts(root / f'{name}.jsonl', facts)}")
    return found


def test_the_command_leaves_tables_and_a_report_that_info_knows(folder: Path, files: list[str], tmp_path: Path) -> None:
    printed = succeed("study", "shared-facts", folder, *files, "-o", tmp_path / "shared")
    assert "A fact shares 100 % to 100 % of its neurons" in printed.replace("\N{NO-BREAK SPACE}", " ")
    assert printed.endswith(str(tmp_path / "shared" / "report.html"))
    assert "pair of languages" in succeed("info", tmp_path / "shared")
    assert "A fact shares" in document("info", tmp_path / "shared")["overview"]["statement"]


def test_files_that_do_not_match_are_refused_in_one_line(folder: Path, files: list[str], tmp_path: Path) -> None:
    short = write_facts(tmp_path / "short.jsonl", [na.Fact("planted", "subject0", "answer0", ["subject0 [MASK]"])])
    line = complaint(run("study", "shared-facts", folder, files[0], f"b={short}", "-o", tmp_path / "x"), NOTES)
    assert "has 5 facts in a and 1 in b" in line
    assert run("study", "shared-facts", folder, "nonsense", "-o", tmp_path / "x").exit_code == 2
    assert not (tmp_path / "x").exists()
