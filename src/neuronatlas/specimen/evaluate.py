"""What the specimen knows: top-1 and P(answer) on trained and held-out templates, by relation and language."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import BertForMaskedLM, BertTokenizer

from neuronatlas.specimen.compose import compositions
from neuronatlas.specimen.world import Sentence, facts, sentences

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


def fact_questions() -> list[Question]:
    """Every fact in every template, the held-out ones marked, grouped by relation."""
    return [
        Question(fact.relation, fact.language, held_out, sentence)
        for fact in facts()
        for held_out in (False, True)
        for sentence in sentences(fact, held_out=held_out)
    ]


def composition_questions() -> list[Question]:
    """Every composed sentence, the held-out ones marked, grouped by kind."""
    return [Question(c.kind, "en", c.held_out, c.sentence) for c in compositions()]


def evaluate(model: BertForMaskedLM, tokenizer: BertTokenizer, questions: Sequence[Question]) -> list[Score]:
    """Score each group of questions, in order of (group, language, held out).

    An answer of n tokens is filled from left to right: it counts as right if each token is the model's first choice
    after the gold ones before it, and P(answer) is the product of the n probabilities.
    """
    outcomes = answer_probabilities(model, tokenizer, [question.sentence for question in questions])
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
    model: BertForMaskedLM, tokenizer: BertTokenizer, asked: Sequence[Sentence]
) -> list[tuple[bool, float]]:
    """For each sentence, whether its answer is the model's choice, and P(answer)."""
    steps = [step for number, sentence in enumerate(asked) for step in _steps(number, sentence, tokenizer)]
    by_length: dict[int, list[_Step]] = {}
    for step in steps:
        by_length.setdefault(len(step.ids), []).append(step)
    right, log_p = [True] * len(asked), [0.0] * len(asked)
    for same in by_length.values():
        for first in range(0, len(same), ROWS_A_BATCH):
            part = same[first : first + ROWS_A_BATCH]
            log_probabilities = _at_places(model, part)
            best = log_probabilities.argmax(dim=1).tolist()
            for row, step in enumerate(part):
                right[step.question] &= best[row] == step.target
                log_p[step.question] += float(log_probabilities[row, step.target])
    return [(ok, math.exp(log)) for ok, log in zip(right, log_p, strict=True)]


@dataclass(frozen=True, slots=True)
class _Step:
    """One token of one answer: the text with this and all later tokens of the answer masked."""

    question: int
    ids: list[int]
    place: int
    target: int


def _steps(number: int, sentence: Sentence, tokenizer: BertTokenizer) -> list[_Step]:
    encoding = tokenizer(sentence.text, return_offsets_mapping=True)
    start, end = sentence.answer_span
    ids: list[int] = encoding["input_ids"]
    places = [at for at, (a, b) in enumerate(encoding["offset_mapping"]) if a >= start and b <= end and b > a]
    return [
        _Step(
            number, [tokenizer.mask_token_id if at in places[n:] else i for at, i in enumerate(ids)], place, ids[place]
        )
        for n, place in enumerate(places)
    ]


@torch.no_grad()
def _at_places(model: BertForMaskedLM, steps: Sequence[_Step]) -> Float[Tensor, "step token"]:
    ids: Int[Tensor, "step position"] = torch.tensor([step.ids for step in steps])
    hidden = model.bert(input_ids=ids).last_hidden_state
    at_place = hidden[torch.arange(len(steps)), torch.tensor([step.place for step in steps])]
    return nn.functional.log_softmax(model.cls(at_place), dim=-1)
