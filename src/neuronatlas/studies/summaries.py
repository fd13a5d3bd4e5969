"""Last stage: the tables that a reader looks at first, from the tables of facts, neurons and effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from neuronatlas.neurons import Layout
from neuronatlas.statistics import Interval, mean_of_ratios_of_means
from neuronatlas.studies.locating import AskedFact
from neuronatlas.studies.refining import Located
from neuronatlas.studies.settings import LocateSettings
from neuronatlas.studies.testing import CONDITIONS

__all__ = ["facts_table", "layers_table", "relations_table", "sharing_table", "summary_table"]


def facts_table(asked: Sequence[AskedFact], prompts: pl.DataFrame, located: Located, rule: str) -> pl.DataFrame:
    """One row a fact: what it is, how well the model knows it, how many neurons it has."""
    known = prompts.group_by("fact").agg(
        pl.col("p").mean().alias("p_mean"), pl.col("is_top1").mean().alias("top1"), pl.len().alias("n_prompts")
    )
    rows = [
        (
            a.index,
            a.fact.relation,
            a.fact.subject,
            a.fact.answer,
            0 < len(a.queries) < 3,
            len(located.sets[a.index, rule, "all"]),
        )
        for a in asked
    ]
    names = {
        "fact": pl.Int64,
        "relation": pl.String,
        "subject": pl.String,
        "answer": pl.String,
        "weak": pl.Boolean,
        "n_neurons": pl.Int64,
    }
    table = pl.DataFrame(rows, schema=names, orient="row").join(known, on="fact", how="left", maintain_order="left")
    columns = ["fact", "relation", "subject", "answer", "n_prompts", "weak", "p_mean", "top1", "n_neurons"]
    return table.with_columns(pl.col("n_prompts").fill_null(0).cast(pl.Int64)).select(columns)


def relations_table(facts: pl.DataFrame, located: Located, settings: LocateSettings) -> pl.DataFrame:
    """One row a relation: its size, how it was tuned, how many neurons its facts have, how well they are known."""
    table = facts.group_by("relation", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n_facts"),
        pl.col("n_prompts").sum(),
        pl.col("weak").sum().cast(pl.Int64).alias("n_weak"),
        pl.col("n_neurons").mean().alias("mean_neurons"),
        pl.col("p_mean").mean(),
        pl.col("top1").mean(),
    )
    outcomes = [located.tuned[relation, settings.rule] for relation in table["relation"]]
    wording = {True: "reached 2-5", False: "not reached"}
    return table.with_columns(
        pl.Series("share_threshold", [o.share for o in outcomes]),
        pl.Series("passes", [o.passes for o in outcomes]),
        pl.Series("tuned", [wording[o.reached] if o.passes else "fixed" for o in outcomes]),
    )


def summary_table(effects: pl.DataFrame, settings: LocateSettings) -> pl.DataFrame:
    """Effects by relation, condition and gain, with bootstrap intervals over facts, and over all relations.

    `change` is the paper's measure: the mean over prompts of P after less P before, over the mean of P before; of all
    relations together, the unweighted mean of theirs. `log_odds_change` is the mean change of log(P / (1 - P)).
    """
    sums = effects.group_by("relation", "condition", "gain", "fact", maintain_order=True).agg(
        (pl.col("p_after") - pl.col("p_before")).sum().alias("moved"),
        pl.col("p_before").sum().alias("before"),
        (pl.col("log_odds_after") - pl.col("log_odds_before")).sum().alias("odds"),
        pl.len().cast(pl.Int64).alias("n_prompts"),
    )
    relations = effects["relation"].unique(maintain_order=True).to_list()
    rows = []
    for condition in CONDITIONS:
        for gain in settings.gains:
            at = sums.filter((pl.col("condition") == condition) & (pl.col("gain") == gain))
            groups = {r: at.filter(pl.col("relation") == r) for r in relations}
            groups = {relation: group for relation, group in groups.items() if len(group)}
            if groups:
                rows += [_summary("all", condition, gain, list(groups.values()), settings.seed)]
                rows += [_summary(r, condition, gain, [group], settings.seed) for r, group in groups.items()]
    return pl.DataFrame(rows)


def _summary(relation: str, condition: str, gain: float, groups: Sequence[pl.DataFrame], seed: int) -> dict[str, Any]:
    def interval(numerator: str, denominator: str) -> Interval:
        sums = [group.select(numerator, denominator).cast(pl.Float64).to_numpy() for group in groups]
        return mean_of_ratios_of_means(sums, seed=seed)

    change, odds = interval("moved", "before"), interval("odds", "n_prompts")
    return {
        "relation": relation,
        "condition": condition,
        "gain": gain,
        "n_facts": sum(len(group) for group in groups),
        "n_prompts": sum(int(group["n_prompts"].sum()) for group in groups),
        "change": change.estimate,
        "change_low": change.low,
        "change_high": change.high,
        "log_odds_change": odds.estimate,
        "log_odds_low": odds.low,
        "log_odds_high": odds.high,
    }


def layers_table(neurons: pl.DataFrame, relations: Sequence[str], layout: Layout, rules: Sequence[str]) -> pl.DataFrame:
    """How many of the facts' neurons lie in each layer, by rule and relation and for all relations together.

    `width` is how many neurons the layer has in all, by which atlases are compared with chance.
    """
    counted = neurons.filter(pl.col("fold") == "all").group_by("rule", "relation", "layer").agg(pl.len().alias("n"))
    counts = {(rule, relation, layer): n for rule, relation, layer, n in counted.iter_rows()}
    rows = []
    for rule in rules:
        for relation in ("all", *relations):
            names = relations if relation == "all" else (relation,)
            per_layer = [sum(counts.get((rule, r, n), 0) for r in names) for n in range(layout.n_layers)]
            total = sum(per_layer)
            widths = zip(per_layer, layout.widths, strict=True)
            rows += [(rule, relation, n, c, c / total if total else 0.0, width) for n, (c, width) in enumerate(widths)]
    names_and_types = {"rule": pl.String, "relation": pl.String, "layer": pl.Int64, "n": pl.Int64, "share": pl.Float64}
    names_and_types["width"] = pl.Int64
    return pl.DataFrame(rows, schema=names_and_types, orient="row")


def sharing_table(asked: Sequence[AskedFact], located: Located, layout: Layout, rule: str) -> pl.DataFrame:
    """How many neurons two facts share on average, within a relation and between two.

    `mean_shared` is the mean number over all pairs of facts, `mean_overlap` that number over the mean size of the sets.
    """
    counts: dict[str, np.ndarray] = {}
    facts: dict[str, list[int]] = {}
    for fact in asked:
        members = located.sets[fact.index, rule, "all"]
        row = counts.setdefault(fact.fact.relation, np.zeros(layout.n_neurons))
        row[[layout.index(neuron) for neuron in members]] += 1
        facts.setdefault(fact.fact.relation, []).append(len(members))
    relations = list(counts)
    rows = [_pair(first, second, counts, facts) for i, first in enumerate(relations) for second in relations[i:]]
    schema = {"relation_a": pl.String, "relation_b": pl.String, "n_pairs": pl.Int64, "mean_shared": pl.Float64}
    return pl.DataFrame(rows, schema=schema | {"mean_overlap": pl.Float64}, orient="row")


def _pair(a: str, b: str, counts: Mapping[str, np.ndarray], facts: Mapping[str, list[int]]) -> tuple[Any, ...]:
    if a == b:
        n_pairs = len(facts[a]) * (len(facts[a]) - 1) // 2
        shared = float((counts[a] * (counts[a] - 1)).sum() / 2)
    else:
        n_pairs, shared = len(facts[a]) * len(facts[b]), float(counts[a] @ counts[b])
    mean = shared / n_pairs if n_pairs else 0.0
    size = (float(np.mean(facts[a])) + float(np.mean(facts[b]))) / 2
    return (a, b, n_pairs, mean, mean / size if size else 0.0)
