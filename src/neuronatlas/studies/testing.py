"""Third stage: intervene on the knowledge neurons of every fact, and on its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.controls import matched_control
from neuronatlas.knowledge.effects import Trial, run_trials
from neuronatlas.models.answers import Answered
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query
from neuronatlas.neurons import NeuronError, NeuronScores, NeuronSet
from neuronatlas.studies.locating import AskedFact
from neuronatlas.studies.refining import Located
from neuronatlas.studies.settings import LocateSettings

__all__ = ["CONDITIONS", "tested_part"]

CONDITIONS = ("located", "held-out", "random", "matched", "activation", "other-relation")
"""What is scaled: the fact's neurons, on the prompts that located them (`located`) or on the other fold (`held-out`);
random neurons of the same layers, plain or matched in |activation|; the activation baseline's neurons; and the fact's
neurons on a fact of another relation."""

EFFECTS = {
    "fact": pl.Int64,
    "relation": pl.String,
    "prompt": pl.Int64,
    "condition": pl.String,
    "gain": pl.Float64,
    "n_neurons": pl.Int64,
    "p_before": pl.Float64,
    "p_after": pl.Float64,
    "log_odds_before": pl.Float64,
    "log_odds_after": pl.Float64,
}


@dataclass(frozen=True)
class _Plan:
    """One prompt under one condition: which query is run with which neurons, under the number of the prompt."""

    fact: AskedFact
    prompt: int
    condition: str
    query: Query
    neurons: NeuronSet


def tested_part(
    model: Model,
    facts: Sequence[AskedFact],
    partners: Mapping[int, AskedFact],
    located: Located,
    settings: LocateSettings,
) -> dict[str, pl.DataFrame]:
    """Table `effects` of some facts; `partners` gives each fact one of another relation."""
    layout = model.layout(settings.site)
    activations = _mean_activations(model, facts, settings)
    plans = [p for f in facts for p in _plans(f, partners.get(f.index), located, activations, settings)]
    queries = list(dict.fromkeys(plan.query for plan in plans))
    untouched = NeuronSet(layout, ())
    # Conditions without neurons change nothing: their outcome is the clean one, and no row is run for them.
    gained = [(plan, gain) for plan in plans for gain in settings.gains if len(plan.neurons)]
    trials = [Trial(query, untouched, 1.0) for query in queries]
    trials += [Trial(plan.query, plan.neurons, gain) for plan, gain in gained]
    outcomes = list(run_trials(model, trials, budget=settings.effects_budget))
    before = dict(zip(queries, outcomes, strict=False))
    after = {(id(p), gain): outcome for (p, gain), outcome in zip(gained, outcomes[len(queries) :], strict=True)}
    rows = [
        _row(plan, gain, before[plan.query], after.get((id(plan), gain), before[plan.query]))
        for plan in plans
        for gain in settings.gains
    ]
    return {"effects": pl.DataFrame(rows, schema=EFFECTS, orient="row")}


def _row(plan: _Plan, gain: float, before: Answered, after: Answered) -> tuple[Any, ...]:
    place = (plan.fact.index, plan.fact.fact.relation, plan.prompt, plan.condition, float(gain), len(plan.neurons))
    return (*place, before.probability, after.probability, before.log_odds, after.log_odds)


def _mean_activations(model: Model, facts: Sequence[AskedFact], settings: LocateSettings) -> dict[int, NeuronScores]:
    """Mean |activation| of every neuron over a fact's prompts."""
    queries = [query for fact in facts for query in fact.queries.values()]
    scores = attribute_queries(
        model, queries, rule="activation", site=settings.site, budget=settings.attribution_budget
    )
    return {
        fact.index: NeuronScores.mean(
            [NeuronScores(s.layout, np.abs(s.values)) for s in (next(scores) for _ in fact.queries)]
        )
        for fact in facts
    }


def _plans(
    fact: AskedFact,
    partner: AskedFact | None,
    located: Located,
    activations: Mapping[int, NeuronScores],
    settings: LocateSettings,
) -> Iterator[_Plan]:
    own = located.sets[fact.index, settings.rule, "all"]
    # Seeds come from the fact's place in the file, so that a fact's controls do not depend on how the work was cut.
    seed = int(np.random.SeedSequence([settings.seed, fact.index]).generate_state(1)[0])
    sets = {"located": own, "activation": located.sets[fact.index, "activation", "all"]}
    with suppress(NeuronError):  # a fact that takes more than half of a layer leaves too few to draw controls from
        sets |= {"random": own.random_like(seed), "matched": matched_control(own, activations[fact.index], seed)}
    for prompt, query in fact.queries.items():
        for condition, neurons in sets.items():
            yield _Plan(fact, prompt, condition, query, neurons)
        if len(fact.queries) > 1:
            other = "b" if fact.folds[prompt] == "a" else "a"
            yield _Plan(fact, prompt, "held-out", query, located.sets[fact.index, settings.rule, other])
    for prompt, query in partner.queries.items() if partner is not None else ():
        yield _Plan(fact, prompt, "other-relation", query, own)


def partners_of(asked: Sequence[AskedFact], seed: int) -> dict[int, AskedFact]:
    """For every fact one of another relation, drawn at random; none when there is one relation only."""
    found = {}
    for fact in asked:
        others = [other for other in asked if other.fact.relation != fact.fact.relation and other.queries]
        if others:
            rng = np.random.default_rng([seed, fact.index])
            found[fact.index] = others[int(rng.integers(len(others)))]
    return found
