"""Times attribution by replay against the plain per-layer method, and says how much of the machine's speed it reaches.

python benchmarks/attribution.py --markdown attribution.md      # the whole table: several hours on two cores
python benchmarks/attribution.py --only "GPT-2 small/12/1"      # one case
python benchmarks/attribution.py --quick                        # tiny models, seconds: does it run, do scores agree
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm.auto import tqdm

from arithmetic import needed, weight_bytes
from baseline import per_layer_scores
from measure import Bare, interleaved, read_bandwidth
from neuronatlas import Attribution, Model
from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.quadrature import DEFAULT_RULE, QUADRATURES, rule_nodes
from neuronatlas.models.queries import Query
from outcome import Outcome, Timing, as_markdown
from shapes import FULL_SIZE, TINY, Shape, random_model, random_queries

PAPER = ("left-riemann", 20)
DEFAULT = (DEFAULT_RULE, QUADRATURES[DEFAULT_RULE].steps)
LARGEST_DEVIATION = 1e-4


@dataclass(frozen=True)
class Case:
    """One line of the benchmark: a model's shape, the length of its prompts, and how many there are."""

    shape: Shape
    tokens: int
    prompts: int

    @property
    def name(self) -> str:
        """How `--only` calls it."""
        return f"{self.shape.name}/{self.tokens}/{self.prompts}"

    @property
    def gflop(self) -> int:
        """Arithmetic of one run at the paper's rule: what the progress bar counts."""
        return round(needed(self.shape, self.tokens, self.prompts, PAPER[1], zero_is_node=True).gflop)


@dataclass(frozen=True)
class Care:
    """How much is run: of how many runs the median is taken, and on how many prompts the per-layer method is timed."""

    runs: int
    compared: int
    quick: bool


@dataclass
class Works:
    """What is timed for one case; each work leaves its latest result behind."""

    model: Model
    queries: Sequence[Query]
    compared: int
    reference: list[np.ndarray] = field(default_factory=list)
    found: dict[str, list[Attribution]] = field(default_factory=dict)

    def run_reference(self) -> None:
        """Per-layer scores of the first few prompts."""
        asked = [query.first for query in self.queries[: self.compared]]
        self.reference = [
            per_layer_scores(self.model.module, step.ids, step.answer_position, step.answer_id, PAPER[1]).numpy()
            for step in asked
        ]

    def runner(self, rule: str, steps: int) -> Callable[[], None]:
        """Attribution of all prompts by one rule."""

        def run() -> None:
            self.found[rule] = list(attribute_queries(self.model, self.queries, rule=rule, steps=steps))

        return run

    def deviation(self, rule: str) -> float:
        """Largest difference from the reference's scores, relative to the largest one, over the compared prompts."""
        pairs = zip(self.reference, self.found[rule], strict=False)
        return max(float(np.abs(s.matrix() - right).max() / np.abs(right).max()) for right, s in pairs)

    def gap(self, rule: str) -> float:
        """Largest completeness gap of a layer, relative to the largest change of P that a layer is to explain."""
        return max(s.gap / float(np.abs(s.answered.probability - s.zeroed).max()) for s in self.found[rule])


def run_case(case: Case, model: Model, care: Care, bandwidth: float) -> Iterator[Timing]:
    """Time one case and yield a line for each rule."""
    works = Works(model, random_queries(case.shape, case.tokens, case.prompts), min(care.compared, case.prompts))
    # The first prompts of a model are slow: its fast ways are proved then.
    list(attribute_queries(model, works.queries[:1], steps=1))
    bare = Bare(care.quick)
    timed = {"bare": bare.run, "reference": works.run_reference}
    timed |= {rule: works.runner(rule, steps) for rule, steps in (PAPER, DEFAULT)}
    seconds = {name: median(found) for name, found in interleaved(timed, care.runs).items()}
    for rule, steps in (PAPER, DEFAULT):
        zero = 0.0 in rule_nodes(rule, steps)[0]
        reading = weight_bytes(case.shape, zero_is_node=zero) / bandwidth / seconds[rule]
        yield Timing(
            model=case.shape.name,
            tokens=case.tokens,
            prompts=case.prompts,
            rule=rule,
            nodes=steps,
            seconds=seconds[rule],
            reference_seconds=seconds["reference"] * case.prompts / works.compared,
            compared=works.compared,
            gflop=needed(case.shape, case.tokens, case.prompts, steps, zero_is_node=zero).gflop,
            bare_gflops=bare.gflops,
            reading_share=reading if case.shape.kind == "causal" and case.prompts == 1 else None,
            gap=works.gap(rule),
            deviation=works.deviation(rule) if rule == PAPER[0] else None,
            way=works.found[rule][0].way,
        )


def cases(quick: bool) -> list[Case]:
    """All lines, in the order of the table."""

    def counts(shape: Shape) -> tuple[int, int]:
        return (1, 3) if quick else (1, 32) if shape.key_value_heads is None else (1, 8)

    return [Case(s, t, p) for s in (TINY if quick else FULL_SIZE) for p in counts(s) for t in s.lengths]


def run_cases(chosen: Sequence[Case], care: Care) -> list[Timing]:
    """Time the cases, model by model."""
    bandwidth = read_bandwidth(16 if care.quick else 512)
    timings: list[Timing] = []
    with tqdm(total=sum(case.gflop for case in chosen), unit="GFLOP", disable=care.quick) as bar:
        for shape in dict.fromkeys(case.shape for case in chosen):
            model = random_model(shape)
            for case in (case for case in chosen if case.shape == shape):
                bar.set_description(case.name)
                timings += run_case(case, model, care, bandwidth)
                bar.update(case.gflop)
    return timings


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models and one run: seconds.")] = False,
    runs: Annotated[int, typer.Option(min=1, help="Runs of which the median is taken.")] = 3,
    reference_prompts: Annotated[
        int, typer.Option(min=1, help="Prompts that the per-layer method is timed on; its time is scaled to all.")
    ] = 2,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 leaves its own choice.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option(help="Cases to run, as model/tokens/prompts; all by default.")
    ] = None,
    memory: Annotated[bool, typer.Option(help="Take the peak memory in fresh processes as well.")] = True,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome to this file as well.")] = None,
) -> None:
    """Time attribution by replay against the per-layer method, on models with random weights."""
    if threads:
        torch.set_num_threads(threads)
    known = cases(quick)
    unknown = set(only or ()) - {case.name for case in known}
    if unknown:
        raise typer.BadParameter(f"no case {min(unknown)!r}: cases are {', '.join(case.name for case in known)}")
    chosen = [case for case in known if not only or case.name in only]
    care = Care(1 if quick else runs, reference_prompts, quick)
    outcome = Outcome.of(run_cases(chosen, care), care.runs)
    if memory:
        sizes = dict.fromkeys((case.shape, case.tokens) for case in chosen)
        outcome = outcome.with_memory(list(sizes)[:1] if quick else sizes, (8,) if quick else (8, 32, 128))
    text = as_markdown(outcome)
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
    if outcome.largest_deviation > LARGEST_DEVIATION:
        raise SystemExit(f"scores differ from the per-layer method's by {outcome.largest_deviation:.1e} of the largest")


if __name__ == "__main__":
    typer.run(main)
