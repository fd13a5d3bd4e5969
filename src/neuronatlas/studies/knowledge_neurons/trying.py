"""Interventions on prompts of facts, and what they come to over facts and relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from neuronatlas.knowledge.effects import Trial, run_trials
from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import Study, all_and_each, frame
from neuronatlas.studies.locating import AskedFact

__all__ = ["Try", "summarised", "tried"]

TRIED: dict[str, type[pl.DataType]] = {
    "fact": pl.Int64,
    "relation": pl.String,
    "condition": pl.String,
    "gain": pl.Float64,
    "n_neurons": pl.Int64,
    "n_prompts": pl.Int64,
    "p_before": pl.Float64,
    "p_after": pl.Float64,
    "odds_change": pl.Float64,
}


@dataclass(frozen=True)
class Try:
    """Neurons multiplied by a gain on the prompts of a fact: all of them, or those of these numbers."""

    fact: AskedFact
    condition: str
    gain: float
    neurons: NeuronSet
    prompts: tuple[int, ...] | None = None

    @property
    def queries(self) -> list[int]:
        """The numbers of the prompts that are asked."""
        return list(self.fact.queries) if self.prompts is None else list(self.prompts)


def tried(study: Study, tries: Sequence[Try]) -> pl.DataFrame:
    """Run interventions: a row each, with sums over its prompts of P before and after and of the change of log-odds."""
    asked = [(number, one.fact.queries[prompt]) for number, one in enumerate(tries) for prompt in one.queries]
    clean = list(dict.fromkeys(query for _, query in asked))
    untouched = NeuronSet(study.layout, ())
    # Sets without neurons change nothing: their outcome is the clean one.
    touched = [(number, query) for number, query in asked if len(tries[number].neurons)]
    trials = [Trial(query, untouched, 1.0) for query in clean]
    trials += [Trial(query, tries[number].neurons, tries[number].gain) for number, query in touched]
    outcomes = list(run_trials(study.model, trials, budget=study.locate.effects_budget))
    before = dict(zip(clean, outcomes, strict=False))
    after = dict(zip(touched, outcomes[len(clean) :], strict=True))
    sums = [[0.0, 0.0, 0.0] for _ in tries]
    for number, query in asked:
        was, now = before[query], after.get((number, query), before[query])
        changes = (was.probability, now.probability, now.log_odds - was.log_odds)
        sums[number] = [total + change for total, change in zip(sums[number], changes, strict=True)]
    rows = (
        (t.fact.index, t.fact.fact.relation, t.condition, t.gain, len(t.neurons), len(t.queries), *total)
        for t, total in zip(tries, sums, strict=True)
    )
    return frame(rows, TRIED)


def summarised(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Effects by condition and gain with bootstrap intervals over facts: of all relations, unweighted, and of each.

    `change` is the mean over prompts of P after less before over the mean of P before; `log_odds_change` the mean
    change of log(P / (1 - P)).
    """
    moved = pl.col("p_after") - pl.col("p_before")
    rows = rows.with_columns(moved.alias("moved"), pl.col("n_prompts").cast(pl.Float64).alias("asked"))
    found = []
    for (condition, gain), group in rows.group_by("condition", "gain", maintain_order=True):
        relations = {str(name): part for (name,), part in group.group_by("relation", maintain_order=True)}
        for name, parts in all_and_each(relations).items():
            found.append({"relation": name, "condition": condition, "gain": gain, **_summary(parts, seed)})
    return pl.DataFrame(found, schema=SUMMARY)


def _summary(parts: Sequence[pl.DataFrame], seed: int) -> dict[str, float | int]:
    found: dict[str, float | int] = {
        "n_facts": sum(part["fact"].n_unique() for part in parts),
        "n_prompts": sum(int(part["n_prompts"].sum()) for part in parts),
    }
    for name, columns in (("change", ("moved", "p_before")), ("log_odds", ("odds_change", "asked"))):
        interval = mean_of_ratios_of_means([_by_fact(part, columns) for part in parts], seed=seed)
        first = "change" if name == "change" else "log_odds_change"
        found |= {first: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _by_fact(part: pl.DataFrame, columns: tuple[str, str]) -> Float[np.ndarray, "fact 2"]:
    found: Float[np.ndarray, "fact 2"] = (
        part.group_by("fact", maintain_order=True).agg(pl.col(*columns).sum()).select(columns).to_numpy()
    )
    return found


SUMMARY: dict[str, type[pl.DataType]] = {
    "relation": pl.String,
    "condition": pl.String,
    "gain": pl.Float64,
    "n_facts": pl.Int64,
    "n_prompts": pl.Int64,
    "change": pl.Float64,
    "change_low": pl.Float64,
    "change_high": pl.Float64,
    "log_odds_change": pl.Float64,
    "log_odds_low": pl.Float64,
    "log_odds_high": pl.Float64,
}
