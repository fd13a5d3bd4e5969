"""Second stage: from the coarse sets of all prompts to the knowledge neurons of every fact, relation by relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from neuronatlas.addresses import address_columns, address_of, address_schema, neurons_in
from neuronatlas.knowledge.refinement import Shared, Tuned, refine, required_prompts, tune_share
from neuronatlas.neurons import Layout, Neuron, NeuronSet
from neuronatlas.studies.locating import AskedFact
from neuronatlas.studies.settings import LocateSettings

__all__ = ["FOLDS", "Located", "refine_all", "refine_tokens"]

FOLDS = ("all", "a", "b")
"""All prompts of a fact, and two halves of them in turn."""

NEURONS = {
    "fact": pl.Int64,
    "relation": pl.String,
    "rule": pl.String,
    "fold": pl.String,
}
_VALUES = {"share": pl.Float64, "score": pl.Float64}


@dataclass(frozen=True)
class Located:
    """The knowledge neurons of all facts: sets by (fact, rule, fold), the table, and each relation's tuning by rule."""

    sets: Mapping[tuple[int, str, str], NeuronSet]
    table: pl.DataFrame
    tuned: Mapping[tuple[str, str], Tuned]


def refine_all(coarse: pl.DataFrame, asked: Sequence[AskedFact], layout: Layout, settings: LocateSettings) -> Located:
    """Refine every fact by the shared-prompts rule, over all of its prompts and over each of two folds."""
    found: dict[str, list[AskedFact]] = {}
    for fact in asked:
        found.setdefault(fact.fact.relation, []).append(fact)
    sets: dict[tuple[int, str, str], NeuronSet] = {}
    tuned: dict[tuple[str, str], Tuned] = {}
    rows: list[tuple[Any, ...]] = []
    placed = [(a.index, prompt, fold) for a in asked for prompt, fold in a.folds.items()]
    folds_of = pl.DataFrame(placed, schema={"fact": pl.Int64, "prompt": pl.Int64, "fold": pl.String}, orient="row")
    coarse = coarse.join(folds_of, on=["fact", "prompt"], how="left", maintain_order="left")
    for rule in settings.rules:
        tallies = _tally(coarse.filter(pl.col("rule") == rule))
        for relation, facts in found.items():
            shared = {f.index: _shared(tallies, f) for f in facts}
            tuned[relation, rule] = outcome = _tune([s["all"] for s in shared.values()], settings)
            for index, folds in shared.items():
                for fold in FOLDS:
                    refined = refine(folds[fold], outcome.share)
                    sets[index, rule, fold] = NeuronSet(layout, refined.neurons)
                    score = tallies[fold].get(index, {})
                    rows += [
                        (index, relation, rule, fold, *address_of(layout, n).values(), share, score[n][1])
                        for n, share in zip(refined.neurons, refined.shares, strict=True)
                    ]
    address = address_schema(layout)
    table = pl.DataFrame(rows, schema={**NEURONS, **address, **_VALUES}, orient="row")
    table = table.sort("fact", "rule", "fold", *address)
    return Located(sets, table, tuned)


def refine_tokens(token_coarse: pl.DataFrame, located: Located, asked: Sequence[AskedFact], rule: str) -> pl.DataFrame:
    """The neurons of each token of answers of several, by the share of prompts that their relation was refined by."""
    needed = pl.DataFrame(
        [
            (
                fact.index,
                fact.fact.relation,
                token,
                n,
                required_prompts(n, located.tuned[fact.fact.relation, rule].share),
            )
            for fact in asked
            for token, n in sorted(Counter(n for q in fact.queries.values() for n in range(len(q.steps))).items())
        ],
        schema=["fact", "relation", "token", "prompts", "needed"],
        orient="row",
    ).cast({"fact": pl.Int64, "token": pl.Int64, "needed": pl.Float64})
    place = ["fact", "token", *address_columns(token_coarse)]
    counted = token_coarse.group_by(place, maintain_order=True).agg(pl.len().alias("count"), pl.col("score").mean())
    kept = counted.join(needed, on=["fact", "token"]).filter(pl.col("count") >= pl.col("needed")).sort(place)
    return kept.select("fact", "relation", *place[1:], (pl.col("count") / pl.col("prompts")).alias("share"), "score")


Tally = dict[str, dict[int, dict[Neuron, tuple[int, float]]]]


def _tally(coarse: pl.DataFrame) -> Tally:
    """By fold, fact and neuron: in how many coarse sets it is, and its mean score in those."""
    tally: Tally = {}
    for fold in FOLDS:
        part = coarse if fold == "all" else coarse.filter(pl.col("fold") == fold)
        facts = tally.setdefault(fold, {})
        counted = _counted(part)
        values = counted.select("fact", "count", "score").iter_rows()
        for neuron, (fact, count, score) in zip(neurons_in(counted), values, strict=True):
            facts.setdefault(fact, {})[neuron] = (count, score)
    return tally


def _counted(coarse: pl.DataFrame) -> pl.DataFrame:
    place = ["fact", *address_columns(coarse)]
    counted = coarse.group_by(place, maintain_order=True).agg(pl.len().alias("count"), pl.col("score").mean())
    return counted.sort(place)


def _shared(tallies: Tally, fact: AskedFact) -> dict[str, Shared]:
    sizes = {"all": len(fact.queries)} | {fold: list(fact.folds.values()).count(fold) for fold in "ab"}
    return {
        fold: Shared({n: count for n, (count, _) in tallies[fold].get(fact.index, {}).items()}, sizes[fold])
        for fold in FOLDS
    }


def _tune(relation: Sequence[Shared], settings: LocateSettings) -> Tuned:
    if settings.share == "tuned":
        return tune_share(relation)
    mean = sum(len(refine(fact, settings.share).neurons) for fact in relation) / max(1, len(relation))
    return Tuned(settings.share, 0, mean, reached=2 <= mean <= 5)
