"""Rules of attribution compared by what they are for: how far suppressing what they found moves the fact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.corruptions import CORRUPTIONS, Corruption
from neuronatlas.knowledge.rules import RULES
from neuronatlas.models.direct import DirectError
from neuronatlas.models.queries import Query, QueryError
from neuronatlas.neurons import NeuronScores, NeuronSet
from neuronatlas.statistics import mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables, frame
from neuronatlas.studies.knowledge_neurons.trying import Try, summarised, tried
from neuronatlas.studies.locating import AskedFact

__all__ = ["comparing"]

COUNT = 5
_OTHERS = ("direct", "attribution-patching", "activation")
_RANDOM = "random"
OVERLAPS = {"rule": pl.String, "n_facts": pl.Int64, "overlap": pl.Float64, "low": pl.Float64, "high": pl.Float64}
SHARED = {"fact": pl.Int64, "relation": pl.String, "rule": pl.String, "shared": pl.Int64}
REFUSED = {"rule": pl.String, "reason": pl.String}


def comparing(study: Study) -> Tables:
    """Tables `rule_effects` and `rule_overlaps`, of sampled facts whose prompts can be corrupted.

    Each rule scores the neurons on one half of a fact's prompts; the 5 with the highest mean scores are suppressed on
    the other half, which it has not seen. The overlap is the share of them that the study's own rule has too. A rule
    that the model refuses is left out, with the reason in `rule_refusals`.
    """
    corruption = CORRUPTIONS[study.settings.locate.corruption](study.facts)
    facts = study.chosen(study.settings.sampled, lambda fact: len(fact.queries) > 1 and _fits(study, fact, corruption))
    if not facts:
        raise NotMeasuredError("no known fact with neurons has two prompts that can be corrupted")
    rules, refused = _usable(study, facts[0], corruption)

    def work(part: Sequence[AskedFact]) -> Tables:
        tries, shared = list[Try](), list[tuple[object, ...]]()
        for fact in part:
            seen, unseen = ([p for p, fold in fact.folds.items() if fold == half] for half in "ab")
            queries = [fact.queries[prompt] for prompt in seen]
            found = {rule: _top(study, queries, rule, corruption) for rule in rules}
            found[_RANDOM] = study.random(fact, found[study.rule])
            for rule, neurons in found.items():
                tries.append(Try(fact, rule, 0.0, neurons, tuple(unseen)))
                shared.append((fact.index, fact.fact.relation, rule, len(neurons & found[study.rule])))
        return {"rule_trials": tried(study, tries), "rule_shared": frame(shared, SHARED)}

    study.in_parts("rules", facts, work)
    effects = summarised(study.table("rule_trials"), study.seed).filter(relation="all").drop("relation", "gain")
    rows = [_overlap(study.table("rule_shared").filter(rule=rule), rule, study.seed) for rule in (*rules, _RANDOM)]
    return {
        "rule_effects": effects.rename({"condition": "rule"}),
        "rule_overlaps": frame(rows, OVERLAPS),
        "rule_refusals": frame(refused, REFUSED),
    }


def _fits(study: Study, fact: AskedFact, corruption: Corruption) -> bool:
    try:
        for query in fact.queries.values():
            corruption.require(study.model, query)
    except QueryError:
        return False
    return True


def _usable(study: Study, fact: AskedFact, corruption: Corruption) -> tuple[list[str], list[tuple[str, str]]]:
    """The rules that the model takes, the study's own first, and of each other one why it is refused."""
    rules, refused = [study.rule], list[tuple[str, str]]()
    for rule in dict.fromkeys(_OTHERS):
        if rule == study.rule:
            continue
        try:
            _top(study, list(fact.queries.values())[:1], rule, corruption)
        except DirectError as error:
            refused.append((rule, str(error)))
        else:
            rules.append(rule)
    return rules, refused


def _top(study: Study, queries: Sequence[Query], rule: str, corruption: Corruption) -> NeuronSet:
    scores = attribute_queries(
        study.model,
        list(queries),
        rule=rule,
        steps=study.locate.steps if rule == study.rule else None,
        site=study.locate.site,
        budget=study.locate.attribution_budget,
        routing="free" if rule == "direct" else study.locate.routing,
        corruption=corruption if RULES[rule].corrupts else None,
    )
    return NeuronSet.of(study.layout, NeuronScores.mean(list(scores)).top(COUNT))


def _overlap(rows: pl.DataFrame, rule: str, seed: int) -> tuple[object, ...]:
    groups = [part["shared"].to_numpy() / COUNT for _, part in rows.group_by("relation", maintain_order=True)]
    found = mean_of_ratios_of_means([np.stack([v, np.ones(len(v))], axis=1) for v in groups], seed=seed)
    return rule, rows.height, found.estimate, found.low, found.high
