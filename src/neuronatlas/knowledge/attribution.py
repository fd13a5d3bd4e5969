"""Attribution: how much each neuron adds to P(answer) at one place of a prompt (Dai et al. 2022, section 3.1)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.budgets import DEFAULT_BUDGET, Budget, found_budget
from neuronatlas.knowledge.corruptions import Corruption, SubjectNoise
from neuronatlas.knowledge.facts import Fact, split_prompt
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.knowledge.rules import Asked, Scored, chosen_rule
from neuronatlas.models.answers import Answered, joined, read_answers
from neuronatlas.models.heads import Readout, log_probability, probability
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, QueryError, Step, Unit, by_shape, place_tokens, query
from neuronatlas.models.ways import Prompts, Routing
from neuronatlas.neurons import NeuronScores

__all__ = [
    "Attribution",
    "AttributionError",
    "PromptWarning",
    "attribute",
    "attribute_queries",
    "check_routing",
    "fact_queries",
    "suiting_queries",
]


class PromptWarning(UserWarning):
    """Some prompts of a fact do not suit the model and were left out."""


class AttributionError(ValueError):
    """Attribution that cannot be trusted, such as scores that are not numbers."""


@dataclass(frozen=True, eq=False)
class Attribution(NeuronScores):
    """Attribution scores of one prompt, with the evidence about them.

    `answered` is P(answer) and log(P / (1 - P)) of the unchanged model; `zeroed[layer]` is P with all neurons of a
    layer at 0; `gaps[layer]` is the completeness gap, the layer's sum of scores less (P - zeroed): 0 for an exact
    integral, so a large one asks for more steps (NaN for rules that are no integral: `activation`, `direct`,
    `attribution-patching`). `way` says how the rows were run: `replay-cached`, `replay-stepped`, `replay`,
    `replay-whole`, `plain` or `direct`; `activations` are the neurons themselves.

    Where the answer has several tokens, all of this is in log P (`unit`), and is the sum over `tokens`: the attribution
    of each token's log P, given the tokens before it, to the neurons at its own place. Activations are then their mean.
    """

    query: Query
    answered: Answered
    zeroed: Float[np.ndarray, " layer"]
    way: str
    activations: NeuronScores
    tokens: tuple[Attribution, ...] = ()

    @property
    def unit(self) -> Unit:
        """What the scores add to: `P` of an answer of one token, `log P` of one of several, and under rule `direct`."""
        return self.query.unit

    @property
    def gaps(self) -> Float[np.ndarray, " layer"]:
        """Completeness gap of each layer, in the scores' unit."""
        sums = np.array([self.layer(n).sum(dtype=np.float64) for n in range(self.layout.n_layers)])
        whole = self.answered.probability if self.unit == "P" else self.answered.log_probability
        gaps: Float[np.ndarray, " layer"] = sums - (whole - self.zeroed)
        return gaps

    @property
    def gap(self) -> float:
        """The largest completeness gap of a layer, by its absolute value."""
        return float(np.abs(self.gaps).max())


def attribute(
    model: Model,
    prompt: str,
    answer: str,
    *,
    position: str | int = "answer",
    subject: str | None = None,
    rule: str = DEFAULT_RULE,
    steps: int | None = None,
    site: str | None = None,
    budget: Budget = DEFAULT_BUDGET,
    routing: Routing = "free",
    corruption: Corruption | None = None,
) -> Attribution:
    """Score every neuron by what it adds to P(answer): NeuronScores [layer, unit], in units of probability.

    An answer of several tokens is scored by log P: see `Attribution`.

    The answer's place in the prompt is `[MASK]`, `{answer}` or the tokenizer's own mask token. Neurons are looked at
    there, or at `position`: `"subject"` (the last token of `subject`) or a token index. `rule` is one of `RULES`.
    Most are integrated gradients, by a quadrature of so many `steps`; `rule="left-riemann", steps=20` is the setting of
    Dai et al. (2022), equation 4. `direct` scores in log P what the neuron's value slot adds past all other neurons and
    heads, `attribution-patching` by how far its activation differs from that in a corrupted prompt: `corruption` says
    which (`SubjectNoise`, the default, or `OtherSubjects`), and `subject` must be given. Without `steps`, a quadrature
    takes the number that serves the model: Gauss-Legendre more nodes where neurons have kinks (ReLU) than where they
    have none. `budget` bounds the token positions computed at once, and so the memory; with
    `"auto"` it is found so that what is free suffices, with an amount such as `"8GB"` so that no more is used.
    In a mixture of experts, scaled neurons may send the layers above to other experts (`routing="free"`), where P jumps
    and the gaps grow; `routing="frozen"` keeps every position at the experts of the unchanged run, with their weights.

    Errors: FactError and QueryError for a prompt or answer that does not suit; RuleError; DirectError for a model that
    has no direct paths; AttributionError for NaN.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> scores = na.attribute(model, "The capital of France is [MASK].", "Paris")
    >>> scores.matrix().shape == (model.layout().n_layers, model.layout().widths[0])
    True
    >>> na.attribute(model, "The capital of France is [MASK].", "Paris", rule="direct").unit
    'log P'
    """
    left, right = split_prompt(prompt, place_tokens(model))
    stack = model.layout(site).stack
    asked = query(model, left, right, answer, position=position, subject=subject, stack=stack)
    found = attribute_queries(
        model, [asked], rule=rule, steps=steps, site=site, budget=budget, routing=routing, corruption=corruption
    )
    return next(found)


def suiting_queries(
    model: Model, fact: Fact, *, position: str | int = "answer", site: str | None = None
) -> tuple[dict[int, Query], dict[int, str]]:
    """Encode the prompts of a fact that suit the model, by index, and say of each other one why it does not.

    Two prompts that are the same tokens to this model (a causal one drops what follows the place) count once. Where the
    answer has several tokens in one of the prompts, all are scored by log P, so that their scores can be compared.
    """
    stack = model.layout(site).stack
    queries: dict[int, Query] = {}
    skipped: dict[int, str] = {}
    first: dict[tuple[Step, ...], int] = {}
    for index, (left, right) in enumerate(fact.split(place_tokens(model))):
        try:
            asked = query(model, left, right, fact.answer, position=position, subject=fact.subject, stack=stack)
        except QueryError as error:
            skipped[index] = str(error)
            continue
        earlier = first.setdefault(asked.steps, index)
        if earlier == index:
            queries[index] = asked
        else:
            skipped[index] = f'"{asked.text}" is the same to this model as prompt {earlier + 1} of the fact'
    if any(asked.unit == "log P" for asked in queries.values()):
        queries = {index: replace(asked, unit="log P") for index, asked in queries.items()}
    return queries, skipped


def fact_queries(
    model: Model, fact: Fact, *, position: str | int = "answer", site: str | None = None
) -> dict[int, Query]:
    """The prompts of a fact that suit the model, encoded, by index; a warning tells of the others.

    Errors: QueryError with the first reason when none suits.
    """
    queries, skipped = suiting_queries(model, fact, position=position, site=site)
    if not queries:
        raise QueryError(f"no prompt of fact {fact.label!r} suits {model.name}: {next(iter(skipped.values()))}")
    if skipped:
        text = f"{len(skipped)} of {len(fact.prompts)} prompts of fact {fact.label!r} left out"
        warnings.warn(f"{text}: {next(iter(skipped.values()))}", PromptWarning, stacklevel=3)
    return queries


def attribute_queries(
    model: Model,
    queries: Sequence[Query],
    *,
    rule: str = DEFAULT_RULE,
    steps: int | None = None,
    site: str | None = None,
    budget: Budget = DEFAULT_BUDGET,
    routing: Routing = "free",
    corruption: Corruption | None = None,
) -> Iterator[Attribution]:
    """Attribute many queries, batched by length, and yield them in order; see `attribute`.

    All of the given queries' results are held until the last is done: give them in parts.
    """
    check_routing(model, routing)
    chosen, where = chosen_rule(rule, steps), site or model.default_site
    budget = found_budget(model, queries, budget, rule=rule, steps=steps, site=site, routing=routing)
    if chosen.unit is not None:
        queries = [replace(asked, unit=chosen.unit) for asked in queries]
    singles = [replace(asked, steps=(step,)) for asked in queries for step in asked.steps]
    corrupted: list[Tensor] = []
    if chosen.corrupts:
        how = corruption or SubjectNoise()
        corrupted = [row for asked in queries for row in how.neurons(model, asked, where)]

    def run(batch: Sequence[int]) -> Scored:
        some = [singles[index] for index in batch]
        prompts = Prompts.of([asked.steps[0] for asked in some], model.device, _READOUTS[some[0].unit])
        rows = torch.stack([corrupted[index] for index in batch]) if corrupted else None
        return chosen.score(Asked(model, prompts, where, steps, budget, routing, rows))

    found: dict[int, Attribution] = {}
    for batch in _batches(singles, budget):
        # What a rule gives has no name here: it would stay in memory beside the next one.
        scored = _attributions(model, [singles[index] for index in batch], run(batch), site)
        found |= zip(batch, scored, strict=True)
        del scored
    tokens = iter([found[index] for index in range(len(singles))])
    return iter([_whole(asked, list(islice(tokens, len(asked.steps)))) for asked in queries])


def check_routing(model: Model, routing: Routing) -> None:
    """Raise AttributionError when there is no such routing, or the model's cannot be frozen."""
    if routing not in ("free", "frozen"):
        raise AttributionError(f"no routing {routing!r}: free or frozen expected")
    if routing == "frozen" and any(block.unaccounted for block in model.blocks):
        raise AttributionError(
            f"{model.name} has weights that may be experts out of reach: its routing cannot be frozen"
        )


_READOUTS: dict[Unit, Readout] = {"P": probability, "log P": log_probability}


def _batches(singles: Sequence[Query], budget: int) -> Iterator[list[int]]:
    """Batches of queries of one step: of one shape, and scored in one unit."""
    for unit in _READOUTS:
        chosen = [index for index, asked in enumerate(singles) if asked.unit == unit]
        for batch in by_shape([singles[index].steps[0].shape for index in chosen], budget):
            yield [chosen[index] for index in batch]


def _attributions(model: Model, queries: Sequence[Query], scored: Scored, site: str | None) -> Iterator[Attribution]:
    layout = model.layout(site)
    answered = read_answers(model, [asked.steps[0] for asked in queries], scored.clean_logits)
    for row, (asked, outcome) in enumerate(zip(queries, answered, strict=True)):
        values = scored.scores[row].cpu().numpy()
        if not np.isfinite(values).all():
            where = layout.neuron(int(np.flatnonzero(~np.isfinite(values))[0]))
            raise AttributionError(
                f'the score of {where} on "{asked.text}" is not a finite number: try dtype="float32"'
            )
        yield Attribution(
            layout,
            values,
            asked,
            outcome,
            scored.zeroed[:, row].cpu().numpy(),
            scored.way,
            NeuronScores(layout, scored.activations[row].cpu().numpy()),
        )


def _whole(asked: Query, tokens: Sequence[Attribution]) -> Attribution:
    """The attribution of a whole answer from those of its tokens."""
    if len(tokens) == 1:
        return tokens[0]
    return Attribution(
        tokens[0].layout,
        np.sum([token.values for token in tokens], axis=0),
        asked,
        joined([token.answered for token in tokens]),
        np.sum([token.zeroed for token in tokens], axis=0),
        ", ".join(dict.fromkeys(token.way for token in tokens)),
        NeuronScores.mean([token.activations for token in tokens]),
        tuple(tokens),
    )
