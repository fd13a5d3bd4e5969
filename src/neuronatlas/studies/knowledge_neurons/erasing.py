"""Erasing relations: what becomes of the relation, and of all others, without its most frequent neurons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from neuronatlas.knowledge.editing import erase, frequent_neurons
from neuronatlas.knowledge.judging import judge_erasure
from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import Interval, ratio_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables
from neuronatlas.studies.knowledge_neurons.updating import rises

__all__ = ["erasing"]

COUNT = 20
Row = dict[str, object]
_CONDITIONS, _GROUPS = ("located", "random"), ("same relation", "other relations")


def erasing(study: Study) -> Tables:
    """Table `erase_measures`: accuracy and perplexity of each erased relation and of all others, before and after.

    The value slots of the 20 neurons that most of a relation's facts have become 0; control: 20 random neurons of the
    same layers. Up to twice as many facts as `judged` of the relation, and as many of others, are asked a prompt each.
    Intervals of a relation are over its facts, of all together over relations.
    """
    if len(study.relations) < 2:
        raise NotMeasuredError("there is one relation only, and none to compare with")

    def work(relations: Sequence[str]) -> Tables:
        return {"erasures": pl.concat([_judged(study, relation, c) for relation in relations for c in _CONDITIONS])}

    named = [name for name, facts in study.relations.items() if any(len(study.of(fact)) for fact in facts)]
    if not named:
        raise NotMeasuredError("no relation has neurons")
    study.in_parts("erase", named, work, size=1, unit="relation")
    rows = study.table("erasures")
    found = list[Row]()
    for condition in _CONDITIONS:
        for group in _GROUPS:
            mine, about = rows.filter(condition=condition, group=group), {"condition": condition, "group": group}
            each = [_measured(mine.filter(erased=name), study.seed, {"relation": name} | about) for name in named]
            found += [_together(mine.height, each, study.seed, {"relation": "all"} | about), *each]
    return {"erase_measures": pl.DataFrame(found, schema=_MEASURES)}


_MEASURES = {
    "relation": pl.String,
    "condition": pl.String,
    "group": pl.String,
    "neurons": pl.Int64,
    "prompts": pl.Int64,
    "accuracy_before": pl.Float64,
    "accuracy_after": pl.Float64,
    "accuracy_low": pl.Float64,
    "accuracy_high": pl.Float64,
    "before": pl.Float64,
    "after": pl.Float64,
    "rise": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def _judged(study: Study, relation: str, condition: str) -> pl.DataFrame:
    mine = study.relations[relation]
    others = [f.fact for name, facts in study.relations.items() if name != relation for f in facts]
    ranked = frequent_neurons([study.of(fact) for fact in mine])[:COUNT]
    chosen = NeuronSet.of(study.layout, (neuron for neuron, _ in ranked))
    if condition == "random":
        chosen = chosen.random_like(study.drawn(mine[0].index))
    rows = judge_erasure(
        study.model,
        [fact.fact for fact in mine],
        others,
        lambda model: erase(model, chosen),
        sample=2 * study.settings.judged,
        seed=study.seed,
    )
    return rows.with_columns(
        erased=pl.lit(relation), condition=pl.lit(condition), neurons=pl.lit(len(chosen), dtype=pl.Int64)
    )


def _measured(rows: pl.DataFrame, seed: int, about: dict[str, str]) -> Row:
    right = rows.select(pl.col("generated_before", "generated_after").cast(pl.Float64))
    told: Row = about | {"neurons": rows["neurons"][0]} | rises(rows, seed, {})
    after = ratio_of_means(np.stack([right["generated_after"].to_numpy(), np.ones(rows.height)], axis=1), seed=seed)
    accuracy = {"before": float(right["generated_before"].to_numpy().mean()), "after": after.estimate}
    accuracy |= {"low": after.low, "high": after.high}
    return told | {f"accuracy_{name}": value for name, value in accuracy.items()}


def _together(prompts: int, each: Sequence[Row], seed: int, about: dict[str, str]) -> Row:
    """Unweighted means over relations; of perplexities and their rise the geometric one."""

    def mean(name: str, change: Callable[[float], float] = float) -> Interval:
        values = np.array([change(float(str(row[name]))) for row in each])
        return ratio_of_means(np.stack([values, np.ones(len(values))], axis=1), seed=seed)

    accuracy, rise = mean("accuracy_after"), mean("rise", math.log1p)
    return about | {
        "neurons": None,
        "prompts": prompts,
        "accuracy_before": mean("accuracy_before").estimate,
        "accuracy_after": accuracy.estimate,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "before": math.exp(mean("before", math.log).estimate),
        "after": math.exp(mean("after", math.log).estimate),
        "rise": math.expm1(rise.estimate),
        "low": math.expm1(rise.low),
        "high": math.expm1(rise.high),
    }
