"""Which texts activate the neurons of a fact or a relation, and whether those that express it do so most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from neuronatlas.knowledge.editing import frequent_neurons
from neuronatlas.knowledge.facts import Fact, split_prompt
from neuronatlas.knowledge.mentions import KINDS
from neuronatlas.knowledge.triggers import Triggers, triggers_of_many
from neuronatlas.models.queries import place_tokens
from neuronatlas.neurons import NeuronSet
from neuronatlas.readers.texts import read_texts
from neuronatlas.statistics import Interval, mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables, frame

__all__ = ["triggering"]

PRECISIONS = (2, 10)
_TARGETS, _NEURONS, _TEXTS_A_FACT = 64, 20, 3

MEANS = {"relation": pl.String, "fact": pl.Int64, "kind": pl.String, "n": pl.Int64, "mean": pl.Float64}
HITS = {
    "relation": pl.String,
    "fact": pl.Int64,
    "k": pl.Int64,
    "precision": pl.Float64,
    "best": pl.Float64,
    "base": pl.Float64,
}
SENTENCES = {
    "relation": pl.String,
    "direction": pl.String,
    "rank": pl.Int64,
    "activation": pl.Float64,
    "kind": pl.String,
    "text": pl.String,
}
_ENDS = {"low": pl.Float64, "high": pl.Float64}


@dataclass(frozen=True)
class _Target:
    """A fact, or several of one relation with `fact` None, and the neurons that are read."""

    relation: str
    fact: int | None
    facts: tuple[Fact, ...]
    neurons: NeuronSet


def triggering(study: Study) -> Tables:
    """Tables `trigger_means` and `trigger_precision`, means over facts and relations with intervals over these.

    Texts are those of the study or, without any, the facts' own prompts with their answers: then neurons are those that
    one half of a fact's prompts locate, and the texts are of the other half. A precision at k is the share of the k
    texts that activate most which hold subject and answer; `best` is what could be reached, `base` their share in all.
    """
    fold = "all" if study.texts is not None else "a"
    targets = _targets(study, fold)
    texts = None if study.texts is not None else _own_texts(study)

    def work(part: Sequence[_Target]) -> Tables:
        found = triggers_of_many(
            study.model,
            [(target.facts, target.neurons) for target in part],
            _stream(study, texts),
            pooling=study.settings.pooling,
            k=max(PRECISIONS),
            seed=study.seed,
            progress=study.progress,
        )
        return _tables(list(zip(part, found, strict=True)))

    study.in_parts("triggers", targets, work, size=_TARGETS, unit="target")
    return {
        "trigger_means": _means(study.table("trigger_activations"), study.seed),
        "trigger_precision": _precisions(study.table("trigger_hits"), study.seed),
    }


def _stream(study: Study, texts: list[str] | None) -> Iterable[str]:
    if texts is not None:
        return texts
    assert study.texts is not None
    return read_texts(study.texts)


def _targets(study: Study, fold: str) -> list[_Target]:
    facts = study.chosen(study.settings.sampled, lambda fact: len(study.of(fact, fold)) > 0)
    found = [_Target(f.fact.relation, f.index, (f.fact,), study.of(f, fold)) for f in facts]
    for name, members in study.relations.items():
        ranked = frequent_neurons([study.of(fact, fold) for fact in members])[:_NEURONS]
        if ranked:
            together = NeuronSet.of(study.layout, (neuron for neuron, _ in ranked))
            found.append(_Target(name, None, tuple(fact.fact for fact in members), together))
    if not found:
        raise NotMeasuredError("no fact has neurons that half of its prompts locate")
    return found


def _own_texts(study: Study) -> list[str]:
    """Some prompts of each fact's second half with the answer in its place."""
    places, found = place_tokens(study.model), dict[str, None]()
    for fact in study.asked.values():
        held = [prompt for prompt, fold in fact.folds.items() if fold == "b"][:_TEXTS_A_FACT]
        for prompt in held:
            left, right = split_prompt(fact.fact.prompts[prompt], places)
            found[f"{left}{fact.fact.answer}{right}"] = None
    return list(found)


def _tables(found: Sequence[tuple[_Target, Triggers]]) -> Tables:
    means, hits, sentences = list[Sequence[object]](), list[Sequence[object]](), list[Sequence[object]]()
    for target, seen in found:
        counts = dict(seen.means.select("kind", "n").iter_rows())
        expressing, total = counts[KINDS[0]], sum(counts.values())
        if target.fact is not None:
            means += [
                (target.relation, target.fact, *row) for row in seen.means.select("kind", "n", "mean").iter_rows()
            ]
        for k in PRECISIONS:
            if total:
                best = min(expressing, k) / min(total, k)
                hits.append((target.relation, target.fact, k, seen.precision(k), best, expressing / total))
        if target.fact is None:
            columns = ("direction", "rank", "activation", "kind", "text")
            sentences += [(target.relation, *row) for row in seen.sentences.select(columns).iter_rows()]
    return {
        "trigger_activations": frame(means, MEANS),
        "trigger_hits": frame(hits, HITS),
        "trigger_sentences": frame(sentences, SENTENCES),
    }


def _means(found: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Mean activation by kind, over facts that have texts of it, and how much less it is than where all is said."""
    wide = found.filter(pl.col("n") > 0).with_columns(pl.col("mean").fill_nan(None)).drop_nulls("mean")
    full = wide.filter(kind=KINDS[0]).select("fact", pl.col("mean").alias("full"))
    rows = []
    for kind in KINDS:
        own = wide.filter(kind=kind)
        paired = own.join(full, on="fact", maintain_order="left").with_columns(less=pl.col("mean") - pl.col("full"))
        values, less = _over_relations(own, "mean", seed), _over_relations(paired, "less", seed)
        rows.append((kind, own.height, int(own["n"].sum()), *_three(values), paired.height, *_three(less)))
    names = {"kind": pl.String, "n_facts": pl.Int64, "n_texts": pl.Int64, "mean": pl.Float64, **_ENDS}
    names |= {"n_paired": pl.Int64, "less": pl.Float64, "less_low": pl.Float64, "less_high": pl.Float64}
    return frame(rows, names)


def _precisions(hits: pl.DataFrame, seed: int) -> pl.DataFrame:
    rows = []
    for of, part in (("facts", hits.drop_nulls("fact")), ("relations", hits.filter(pl.col("fact").is_null()))):
        for k in PRECISIONS:
            mine = part.filter(k=k).drop_nulls("precision")
            # Of relations there is one number each, so they are what is resampled.
            found = _over_relations(
                mine if of == "facts" else mine.with_columns(relation=pl.lit("")), "precision", seed
            )
            best, base = (_over_relations(mine, name, seed).estimate for name in ("best", "base"))
            rows.append((of, k, mine.height, *_three(found), best, base))
    names = {"of": pl.String, "k": pl.Int64, "n": pl.Int64, "precision": pl.Float64, **_ENDS}
    return frame(rows, names | {"best": pl.Float64, "base": pl.Float64})


def _over_relations(rows: pl.DataFrame, column: str, seed: int) -> Interval:
    groups = [part[column].to_numpy() for _, part in rows.group_by("relation", maintain_order=True)]
    return mean_of_ratios_of_means([np.stack([v, np.ones(len(v))], axis=1) for v in groups], seed=seed)


def _three(found: Interval) -> tuple[float, float, float]:
    return found.estimate, found.low, found.high
