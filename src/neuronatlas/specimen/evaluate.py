"""What the specimen knows: top-1 and P(answer) on trained and held-out templates, by relation and language."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedModel

from neuronatlas.specimen.compose import compositions
from neuronatlas.specimen.kind import Kind, Step
from neuronatlas.specimen.world import Sentence, Wordings, facts, sentences

ROWS_A_BATCH = 256


@dataclass(frozen=True, slots=True)
class Question:
    """A sentence whose answer is to be found, and the group it is counted in."""

    group: str
    language: str
    held_out: bool
    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Score:
    """How well one group is known: `top1` is the share of answers filled exactly, `p` the mean of P(answer)."""

    group: str
    language: str
    held_out: bool
    prompts: int
    top1: float
    p: float


def fact_questions(wordings: Wordings) -> list[Question]:
    """Every fact in every template, the held-out ones marked, grouped by relation."""
    return [
        Question(fact.relation, fact.language, held_out, sentence)
        for fact in facts()
        for held_out in (False, True)
        for sentence in sentences(fact, held_out=held_out, wordings=wordings)
    ]


def composition_questions(wordings: Wordings) -> list[Question]:
    """Every composed sentence that has its answer in a fit place, the held-out ones marked, grouped by kind."""
    return [Question(c.kind, "en", c.held_out, c.sentence) for c in compositions() if wordings.admit(c.sentence)]


def evaluate(
    kind: Kind, model: PreTrainedModel, tokenizer: BertTokenizer, questions: Sequence[Question]
) -> list[Score]:
    """Score each group of questions, in order of (group, language, held out).

    An answer of n tokens is filled from left to right: it counts as right if each token is the model's first choice
    after the gold ones before it, and P(answer) is the product of the n probabilities.
    """
    outcomes = answer_probabilities(kind, model, tokenizer, [question.sentence for question in questions])
    groups: dict[tuple[str, str, bool], list[tuple[bool, float]]] = {}
    for question, outcome in zip(questions, outcomes, strict=True):
        groups.setdefault((question.group, question.language, question.held_out), []).append(outcome)
    return [
        Score(*key, len(found), sum(right for right, _ in found) / len(found), sum(p for _, p in found) / len(found))
        for key, found in sorted(groups.items())
    ]


def overall(scores: Iterable[Score]) -> tuple[float, float]:
    """Top-1 and P(answer) over all prompts of the scores."""
    scores = list(scores)
    prompts = sum(score.prompts for score in scores)
    return sum(s.top1 * s.prompts for s in scores) / prompts, sum(s.p * s.prompts for s in scores) / prompts


def answer_probabilities(
    kind: Kind, model: PreTrainedModel, tokenizer: BertTokenizer, asked: Sequence[Sentence]
) -> list[tuple[bool, float]]:
    """For each sentence, whether its answer is the model's choice, and P(answer)."""
    by_length: dict[int, list[tuple[int, Step]]] = {}
    for number, sentence in enumerate(asked):
        for step in kind.steps(sentence, tokenizer):
            by_length.setdefault(len(step.ids), []).append((number, step))
    right, log_p = [True] * len(asked), [0.0] * len(asked)
    for same in by_length.values():
        for first in range(0, len(same), ROWS_A_BATCH):
            part = same[first : first + ROWS_A_BATCH]
            log_probabilities = _at_places(kind, model, [step for _, step in part])
            best = log_probabilities.argmax(dim=1).tolist()
            for row, (number, step) in enumerate(part):
                right[number] &= best[row] == step.target
                log_p[number] += float(log_probabilities[row, step.target])
    return [(ok, math.exp(log)) for ok, log in zip(right, log_p, strict=True)]


@torch.no_grad()
def _at_places(kind: Kind, model: PreTrainedModel, steps: Sequence[Step]) -> Float[Tensor, "step vocabulary"]:
    ids: Int[Tensor, "step position"] = torch.tensor([step.ids for step in steps])
    places = torch.tensor([row * ids.shape[1] + step.place for row, step in enumerate(steps)])
    return nn.functional.log_softmax(kind.logits(model, ids, places), dim=-1)
