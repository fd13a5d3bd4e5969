"""Finds how many Gauss-Legendre nodes attribution needs to be at least as exact as the 20-point left sum of the paper.

    python benchmarks/quadrature.py --markdown quadrature.md      # twelve minutes on one core
    python benchmarks/quadrature.py --quick                       # a tiny random model, seconds

The error of a rule on a prompt is its largest deviation from 400 midpoints over all neurons, relative to the largest
score of that prompt; everything is in float64. The default is the fewest nodes whose error is at most that of the
20-point left sum on 95 % of the prompts of every deciding model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import transformers
import typer
from jaxtyping import Float
from tqdm.auto import tqdm

from neuronatlas.knowledge.quadrature import QUADRATURES, rule_nodes
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.queries import Query, by_length
from neuronatlas.models.ways import Prompts
from outcome import table
from subjects import SUBJECTS, Choice, MissingSubjectError, Subject, tiny

LEFT_STEPS = 20
SHARE = 0.95
BUDGET = 4096


@dataclass(frozen=True)
class Errors:
    """Of one rule on the prompts of one model: errors and completeness gaps, both relative."""

    error: Float[np.ndarray, " prompt"]
    gap: Float[np.ndarray, " prompt"]


@dataclass(frozen=True)
class Study:
    """What was found on one model: the left sum's errors, and those of Gauss-Legendre by its number of nodes."""

    name: str
    decides: bool
    kinks: bool
    prompts: int
    seconds: float
    left: Errors
    gauss: dict[int, Errors]

    def share(self, nodes: int) -> float:
        """Share of prompts on which so many nodes err at most as much as the left sum."""
        return float(np.mean(self.gauss[nodes].error <= self.left.error))

    @property
    def fewest(self) -> int | None:
        """Fewest nodes that are good enough on this model; None when none of those tried are."""
        return next((nodes for nodes in self.gauss if self.share(nodes) >= SHARE), None)


def study(subject: Subject, *, decides: bool, midpoints: int, most_nodes: int) -> Study:
    """Compare the rules on one model, batch by batch of equally long prompts."""
    started = time.perf_counter()
    rules = {nodes: ("gauss-legendre", nodes) for nodes in range(1, most_nodes + 1)} | {0: ("left-riemann", LEFT_STEPS)}
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {key: [] for key in rules}
    with tqdm(total=len(subject.queries), desc=subject.name, unit="prompt", leave=False) as bar:
        for batch in by_length([len(q.first.ids) for q in subject.queries], BUDGET):
            queries = [subject.queries[index] for index in batch]
            exact, _ = _scores(subject, queries, "midpoint", midpoints)
            for key, (rule, steps) in rules.items():
                scores, gaps = _scores(subject, queries, rule, steps)
                parts[key].append((np.abs(scores - exact).max(1) / np.abs(exact).max(1), gaps))
            bar.update(len(queries))
    found = {key: Errors(*map(np.concatenate, zip(*pieces, strict=True))) for key, pieces in parts.items()}
    left = found.pop(0)
    took = time.perf_counter() - started
    return Study(subject.name, decides, has_kinks(subject.model), len(subject.queries), took, left, found)


def _scores(
    subject: Subject, queries: Sequence[Query], rule: str, steps: int
) -> tuple[Float[np.ndarray, "prompt neuron"], Float[np.ndarray, " prompt"]]:
    """Scores by one rule, and each prompt's completeness gap relative to the largest change that a layer explains."""
    prompts = Prompts.of([q.first for q in queries], subject.model.device)
    path = path_gradients(subject.model, prompts, *rule_nodes(rule, steps), budget=BUDGET)
    layers = [values * slopes for values, slopes in zip(path.neurons, path.gradients, strict=True)]
    clean = torch.softmax(path.clean_logits, dim=1).gather(1, prompts.answers[:, None])[:, 0]
    changes = clean - path.zeroed
    gaps = torch.stack([scores.sum(1) for scores in layers]) - changes
    return torch.cat(layers, dim=1).numpy(), (gaps.abs().amax(0) / changes.abs().amax(0)).numpy()


def fewest_nodes(studies: Sequence[Study], *, kinks: bool) -> int | None:
    """Fewest nodes good enough on all deciding models with or without kinks; None when none of those tried are."""
    deciding = [s for s in studies if s.decides and s.kinks == kinks]
    tried = sorted(set.intersection(*(set(s.gauss) for s in deciding))) if deciding else []
    return next((nodes for nodes in tried if all(s.share(nodes) >= SHARE for s in deciding)), None)


def as_markdown(studies: Sequence[Study], missing: dict[str, str]) -> str:
    """Shares of prompts by nodes and model, the errors behind them, and the verdict."""
    nodes = list(studies[0].gauss)
    heads = [f"{s.name}{'' if s.decides else ' (for information)'}" for s in studies]
    shares = [(str(n), *(f"{s.share(n):.0%}" for s in studies)) for n in nodes]
    shares.append(("fewest", *(str(s.fewest or f"more than {nodes[-1]}") for s in studies)))
    parts = [
        f"Share of prompts on which Gauss-Legendre errs at most as much as the {LEFT_STEPS}-point left sum:",
        table(["nodes", *heads], shares),
        "Error relative to the prompt's largest score, median / 95th percentile, and the median completeness gap:",
        table(["rule", *heads], _error_rows(studies, nodes)),
        "Prompts: " + ", ".join(f"{s.name} {s.prompts} ({s.seconds:.0f} s)" for s in studies) + ".",
        *(f"{name} was left out: {reason}." for name, reason in missing.items()),
        _verdict(studies, nodes[-1]),
    ]
    return "\n\n".join(parts) + "\n"


def _error_rows(studies: Sequence[Study], nodes: Sequence[int]) -> list[tuple[str, ...]]:
    rows = [(f"left-riemann {LEFT_STEPS}", *(_summary(s.left) for s in studies))]
    return rows + [(f"gauss-legendre {n}", *(_summary(s.gauss[n]) for s in studies)) for n in nodes]


def _summary(errors: Errors) -> str:
    median, high = np.quantile(errors.error, (0.5, 0.95))
    return f"{median:.0e} / {high:.0e}, gap {np.median(errors.gap):.0e}"


def _verdict(studies: Sequence[Study], most: int) -> str:
    rule = QUADRATURES["gauss-legendre"]
    lines = []
    for kinks, which, default in ((False, "smooth neurons", rule.steps), (True, "kinked neurons", rule.kinked_steps)):
        names = ", ".join(s.name for s in studies if s.decides and s.kinks == kinks)
        fewest = fewest_nodes(studies, kinks=kinks)
        if names:
            found = f"none up to {most} is" if fewest is None else f"{fewest} {'is' if fewest == 1 else 'are'}"
            lines.append(f"- {which} ({names}): {found} good enough; the default is {default}.")
    return "Verdict, the fewest nodes that are good enough on every model of a kind:\n\n" + "\n".join(lines)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A tiny random model: seconds.")] = False,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Prompts of each model, at most; by default what a few minutes allow.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Models to study, by name; all by default.")] = None,
    midpoints: Annotated[int, typer.Option(min=1, help="Midpoints of the reference.")] = 400,
    most_nodes: Annotated[int, typer.Option(min=1, help="Most nodes that are tried.")] = 24,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 leaves its own choice.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome to this file as well.")] = None,
) -> None:
    """Find the default numbers of Gauss-Legendre nodes, for smooth and for kinked neurons."""
    transformers.utils.logging.disable_progress_bar()
    if threads:
        torch.set_num_threads(threads)
    choices: Sequence[Choice] = [choice for choice in SUBJECTS if not only or choice.name in only]
    if quick:
        choices, midpoints, most_nodes = [Choice("tiny", tiny, prompts=3)], 40, 4
    studies, missing = [], {}
    for choice in choices:
        try:
            subject = choice.make(prompts or choice.prompts)
        except MissingSubjectError as error:
            missing[choice.name] = str(error)
            continue
        studies.append(study(subject, decides=choice.decides, midpoints=midpoints, most_nodes=most_nodes))
    if not studies:
        raise SystemExit("; ".join(missing.values()))
    text = as_markdown(studies, missing)
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
