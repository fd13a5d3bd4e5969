"""Times a study of salient neurons of three models, and tells the peak memory.

python benchmarks/salient_study.py --markdown study.md      # 3 models x 4 properties x 2,000 sentences: minutes
python benchmarks/salient_study.py --quick                  # 60 sentences, two properties
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from measure import machine, peak_memory
from neuronatlas.models import Model, load
from neuronatlas.models.reinitialise import reinitialised
from neuronatlas.specimen import specimen_folder
from neuronatlas.studies.salient_neurons.questions import salient_study
from neuronatlas.studies.salient_neurons.study import Source
from neuronatlas.studies.specimen_corpus import corpus_of_specimen
from outcome import Target, table

__all__ = ["StudyTiming", "as_markdown", "time_study"]

LABELS = ("upos", "chunk", "number", "suffix")
MINUTES, GIGABYTES = 15, 4


@dataclass(frozen=True)
class StudyTiming:
    """What a study took: seconds of wall clock, the process's peak memory in bytes, and its size."""

    seconds: float
    peak: int
    models: tuple[str, ...]
    labels: tuple[str, ...]
    sentences: int
    words: int
    neurons: int


def time_study(sentences: int, labels: Sequence[str], folder: Path, *, progress: bool = False) -> StudyTiming:
    """Study the masked and the causal specimen, and the masked one with random weights, at `hidden`."""
    corpora = [corpus_of_specimen(label, sentences) for label in labels]
    sources = [Source(name, load_it) for name, load_it in _MODELS.items()]
    started = time.perf_counter()
    atlas = salient_study(sources, corpora, folder, progress=progress)
    seconds = time.perf_counter() - started
    neurons = int(atlas.table("members")["n_neurons"].sum()) // len(sources)
    words = corpora[0].n_items
    return StudyTiming(seconds, peak_memory(), tuple(_MODELS), tuple(labels), len(corpora[0]), words, neurons)


def _masked() -> Model:
    return load(specimen_folder())


def _causal() -> Model:
    return load(specimen_folder("causal"))


def _random() -> Model:
    return reinitialised(_masked(), seed=0)


_MODELS = {"specimen": _masked, "specimen-causal": _causal, "specimen, random weights": _random}


def as_markdown(found: StudyTiming, threads: int) -> str:
    """The outcome, to be pasted into a document."""
    size = (
        f"{len(found.models)} models, {', '.join(found.labels)}; {found.sentences:,} sentences, {found.words:,} words"
    )
    targets = [
        Target(f"times {MINUTES} minutes", 1.0, 60 * MINUTES / found.seconds),
        Target(f"times {GIGABYTES} GB", 1.0, GIGABYTES * 1e9 / found.peak),
    ]
    rows = [(one.name, f"{one.wanted:.2f}", f"{one.found:.2f}", one.verdict) for one in targets]
    parts = [
        f"{machine()}, {threads} threads. {size}; {found.neurons:,} neurons at `hidden` each; default settings.",
        f"{found.seconds / 60:.1f} minutes, peak memory of the process {found.peak / 1e9:.2f} GB.",
        table(("fits into", "wanted", "found", ""), rows),
    ]
    return "\n\n".join(parts) + "\n"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="60 sentences and two properties: half a minute.")] = False,
    sentences: Annotated[int, typer.Option(min=60, help="Sentences of the specimen's grammar.")] = 2000,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome to this file as well.")] = None,
) -> None:
    """Time the whole study, from text to tables."""
    torch.set_num_threads(threads)
    with TemporaryDirectory() as scratch:
        labels = LABELS[:2] if quick else LABELS
        found = time_study(60 if quick else sentences, labels, Path(scratch) / "study", progress=not quick)
    text = as_markdown(found, threads)
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
