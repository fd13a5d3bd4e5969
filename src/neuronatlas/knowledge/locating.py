"""Locating: the knowledge neurons of a fact, or of many facts of one or more relations."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from neuronatlas.knowledge.attribution import Attribution, attribute_queries, fact_queries
from neuronatlas.knowledge.budgets import DEFAULT_BUDGET, Budget, found_budget
from neuronatlas.knowledge.corruptions import Corruption
from neuronatlas.knowledge.facts import Fact, check_facts
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.knowledge.refinement import (
    FIRST_SHARE,
    Shared,
    Tuned,
    check_refinement,
    coarse_set,
    count_prompts,
    refine,
    tune_share,
)
from neuronatlas.models.model import Model
from neuronatlas.models.queries import place_tokens
from neuronatlas.models.ways import Routing
from neuronatlas.neurons import NeuronScores, NeuronSet

__all__ = ["KnowledgeNeurons", "TuningWarning", "locate"]


class TuningWarning(UserWarning):
    """Tuning the share of prompts did not give the facts of a relation 2 to 5 neurons on average."""


@dataclass(frozen=True)
class KnowledgeNeurons(NeuronSet):
    """The neurons that express a fact, in address order, with each one's share of prompts and mean score.

    `share` is the share of prompts that was asked for, `reached` whether tuning it gave the facts of the relation 2 to
    5 neurons on average (None where it was not tuned); `weak` says that the fact has fewer than three prompts. Where
    the answer has several tokens, scores are of log P of the whole, and `tokens` holds the neurons found for each token
    alone, by the same rule.
    """

    shares: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    share: float = FIRST_SHARE
    weak: bool = False
    tokens: tuple[NeuronSet, ...] = ()
    reached: bool | None = None


_Share = tuple[float, bool | None]
"""A share of prompts, and whether tuning it reached what is wanted (None where it was not tuned)."""


@overload
def locate(
    model: Model,
    facts: Fact,
    *,
    share: float | Literal["tuned"] | None = None,
    rule: str = ...,
    steps: int | None = ...,
    threshold: float | None = ...,
    position: str | int = ...,
    site: str | None = ...,
    budget: Budget = ...,
    routing: Routing = ...,
    corruption: Corruption | None = ...,
) -> KnowledgeNeurons: ...
@overload
def locate(
    model: Model,
    facts: Sequence[Fact],
    *,
    share: float | Literal["tuned"] | None = None,
    rule: str = ...,
    steps: int | None = ...,
    threshold: float | None = ...,
    position: str | int = ...,
    site: str | None = ...,
    budget: Budget = ...,
    routing: Routing = ...,
    corruption: Corruption | None = ...,
) -> list[KnowledgeNeurons]: ...
def locate(
    model: Model,
    facts: Fact | Sequence[Fact],
    *,
    share: float | Literal["tuned"] | None = None,
    rule: str = DEFAULT_RULE,
    steps: int | None = None,
    threshold: float | None = None,
    position: str | int = "answer",
    site: str | None = None,
    budget: Budget = DEFAULT_BUDGET,
    routing: Routing = "free",
    corruption: Corruption | None = None,
) -> KnowledgeNeurons | list[KnowledgeNeurons]:
    """Find the neurons that express a fact (Dai et al. 2022, section 3): one set for a fact, a list for many.

    A neuron is kept when its score is at least `threshold` (0.2; 0.5 for the activation baseline) of the largest one in
    at least max(share * n, min(3, n)) of the fact's n prompts. `share` is a number (0.7 for a single fact) or, for many
    facts, "tuned": the paper's search, relation by relation, for 2 to 5 neurons a fact (the default for many). Where
    that is not reached a TuningWarning says so, and `reached` of what is found.

    Errors: those of `attribute`; FactError also for a fact that stands twice; RefinementError for a share that is not
    in (0, 1] or "tuned", or a threshold that is not above 0.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> prompts = ["The capital of France is [MASK].", "[MASK] is the capital of France."]
    >>> found = na.locate(model, na.Fact("capital", "France", "Paris", prompts))
    >>> found.weak, len(found) == len(found.shares) == len(found.scores)
    (True, True)
    """
    many = [facts] if isinstance(facts, Fact) else list(facts)
    check_refinement(share, threshold)
    check_facts(many, place_tokens(model))
    wanted: float | Literal["tuned"] = (
        share if share is not None else FIRST_SHARE if isinstance(facts, Fact) else "tuned"
    )
    queries = [list(fact_queries(model, fact, position=position, site=site).values()) for fact in many]
    every = [asked for each in queries for asked in each]
    # Found once: what is free is not what it was when results are held, and finding it takes passes.
    budget = found_budget(model, every, budget, rule=rule, steps=steps, site=site, routing=routing)

    def counted(given: Sequence[NeuronScores]) -> Shared:
        return count_prompts([coarse_set(one, rule=rule, threshold=threshold) for one in given])

    found: list[tuple[Shared, list[Attribution], list[Shared]]] = []
    for each in queries:
        scores = list(
            attribute_queries(
                model, each, rule=rule, steps=steps, site=site, budget=budget, routing=routing, corruption=corruption
            )
        )
        found.append((counted(scores), scores, [counted(token) for token in _by_token(scores)]))
    by_relation = _shares(many, [shared for shared, _, _ in found], wanted)
    sets = [_refined(*one, by_relation[fact.relation]) for fact, one in zip(many, found, strict=True)]
    return sets[0] if isinstance(facts, Fact) else sets


def _shares(facts: Sequence[Fact], shared: Sequence[Shared], wanted: float | Literal["tuned"]) -> dict[str, _Share]:
    relations = dict.fromkeys(fact.relation for fact in facts)
    if wanted != "tuned":
        return dict.fromkeys(relations, (float(wanted), None))
    tuned = {r: tune_share([s for f, s in zip(facts, shared, strict=True) if f.relation == r]) for r in relations}
    _warn_of_missed({relation: outcome for relation, outcome in tuned.items() if not outcome.reached}, len(tuned))
    return {relation: (outcome.share, outcome.reached) for relation, outcome in tuned.items()}


def _warn_of_missed(missed: dict[str, Tuned], total: int) -> None:
    if missed:
        relation, outcome = next(iter(missed.items()))
        text = f"tuning did not reach 2 to 5 neurons a fact in {len(missed)} of {total} relations"
        found = f"{relation!r} has {outcome.mean_neurons:.1f} at a share of {outcome.share}"
        warnings.warn(f"{text}: {found}", TuningWarning, stacklevel=4)


def _by_token(scores: Sequence[Attribution]) -> list[list[Attribution]]:
    """The attributions of an answer's first token in all prompts that have one of several, of its second, and so on."""
    longest = max(len(score.tokens) for score in scores)
    return [[score.tokens[n] for score in scores if len(score.tokens) > n] for n in range(longest)]


def _refined(
    shared: Shared, scores: Sequence[Attribution], tokens: Sequence[Shared], chosen: _Share
) -> KnowledgeNeurons:
    share, reached = chosen
    layout, refined = scores[0].layout, refine(shared, share)
    each = tuple(NeuronSet(layout, refine(token, share).neurons) for token in tokens)
    means = tuple(float(np.mean([s[neuron] for s in scores])) for neuron in refined.neurons)
    return KnowledgeNeurons(layout, refined.neurons, refined.shares, means, share, refined.weak, each, reached)
