"""Updating facts by the paper's rules, by random neurons and by the exact edit: what changes, and what else moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from neuronatlas.knowledge.attribution import suiting_queries
from neuronatlas.knowledge.edit_cases import EditCase
from neuronatlas.knowledge.edit_measures import edit_measures
from neuronatlas.knowledge.editing import shared_by_relation, update
from neuronatlas.knowledge.edits import Edit, EditError
from neuronatlas.knowledge.exact_editing import exact_update
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.judging import judge_edits
from neuronatlas.models.model import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import ratio_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables, frame
from neuronatlas.studies.locating import AskedFact

__all__ = ["METHODS", "rises", "updating"]

METHODS = ("normalised", "printed", "random", "exact")
"""The rule of the official code, the one that the paper prints, the first of these on random neurons, and the smallest
change that does what is asked."""


@dataclass(frozen=True)
class _Case:
    """An edit: the fact, its neurons, and what is asked."""

    number: int
    fact: AskedFact
    case: EditCase


def updating(study: Study) -> Tables:
    """Tables `update_measures`, `update_perplexity` and `update_sizes`, with intervals over edits.

    Each fact gets the answer of another fact of its relation, drawn. The neurons are those that one half of its prompts
    locate, the edit is made for that half, and the other half are the paraphrases. Every edit is undone.
    """
    cases = _cases(study)

    def work(part: Sequence[_Case]) -> Tables:
        found = [_judged(study, one, method) for one in part for method in METHODS]
        return {"updates": pl.concat(found)}

    study.in_parts("update", cases, work, unit="edit")
    rows = study.table("updates")
    by_method = {method: rows.filter(method=method) for method in METHODS}
    measures = [
        edit_measures(mine, seed=study.seed).insert_column(0, pl.lit(m).alias("method"))
        for m, mine in by_method.items()
    ]
    perplexity = [
        rises(mine.filter(group=group), study.seed, {"method": method, "group": group})
        for method, mine in by_method.items()
        for group in ("same relation", "other relations")
    ]
    sizes = [_sizes(method, mine) for method, mine in by_method.items()]
    return {
        "update_measures": pl.concat(measures),
        "update_perplexity": pl.DataFrame(perplexity, schema=_RISES),
        "update_sizes": frame(sizes, _SIZES),
    }


_RISES = {
    "method": pl.String,
    "group": pl.String,
    "prompts": pl.Int64,
    "before": pl.Float64,
    "after": pl.Float64,
    "rise": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
_SIZES = {"method": pl.String, "cases": pl.Int64, "refused": pl.Int64, "neurons": pl.Float64, "reason": pl.String}


def rises(rows: pl.DataFrame, seed: int, about: Mapping[str, object], unit: str = "case") -> dict[str, object]:
    """Perplexity before and after, and its relative rise with an interval from resampling whole cases.

    Perplexity is exp of minus the mean log P of an answer's token; its rise is exp of minus the mean change, less 1.
    """
    sums = rows.group_by(unit, maintain_order=True).agg(
        pl.col("log_p_before").sum().alias("before"),
        (pl.col("log_p_after") - pl.col("log_p_before")).sum().alias("change"),
        pl.col("tokens").sum().cast(pl.Float64).alias("tokens"),
    )
    total = float(sums["tokens"].sum())
    if not total:
        return {**about, "prompts": 0} | dict.fromkeys(("before", "after", "rise", "low", "high"))
    found = ratio_of_means(sums.select("change", "tokens").to_numpy(), seed=seed)
    before = -float(sums["before"].sum()) / total
    ends = {"rise": found.estimate, "low": found.high, "high": found.low}
    told = {"before": float(np.exp(before)), "after": float(np.exp(before - found.estimate))}
    return {**about, "prompts": rows.height, **told} | {name: float(np.expm1(-end)) for name, end in ends.items()}


def _sizes(method: str, rows: pl.DataFrame) -> tuple[object, ...]:
    each = rows.group_by("case", maintain_order=True).agg(pl.col("refused", "neurons").first())
    refused = each.filter(pl.col("refused") != "")
    neurons = each.filter(pl.col("refused") == "")["neurons"].mean()
    return method, each.height, refused.height, neurons, refused["refused"][0] if refused.height else None


def _cases(study: Study) -> list[_Case]:
    """As many facts of each relation as the number of edits asks for, in turn; the last relations get one less."""

    def fits(fact: AskedFact) -> bool:
        single = all(len(query.steps) == 1 for query in fact.queries.values())
        return single and len(fact.queries) > 1 and len(study.of(fact, "a")) > 0

    wanted = study.settings.edits
    ranked = [(rank, f) for fs in _by_relation(study.chosen(wanted, fits)) for rank, f in enumerate(_spread(fs))]
    ordered = [fact for _, fact in sorted(ranked, key=lambda item: item[0])]
    found = list[_Case]()
    for fact in ordered:
        if len(found) == wanted:
            break
        answer = _other_answer(study, fact)
        if answer is not None:
            found.append(_Case(len(found), fact, _case(fact, answer)))
    if not found:
        raise NotMeasuredError("no known fact with an answer of one token has neurons and another answer to take")
    return found


def _by_relation(facts: Sequence[AskedFact]) -> list[list[AskedFact]]:
    groups: dict[str, list[AskedFact]] = {}
    for fact in facts:
        groups.setdefault(fact.fact.relation, []).append(fact)
    return list(groups.values())


def _spread(facts: Sequence[AskedFact]) -> list[AskedFact]:
    """The facts in an order of which every beginning lies spread over the list: by their place's bits, reversed."""
    width = max(1, (len(facts) - 1).bit_length())

    def reversed_bits(place: int) -> int:
        return int(f"{place:0{width}b}"[::-1], 2)

    return [facts[place] for place in sorted(range(len(facts)), key=reversed_bits)]


def _other_answer(study: Study, fact: AskedFact) -> str | None:
    """The answer of another fact of the relation, of one token; None where there is none."""
    answers = sorted({other.fact.answer for other in study.relations[fact.fact.relation]} - {fact.fact.answer})
    for index in np.random.default_rng([study.seed, fact.index]).permutation(len(answers)):
        wanted = Fact(fact.fact.relation, fact.fact.subject, answers[int(index)], fact.fact.prompts)
        queries = suiting_queries(study.model, wanted)[0]
        if set(queries) >= set(fact.queries) and all(len(query.steps) == 1 for query in queries.values()):
            return answers[int(index)]
    return None


def _case(fact: AskedFact, answer: str) -> EditCase:
    halves = {fold: [fact.fact.prompts[p] for p, mine in fact.folds.items() if mine == fold] for fold in "ab"}
    return EditCase(_with_prompts(fact.fact, halves["a"]), answer, paraphrases=tuple(halves["b"]))


def _with_prompts(fact: Fact, prompts: Sequence[str]) -> Fact:
    """The fact with other prompts."""
    return Fact(fact.relation, fact.subject, fact.answer, prompts)


def _judged(study: Study, one: _Case, method: str) -> pl.DataFrame:
    own, size = study.of(one.fact, "a"), list[int]()
    others = [f.fact for f in study.asked.values() if f.index != one.fact.index]

    def make(model: Model, case: EditCase) -> Edit:
        made = _edit(study, model, one, case, own, method, others)
        size.append(len(made.neurons))
        return made

    seed = study.drawn(one.fact.index)
    rows = judge_edits(study.model, [one.case], make, others=others, sample=study.settings.judged, seed=seed)
    about = {"method": method, "relation": one.fact.fact.relation, "fact": one.fact.index, "neurons": sum(size)}
    return (
        rows.with_columns(case=pl.lit(one.number, dtype=pl.Int64))
        .with_columns(**{name: pl.lit(value) for name, value in about.items()})
        .with_columns(pl.col("fact", "neurons").cast(pl.Int64))
    )


def _edit(
    study: Study, model: Model, one: _Case, case: EditCase, own: NeuronSet, method: str, others: Sequence[Fact]
) -> Edit:
    if method == "exact":
        return exact_update(model, case.fact, case.new_answer, keep=others, neurons=own, seed=study.seed)
    relation = [study.of(f, "a") for f in study.relations[case.fact.relation] if f.index != one.fact.index]
    if method != "random":
        return update(model, case.fact, case.new_answer, neurons=own, relation=relation, rule=method)
    shared = shared_by_relation(own, relation)
    kept = NeuronSet.of(own.layout, (neuron for neuron in own if neuron not in shared))
    if not len(kept):
        raise EditError("no neurons to draw random ones for: all are shared by more than 10 % of the relation")
    return update(model, case.fact, case.new_answer, neurons=study.random(one.fact, kept))
