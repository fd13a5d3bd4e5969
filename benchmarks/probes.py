"""Times the elastic-net probe against scikit-learn's saga and the recipe of the papers' toolkit.

python benchmarks/probes.py --markdown probes.md        # full size: over an hour, most of it saga's
python benchmarks/probes.py --no-saga                   # minutes
python benchmarks/probes.py --quick                     # small problems of random numbers: seconds
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import neuronatlas as na
from extraction import random_bert
from measure import machine
from neuronatlas.readers.corpora import read_corpus
from outcome import Target, table
from shapes import SHAPES
from subjects import shared_folder

__all__ = ["Problem", "Race", "as_markdown", "race"]

PENALTIES = (1e-3, 1e-4)
_GAP = 1e-3
_TIMES = 10


@dataclass(frozen=True)
class Problem:
    """Rows and classes to fit, which `make` writes into a folder."""

    name: str
    make: Callable[[Path], None]


@dataclass(frozen=True)
class Race:
    """What each way found on one problem."""

    problem: str
    shape: tuple[int, int, int]
    penalty: float
    found: dict[str, dict[str, Any]]

    def until(self, objective: float) -> float | None:
        """Seconds after which the fit here is at most there; None when it never was."""
        return next((seconds for seconds, found, _ in self.found["here"]["curve"] if found <= objective), None)

    def gap_after(self) -> tuple[float, float]:
        """Seconds until the gap is a thousandth, or the last ones, and the objective then."""
        curve = self.found["here"]["curve"]
        seconds, objective, _ = next((step for step in curve if step[2] <= _GAP), curve[-1])
        return seconds, objective


def random_words(folder: Path) -> None:
    """20,000 words of the English Web Treebank through all layers of a BERT-base of random weights: part of speech."""
    corpus = read_corpus(
        shared_folder("NEURONATLAS_DATA", "data") / "UD_English-EWT" / "en_ewt-ud-dev.conllu", label="upos"
    )
    _write(folder, na.extract(random_bert(SHAPES["BERT-base"]), corpus, "hidden"), corpus.labels, 20_000)


def semantic_tags(folder: Path) -> None:
    """50,000 words of the Parallel Meaning Bank through three feed-forward layers of pararel-bert: semantic tags."""
    corpus = read_corpus(shared_folder("NEURONATLAS_DATA", "data") / "pmb" / "train.conll", label="semtag")
    model = na.load(shared_folder("NEURONATLAS_MODELS", "models") / "pararel-bert")
    _write(folder, na.extract(model, corpus, "ffn", layers=[1, 3, 5]), corpus.labels, 50_000)


def _write(folder: Path, acts: na.Activations, labels: np.ndarray, n: int) -> None:
    labelled, kept = acts.align(labels)
    np.save(folder / "rows.npy", labelled.array()[:n])
    np.save(folder / "codes.npy", np.unique(kept[:n].astype(str), return_inverse=True)[1].astype(np.int64))


def noise(rows: int, columns: int, classes: int, folder: Path) -> None:
    """Random numbers, some of which carry the class."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    np.save(folder / "rows.npy", values)
    np.save(folder / "codes.npy", (values[:, :classes] + rng.gumbel(size=(rows, classes))).argmax(axis=1))


FULL = (Problem("EWT dev, random BERT-base", random_words), Problem("PMB train, pararel-bert", semantic_tags))
QUICK = (Problem("random numbers", lambda folder: noise(500, 60, 5, folder)),)


def race(
    problem: Problem, folder: Path, penalties: Sequence[float], *, saga: bool, most: float, threads: int
) -> Iterator[Race]:
    """Fit in turns; saga is given ten times the time that the fit here took to a gap of a thousandth, or `most`."""
    folder.mkdir(exist_ok=True)
    if not (folder / "rows.npy").exists():
        problem.make(folder)
    rows, columns = np.load(folder / "rows.npy", mmap_mode="r").shape
    shape = (rows, columns, int(np.load(folder / "codes.npy").max()) + 1)
    for penalty in penalties:
        found = {"here": _fit(folder, "here", penalty, 5 * most, threads)}
        found["toolkit"] = _fit(folder, "toolkit", penalty, most, threads)
        if saga:
            took = min(Race("", shape, penalty, found).gap_after()[0], most)
            found["saga"] = _fit(folder, "saga", penalty, _TIMES * took, threads)
        yield Race(problem.name, shape, penalty, found)


def _fit(folder: Path, way: str, penalty: float, seconds: float, threads: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("fitting.py")), str(folder), way, str(penalty)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds), "--threads", str(threads)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{way} at {penalty:g}: {found['seconds']:.1f} s, objective {found['objective']:.6f}", file=sys.stderr)
    return found


def as_markdown(races: Sequence[Race]) -> str:
    """The outcome, to be pasted into a document."""
    head = (
        "problem",
        "rows x columns x classes",
        "l1 = l2",
        "fit",
        "s",
        "objective",
        "gap",
        "weights not 0",
        "peak, GB",
    )
    rows: list[tuple[str, ...]] = []
    wanted: list[Target] = []
    for one in races:
        size = " x ".join(f"{n:,}" for n in one.shape)
        for way, label in (("here", "here"), ("toolkit", "toolkit's recipe"), ("saga", "saga")):
            if way in one.found:
                rows.append((one.problem, size, f"{one.penalty:g}", label, *_cells(one.found[way])))
        wanted += _targets(one)
    verdicts = [(t.name, f"{t.wanted:.0f}", f"{t.found:.1f}", t.verdict) for t in wanted]
    parts = [
        f"{machine()}. Each fit once, in a process of its own, float32. "
        "The gap bounds how far the objective is from its least. Saga has as many epochs as hold in ten times our time "
        "to a gap of a thousandth. Standardising counts for the fit here alone.",
        table(head, rows),
        "Times faster: the other's seconds, over ours until our objective was at most the one that it ended with.",
        table(("target", "wanted", "found", ""), verdicts),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(found: dict[str, Any]) -> tuple[str, ...]:
    gap = f"{found['curve'][-1][2]:.0e}" if "curve" in found else ""
    weights = "" if found["weights"] is None else f"{found['weights']:,}"
    return f"{found['seconds']:.1f}", f"{found['objective']:.6f}", gap, weights, f"{found['peak'] / 1e9:.1f}"


def _targets(one: Race) -> Iterator[Target]:
    for way, label, times in (("saga", "saga", 10.0), ("toolkit", "the toolkit's recipe", 3.0)):
        if way in one.found:
            ours = one.until(one.found[way]["objective"])
            faster = one.found[way]["seconds"] / ours if ours else 0.0
            yield Target(f"times faster than {label}: {one.problem}, {one.penalty:g}", times, faster)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A small problem of random numbers: seconds.")] = False,
    saga: Annotated[bool, typer.Option(help="Race against saga as well.")] = True,
    most: Annotated[
        float, typer.Option(help="Seconds of ours of which saga is given ten times as many at most.")
    ] = 60.0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 leaves its own choice.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Keep the problems here, or find them from another run.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome to this file as well.")] = None,
) -> None:
    """Time fits of probes."""
    if threads:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        races: list[Race] = []
        for index, problem in enumerate(QUICK if quick else FULL):
            where = (folder or Path(scratch)) / str(index)
            where.parent.mkdir(parents=True, exist_ok=True)
            races += race(problem, where, PENALTIES, saga=saga, most=most, threads=threads)
            text = as_markdown(races)
            if markdown is not None:
                markdown.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)
