"""Whether other wordings find the same neurons: two halves of a fact's prompts against other facts and chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables, frame
from neuronatlas.studies.locating import AskedFact

__all__ = ["halves"]

OVERLAPS = {
    "condition": pl.String,
    "n_facts": pl.Int64,
    "overlap": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def halves(study: Study) -> Tables:
    """Tables `half_overlaps` and `half_effects`, of all facts with two prompts or more.

    The overlap of two sets is the number of neurons they share over the mean of their sizes; of many pairs the ratio of
    the means, relations unweighted. The neurons of one half of a fact's prompts are held against those of its other
    half, of the other half of another fact, of its relation or of another one, and against as many as a half has in
    each layer drawn by chance, of which the expectation is told. The effects are those of the neurons' atlas: neurons
    tested on the prompts that located them, and on the other half.
    """
    facts = [fact for fact in study.asked.values() if len(fact.queries) > 1]
    if not facts:
        raise NotMeasuredError("no fact has two prompts")
    rows = [
        _overlap(study, facts, condition, other)
        for condition, other in (
            ("other half of the same fact", lambda fact: study.of(fact, "b")),
            ("another fact of the relation", lambda fact: _next(study, fact, facts, same=True)),
            ("a fact of another relation", lambda fact: _next(study, fact, facts, same=False)),
            ("random, same layers", None),
        )
    ]
    kept = pl.col("condition").is_in(["located", "held-out", "random"])
    return {"half_overlaps": frame(rows, OVERLAPS), "half_effects": study.neurons.table("summary").filter(kept)}


def _next(study: Study, fact: AskedFact, facts: Sequence[AskedFact], *, same: bool) -> NeuronSet | None:
    """Those of a fact drawn from the others of the relation, or of other relations; None where there is none."""
    fits = [o for o in study.relations[fact.fact.relation] if o.index != fact.index and len(o.queries) > 1]
    if (same and not fits) or (not same and len(fits) + 1 == len(facts)):
        return None
    drawn = np.random.default_rng([study.seed, fact.index, int(same)])
    if same:
        return study.of(fits[int(drawn.integers(len(fits)))], "b")
    while (other := facts[int(drawn.integers(len(facts)))]).fact.relation == fact.fact.relation:
        pass
    return study.of(other, "b")


def _overlap(
    study: Study, facts: Sequence[AskedFact], condition: str, other: Callable[[AskedFact], NeuronSet | None] | None
) -> tuple[object, ...]:
    groups: dict[str, list[tuple[float, float]]] = {}
    for fact in facts:
        own, pair = study.of(fact, "a"), study.of(fact, "b") if other is None else other(fact)
        if pair is not None and len(own) + len(pair):
            shared = _expected(own, pair) if other is None else float(len(own & pair))
            groups.setdefault(fact.fact.relation, []).append((shared, (len(own) + len(pair)) / 2))
    found = mean_of_ratios_of_means([np.array(group) for group in groups.values()], seed=study.seed)
    return condition, sum(map(len, groups.values())), found.estimate, found.low, found.high


def _expected(one: NeuronSet, two: NeuronSet) -> float:
    """How many neurons two sets share on average when the second is drawn anew in its layers."""
    widths = one.layout.widths
    pairs = zip(one.layer_histogram(), two.layer_histogram(), widths, strict=True)
    return float(sum(first * second / width for first, second, width in pairs))
