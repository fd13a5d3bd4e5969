"""What a model answers to prompts: how likely, at which rank, and whether it would say so itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neuronatlas.knowledge.facts import FactError, split_prompt
from neuronatlas.models.answers import broken_rows, log_odds
from neuronatlas.models.asking import BUDGET, all_logits
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, QueryError, Step, place_tokens, query

__all__ = ["NO_CHOICE", "Said", "ask", "ask_queries", "encoded"]

NO_CHOICE = -1
"""Stands for the first choice of a model that has none, its logits being no numbers."""


@dataclass(frozen=True)
class Said:
    """What a model makes of one answer to one prompt.

    `log_probability`: log P of the whole answer, token after token, the right ones before each being given; `tokens`:
    how many they are. `rank`: the worst rank of a token, 1 being the first choice. `right`: the share of the
    tokens that are the first choice, each after the right ones (teacher-forced). `generated`: whether the model, left
    to choose each next token itself, says this answer; it does where every token is the first choice. `choices`: the
    ids that it prefers in the places of the tokens. Logits that are no numbers choose nothing: log P is then -inf, the
    rank that of the last token, and the choice `NO_CHOICE`.
    """

    log_probability: float
    tokens: int
    rank: int
    right: float
    choices: tuple[int, ...]

    @property
    def probability(self) -> float:
        """P of the whole answer."""
        return float(torch.tensor(self.log_probability, dtype=torch.float64).exp())

    @property
    def generated(self) -> bool:
        """Whether greedy choice gives the whole answer."""
        return self.rank == 1


def ask(
    model: Model, prompts: Sequence[tuple[str, str]], *, budget: int = BUDGET
) -> tuple[list[Said | None], dict[int, str]]:
    """Ask prompts for their answers; None, and the reason by index, for what does not suit the model."""
    queries, skipped = encoded(model, prompts)
    found = ask_queries(model, list(queries.values()), budget=budget)
    said = dict(zip(queries, found, strict=True))
    return [said.get(index) for index in range(len(prompts))], skipped


def encoded(
    model: Model, prompts: Sequence[tuple[str, str]], *, stack: str = "decoder"
) -> tuple[dict[int, Query], dict[int, str]]:
    """Encode prompts with their answers, by index, and say of each other one why it does not suit the model.

    `stack` says whose neurons are looked at, as in `query`.
    """
    queries: dict[int, Query] = {}
    skipped: dict[int, str] = {}
    for index, (prompt, answer) in enumerate(prompts):
        try:
            queries[index] = query(model, *split_prompt(prompt, place_tokens(model)), answer, stack=stack)
        except (QueryError, FactError) as error:
            skipped[index] = str(error)
    return queries, skipped


def ask_queries(model: Model, queries: Sequence[Query], *, budget: int = BUDGET) -> list[Said]:
    """What the model makes of each query."""
    steps = [step for asked in queries for step in asked.steps]
    found: dict[int, tuple[float, int, int]] = {}
    for batch, logits in all_logits(model, steps, budget):
        found |= zip(batch, _each(logits, [steps[index] for index in batch]), strict=True)
    said, start = [], 0
    for asked in queries:
        each = [found[index] for index in range(start, start + len(asked.steps))]
        right = sum(rank == 1 for _, rank, _ in each) / len(each)
        logs, ranks, choices = zip(*each, strict=True)
        said.append(Said(sum(logs), len(each), max(ranks), right, choices))
        start += len(each)
    return said


def _each(logits: torch.Tensor, steps: Sequence[Step]) -> list[tuple[float, int, int]]:
    """Log P, rank and first choice of each step's token; equal logits share the better rank only with the first.

    All comparisons with a NaN are false, so that rows of such logits would count as won: they count as lost.
    """
    tokens = [step.answer_id for step in steps]
    odds = log_odds(logits, tokens)[1]
    logs = torch.nn.functional.logsigmoid(odds)
    wanted = torch.tensor(tokens, device=logits.device)[:, None]
    own, columns = logits.gather(1, wanted), torch.arange(logits.shape[1], device=logits.device)
    above = (logits > own) | ((logits == own) & (columns < wanted))
    broken = broken_rows(logits)
    logs = logs.masked_fill(broken, -torch.inf)
    ranks = (above.sum(1) + 1).masked_fill(broken, logits.shape[1])
    choices = logits.argmax(1).masked_fill(broken, NO_CHOICE)
    return list(zip(logs.tolist(), ranks.tolist(), choices.tolist(), strict=True))
