"""The commands about labelled text do what the library does, and refuse bad input in one line that leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.cli import probing
from neuronatlas.probing.rankings import RANKINGS
from tests.cli.conftest import complaint, document, run, succeed
from tests.handwritten import saved
from tests.probing.planted_property import planted_model

COMMANDS = ("probe", "extract", "rank", "describe")
NOTES = ("loading ", "reading ", "probing ", "extracting ")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(planted_model(), tmp_path_factory.mktemp("property-model"))


@pytest.fixture(scope="module")
def acts(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("acts") / "ffn"
    succeed("extract", model, text, "-o", target, "--site", "ffn")
    return target


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str) -> None:
    assert f"Example: neuronatlas {command}" in succeed(command, "--help")


def test_the_choice_of_methods_comes_from_the_registry() -> None:
    assert all(name in succeed("rank", "--help") for name in RANKINGS)


def test_probe_leaves_an_atlas_and_a_report_that_info_and_report_know(model: Path, text: Path, tmp_path: Path) -> None:
    target = tmp_path / "atlas"
    methods = ("--methods", "lca", "--methods", "probeless")
    options = ("--label", "kind", "--site", "ffn", *methods, "--controls", 3, "-o", target)
    printed = succeed("probe", model, text, *options)
    assert "Encoded: a probe that reads all 80 neurons" in printed
    assert printed.endswith(str(target / "report.html"))
    assert na.Atlas.open(target).meta["settings"]["methods"] == ["lca", "probeless"]
    found = document("info", target)["overview"]["properties"][0]
    assert (found["label"], found["n_neurons"]) == ("kind", 80)
    assert succeed("report", target) == str(target / "report.html")


def test_rank_prints_and_writes_what_the_library_finds(acts: Path, text: Path, tmp_path: Path) -> None:
    found = document(
        "rank", acts, text, "--label", "kind", "--method", "probeless", "--top", 3, "--csv", tmp_path / "r"
    )
    assert [one["rank"] for one in found["neurons"]] == [0, 1, 2]
    whole = pl.read_csv(tmp_path / "r")
    assert whole.height == 80
    assert whole["neuron"].head(3).to_list() == [one["neuron"] for one in found["neurons"]]


def test_describe_says_the_same_of_a_model_and_of_its_activations(model: Path, acts: Path, text: Path) -> None:
    tail = (text, "L1.U0", "--label", "kind", "--site", "ffn")
    assert document("describe", model, *tail)["words"] == document("describe", acts, *tail)["words"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (lambda m, t, a, o: ("probe", "no/model", t.parent / "none.tsv", "-l", "kind", "-o", o), "none.tsv"),
        (lambda m, t, a, o: ("probe", m, t, "-l", "colour", "-o", o), "nothing has a label 'colour'"),
        (lambda m, t, a, o: ("probe", m, t, "-l", "kind", "-o", o, "--layers", "9"), "no layer 9"),
        (lambda m, t, a, o: ("probe", m, t, "-l", "kind", "-o", o, "--methods", "x"), "methods 'x'"),
        (lambda m, t, a, o: ("rank", t.parent, t, "-l", "kind"), "holds no activations"),
        (lambda m, t, a, o: ("rank", a, t, "-l", "kind", "--limit", 9), "extract from this corpus"),
        (lambda m, t, a, o: ("rank", a, t, "-l", "kind", "--method", "x"), "no ranking 'x'"),
        (lambda m, t, a, o: ("describe", a, t, "five"), "'five' is not a neuron's address"),
        (lambda m, t, a, o: ("describe", a, t, "L9.U0"), "no layer 9"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    model: Path, text: Path, acts: Path, tmp_path: Path, arguments: Callable[..., tuple[object, ...]], line: str
) -> None:
    assert line in complaint(run(*arguments(model, text, acts, tmp_path / "out")), NOTES)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("probe", "specimen", "specimen", "-o", "x"), ("rank", "x", "specimen")])
def test_a_command_without_a_label_is_exit_code_2(command: tuple[str, ...]) -> None:
    assert run(*command).exit_code == 2


def test_an_interruption_says_what_is_kept(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "build_salience_atlas", interrupted)
    result = run("probe", model, text, "--label", "kind", "-o", tmp_path / "atlas")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted: nothing was written yet"


def test_a_model_without_feed_forward_neurons_is_read_at_the_residual_stream(
    mamba: Path, text: Path, tmp_path: Path
) -> None:
    found = document("extract", mamba, text, "-o", tmp_path / "acts", "--site", "hidden", "--limit", 5)
    assert (found["site"], found["neurons"]) == ("hidden", 160)
    shown = document("describe", mamba, text, "L1.U0", "--label", "kind", "--site", "hidden", "--limit", 5)
    assert shown["profiles"]
    probed = document("probe", mamba, text, "-l", "kind", "-o", tmp_path / "atlas", "--methods", "lca", "--controls", 1)
    assert probed["overview"]["properties"][0]["n_neurons"] == 160
    assert "mamba has no site 'ffn'" in complaint(
        run("extract", mamba, text, "-o", tmp_path / "none", "--site", "ffn"), NOTES
    ).replace(str(mamba), "mamba")
