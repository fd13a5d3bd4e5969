"""Knowledge neurons of the same fact in several languages: which are the same, and whether they do the same there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from tqdm.auto import tqdm

from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.knowledge.effects import Trial, run_trials
from neuronatlas.knowledge.locating import locate
from neuronatlas.models import Model
from neuronatlas.models.answers import Answered
from neuronatlas.models.queries import Query
from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import DRAWS, permutation_p_value, ratio_of_means
from neuronatlas.studies.salient_neurons.parallel import ParallelFact, spoken

__all__ = [
    "PARALLEL_EFFECTS",
    "ParallelNeurons",
    "answers_of",
    "effects_of_pair",
    "fact_overlaps",
    "locate_parallel",
    "parallel_effects",
    "parallel_overlaps",
]

Sets = Mapping[str, Sequence[NeuronSet]]
Jaccards = Float[np.ndarray, "fact other"]


@dataclass(frozen=True, eq=False)
class ParallelNeurons:
    """Parallel facts with the knowledge neurons of each in each language: `sets[language][fact]`."""

    facts: tuple[ParallelFact, ...]
    sets: Sets

    @property
    def languages(self) -> list[str]:
        """The languages."""
        return list(self.sets)

    def common(self) -> list[NeuronSet]:
        """The language-independent neurons of each fact: those that it has in all languages."""
        found = []
        for own in zip(*self.sets.values(), strict=True):
            shared = own[0]
            for other in own[1:]:
                shared = shared & other
            found.append(NeuronSet(shared.layout, shared.members))
        return found


def locate_parallel(
    model: Model, facts: Sequence[ParallelFact], *, progress: bool = True, **options: Any
) -> ParallelNeurons:
    """Locate the knowledge neurons of each fact in each language apart; `options` are those of `locate`.

    Errors: FactError for facts without two languages in common; those of `locate`.
    """
    names = spoken(facts)
    sets: dict[str, list[NeuronSet]] = {}
    with tqdm(total=len(names) * len(facts), desc="locate", unit="fact", disable=not progress) as bar:
        for name in names:
            found = locate(model, [fact.facts[name] for fact in facts], **options)
            sets[name] = [NeuronSet(one.layout, one.members) for one in found]
            bar.update(len(facts))
    return ParallelNeurons(tuple(facts), sets)


def fact_overlaps(found: ParallelNeurons) -> pl.DataFrame:
    """A row a fact and pair of languages: how many of its neurons are the same in both, and chance level.

    `jaccard` is that of the fact's own sets; `other_facts` the mean Jaccard of its set in the first language and the
    sets of the relation's other facts in the second: what the relation and the model's layers alone make alike. NaN
    where a set is empty, or there is no other fact. `same_answer` tells that the answer is the same word in both
    languages: then the neurons may be those of the word. `n_common` counts neurons that it has in all languages.
    """
    common, rows = found.common(), []
    for first, second in combinations(found.languages, 2):
        jaccards = _jaccards(found, first, second)
        for index, fact in enumerate(found.facts):
            ours, theirs = found.sets[first][index], found.sets[second][index]
            others = [jaccards[index, other] for other in _others(found.facts, index)]
            rows.append(
                {
                    **{"relation": fact.relation, "fact": fact.name, "language": first, "other": second},
                    "same_answer": fact.facts[first].answer == fact.facts[second].answer,
                    **{"n_first": len(ours), "n_second": len(theirs), "n_shared": len(ours & theirs)},
                    "jaccard": float(jaccards[index, index]),
                    "other_facts": float(np.mean(others)) if others else float("nan"),
                    "n_common": len(common[index]),
                }
            )
    return pl.DataFrame(rows).with_columns(pl.col("jaccard", "other_facts").fill_nan(None))


def parallel_overlaps(found: ParallelNeurons, *, seed: int, draws: int = DRAWS) -> pl.DataFrame:
    """A row a pair of languages and group of facts (`all`, `same answer`, `other answer`): overlap against chance.

    `jaccard` is the mean over facts with a bootstrap 95 % interval over facts, `other_facts` that of other facts of the
    same relation. p is how often facts of the second language, permuted inside their relations, overlap as much.
    """
    overlaps, rows = fact_overlaps(found), []
    for first, second in combinations(found.languages, 2):
        own = overlaps.filter(pl.col("language") == first, pl.col("other") == second)
        jaccards = _jaccards(found, first, second)
        for group, chosen in _groups(found.facts, first, second).items():
            usable = np.flatnonzero(chosen & own["jaccard"].is_not_null().to_numpy())
            if not len(usable):
                continue
            values = np.diagonal(jaccards)[usable]
            mean = ratio_of_means(np.stack([values, np.ones(len(values))], axis=1), seed=seed, draws=draws)
            others = own["other_facts"].to_numpy()[usable]
            drawn = _permuted(jaccards, found.facts, usable, seed, draws)
            rows.append(
                {
                    **{"language": first, "other": second, "facts": group, "n_facts": len(usable)},
                    **mean.columns("jaccard"),
                    "other_facts": float(np.nanmean(others)) if not np.isnan(others).all() else None,
                    "p": permutation_p_value(float(values.mean()) - 1e-12, drawn),
                    "with_common": float((own["n_common"].to_numpy()[usable] > 0).mean()),
                }
            )
    return pl.DataFrame(rows)


def parallel_effects(
    model: Model, found: ParallelNeurons, *, seed: int = 0, draws: int = DRAWS, progress: bool = True
) -> pl.DataFrame:
    """What suppressing a fact's neurons of one language does to its prompts in each; one row a pair, kind and group.

    `kind`: the fact's own neurons of the language `located`; equally many random ones of the same layers (`random`);
    those of another fact of the relation with another answer (`other fact`); and those that the fact has in all
    languages (`common`). Facts whose set is empty take no part. `facts` are the groups of `parallel_overlaps`. `change`
    is the ratio of means of P(answer), (after - before) / before, over all prompts of all facts, `log_odds_change` the
    mean change of log-odds, both with a bootstrap 95 % interval over facts.
    """
    before = {name: answers_of(model, found, name) for name in found.languages}
    pairs = list(product(found.languages, found.languages))
    return pl.concat(
        effects_of_pair(model, found, located, asked, before[asked], seed=seed, draws=draws)
        for located, asked in tqdm(pairs, desc="suppress", unit="pair", disable=not progress)
    )


def answers_of(model: Model, found: ParallelNeurons, language: str) -> Asked:
    """The queries of each fact in a language, and what the model says to them as it is."""
    queries = [list(fact_queries(model, fact.facts[language]).values()) for fact in found.facts]
    nothing = NeuronSet(model.layout(), ())
    answers = run_trials(model, [Trial(query, nothing, 1.0) for own in queries for query in own])
    return [[(query, next(answers)) for query in own] for own in queries]


def effects_of_pair(
    model: Model, found: ParallelNeurons, located: str, asked: str, before: Asked, *, seed: int = 0, draws: int = DRAWS
) -> pl.DataFrame:
    """The rows of `parallel_effects` of neurons located in one language and asked for in another.

    `before` are the `answers_of` the language that is asked.
    """
    kinds: dict[str, Sequence[NeuronSet | None]] = {
        "own": found.sets[located],
        "random": [_random(own, index, seed) for index, own in enumerate(found.sets[located])],
        "other fact": _of_others(found, located),
        "common": found.common(),
    }
    rows: list[dict[str, Any]] = []
    for kind, sets in kinds.items():
        changes = _changes(model, before, sets)
        for group, chosen in _groups(found.facts, located, asked).items():
            about = {"located": located, "asked": asked, "kind": kind, "facts": group}
            rows.append(about | _summed(changes, sets, chosen, seed=seed, draws=draws))
    return pl.DataFrame(rows, schema=PARALLEL_EFFECTS)


PARALLEL_EFFECTS: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("located", "asked", "kind", "facts"), pl.String),
    **{"n_facts": pl.Int64, "n_neurons": pl.Float64},
    **{f"{name}{end}": pl.Float64 for name, end in product(("change", "log_odds_change"), ("", "_low", "_high"))},
}
"""Columns of what `parallel_effects` gives."""

Asked = list[list[tuple[Query, Answered]]]
"""The queries of each fact and what the model says to them as it is."""

Changes = Float[np.ndarray, "fact 4"]
"""For each fact, summed over its prompts: change of P, P before, change of log-odds, prompts; NaN without neurons."""


def _groups(facts: Sequence[ParallelFact], first: str, second: str) -> dict[str, Bool[np.ndarray, " fact"]]:
    """All facts, those with the same word for an answer in both languages, and the others; no group without a fact."""
    same = np.array([fact.facts[first].answer == fact.facts[second].answer for fact in facts], dtype=bool)
    if first == second:
        return {"all": same}
    groups = {"all": np.ones(len(facts), dtype=bool), "same answer": same, "other answer": ~same}
    return {name: chosen for name, chosen in groups.items() if chosen.any()}


def _changes(model: Model, asked: Asked, sets: Sequence[NeuronSet | None]) -> Changes:
    pairs = list(zip(asked, sets, strict=True))
    after = run_trials(model, [Trial(query, neurons, 0.0) for own, neurons in pairs if neurons for query, _ in own])
    changes = np.full((len(asked), 4), np.nan)
    for index, (own, neurons) in enumerate(pairs):
        if neurons:
            told = [(before, next(after)) for _, before in own]
            p = sum(b.probability - a.probability for a, b in told), sum(a.probability for a, _ in told)
            changes[index] = *p, sum(b.log_odds - a.log_odds for a, b in told), len(told)
    return changes


def _summed(
    changes: Changes,
    sets: Sequence[NeuronSet | None],
    chosen: Bool[np.ndarray, " fact"],
    *,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    there = np.flatnonzero(chosen & ~np.isnan(changes[:, 0]))
    if not len(there):
        return {"n_facts": 0}
    values = changes[there]
    return {
        **{"n_facts": len(there), "n_neurons": float(np.mean([len(sets[index] or ()) for index in there.tolist()]))},
        **ratio_of_means(values[:, :2], seed=seed, draws=draws).columns("change"),
        **ratio_of_means(values[:, 2:], seed=seed, draws=draws).columns("log_odds_change"),
    }


def _of_others(found: ParallelNeurons, language: str) -> list[NeuronSet | None]:
    """For each fact the neurons of the next fact of its relation that has any and is not answered the same."""
    sets: list[NeuronSet | None] = []
    for index, fact in enumerate(found.facts):
        answer = fact.facts[language].answer
        others = _others(found.facts, index)
        after = [other for other in others if other > index] + [other for other in others if other < index]
        usable = (o for o in after if found.facts[o].facts[language].answer != answer and len(found.sets[language][o]))
        chosen = next(usable, None)
        own = found.sets[language][index]
        sets.append(None if chosen is None or not len(own) else found.sets[language][chosen])
    return sets


def _random(own: NeuronSet, index: int, seed: int) -> NeuronSet:
    return own.random_like(int(np.random.default_rng([seed, index]).integers(2**31)))


def _others(facts: Sequence[ParallelFact], index: int) -> list[int]:
    return [other for other, fact in enumerate(facts) if fact.relation == facts[index].relation and other != index]


def _jaccards(found: ParallelNeurons, first: str, second: str) -> Jaccards:
    """Jaccard of each fact's set in the first language with each fact's in the second; NaN where either is empty."""
    ours, theirs = ([frozenset(own.members) for own in found.sets[name]] for name in (first, second))
    values = np.full((len(ours), len(theirs)), np.nan)
    for (i, a), (j, b) in product(enumerate(ours), enumerate(theirs)):
        if a and b:
            values[i, j] = len(a & b) / len(a | b)
    return values


def _permuted(
    jaccards: Jaccards, facts: Sequence[ParallelFact], usable: np.ndarray[Any, Any], seed: int, draws: int
) -> Float[np.ndarray, " draw"]:
    """Mean overlap where facts of the second language are permuted inside their relations."""
    rng, groups = np.random.default_rng(seed), dict[str, list[int]]()
    for index in usable.tolist():
        groups.setdefault(facts[index].relation, []).append(index)
    sums = np.zeros(draws)
    for members in groups.values():
        own = jaccards[np.ix_(members, members)]
        order = rng.permuted(np.tile(np.arange(len(members)), (draws, 1)), axis=1)
        sums += own[np.arange(len(members)), order].sum(axis=1)
    found: Float[np.ndarray, " draw"] = sums / len(usable)
    return found
