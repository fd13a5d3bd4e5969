"""Compares ways of editing facts: the exact edit, the paper's update, constrained fine-tuning, and random neurons.

python benchmarks/editing.py --edits 100 --markdown editing.md     # on the masked specimen
python benchmarks/editing.py --specimen causal --edits 100
python benchmarks/editing.py --model DIR --facts FILE --relations P19,P30 --edits 40

Every edit is made by itself, judged and undone. The facts that are to stay are divided in two by chance: the exact edit
draws its sample from one half, and all ways are judged by the other. Paraphrases are prompts unseen by all.
"""

from __future__ import annotations

import json
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

import neuronatlas as na
from neuronatlas.knowledge.attribution import PromptWarning
from neuronatlas.knowledge.exact_editing import SAMPLE

__all__ = ["Task", "compared", "specimen_tasks", "tasks_of"]


@dataclass(frozen=True)
class Task:
    """Edits to be made, the facts whose sample an edit may see, and those that judge."""

    cases: tuple[na.EditCase, ...]
    seen: tuple[na.Fact, ...]
    unseen: tuple[na.Fact, ...]


def specimen_tasks(model: na.Model, name: str, edits: int, seed: int) -> Task:
    """Facts of a specimen with one word for an answer, their held-out wordings being the paraphrases."""
    records = na.specimen_facts(model=name)
    facts = [na.Fact(r.relation, r.subject, r.answer, r.prompts) for r in records]
    return tasks_of(model, facts, [r.held_out_prompts for r in records], edits, seed)


def tasks_of(
    model: na.Model, facts: Sequence[na.Fact], paraphrases: Sequence[Sequence[str]], edits: int, seed: int
) -> Task:
    """Draw facts that the model knows on every prompt, and for each another answer of its relation."""
    rng, cases = np.random.default_rng(seed), list[na.EditCase]()
    answers: dict[str, list[str]] = {}
    for fact in facts:
        answers.setdefault(fact.relation, []).append(fact.answer)
    for index in rng.permutation(len(facts)):
        fact = facts[index]
        others = sorted(set(answers[fact.relation]) - {fact.answer})
        if not others:
            continue
        new = others[int(rng.integers(len(others)))]
        case = na.EditCase(fact, new, tuple(paraphrases[index]))
        if _suits(model, case):
            cases.append(case)
        if len(cases) == edits:
            break
    edited = {(case.fact.relation, case.fact.subject) for case in cases}
    left = [fact for fact in facts if (fact.relation, fact.subject) not in edited]
    mixed = [left[i] for i in rng.permutation(len(left))]
    return Task(tuple(cases), tuple(mixed[::2]), tuple(mixed[1::2]))


def _suits(model: na.Model, case: na.EditCase) -> bool:
    """Whether the model knows the fact on every prompt, and both answers are tokens of its vocabulary."""
    try:
        known = all(
            na.attribute(model, p, case.fact.answer, rule="activation").answered.is_top for p in case.fact.prompts
        )
        na.attribute(model, case.fact.prompts[0], case.new_answer, rule="activation")
    except (na.QueryError, na.FactError):
        return False
    return known


Way = Callable[[na.Model, na.EditCase], na.Edit]


def ways(task: Task, neurons: dict[str, na.NeuronSet], seed: int) -> dict[str, Way]:
    """The ways that are compared, by name."""

    def of(model: na.Model, case: na.EditCase) -> na.NeuronSet:
        return model.layout().set(neurons[f"{case.fact.relation} {case.fact.subject}"])

    def random(model: na.Model, case: na.EditCase) -> na.NeuronSet:
        return of(model, case).random_like(seed)

    def updated(rule: str, where: Callable[[na.Model, na.EditCase], na.NeuronSet]) -> Way:
        return lambda model, case: na.update(model, case.fact, case.new_answer, neurons=where(model, case), rule=rule)

    texts = [fact.prompts[0].replace("[MASK]", fact.answer) for fact in task.seen[:300]]
    return {
        "exact": lambda model, case: na.exact_update(
            model, case.fact, case.new_answer, keep=task.seen, neurons=of(model, case), seed=seed
        ),
        "exact, only its neurons": lambda model, case: na.exact_update(
            model, case.fact, case.new_answer, keep=task.seen, neurons=of(model, case), kept_share=0.0, seed=seed
        ),
        "update, normalised": updated("normalised", of),
        "update, printed": updated("printed", of),
        "update, random neurons": updated("normalised", random),
        "fine-tuning, its neurons": lambda model, case: na.fine_tune(
            model, case.fact, case.new_answer, neurons=of(model, case), settings=na.FineTuning(bound=1.0, rate=0.02)
        ),
        "ROME": lambda model, case: na.rome(
            model, case.fact, case.new_answer, layer=len(model.blocks) // 2, texts=texts
        ),
        "fine-tuning, last layer": lambda model, case: na.fine_tune(model, case.fact, case.new_answer),
    }


class _Clock:
    """A way that notes how long each of its edits took, how large it came out, and how many neurons it changed."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.seconds, self.sizes, self.neurons = list[float](), list[float](), list[float]()

    def __call__(self, model: na.Model, case: na.EditCase) -> na.Edit:
        """Make the edit."""
        start = time.perf_counter()
        edit = self.way(model, case)
        self.seconds.append(time.perf_counter() - start)
        self.sizes.append(edit.size)
        self.neurons.append(float(len(edit.neurons)))
        return edit


def compared(model: na.Model, task: Task, *, seed: int, only: Sequence[str] | None = None) -> pl.DataFrame:
    """Every way on every case: the measures, the seconds an edit takes, and how large it and its set are."""
    facts = [case.fact for case in task.cases]
    found = [na.locate(model, fact) for fact in facts]
    neurons = {
        f"{f.relation} {f.subject}": na.NeuronSet(s.layout, s.members) for f, s in zip(facts, found, strict=True)
    }
    tables = []
    for name, way in ways(task, neurons, seed).items():
        if only is not None and name not in only:
            continue
        clock = _Clock(way)
        judged = na.judge_edits(model, task.cases, clock, others=task.unseen, sample=100, seed=seed)
        measures = na.edit_measures(judged, seed=seed)
        rows: list[dict[str, object]] = [
            {"measure": f"{key}, median", "after": float(np.median(values)), "cases": len(values)}
            for key, values in (("seconds", clock.seconds), ("size", clock.sizes), ("neurons", clock.neurons))
        ]
        refused = judged.filter(pl.col("refused") != "")["case"].n_unique()
        rows.append({"measure": "refused", "after": float(refused), "cases": len(task.cases)})
        tables.append(pl.concat([measures, pl.DataFrame(rows)], how="diagonal_relaxed").with_columns(way=pl.lit(name)))
        print(as_markdown(tables[-1], [name]), flush=True)
    return pl.concat(tables)


def as_markdown(table: pl.DataFrame, names: Sequence[str]) -> str:
    """A row a measure, a column a way: after the edits, with the interval, and before in the second column."""
    lines = ["| measure | before | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for measure in dict.fromkeys(table["measure"]):
        cells, before = [], ""
        for name in names:
            row = table.filter((pl.col("measure") == measure) & (pl.col("way") == name)).row(0, named=True)
            before = "" if row["before"] is None else f"{row['before']:.3f}"
            spread = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
            cells.append("" if row["after"] is None else f"{row['after']:.3f}{spread}")
        lines.append(f"| {measure} | {before} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def batches(model: na.Model, task: Task, sizes: Sequence[int], seed: int) -> list[dict[str, float]]:
    """Several edits as one exact edit, all standing together."""
    rows = []
    for size in sizes:
        cases = task.cases[:size]
        start = time.perf_counter()
        judged = na.judge_together(
            model,
            cases,
            lambda edited, given: na.exact_update(
                edited, [c.fact for c in given], [c.new_answer for c in given], keep=task.seen, seed=seed
            ),
            others=task.unseen,
            sample=20,
            seed=seed,
        )
        row = dict(na.edit_measures(judged, seed=seed).select("measure", "after").iter_rows())
        keep = ("success rate", "generalisation", "accuracy, same relation", "accuracy, other relations")
        told = {"edits": size, "seconds": time.perf_counter() - start, **{key: row[key] for key in keep}}
        told["refused"] = float(bool(judged["refused"][0]))
        print(json.dumps(told), flush=True)
        rows.append(told)
    return rows


def main(
    model: Annotated[Path | None, typer.Option(help="A model's folder; a specimen without.")] = None,
    specimen: Annotated[str, typer.Option(help="Which specimen: masked or causal.")] = "masked",
    facts: Annotated[Path | None, typer.Option(help="A file of facts for the model.")] = None,
    relations: Annotated[str | None, typer.Option(help="Relations of the file, with commas between.")] = None,
    held_out: Annotated[int, typer.Option(help="How many of a fact's last prompts are its paraphrases.")] = 2,
    edits: Annotated[int, typer.Option(help="How many edits.")] = 100,
    seed: int = 0,
    only: Annotated[str | None, typer.Option(help="Only these ways, with semicolons between.")] = None,
    together: Annotated[str | None, typer.Option(help="Sizes of batches, such as 1,10,100.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Where the table goes.")] = None,
) -> None:
    """Compare ways of editing and print the table."""
    warnings.simplefilter("ignore", PromptWarning)
    loaded = na.load(model or na.specimen_folder(specimen))
    if facts is None:
        task = specimen_tasks(loaded, specimen, edits, seed)
    else:
        read = na.read_facts(facts, relations=relations.split(",") if relations else None)
        whole = [fact for fact in read if len(fact.prompts) > held_out + 1]
        kept = [replace_prompts(fact, fact.prompts[:-held_out]) for fact in whole]
        task = tasks_of(loaded, kept, [fact.prompts[-held_out:] for fact in whole], edits, seed)
    print(
        f"{len(task.cases)} edits, {len(task.seen)} facts to draw from, {len(task.unseen)} to judge by; sample {SAMPLE}"
    )
    table = compared(loaded, task, seed=seed, only=only.split(";") if only else None)
    text = as_markdown(table, list(dict.fromkeys(table["way"])))
    print(text)
    if together:
        batches(loaded, task, [int(size) for size in together.split(",")], seed)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if markdown is not None:
        markdown.write_text(text + "\n", encoding="utf-8")


def replace_prompts(fact: na.Fact, prompts: Sequence[str]) -> na.Fact:
    """The fact with some of its prompts."""
    return na.Fact(fact.relation, fact.subject, fact.answer, prompts)


if __name__ == "__main__":
    typer.run(main)
