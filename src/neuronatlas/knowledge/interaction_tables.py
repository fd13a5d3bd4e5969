"""Interactions in many facts: the tables of an atlas, with random neurons as the control and intervals over facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from neuronatlas.knowledge.effects import DEFAULT_BUDGET
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.interactions import EXACT_UP_TO, ROUNDS, Interactions, interactions
from neuronatlas.knowledge.pair_kinds import KINDS
from neuronatlas.models.hooks import InterventionError
from neuronatlas.models.model import Model
from neuronatlas.models.queries import QueryError
from neuronatlas.neurons import NeuronError, NeuronSet
from neuronatlas.statistics import mean_of_ratios_of_means

__all__ = ["INTERACTION_TABLES", "interaction_tables"]

INTERACTION_TABLES = ("interactions", "interaction_sets", "interaction_summary")

_KEY = {"fact": pl.Int64, "relation": pl.String, "condition": pl.String}
_PAIRS = {
    **_KEY,
    "measure": pl.String,
    "a": pl.String,
    "b": pl.String,
    **dict.fromkeys(("a_alone", "b_alone", "joint", "interaction", "low", "high", "q"), pl.Float64),
    **dict.fromkeys(("shapley", "shapley_low", "shapley_high", "shapley_error"), pl.Float64),
    "kind": pl.String,
}
_SETS = {
    **_KEY,
    "measure": pl.String,
    **dict.fromkeys(("before", "single_sum", "joint", "rest"), pl.Float64),
    "n_neurons": pl.Int64,
    "n_prompts": pl.Int64,
    "way": pl.String,
}
_SUMMARY = {
    "relation": pl.String,
    "condition": pl.String,
    "measure": pl.String,
    "what": pl.String,
    **dict.fromkeys(("estimate", "low", "high"), pl.Float64),
    "n_facts": pl.Int64,
    "n_pairs": pl.Int64,
}


def interaction_tables(
    model: Model,
    facts: Sequence[Fact],
    neurons: Sequence[NeuronSet],
    *,
    gain: float = 0.0,
    exact_up_to: int = EXACT_UP_TO,
    rounds: int = ROUNDS,
    position: str | int = "answer",
    seed: int = 0,
    budget: int = DEFAULT_BUDGET,
    progress: bool = False,
) -> dict[str, pl.DataFrame]:
    """Interactions of the neurons of many facts, and of equally many random ones of the same layers.

    Tables: `interactions` (a row a fact, condition, measure and pair, see `interactions`), `interaction_sets` (all
    neurons of a fact at once against the sum of single ones) and `interaction_summary`: by relation and over `all` of
    them, what (`single_sum`, `joint` and `rest`, means over facts, and the share of a fact's pairs that are of each
    kind, `share redundancy` and so on, mean over facts) with a 95 % bootstrap interval over facts. `condition` is
    `located` or `random`. Facts with fewer than two neurons, or no prompt that suits, have nothing to interact and are
    left out; of facts that take more than half of a layer no random neurons are drawn.

    Errors: InterventionError as `interactions`, and when the two sequences differ in length; LayoutMismatchError.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK].", "[MASK] rules France."])
    >>> tables = na.interaction_tables(model, [fact], [model.layout().set(["L2.U1", "L3.U5"])])
    >>> tables["interactions"].group_by("condition", maintain_order=True).len().rows()
    [('located', 2), ('random', 2)]
    """
    if len(facts) != len(neurons):
        raise InterventionError(f"{len(neurons)} sets of neurons for {len(facts)} facts: one each expected")
    pairs: list[pl.DataFrame] = []
    sets: list[pl.DataFrame] = []
    with tqdm(list(zip(facts, neurons, strict=True)), desc="interactions", unit="fact", disable=not progress) as bar:
        for index, (fact, own) in enumerate(bar):
            for condition, chosen in _conditions(own, seed, index):
                try:
                    found = interactions(
                        model,
                        fact,
                        chosen,
                        gain=gain,
                        exact_up_to=exact_up_to,
                        rounds=rounds,
                        position=position,
                        seed=seed,
                        budget=budget,
                    )
                except QueryError:
                    break
                key = [
                    pl.lit(value, dtype).alias(name)
                    for (name, dtype), value in zip(_KEY.items(), (index, fact.relation, condition), strict=True)
                ]
                pairs.append(found.pairs.select(*key, pl.all()))
                sets.append(_whole(found, key))
    all_pairs = pl.concat([pl.DataFrame(schema=_PAIRS), *pairs])
    all_sets = pl.concat([pl.DataFrame(schema=_SETS), *sets])
    tables = (all_pairs, all_sets, _summary(all_pairs, all_sets, seed))
    return dict(zip(INTERACTION_TABLES, tables, strict=True))


def _conditions(own: NeuronSet, seed: int, index: int) -> Iterator[tuple[str, NeuronSet]]:
    if len(own) < 2:
        return
    yield "located", own
    with suppress(NeuronError):
        yield "random", own.random_like(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]))


def _whole(found: Interactions, key: Sequence[pl.Expr]) -> pl.DataFrame:
    about = [
        pl.lit(len(found.neurons), pl.Int64).alias("n_neurons"),
        pl.lit(found.n_prompts, pl.Int64).alias("n_prompts"),
    ]
    return found.whole.select(*key, pl.all(), *about, pl.lit(found.way).alias("way"))


def _summary(pairs: pl.DataFrame, sets: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Each number of each fact, once a relation and once over all relations."""
    key = ["fact", "relation", "condition", "measure"]
    shares = [(pl.col("kind") == kind).mean().alias(f"share {kind}") for kind in KINDS]
    facts = sets.join(pairs.group_by(key).agg(pl.len().alias("n_pairs"), *shares), on=key, maintain_order="left")
    rows: list[tuple[Any, ...]] = []
    relations = facts["relation"].unique(maintain_order=True).to_list()
    for relation, names in [*((name, [name]) for name in relations), ("all", relations)]:
        for (condition, measure), group in facts.filter(pl.col("relation").is_in(names)).group_by(
            "condition", "measure", maintain_order=True
        ):
            for what in ("single_sum", "joint", "rest", *(f"share {kind}" for kind in KINDS)):
                values = [part[what].to_numpy() for part in group.partition_by("relation", maintain_order=True)]
                interval = mean_of_ratios_of_means([np.stack([v, np.ones(len(v))], 1) for v in values], seed=seed)
                numbers = (interval.estimate, interval.low, interval.high, group.height, int(group["n_pairs"].sum()))
                rows.append((relation, condition, measure, what, *numbers))
    return pl.DataFrame(rows, schema=_SUMMARY, orient="row")
