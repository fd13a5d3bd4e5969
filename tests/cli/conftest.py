"""Running commands in this process, and the model, facts and atlas that they are run on."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import neuronatlas as na
from neuronatlas import specimen
from neuronatlas.cli import app
from neuronatlas.studies.sweep.toys import architectures, build, toy_tokenizer
from tests.handwritten import saved
from tests.knowledge.planted import planted_facts, planted_model
from tests.probing.planted_property import planted_corpus

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


def complaint(result: Result, notes: tuple[str, ...] = ("loading ", "locating ")) -> str:
    """The line that says what is wrong; nothing else may be written but notes on the work, which begin like these."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    *before, line = result.stderr.splitlines()
    assert all(note.startswith(notes) for note in before)
    assert line.startswith("error: ")
    return line


def write_facts(path: Path, facts: Iterable[na.Fact]) -> Path:
    lines = [{"relation": f.relation, "subject": f.subject, "answer": f.answer, "prompts": f.prompts} for f in facts]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model written by hand."""
    return saved(planted_model(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the facts planted in it, as two relations."""
    named = [
        na.Fact("first" if i < 3 else "second", f.subject, f.answer, f.prompts) for i, f in enumerate(planted_facts())
    ]
    return write_facts(tmp_path_factory.mktemp("facts") / "facts.jsonl", named)


@pytest.fixture(scope="session")
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
    monkeypatch.setattr(specimen, "specimen_folder", lambda model="masked": folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words of a planted property, as a file."""
    path = tmp_path_factory.mktemp("text") / "planted.tsv"
    blocks = [
        "".join(f"{word}\t{label or '_'}\n" for word, label in zip(s.words, s.labels, strict=True))
        for s in planted_corpus(60).sentences
    ]
    path.write_text("word\tkind\n" + "\n".join(blocks), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that has no feed-forward neurons, of random weights; its words are w4 to w99."""
    target = tmp_path_factory.mktemp("mamba")
    build(next(one for one in architectures(("causal",)) if one.model_type == "mamba")).save_pretrained(target)
    toy_tokenizer().save_pretrained(target)
    return target
