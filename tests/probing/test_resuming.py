"""A run that stops, however it stops, is taken up and ends in the same bytes, in memory that stays bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from neuronatlas import durable
from neuronatlas.models import Model
from neuronatlas.probing.activations import ActivationsError
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.shards import open_activations
from tests.probing.folders import Killed, contents, run

ROOT = Path(__file__).parents[2]


def test_equal_runs_give_equal_bytes(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    run(model, corpus, tmp_path / "a")
    run(model, corpus, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_run_that_stops_at_any_write_is_taken_up_and_ends_in_the_same_bytes(
    model: Model, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, corpus, tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    publish, writes = durable.publish, 0

    def failing(at: int) -> Any:
        def write(temporary: Path, target: Path) -> None:
            nonlocal writes
            if writes == at:
                raise Killed
            writes += 1
            publish(temporary, target)

        return write

    at, complete = 0, False
    while not complete:
        folder, writes = tmp_path / str(at), 0
        monkeypatch.setattr(durable, "publish", failing(at))
        with suppress(Killed):
            run(model, corpus, folder)
            complete = True
        monkeypatch.setattr(durable, "publish", publish)
        if at and not complete:
            with pytest.raises(ActivationsError, match=r"is unfinished \(\d of 9 sentences\): extract into it again"):
                open_activations(folder)
        run(model, corpus, folder)
        assert contents(folder) == expected, at
        at += 1
    assert writes == 14, "a manifest first, six shards with a manifest each, and the last manifest"


def test_leftovers_of_a_run_that_stopped_as_it_ended_are_cleared(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    run(model, corpus, tmp_path)
    expected = contents(tmp_path)
    (tmp_path / ".tmp").mkdir()
    run(model, corpus, tmp_path)
    assert contents(tmp_path) == expected


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A folder of runs that were killed, and the numbers told by the process that did it."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "tests.probing.processes", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return folder, json.loads(done.stdout)


def test_a_run_killed_by_the_system_ends_in_the_same_bytes(processes: tuple[Path, list[int]]) -> None:
    folder, (kills, *_) = processes
    assert kills == 3
    expected = contents(folder / "undisturbed")
    killed = sorted(folder.glob("killed-*"))
    assert killed
    for run_folder in killed:
        assert contents(run_folder) == expected


def test_memory_does_not_grow_with_the_corpus(processes: tuple[Path, list[int]]) -> None:
    _, (_, small, large, rows) = processes
    assert rows > 60 * 2**20, "what would be held if nothing were let go"
    assert large - small < rows / 6
