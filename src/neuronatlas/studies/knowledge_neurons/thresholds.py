"""A sweep of the coarse threshold: how many neurons a fact gets, and what suppressing and amplifying them does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from neuronatlas.addresses import neurons_in
from neuronatlas.knowledge.refinement import Shared, refine
from neuronatlas.neurons import Neuron, NeuronSet
from neuronatlas.statistics import mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import Study, Tables
from neuronatlas.studies.knowledge_neurons.trying import Try, summarised, tried
from neuronatlas.studies.locating import AskedFact, located_part

__all__ = ["thresholds"]

_GAINS = (0.0, 2.0)


def thresholds(study: Study) -> Tables:
    """Table `threshold_sweep`: neurons a fact and effects by coarse threshold and gain, over the sampled facts.

    The share of prompts that must agree stays what it is for the relation, so that the threshold alone changes.
    """
    shares = dict(study.neurons.table("relations").select("relation", "share_threshold").iter_rows())
    lowest = replace(study.locate, threshold=min(study.settings.thresholds))
    corruption = study.locate.corruption_of(study.facts)

    def work(facts: Sequence[AskedFact]) -> Tables:
        coarse = located_part(study.model, facts, lowest, corruption)["coarse"].filter(rule=study.rule)
        highest = pl.col("score").max().over("fact", "prompt")
        tries = []
        for threshold in study.settings.thresholds:
            kept = coarse.filter(pl.col("score") >= threshold * highest)
            for fact in facts:
                found = _refined(study, kept.filter(fact=fact.index), fact, shares[fact.fact.relation])
                tries += [Try(fact, repr(threshold), gain, found) for gain in _GAINS]
        return {"threshold_trials": tried(study, tries)}

    study.in_parts("thresholds", study.sampled, work)
    rows = study.table("threshold_trials")
    found = summarised(rows, study.seed).filter(relation="all").drop("relation")
    sizes = pl.DataFrame(
        [_size(rows.filter(condition=repr(t), gain=0.0), repr(t), study.seed) for t in study.settings.thresholds]
    )
    table = found.join(sizes, on="condition", maintain_order="left")
    threshold = pl.col("condition").cast(pl.Float64).alias("threshold")
    return {"threshold_sweep": table.select(threshold, pl.exclude("condition"))}


def _refined(study: Study, coarse: pl.DataFrame, fact: AskedFact, share: float) -> NeuronSet:
    counts: dict[Neuron, int] = {}
    for neuron in neurons_in(coarse):
        counts[neuron] = counts.get(neuron, 0) + 1
    return NeuronSet(study.layout, refine(Shared(counts, len(fact.queries)), share).neurons)


def _size(rows: pl.DataFrame, condition: str, seed: int) -> dict[str, object]:
    groups = [part["n_neurons"].to_numpy() for _, part in rows.group_by("relation", maintain_order=True)]
    found = mean_of_ratios_of_means([np.stack([n, np.ones(len(n))], axis=1) for n in groups], seed=seed)
    ends = {"neurons": found.estimate, "neurons_low": found.low, "neurons_high": found.high}
    return {"condition": condition, **ends}
