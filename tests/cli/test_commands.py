"""What each command prints and leaves, in words and as JSON."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

import neuronatlas as na
from neuronatlas.cli import app, atlases
from tests.cli.conftest import PROMPT, complaint, document, run, succeed
from tests.knowledge.planted import FACTS, planted_neurons

COMMANDS = ("demo", "check", "attribute", "locate", "effects", "report", "info")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str) -> None:
    assert f"Example: neuronatlas {command}" in succeed(command, "--help")


def test_help_lists_every_command_and_exit_code() -> None:
    text = succeed("--help")
    assert all(f" {command} " in text for command in COMMANDS)
    assert all(f"{code} " in text for code in (0, 1, 2, 3, 130))


def test_the_version_is_the_packages() -> None:
    assert succeed("--version") == f"neuronatlas {na.__version__}"


def test_check_names_the_sites_with_their_widths_modules_and_proofs(folder: Path) -> None:
    found = document("check", folder)
    assert (found["kind"], found["blocks"], found["digest"]) == ("masked", 2, na.load(folder).digest)
    ffn = found["sites"]["ffn"]
    assert (list(found["sites"]), ffn["widths"]) == (["ffn", "attention", "hidden"], [30, 30])
    assert [layer["path"] for layer in ffn["layers"]] == [f"bert.encoder.layer.{n}.output.dense" for n in (0, 1)]
    assert all(layer["error"] < 1e-5 for layer in ffn["layers"])
    assert found["ways"] == {"at_answer": "replay", "elsewhere": "replay", "refused": {}}
    text = succeed("check", folder)
    assert "bert.encoder.layer.{i}.output.dense" in text
    assert "2 x 30" in text
    assert "bit-equal" in text


def test_attribute_prints_what_the_library_computes(folder: Path) -> None:
    scores = na.attribute(na.load(folder), PROMPT, "answer1", steps=9)
    found = document("attribute", folder, "--prompt", PROMPT, "--answer", "answer1", "--steps", 9, "--top", 3)
    assert [entry["neuron"] for entry in found["neurons"]] == [str(neuron) for neuron in scores.top(3)]
    assert {entry["neuron"] for entry in found["neurons"][:2]} == {"L0.U2", "L1.U3"}
    assert [entry["score"] for entry in found["neurons"]] == [scores[neuron] for neuron in scores.top(3)]
    assert (found["probability"], found["gap"]) == (scores.answered.probability, scores.gap)
    assert (found["top_token"], found["way"]) == ("answer1", "replay")
    text = succeed("attribute", folder, "--prompt", PROMPT, "--answer", "answer1")
    assert "the model's first choice" in text
    assert "L1.U3" in text


def test_attribute_looks_where_it_is_told(folder: Path) -> None:
    named = ("--prompt", PROMPT, "--answer", "answer1", "--position", "subject", "--subject", "subject1")
    assert document("attribute", folder, *named)["positions"] == [2]
    assert document("attribute", folder, *named[:5], "-1")["positions"] == [5]


def test_numbers_that_are_not_finite_become_null(folder: Path) -> None:
    found = document("attribute", folder, "--prompt", PROMPT, "--answer", "answer1", "--rule", "activation")
    assert found["gap"] is None


def test_locate_leaves_the_atlas_that_the_library_builds(
    folder: Path, facts: Path, atlas: Path, tmp_path: Path
) -> None:
    built = na.build_atlas(na.load(folder), na.read_facts(facts), tmp_path / "built", progress=False)
    for table in built.tables:
        assert (atlas / f"{table}.parquet").read_bytes() == (built.folder / f"{table}.parquet").read_bytes()
    assert (atlas / "report.html").stat().st_size > 1_000


def test_locate_run_again_says_what_was_found_and_where_the_report_is(folder: Path, facts: Path, atlas: Path) -> None:
    before = (atlas / "neurons.parquet").read_bytes()
    text = succeed("locate", folder, facts, "-o", atlas)
    assert "Asked: 5 facts of 2 relations in 20 prompts" in text
    assert "2.0 knowledge neurons on average" in text
    assert re.search(r"layer 0 █+ 50 % 5 layer 1 █+ 50 % 5", text)
    assert f"{atlas / 'report.html'}" in text
    assert (atlas / "neurons.parquet").read_bytes() == before


def test_locate_as_json_gives_the_overview(folder: Path, facts: Path, atlas: Path) -> None:
    found = document("locate", folder, facts, "-o", atlas)
    assert found["report"] == str(atlas / "report.html")
    overview = found["overview"]
    assert (overview["n_facts"], overview["relations"], overview["known"]) == (5, ["first", "second"], 1.0)
    assert (overview["layers"], overview["neurons_per_fact"], overview["n_neurons"]) == ([5, 5], 2.0, 10)
    located = next(e for e in overview["effects"] if (e["condition"], e["gain"]) == ("located", 0))
    assert located["change_low"] <= located["change"] <= located["change_high"] < -0.3


def test_locate_keeps_its_settings_and_its_selection(folder: Path, facts: Path, tmp_path: Path) -> None:
    options = (
        "--rule",
        "activation",
        "--threshold",
        0.3,
        "--share",
        0.8,
        "--gains",
        "0,0.5",
        "--position",
        -1,
        "--seed",
        7,
    )
    succeed("locate", folder, facts, "-o", tmp_path / "a", "--relations", "second", "--limit", 1, *options)
    settings = na.Atlas.open(tmp_path / "a").meta["settings"]
    expected = {"rule": "activation", "threshold": 0.2, "activation_threshold": 0.3, "share": 0.8, "position": -1}
    assert {name: settings[name] for name in expected} == expected
    assert (settings["gains"], settings["seed"], settings["n_facts"]) == ([0, 0.5], 7, 1)


def test_effects_takes_a_facts_neurons_from_the_atlas(folder: Path, facts: Path, atlas: Path) -> None:
    found = document("effects", folder, facts, "--atlas", atlas, "--fact", "subject3", "--gains", "0,2")
    model, fact = na.load(folder), na.read_facts(facts)[3]
    own = planted_neurons(model.layout(), 3)
    assert found["neurons"] == [str(neuron) for neuron in own]
    assert found["effects"] == na.effects(model, fact, own).to_dicts()
    control = [row["p_after"] for row in found["random_neurons"]]
    assert max(abs(row["p_before"] - p) for row, p in zip(found["effects"], control, strict=True)) < 0.05


def test_effects_finds_a_fact_of_another_selection_in_the_atlas(folder: Path, facts: Path, atlas: Path) -> None:
    found = document("effects", folder, facts, "--atlas", atlas, "--relations", "second", "--fact", 1)
    assert found["fact"]["subject"] == "subject4"
    assert found["neurons"] == ["L0.U8", "L1.U9"]


def test_effects_prints_the_means_beside_random_neurons(folder: Path, facts: Path) -> None:
    text = succeed("effects", folder, facts, "--neurons", "L0.U0,L1.U1", "--gains", "0,1")
    before, suppressed, same = re.search(r"mean (\S+) % (\S+) % (\S+) %", text).groups()  # type: ignore[union-attr]
    assert float(suppressed) < float(before) == float(same)
    control = re.search(r"random neurons instead (\S+) % (\S+) %", text).groups()  # type: ignore[union-attr]
    assert float(control[0]) == pytest.approx(float(control[1]), abs=5)


def test_info_counts_the_rows_of_every_table(atlas: Path) -> None:
    found, opened = document("info", atlas), na.Atlas.open(atlas)
    assert found["tables"] == {name: opened.table(name).height for name in opened.tables}
    assert {name: found[name] for name in opened.meta} == opened.meta
    assert found["overview"]["n_facts"] == FACTS
    text = succeed("info", atlas)
    assert "prompts 20" in text
    assert "Knowledge neurons" in text


def test_report_is_written_again_to_the_byte_and_its_path_printed(atlas: Path) -> None:
    path = atlas / "report.html"
    before = path.read_bytes()
    path.unlink()
    assert succeed("report", atlas) == str(path)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("small_specimen")
def test_demo_tells_in_words_what_it_found_with_a_worked_example(tmp_path: Path) -> None:
    text = succeed("demo", "-o", tmp_path / "demo", "--facts", 2)
    assert "Asked: 4 facts of 2 relations" in text
    assert "The fact that suppression moved most" in text
    assert "first choices as it is" in text
    assert f"neuronatlas effects specimen specimen --atlas {tmp_path / 'demo' / 'facts'}" in text
    assert str(tmp_path / "demo" / "facts" / "report.html") in text
    assert text.endswith(str(tmp_path / "demo" / "language" / "report.html"))
    assert (tmp_path / "demo" / "language" / "report.html").is_file()
    assert "Part of speech (upos)" in text
    atlas = na.Atlas.open(tmp_path / "demo" / "facts")
    assert atlas.meta["model"]["id"] == "specimen"
    assert atlas.table("facts")["subject"].to_list() == ["subject0", "subject1", "subject3", "subject4"]


@pytest.mark.usefixtures("small_specimen")
def test_demo_takes_the_model_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(atlases, "_demo_language", lambda _out, model, *_: asked.append(model.name))
    text = succeed("demo", "--model", "causal", "-o", tmp_path, "--facts", 2)
    assert f"neuronatlas effects specimen-causal specimen-causal --atlas {tmp_path / 'facts'}" in text
    assert na.Atlas.open(tmp_path / "facts").meta["model"]["id"] == "specimen-causal"
    assert asked == ["specimen-causal"]


def test_the_causal_specimen_and_its_facts_go_by_one_word(tmp_path: Path) -> None:
    assert document("check", "specimen-causal")["kind"] == "causal"
    selection = ("--relations", "capital", "--limit", 1)
    document("locate", "specimen-causal", "specimen-causal", *selection, "-o", tmp_path / "atlas")
    atlas = na.Atlas.open(tmp_path / "atlas")
    assert atlas.meta["model"]["id"] == "specimen-causal"
    assert atlas.table("facts")["subject"].to_list() == ["Afghanistan"]


@pytest.mark.usefixtures("small_specimen")
def test_the_specimen_and_its_facts_go_by_one_word(tmp_path: Path) -> None:
    assert document("check", "specimen")["model"] == "specimen"
    found = document("locate", "specimen", "specimen", "--limit", 1, "-o", tmp_path / "atlas")
    assert found["overview"]["n_facts"] == 2
    assert "no relation 'third'" in complaint(run("locate", "specimen", "specimen", "--relations", "third", "-o", "x"))


def commands_of(command: Any) -> dict[str, Any]:
    """The commands below a command, by name."""
    return getattr(command, "commands", {})


def test_the_readme_has_a_row_for_every_command() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = "\n".join(line.split("|")[1] for line in readme.splitlines() if line.startswith("| `neuronatlas"))
    for name, command in commands_of(typer.main.get_command(app)).items():
        for words in [f"{name} {one}" for one in commands_of(command)] or [name]:
            assert f"`neuronatlas {words}" in rows, f"{words} is missing in the README's table of commands"


@pytest.mark.parametrize("group", [("edit",), ("study",), ()])
def test_every_group_of_commands_tells_the_exit_codes(group: tuple[str, ...]) -> None:
    assert "Exit codes: 0 done" in succeed(*group, "--help")


def test_lists_are_written_with_commas_or_by_the_option_again(folder: Path, facts: Path) -> None:
    common = ("effects", folder, facts, "--gains", 0)
    by_commas = document(*common, "--neurons", "L0.U0,L1.U1", "--relations", "first,second")
    again = ("--neurons", "L0.U0", "--neurons", "L1.U1", "--relations", "first", "--relations", "second")
    assert document(*common, *again) == by_commas
    assert by_commas["neurons"] == ["L0.U0", "L1.U1"]


def test_help_says_what_every_option_is() -> None:
    """Each option of each command is told in words that make sense without the option's name."""

    def options(command: Any) -> list[tuple[str, str]]:
        own = [(one.opts[0], one.help or "") for one in command.params if hasattr(one, "help")]
        return own + [each for inner in commands_of(command).values() for each in options(inner)]

    found = [(name, told) for name, told in options(typer.main.get_command(app)) if name.startswith("-")]
    assert len(found) > 100
    assert [name for name, told in found if len(told.split()) < 2 or told.startswith("Of ")] == []
