"""How a command ends when something is wrong: one line, an exit code that says what, and nothing lost."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

import neuronatlas as na
from neuronatlas import durable
from neuronatlas.cli import atlases, inspecting
from tests.cli.conftest import PROMPT, complaint, document, run, succeed, write_facts
from tests.handwritten import saved
from tests.knowledge.planted import FACTS, planted_facts, planted_model

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "broken.jsonl: the file is empty"),
        ('{"relation": "r", "subject": "s", "answer": "a", "prompt": "word0 [MASK]"}\n{', "broken.jsonl, line 2: "),
        ('{"relation": "r", "subject": "s", "answer": "a", "prompt": "word0"}', "line 1: no [MASK] in prompt"),
        ('{"relation": "r", "subject": "s", "answer": "a", "prompt": "[MASK] [MASK]"}', "line 1: 2 answer places"),
        (
            '{"relation": "r", "subject": "s", "answer": "word1 nowhere", "prompt": "word0 [MASK]"}',
            "is not in this model's vocabulary",
        ),
    ],
)
def test_a_broken_file_of_facts_is_one_line(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(text, encoding="utf-8")
    assert said in complaint(run("locate", folder, path, "-o", tmp_path / "atlas"))
    assert not (tmp_path / "atlas").exists()


def test_a_warning_about_a_file_is_a_note_beside_the_document(folder: Path, tmp_path: Path) -> None:
    bags = [[[prompt, fact.answer, "P1(planted)"] for prompt in fact.prompts] for fact in planted_facts()]
    path = tmp_path / "bags.json"
    path.write_text(json.dumps({"P1": [*bags, bags[0]]}), encoding="utf-8")
    result = run("effects", folder, path, "--neurons", "L0.U0", "--gains", 0, "--json")
    assert json.loads(result.stdout)["fact"]["relation"] == "P1(planted)"
    assert f"note: {path}: bags left out because they repeat an earlier one: 1" in result.stderr


def test_a_file_that_is_not_there_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    result = run("locate", "no/such-model", tmp_path / "none.csv", "-o", tmp_path / "atlas")
    assert "none.csv: no such file" in complaint(result)
    assert "loading" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("implicit", "no/such-model", "specimen", "--atlas", "x", "--bridges", "none.json"),
            "none.json: no such file",
        ),
        (("rank", "x", "specimen", "-l", "upos", "--csv", "none/x.csv"), "none: no such folder to write a file in"),
        (("interactions", "no/model", "specimen", "--atlas", "x", "--plot", "none/x.html"), "none: no such folder"),
        (("interactions", "no/model", "specimen", "--atlas", "x", "--plot", "."), ".: is a folder"),
        (("check", "--all", "--markdown", "none/x.md"), "none: no such folder"),
    ],
)
def test_a_path_that_is_not_there_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert said in complaint(result)
    assert "loading" not in result.stderr


def test_a_path_that_goes_away_under_way_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError("No such file or directory (os error 2): none/x.csv")  # as polars does, with no errno

    monkeypatch.setattr(atlases, "write_report", fails)
    assert "os error 2" in complaint(run("report", tmp_path))


@pytest.mark.parametrize("command", ["attribute", "locate", "probe"])
def test_a_site_that_no_model_has_is_told_before_the_model_is_loaded(command: str, tmp_path: Path) -> None:
    given = {
        "attribute": ("no/model", "--prompt", PROMPT, "--answer", "answer0"),
        "locate": ("no/model", "specimen", "-o", tmp_path / "x"),
        "probe": ("no/model", "specimen", "-l", "upos", "-o", tmp_path / "x"),
    }
    result = run(command, *given[command], "--site", "foo")
    assert "no site 'foo': one of ffn, attention, hidden, cross_attention, encoder.ffn" in complaint(result)
    assert "loading" not in result.stderr


@pytest.mark.usefixtures("small_specimen")
def test_a_model_of_the_package_is_called_by_the_name_that_was_given(tmp_path: Path) -> None:
    line = complaint(run("locate", "specimen", "specimen", "-o", tmp_path / "x", "--site", "encoder.ffn"))
    assert "specimen has no site 'encoder.ffn'" in line


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
    other = saved(model, tmp_path)
    assert "digest is " in complaint(run("effects", other, facts, "--atlas", atlas))


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
