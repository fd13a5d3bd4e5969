"""The command line: what each command prints and leaves, in words and as JSON, and how it ends on what is wrong."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import neuronatlas as na
from neuronatlas import specimen
from neuronatlas.atlas import durable
from neuronatlas.cli import app, atlases, inspecting
from tests.knowledge.planted import FACTS, planted_facts, planted_model, planted_neurons

ROOT = Path(__file__).parents[1]
COMMANDS = ("demo", "check", "attribute", "locate", "effects", "report", "info")
PROMPT = "word0 subject1 word1 [MASK]"


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    """What a command writes to the standard output, having ended well."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def document(*arguments: object) -> Any:
    """The one JSON document that a command writes."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(result: Result) -> str:
    """The line that says what is wrong; nothing else but notes on the work may be written."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    *notes, line = result.stderr.splitlines()
    assert all(note.startswith(("loading ", "locating ")) for note in notes)
    assert line.startswith("error: ")
    return line


def write_facts(path: Path, facts: Iterable[na.Fact]) -> Path:
    lines = [{"relation": f.relation, "subject": f.subject, "answer": f.answer, "prompts": f.prompts} for f in facts]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model written by hand."""
    model, target = planted_model(), tmp_path_factory.mktemp("model")
    model.module.save_pretrained(target)
    model.tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the facts planted in it, as two relations."""
    named = [
        na.Fact("first" if i < 3 else "second", f.subject, f.answer, f.prompts) for i, f in enumerate(planted_facts())
    ]
    return write_facts(tmp_path_factory.mktemp("facts") / "facts.jsonl", named)


@pytest.fixture(scope="module")
def atlas(folder: Path, facts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas that `locate` leaves of them."""
    target = tmp_path_factory.mktemp("atlases") / "planted"
    succeed("locate", folder, facts, "-o", target)
    return target


@pytest.fixture
def small_specimen(folder: Path, facts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model written by hand stand in for the one that ships."""
    lines = [json.loads(line) for line in facts.read_text(encoding="utf-8").splitlines()]
    records = [line | {"language": "en", "words": 1, "held_out_prompts": []} for line in lines]
    (folder / "facts.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    monkeypatch.setattr(specimen, "specimen_folder", lambda: folder)


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
    assert "bert.encoder.layer.*.output.dense" in text
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
    assert document("attribute", folder, *named)["position"] == 2
    assert document("attribute", folder, *named[:5], "-1")["position"] == 5


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
    assert f"neuronatlas effects specimen specimen --atlas {tmp_path / 'demo'}" in text
    assert text.endswith(str(tmp_path / "demo" / "report.html"))
    atlas = na.Atlas.open(tmp_path / "demo")
    assert atlas.meta["model"]["id"] == "specimen"
    assert atlas.table("facts")["subject"].to_list() == ["subject0", "subject1", "subject3", "subject4"]


@pytest.mark.usefixtures("small_specimen")
def test_the_specimen_and_its_facts_go_by_one_word(tmp_path: Path) -> None:
    assert document("check", "specimen")["model"] == "specimen"
    found = document("locate", "specimen", "specimen", "--limit", 1, "-o", tmp_path / "atlas")
    assert found["overview"]["n_facts"] == 2
    assert "no relation 'third'" in complaint(run("locate", "specimen", "specimen", "--relations", "third", "-o", "x"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "broken.jsonl: the file is empty"),
        ('{"relation": "r", "subject": "s", "answer": "a", "prompt": "word0 [MASK]"}\n{', "broken.jsonl, line 2: "),
        ('{"relation": "r", "subject": "s", "answer": "a", "prompt": "word0"}', "line 1: no [MASK] in prompt"),
        ('{"relation": "r", "subject": "s", "answer": "a", "prompt": "[MASK] [MASK]"}', "line 1: 2 answer places"),
        (
            '{"relation": "r", "subject": "s", "answer": "word1 word2", "prompt": "word0 [MASK]"}',
            "is 2 tokens for this model",
        ),
    ],
)
def test_a_broken_file_of_facts_is_one_line(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(text, encoding="utf-8")
    assert said in complaint(run("locate", folder, path, "-o", tmp_path / "atlas"))
    assert not (tmp_path / "atlas").exists()


def test_a_file_that_is_not_there_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    result = run("locate", "no/such-model", tmp_path / "none.csv", "-o", tmp_path / "atlas")
    assert "none.csv: no such file" in complaint(result)
    assert "loading" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda m, f, a: ("check", f.parent), "is not a model: it has no config.json"),
        (lambda m, f, a: ("check", m / "none"), "is not a folder with a model"),
        (lambda m, f, a: ("attribute", m, "--prompt", "word0", "--answer", "answer0"), "no [MASK] in prompt"),
        (lambda m, f, a: ("attribute", m, "--prompt", PROMPT, "--answer", "Paris"), "not in this model's vocabulary"),
        (lambda m, f, a: ("attribute", m, "--prompt", PROMPT, "--answer", "answer0", "--rule", "x"), "no rule 'x'"),
        (lambda m, f, a: ("attribute", m, "--prompt", PROMPT, "--answer", "answer0", "--site", "x"), "no site 'x'"),
        (
            lambda m, f, a: ("attribute", m, "--prompt", PROMPT, "--answer", "answer0", "--position", "x"),
            "position 'x'",
        ),
        (lambda m, f, a: ("locate", m, f, "-o", a, "--relations", "third"), "no relation 'third'"),
        (lambda m, f, a: ("locate", m, f, "-o", a, "--threshold", 0.3), "threshold was 0.2, now 0.3"),
        (lambda m, f, a: ("locate", m, f, "-o", a, "--threshold", 0), "threshold 0.0"),
        (lambda m, f, a: ("locate", m, f, "-o", f), "is a file; give a folder"),
        (lambda m, f, a: ("locate", m, f, "-o", f / "inside"), "Not a directory"),
        (lambda m, f, a: ("effects", m, f, "--neurons", "L5.U0"), "no layer 5 for L5.U0"),
        (lambda m, f, a: ("effects", m, f, "--neurons", "five"), "'five' is not a neuron's address"),
        (lambda m, f, a: ("effects", m, f, "--neurons", "L0.U0", "--fact", 5), "no fact 5: the selection has 5"),
        (lambda m, f, a: ("effects", m, f, "--neurons", "L0.U0", "--fact", "x"), "no fact about 'x'"),
        (lambda m, f, a: ("effects", m, f, "--atlas", m), "is not an atlas"),
        (lambda m, f, a: ("report", a.parent), "is not an atlas"),
        (lambda m, f, a: ("info", a / "none"), "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    folder: Path, facts: Path, atlas: Path, arguments: Callable[..., tuple[object, ...]], said: str
) -> None:
    assert said in complaint(run(*arguments(folder, facts, atlas)))


def test_neurons_of_another_model_are_refused(folder: Path, facts: Path, atlas: Path, tmp_path: Path) -> None:
    model = planted_model()
    model.module.get_parameter("bert.encoder.layer.0.output.dense.bias").data[0] = 1.0
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert "digest is " in complaint(run("effects", tmp_path, facts, "--atlas", atlas))


def test_a_subject_of_two_facts_needs_a_number(folder: Path, tmp_path: Path) -> None:
    twice = [
        na.Fact(relation, "subject0", "answer0", [f"subject0 {relation} [MASK]"]) for relation in ("word0", "word1")
    ]
    path = write_facts(tmp_path / "facts.jsonl", twice)
    result = run("effects", folder, path, "--neurons", "L0.U0", "--fact", "subject0")
    assert "give the number of one of them: 0 (word0), 1 (word1)" in complaint(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ("locate", "specimen", "specimen"),
        ("locate", "specimen", "specimen", "-o", "x", "--gains", "two"),
        ("locate", "specimen", "specimen", "-o", "x", "--gains", "nan"),
        ("locate", "specimen", "specimen", "-o", "x", "--share", "most"),
        ("locate", "specimen", "specimen", "-o", "x", "--limit", "0"),
        ("effects", "specimen", "specimen"),
        ("effects", "specimen", "specimen", "--atlas", "x", "--neurons", "L0.U0"),
        ("such",),
    ],
)
def test_a_command_written_wrongly_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_full_disk_is_exit_code_3_and_the_same_command_goes_on(
    folder: Path, facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, publish = tmp_path / "atlas", durable.publish

    def full(temporary: Path, path: Path) -> None:
        if path.parent.name == "test":
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(temporary, path)

    monkeypatch.setattr(durable, "publish", full)
    result = run("locate", folder, facts, "-o", target)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(f"error: the disk of {target} is full")
    monkeypatch.undo()
    succeed("locate", folder, facts, "-o", target)


def test_an_interruption_before_the_atlas_is_begun_says_so(
    folder: Path, facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atlases, "build_atlas", interrupted)
    result = run("locate", folder, facts, "-o", tmp_path / "atlas")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "interrupted: nothing was written yet"


def test_a_fault_of_the_program_is_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(inspecting, "find_scores", faulty)
    result = run("attribute", folder, "--prompt", PROMPT, "--answer", "answer1")
    assert isinstance(result.exception, ValueError)
    assert "a bug" not in result.stderr


def many_facts() -> list[na.Fact]:
    """So many facts that a run of them can be interrupted."""
    words = [f"word{i}" for i in range(4)]
    orders = [" ".join(order) for order in permutations(words)]
    return [
        na.Fact(
            "planted", f"subject{i} {order}", f"answer{i}", [f"subject{i} {order} [MASK]", f"[MASK] {order} subject{i}"]
        )
        for i in range(FACTS)
        for order in orders
    ]


def test_ctrl_c_leaves_a_valid_atlas_that_the_same_command_completes(folder: Path, tmp_path: Path) -> None:
    path, target = write_facts(tmp_path / "facts.jsonl", many_facts()), tmp_path / "atlas"
    command = ["locate", str(folder), str(path), "-o", str(target)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-m", "neuronatlas", *command], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (target / "parts" / "locate" / "00000000").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    line = f"interrupted: the atlas in {target} is valid and keeps what is done; the same command takes it up again"
    assert said.splitlines()[-1] == line
    assert document("info", target)["overview"] is None
    assert "not complete" in complaint(run("report", target))
    succeed(*command)
    assert na.Atlas.open(target).state == "complete"
