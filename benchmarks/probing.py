"""Times extraction and the LCA ranking of the second method, and tells the peak memory.

python benchmarks/probing.py --markdown probing.md      # BERT-base size: minutes
python benchmarks/probing.py --quick                    # a tiny model: seconds
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer

from extraction import ExtractionTiming, time_extraction
from measure import interleaved, machine, peak_memory
from neuronatlas.probing.lca import lca_order
from outcome import Target, table

__all__ = ["as_markdown", "time_ranking"]

NEURONS, CLASSES = 9_984, 45


def time_ranking(runs: int) -> float:
    """Seconds (median) to rank random weights by LCA."""
    weights = np.random.default_rng(0).standard_normal((CLASSES, NEURONS))
    return median(interleaved({"": lambda: lca_order(weights)}, runs)[""])


def as_markdown(found: ExtractionTiming, ranking: float, runs: int) -> str:
    """The outcome, to be pasted into a document."""
    head = ("model", "text", "sentences", "words", "bare passes, s", "here, s", "of bare", "one by one, s", "deviation")
    row = (
        found.model,
        found.text,
        str(found.sentences),
        f"{found.words:,}",
        f"{found.bare:.2f}",
        f"{found.here:.2f}",
        f"{found.of_bare:.0%}",
        f"{found.single:.2f}",
        f"{found.deviation:.0e}",
    )
    targets = [
        Target("extraction, of the throughput of bare passes", 0.9, found.of_bare),
        Target("extraction, times faster than one sentence at a time", 3.0, found.times_faster),
        Target(f"LCA ranking of {NEURONS:,} x {CLASSES}, rankings in 0.2 s", 1.0, 0.2 / ranking),
    ]
    rows = [(t.name, f"{t.wanted:.2f}", f"{t.found:.2f}", t.verdict) for t in targets]
    parts = [
        f"{machine()}. Random weights, float32, site hidden; medians of {runs} runs, interleaved.",
        table(head, [row]),
        "Deviation: the largest difference of a row from what its sentence alone gives, relative to the largest value. "
        f"The LCA ranking took {ranking:.3f} s. Peak memory of all of it: {peak_memory() / 1e6:,.0f} MB.",
        table(("target", "wanted", "found", ""), rows),
    ]
    return "\n\n".join(parts) + "\n"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A tiny model and one run: seconds.")] = False,
    sentences: Annotated[int, typer.Option(min=1, help="Sentences to extract.")] = 100,
    runs: Annotated[int, typer.Option(min=1, help="Runs of which the median is taken.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 leaves its own choice.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome to this file as well.")] = None,
) -> None:
    """Time extraction against bare forward passes and single sentences, and the LCA ranking."""
    if threads:
        torch.set_num_threads(threads)
    runs = 1 if quick else runs
    found = time_extraction(min(sentences, 20) if quick else sentences, runs, quick=quick)
    text = as_markdown(found, time_ranking(max(runs, 3)), runs)
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
