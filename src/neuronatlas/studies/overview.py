"""What an atlas of knowledge neurons found, in a few numbers, and one fact of it looked at closely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl
import torch

from neuronatlas.addresses import address_columns, neurons_in
from neuronatlas.atlas import Atlas, AtlasError
from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.hooks import scale
from neuronatlas.models.model import Model
from neuronatlas.models.ways import Prompts
from neuronatlas.neurons import NeuronSet
from neuronatlas.studies.settings import facts_digest

__all__ = [
    "Effect",
    "Example",
    "Overview",
    "atlas_neurons",
    "find_row",
    "overview_of",
    "relation_neurons",
    "worked_example",
]

RELATION_NEURONS = 20


@dataclass(frozen=True)
class Effect:
    """The mean effect over relations of one condition at one gain, with its bootstrap intervals over facts.

    `change` is the mean over prompts of P(answer) after less before, over the mean before; `log_odds_change` the mean
    change of log(P / (1 - P)). Each is followed by the ends of its 95 % interval.
    """

    condition: str
    gain: float
    n_facts: int
    n_prompts: int
    change: float
    change_low: float
    change_high: float
    log_odds_change: float
    log_odds_low: float
    log_odds_high: float


@dataclass(frozen=True)
class Overview:
    """The headline numbers of a finished atlas.

    `n_prompts` counts the prompts that suit the model, `n_skipped` the others; `known` is the share of the former whose
    answer the model prefers to all other tokens. `neurons_per_fact` is a mean over facts, `n_neurons` counts different
    neurons, `n_without` the facts that have none; `layers` counts the facts' neurons layer by layer.
    """

    rule: str
    relations: tuple[str, ...]
    n_facts: int
    n_prompts: int
    n_skipped: int
    n_weak: int
    known: float
    p_mean: float
    neurons_per_fact: float
    n_neurons: int
    n_without: int
    layers: tuple[int, ...]
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Example:
    """One fact closely: its neurons, and the model's first choices on one of its prompts before and after suppression.

    `before` and `after` are (token, probability), the likeliest first; `p_before` and `p_after` are P(answer), the mean
    over all of the fact's prompts.
    """

    fact: Fact
    prompt: str
    neurons: NeuronSet
    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]
    p_before: float
    p_after: float


def overview_of(atlas: Atlas) -> Overview:
    """Sum up a finished atlas.

    Errors: AtlasError when it is not finished.
    """
    if atlas.state != "complete":
        raise AtlasError(
            f"{atlas.folder} is not finished; run the command that began it again, it takes up where it was"
        )
    rule = str(atlas.meta["settings"]["rule"])
    facts, prompts = atlas.table("facts"), atlas.table("prompts")
    neurons = _of_rule(atlas, rule)
    layers = atlas.table("layers").filter((pl.col("rule") == rule) & (pl.col("relation") == "all")).sort("layer")
    overall = atlas.table("summary").filter(pl.col("relation") == "all").drop("relation")
    return Overview(
        rule=rule,
        relations=tuple(atlas.table("relations")["relation"]),
        n_facts=facts.height,
        n_prompts=prompts.height,
        n_skipped=atlas.table("skipped").height,
        n_weak=int(facts["weak"].sum()),
        known=_mean(prompts["is_top1"]),
        p_mean=_mean(prompts["p"]),
        neurons_per_fact=_mean(facts["n_neurons"]),
        n_neurons=neurons.select(address_columns(neurons)).n_unique(),
        n_without=int((facts["n_neurons"] == 0).sum()),
        layers=tuple(layers["n"]),
        effects=tuple(Effect(**row) for row in overall.iter_rows(named=True)),
    )


def find_row(atlas: Atlas, facts: Sequence[Fact], index: int) -> int:
    """Number in the atlas of one of `facts`: the same one when the atlas was made of just these, else by its words.

    Errors: AtlasError when the atlas does not have it, or has several that only their prompts tell apart.
    """
    settings, fact = atlas.meta["settings"], facts[index]
    if settings["facts_digest"] == facts_digest(facts):
        return index
    rows = atlas.table("facts").filter(
        (pl.col("relation") == fact.relation)
        & pl.col("subject").eq_missing(pl.lit(fact.subject, dtype=pl.String))
        & (pl.col("answer") == fact.answer)
    )
    if rows.height != 1:
        raise AtlasError(
            f"{atlas.folder} holds {rows.height or 'no'} facts {fact.label!r} of {fact.relation!r} with the answer "
            f"{fact.answer!r}; give the file and the selection that it was made of"
        )
    return int(rows["fact"][0])


def atlas_neurons(atlas: Atlas, model: Model, row: int) -> NeuronSet:
    """The knowledge neurons that an atlas holds for one of its facts, as a set of the model that it was made of.

    The set carries the digest that the atlas was made with, so using it on another model raises LayoutMismatchError.
    """
    settings = atlas.meta["settings"]
    layout = replace(model.layout(settings["site"]), digest=str(atlas.meta["model"]["digest"]))
    found = _of_rule(atlas, settings["rule"]).filter(pl.col("fact") == row)
    return NeuronSet(layout, tuple(neurons_in(found)))


def relation_neurons(atlas: Atlas, model: Model, relation: str, most: int = RELATION_NEURONS) -> NeuronSet:
    """The neurons that an atlas holds in most facts of a relation: 20, as Dai et al. take to erase one.

    Ties go by address. Errors: AtlasError when the atlas has no such relation.
    """
    settings = atlas.meta["settings"]
    facts = atlas.table("facts").filter(pl.col("relation") == relation)["fact"].to_list()
    if not facts:
        names = ", ".join(sorted(set(atlas.table("facts")["relation"])))
        raise AtlasError(f"{atlas.folder} has no relation {relation!r}: it has {names}")
    counts = Counter(neuron for row in facts for neuron in atlas_neurons(atlas, model, row))
    ordered = sorted(counts, key=lambda neuron: (-counts[neuron], neuron))
    layout = replace(model.layout(settings["site"]), digest=str(atlas.meta["model"]["digest"]))
    return NeuronSet.of(layout, ordered[:most])


def worked_example(model: Model, atlas: Atlas, facts: Sequence[Fact], *, n_tokens: int = 5) -> Example | None:
    """Look closely at the fact that suppression moved most, of those that the model knows, on a prompt of median fall.

    Known are the facts whose answer is the model's first choice on every prompt. `facts` are those the atlas was made
    of, in order. None when no fact has neurons, or when the atlas did not try suppression.
    """
    moved = _most_moved(atlas)
    if moved.is_empty():
        return None
    row, middle = int(moved["fact"][0]), int(moved["prompt"][moved.height // 2])
    neurons = atlas_neurons(atlas, model, row)
    settings = atlas.meta["settings"]
    asked = replace(facts[row], prompts=facts[row].prompts[middle : middle + 1])
    query = next(iter(fact_queries(model, asked, position=settings["position"], site=settings["site"]).values()))
    # Of an answer of several tokens the first is shown: what stands there decides on the rest.
    first = Prompts.of(query.steps[:1], model.device)
    with torch.no_grad():
        before = _distribution(model, first)
        with scale(model, neurons, 0.0, first.positions):
            after = _distribution(model, first)
    return Example(
        facts[row],
        query.text,
        neurons,
        _likeliest(model, before, n_tokens),
        _likeliest(model, after, n_tokens),
        _mean(moved["p_before"]),
        _mean(moved["p_after"]),
    )


def _most_moved(atlas: Atlas) -> pl.DataFrame:
    """The suppressed prompts of the fact that lost the largest share of P(answer), by what is left of each."""
    facts = atlas.table("facts").filter(pl.col("n_neurons") > 0)
    known = facts.filter(pl.col("top1") == 1)
    suppressed = (
        atlas.table("effects")
        .filter((pl.col("condition") == "located") & (pl.col("gain") == 0))
        .join((known if known.height else facts).select("fact"), on="fact", how="semi")
    )
    left = suppressed.group_by("fact").agg((pl.sum("p_after") / pl.sum("p_before")).alias("left")).sort("left", "fact")
    ratio = pl.col("p_after") / pl.col("p_before")
    return suppressed.join(left.head(1), on="fact", how="semi").sort(ratio, "prompt")


def _distribution(model: Model, asked: Prompts) -> torch.Tensor:
    return torch.softmax(asked.logits(model)[0].double(), dim=-1)


def _likeliest(model: Model, distribution: torch.Tensor, count: int) -> tuple[tuple[str, float], ...]:
    best = distribution.topk(min(count, len(distribution)))
    words = [str(model.tokenizer.decode([index])).strip() for index in best.indices.tolist()]
    return tuple(zip(words, best.values.tolist(), strict=True))


def _of_rule(atlas: Atlas, rule: str) -> pl.DataFrame:
    return atlas.table("neurons").filter((pl.col("rule") == rule) & (pl.col("fold") == "all"))


def _mean(column: pl.Series) -> float:
    found = column.mean()
    return float(found) if isinstance(found, int | float) else float("nan")
