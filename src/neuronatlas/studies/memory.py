"""What the located neurons read and write: the tables of an atlas that show the feed-forward layer as a memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import polars as pl
import torch
from torch import Tensor

from neuronatlas.knowledge.budgets import DEFAULT_BUDGET
from neuronatlas.knowledge.memory import ValueReader, ranked_prompts, ranked_tokens, spread_steps
from neuronatlas.models.direct import DirectError
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query
from neuronatlas.models.slots import SITE, SlotError
from neuronatlas.neurons import Neuron, NeuronError, NeuronSet
from neuronatlas.studies.locating import AskedFact
from neuronatlas.studies.refining import Located
from neuronatlas.studies.settings import LocateSettings

__all__ = ["memory_tables"]

TOKENS, PROMPTS = 8, 3
MOST_PROMPTS = 2_000
"""Prompts that keys are matched with, evenly spread over the facts: an atlas of many facts has a hundred times more."""

RANKS = {
    "fact": pl.Int64,
    "relation": pl.String,
    "neuron": pl.String,
    "condition": pl.String,
    "rank": pl.Float64,
    "n_tokens": pl.Int64,
}
UNREAD = {"table": pl.String, "reason": pl.String}

Held = Mapping[Neuron, Sequence[tuple[AskedFact, str]]]
"""For each neuron the facts that it is looked at for, as one of theirs (`located`) or as a control (`random`)."""


def memory_tables(
    model: Model, asked: Sequence[AskedFact], located: Located, settings: LocateSettings
) -> dict[str, pl.DataFrame]:
    """Tables `value_tokens`, `answer_ranks` and `key_prompts` of all located neurons, and `unread`.

    Where a model does not let its value slots be seen through its output embedding, or the site has none, the tables
    are empty and `unread` has the reason.
    """
    layout = model.layout(settings.site)
    own = {fact.index: located.sets[fact.index, settings.rule, "all"] for fact in asked}
    neurons = NeuronSet.of(layout, {neuron for found in own.values() for neuron in found})
    queries = [(fact.index, query) for fact in asked for query in fact.queries.values()]
    tables = {"value_tokens": ranked_tokens(model, {}), "answer_ranks": pl.DataFrame(schema=RANKS)}
    tables |= {"key_prompts": _key_prompts(model, neurons, queries, settings), "unread": pl.DataFrame(schema=UNREAD)}
    if not len(neurons):
        return tables
    try:
        return tables | _value_tables(model, asked, own, neurons, queries, settings)
    except (DirectError, SlotError) as error:
        reasons = [(name, str(error)) for name in ("value_tokens", "answer_ranks")]
        return tables | {"unread": pl.DataFrame(reasons, schema=UNREAD, orient="row")}


def _key_prompts(
    model: Model, neurons: NeuronSet, queries: Sequence[tuple[int, Query]], settings: LocateSettings
) -> pl.DataFrame:
    count = min(MOST_PROMPTS, len(queries))
    some = [queries[index * len(queries) // count] for index in range(count)]
    return ranked_prompts(model, neurons, some, k=PROMPTS, budget=_budget(settings))


def _budget(settings: LocateSettings) -> int:
    budget = settings.attribution_budget
    return budget if isinstance(budget, int) else DEFAULT_BUDGET


def _value_tables(
    model: Model,
    asked: Sequence[AskedFact],
    own: Mapping[int, NeuronSet],
    neurons: NeuronSet,
    queries: Sequence[tuple[int, Query]],
    settings: LocateSettings,
) -> dict[str, pl.DataFrame]:
    if settings.site != SITE:
        raise SlotError(f"neurons of site {settings.site!r} have no value slots: only those of {SITE!r} do")
    held = _held(asked, own, settings.seed)
    reader = ValueReader.at(model, spread_steps(queries), budget=_budget(settings))
    tokens: dict[Neuron, list[tuple[str, list[int], list[float]]]] = {}
    rows: list[tuple[object, ...]] = []
    for neuron, rise in reader.rises(NeuronSet.of(neurons.layout, held)):
        if neuron in neurons:
            tokens[neuron] = reader.extremes(rise, TOKENS)
        for fact, condition in held[neuron]:
            place = (fact.index, fact.fact.relation, str(neuron), condition)
            rows.append((*place, _rank(rise, next(iter(fact.queries.values())).first.answer_id), len(rise)))
    ranks = pl.DataFrame(rows, schema=RANKS, orient="row").sort("fact", "condition", maintain_order=True)
    return {"value_tokens": ranked_tokens(model, {n: tokens[n] for n in neurons}), "answer_ranks": ranks}


def _held(asked: Sequence[AskedFact], own: Mapping[int, NeuronSet], seed: int) -> Held:
    held: dict[Neuron, list[tuple[AskedFact, str]]] = {}
    for fact in asked:
        sets = {"located": own[fact.index]}
        drawn = int(np.random.SeedSequence([seed, fact.index]).generate_state(1)[0])
        with suppress(NeuronError):  # a fact that takes more than half of a layer leaves too few to draw from
            sets["random"] = own[fact.index].random_like(drawn)
        for condition, found in sets.items():
            for neuron in found:
                held.setdefault(neuron, []).append((fact, condition))
    return held


def _rank(rise: Tensor, token: int) -> float:
    """1 for the token that is promoted most; tokens that rise alike share the mean of their ranks."""
    return float(torch.count_nonzero(rise > rise[token]) + (1 + torch.count_nonzero(rise == rise[token])) / 2)
