"""Compares ways of editing facts: the exact edit, the paper's update, constrained fine-tuning, and random neurons.

python benchmarks/editing.py --results masked.parquet --markdown docs/editing.md --block masked
python benchmarks/editing.py --specimen causal --together 1,10,100
python benchmarks/editing.py --skip 100 --edits 40 --only exact     # settings are chosen on these, not on the 100
python benchmarks/editing.py --model DIR --facts FILE --relations P19,P30 --edits 40

Every edit is made by itself, judged and undone. The facts that are to stay are divided in two by chance: the exact edit
draws its sample from one half, and all ways are judged by the other. Paraphrases are prompts unseen by all. Ways that
stand in the file of results already are not run again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

import neuronatlas as na
from edit_tables import as_markdown, targets, together_markdown, write_block
from measure import machine, peak_memory
from neuronatlas.knowledge.attribution import PromptWarning
from neuronatlas.knowledge.exact_editing import SAMPLE
from neuronatlas.models.queries import place_tokens

__all__ = ["Task", "compared", "specimen_tasks", "tasks_of"]


LOOSE = na.ExactSettings(kept_share=0.0)


@dataclass(frozen=True)
class Task:
    """Edits to be made, the facts whose sample an edit may see, and those that judge."""

    cases: tuple[na.EditCase, ...]
    seen: tuple[na.Fact, ...]
    unseen: tuple[na.Fact, ...]


def specimen_tasks(model: na.Model, name: str, edits: int, seed: int, skip: int = 0) -> Task:
    """Facts of a specimen with one word for an answer, their held-out wordings being the paraphrases."""
    records = na.specimen_facts(model=name)
    facts = [na.Fact(r.relation, r.subject, r.answer, r.prompts) for r in records]
    return tasks_of(model, facts, [r.held_out_prompts for r in records], edits, seed, skip)


def tasks_of(
    model: na.Model,
    facts: Sequence[na.Fact],
    paraphrases: Sequence[Sequence[str]],
    edits: int,
    seed: int,
    skip: int = 0,
) -> Task:
    """Draw facts that the model knows on every prompt, past the first `skip`, and for each another answer."""
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
            cases.append(replace(case, portability=following(model, fact, new, facts)))
        if len(cases) == skip + edits:
            break
    cases = cases[skip:]
    edited = {(case.fact.relation, case.fact.subject) for case in cases}
    left = [fact for fact in facts if (fact.relation, fact.subject) not in edited]
    mixed = [left[i] for i in rng.permutation(len(left))]
    return Task(tuple(cases), tuple(mixed[::2]), tuple(mixed[1::2]))


def following(model: na.Model, fact: na.Fact, new: str, facts: Sequence[na.Fact]) -> tuple[tuple[str, str], ...]:
    """Two-hop prompts whose answer follows from the new one, with that answer."""
    hops = na.follow_up_prompts(fact, new, facts, answer_last=model.kind == "causal", places=place_tokens(model))
    return tuple((hop.prompt, hop.answer) for hop in hops)


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
            model,
            case.fact,
            case.new_answer,
            keep=task.seen,
            neurons=of(model, case),
            settings=LOOSE,
            seed=seed,
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
        start = time.process_time()
        edit = self.way(model, case)
        self.seconds.append(time.process_time() - start)
        self.sizes.append(edit.size)
        self.neurons.append(float(len(edit.neurons)))
        return edit


def located(model: na.Model, task: Task) -> tuple[dict[str, na.NeuronSet], pl.DataFrame]:
    """The facts' own neurons, and the CPU seconds that finding them takes."""
    found, seconds = dict[str, na.NeuronSet](), list[float]()
    for case in task.cases:
        start = time.process_time()
        members = na.locate(model, case.fact)
        seconds.append(time.process_time() - start)
        found[f"{case.fact.relation} {case.fact.subject}"] = na.NeuronSet(members.layout, members.members)
    return found, _told("locating", {"CPU seconds, median": _median(seconds)}, len(seconds))


def compared(
    model: na.Model, task: Task, *, seed: int, only: Sequence[str] | None = None, results: Path | None = None
) -> pl.DataFrame:
    """Every way on every case: the measures, the CPU seconds an edit takes, and how large it and its set are."""
    tables = [pl.read_parquet(results)] if results is not None and results.exists() else []
    done = set(tables[0]["way"]) if tables else set()
    allowed = [name for name in ways(task, {}, seed) if name != "ROME" or model.kind == "causal"]
    pending = [name for name in allowed if name not in done and (only is None or name in only)]
    if not pending:
        return tables[0]
    neurons, locating = located(model, task)
    if not done:
        tables.append(locating)
    for name, way in ways(task, neurons, seed).items():
        if name not in pending:
            continue
        clock = _Clock(way)
        judged = na.judge_edits(model, task.cases, clock, others=task.unseen, sample=100, seed=seed)
        numbers = {
            f"{key}, median": _median(values)
            for key, values in (("CPU seconds", clock.seconds), ("size", clock.sizes), ("neurons", clock.neurons))
        }
        numbers["refused"] = float(judged.filter(pl.col("refused") != "")["case"].n_unique())
        told = _told(name, numbers, len(task.cases))
        measures = na.edit_measures(judged, seed=seed).with_columns(way=pl.lit(name))
        tables.append(pl.concat([measures, told], how="diagonal_relaxed"))
        print(as_markdown(tables[-1], [name]), flush=True)
        if results is not None:
            pl.concat(tables, how="diagonal_relaxed").write_parquet(results)
    return pl.concat(tables, how="diagonal_relaxed")


def _told(way: str, numbers: dict[str, float], cases: int) -> pl.DataFrame:
    return pl.DataFrame(
        [{"measure": name, "after": value, "cases": cases, "way": way} for name, value in numbers.items()]
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def batches(model: na.Model, task: Task, sizes: Sequence[int], seed: int) -> list[dict[str, float]]:
    """Several edits as one exact edit, all standing together."""
    rows = []
    for size in sizes:
        cases = task.cases[:size]
        seconds = list[float]()

        def make(edited: na.Model, given: Sequence[na.EditCase], seconds: list[float] = seconds) -> na.Edit:
            start = time.process_time()
            try:
                facts, answers = [case.fact for case in given], [case.new_answer for case in given]
                return na.exact_update(edited, facts, answers, keep=task.seen, seed=seed)
            finally:
                seconds.append(time.process_time() - start)

        judged = na.judge_together(model, cases, make, others=task.unseen, sample=20, seed=seed)
        row = dict(na.edit_measures(judged, seed=seed).select("measure", "after").iter_rows())
        keep = ("success rate", "generalisation, generated", "accuracy, same relation", "accuracy, other relations")
        told = {"edits": float(size), **{key: row[key] for key in keep}, "CPU seconds": seconds[0]}
        told["refused"] = float(bool(judged["refused"][0]))
        rows.append(told)
        print(together_markdown(rows), flush=True)
    return rows


def main(
    model: Annotated[Path | None, typer.Option(help="A model's folder; a specimen without.")] = None,
    specimen: Annotated[str, typer.Option(help="Which specimen: masked or causal.")] = "masked",
    facts: Annotated[Path | None, typer.Option(help="A file of facts for the model.")] = None,
    relations: Annotated[str | None, typer.Option(help="Relations of the file, with commas between.")] = None,
    held_out: Annotated[int, typer.Option(help="How many of a fact's last prompts are its paraphrases.")] = 2,
    edits: Annotated[int, typer.Option(help="How many edits.")] = 100,
    skip: Annotated[int, typer.Option(help="Leave out so many facts that would be edited first.")] = 0,
    seed: int = 0,
    only: Annotated[str | None, typer.Option(help="Only these ways, with semicolons between.")] = None,
    together: Annotated[str | None, typer.Option(help="Sizes of batches, such as 1,10,100.")] = None,
    results: Annotated[Path | None, typer.Option(help="A Parquet file that keeps what each way gave.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="A page with a block for the tables.")] = None,
    block: Annotated[str, typer.Option(help="Name of that block.")] = "editing",
) -> None:
    """Compare ways of editing and print the table."""
    warnings.simplefilter("ignore", PromptWarning)
    loaded = na.load(model or na.specimen_folder(specimen))
    if facts is None:
        task = specimen_tasks(loaded, specimen, edits, seed, skip)
    else:
        read = na.read_facts(facts, relations=relations.split(",") if relations else None)
        whole = [fact for fact in read if len(fact.prompts) > held_out + 1]
        kept = [replace_prompts(fact, fact.prompts[:-held_out]) for fact in whole]
        task = tasks_of(loaded, kept, [fact.prompts[-held_out:] for fact in whole], edits, seed, skip)
    table = compared(loaded, task, seed=seed, only=only.split(";") if only else None, results=results)
    names = [name for name in dict.fromkeys(table["way"]) if name != "locating"]
    parts = [
        f"{len(task.cases)} edits; the exact edit's sample is {SAMPLE} prompts of {len(task.seen)} other facts, and "
        f"all ways are judged by prompts of {len(task.unseen)} more. {machine()}.",
        as_markdown(table, names),
        targets(table),
    ]
    if together:
        rows = batches(loaded, task, [int(size) for size in together.split(",")], seed)
        parts.append("Many edits as one, all standing together:\n\n" + together_markdown(rows))
    text = "\n\n".join(parts)
    print(text, f"\npeak memory {peak_memory() / 2**20:.0f} MiB")
    if markdown is not None:
        write_block(markdown, block, text)


def replace_prompts(fact: na.Fact, prompts: Sequence[str]) -> na.Fact:
    """The fact with some of its prompts."""
    return na.Fact(fact.relation, fact.subject, fact.answer, prompts)


if __name__ == "__main__":
    typer.run(main)
