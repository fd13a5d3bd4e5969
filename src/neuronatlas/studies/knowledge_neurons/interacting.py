"""What a fact's neurons do together, beyond what each of them does alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from neuronatlas.knowledge.interactions import MEASURES, interactions
from neuronatlas.statistics import mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables
from neuronatlas.studies.locating import AskedFact

__all__ = ["interacting"]

MOST_NEURONS = 8
_PARTS = ("single_sum", "joint", "rest")
KINDS = ("redundancy", "degenerate", "synergy", "mixed", "none found", "untested")
"""What a pair of neurons can be to each other, as `interactions` names it."""


def interacting(study: Study) -> Tables:
    """Tables `interaction_totals` and `interaction_kinds`, of sampled facts with 2 to 8 neurons, suppressed.

    The totals are the effects of the neurons one by one, added up, that of all at once, and what this is more (`rest`):
    means over facts, relations unweighted, of the change of log-odds and of P. The kinds are shares of all pairs of
    neurons of a fact by what their joint effect is beside the two single ones, told by log-odds, with intervals over
    facts.
    """
    facts = study.chosen(study.settings.sampled, lambda fact: 2 <= len(study.of(fact)) <= MOST_NEURONS)
    if not facts:
        raise NotMeasuredError(f"no known fact has 2 to {MOST_NEURONS} neurons")

    def work(part: Sequence[AskedFact]) -> Tables:
        found = [
            interactions(
                study.model,
                fact.fact,
                study.of(fact),
                exact_up_to=MOST_NEURONS,
                position=study.locate.position,
                seed=study.seed,
                budget=study.locate.effects_budget,
            )
            for fact in part
        ]
        about = [(pl.lit(f.index, pl.Int64).alias("fact"), pl.lit(f.fact.relation).alias("relation")) for f in part]
        return {
            name: pl.concat([getattr(one, of).select(*row, pl.all()) for row, one in zip(about, found, strict=True)])
            for name, of in (("interaction_sums", "whole"), ("interaction_pairs", "pairs"))
        }

    study.in_parts("interactions", facts, work)
    return {
        "interaction_totals": _totals(study.table("interaction_sums"), study.seed),
        "interaction_kinds": _kinds(study.table("interaction_pairs").filter(measure=MEASURES[0]), study.seed),
    }


def _totals(sums: pl.DataFrame, seed: int) -> pl.DataFrame:
    rows = []
    for measure in MEASURES:
        groups = [part for _, part in sums.filter(measure=measure).group_by("relation", maintain_order=True)]
        for name in _PARTS:
            pairs = [np.stack([part[name].to_numpy(), np.ones(part.height)], axis=1) for part in groups]
            found = mean_of_ratios_of_means(pairs, seed=seed)
            n_facts = sum(part.height for part in groups)
            ends = {"mean": found.estimate, "low": found.low, "high": found.high}
            rows.append({"measure": measure, "what": name, "n_facts": n_facts, **ends})
    return pl.DataFrame(rows)


def _kinds(pairs: pl.DataFrame, seed: int) -> pl.DataFrame:
    rows = []
    for kind in KINDS:
        mine = pairs.with_columns(hit=(pl.col("kind") == kind).cast(pl.Float64), one=pl.lit(1.0))
        each = mine.group_by("relation", "fact", maintain_order=True).agg(pl.col("hit", "one").sum())
        found = mean_of_ratios_of_means([each.select("hit", "one").to_numpy()], seed=seed)
        n = int(each["hit"].sum())
        rows.append({"kind": kind, "n": n, "share": found.estimate, "low": found.low, "high": found.high})
    return pl.DataFrame(rows)
