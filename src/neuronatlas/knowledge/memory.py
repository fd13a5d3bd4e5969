"""The feed-forward layer as a key-value memory: what a neuron's value slot writes, and the texts that its key matches.

A neuron's key is what it fires on, its value slot what it then adds to the residual stream (Geva et al. 2021; Dai et
al. 2022, section 2). Seen through the output embedding, a value slot promotes some tokens and demotes others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from neuronatlas.knowledge.attribution import Attribution, attribute_queries, suiting_queries
from neuronatlas.knowledge.extremes import Extremes, Placed
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.answers import token_names
from neuronatlas.models.direct import direct_maps, output_embedding
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, QueryError, Step, spread
from neuronatlas.models.reading import TextError, read_activations, token_at
from neuronatlas.models.slots import value_slots
from neuronatlas.neurons import Neuron, NeuronSet

__all__ = ["ValueReader", "key_prompts", "key_texts", "ranked_prompts", "ranked_tokens", "spread_steps", "value_tokens"]

DEFAULT_TOKENS, DEFAULT_TEXTS = 10, 5
STATES = 16
"""Prompts at whose states value slots are seen through the output embedding."""
_AT_ONCE = 256

TOKENS = {
    "neuron": pl.String,
    "direction": pl.String,
    "rank": pl.Int64,
    "token": pl.String,
    "token_id": pl.Int64,
    "rise": pl.Float64,
}
PROMPTS = {"neuron": pl.String, "rank": pl.Int64, "activation": pl.Float64, "fact": pl.Int64, "text": pl.String}
TEXTS = {
    "neuron": pl.String,
    "rank": pl.Int64,
    "activation": pl.Float64,
    "token": pl.String,
    "line": pl.Int64,
    "text": pl.String,
}


@dataclass(frozen=True, eq=False)
class ValueReader:
    """Sees value slots through the output embedding, as this model does at the answer's place of some prompts.

    `rises` says how fast each token's logit rises with a neuron's activation, above the mean over all tokens, when the
    change travels on direct paths alone: the residual stream, every norm on it, and the whole output head (a final
    norm; BERT's dense layer, activation and norm), but no other neuron or head. Norms and activations bend, so each
    prompt's state gives a linear map of its own (the Jacobian there) and the mean over the prompts is taken. Where the
    head is the output embedding alone, with no norm on the way, this is its rows times the value slot.
    """

    model: Model
    maps: tuple[Float[Tensor, "output width"], ...]
    rows: Float[Tensor, "token output"]

    @classmethod
    def at(cls, model: Model, steps: Sequence[Step], *, budget: int = 2048) -> ValueReader:
        """The reader for the states at the answer's place of some steps; DirectError where the model has none."""
        if not steps:
            raise ValueError("no prompts whose states value slots could be seen at: at least 1 expected")
        maps = direct_maps(model, steps, budget=budget)
        return cls(model, tuple(maps), output_embedding(model).weight.detach().double())

    def rises(self, neurons: NeuronSet) -> Iterator[tuple[Neuron, Float[Tensor, " token"]]]:
        """Each neuron, by layer and expert, with the rise of every token's logit per unit of its activation.

        Errors: SlotError for a neuron whose value slot is not found; LayoutMismatchError.
        """
        self.model.layout(neurons.layout.site).require(neurons.layout)
        for layer in neurons.units():
            # Layer by layer: where layers share their weights, each has its own norms above it.
            here = NeuronSet(neurons.layout, tuple(n for n in neurons if n.layer == layer))
            through = self.maps[layer].to(self.rows)
            for slots in value_slots(self.model, here):
                values = slots.read().to(self.rows)
                for start in range(0, len(values), _AT_ONCE):
                    found = (values[start : start + _AT_ONCE] @ through.T) @ self.rows.T
                    found -= found.mean(1, keepdim=True)
                    yield from zip(slots.neurons[start : start + _AT_ONCE], found, strict=True)

    @staticmethod
    def extremes(rise: Float[Tensor, " token"], k: int) -> list[tuple[str, list[int], list[float]]]:
        """The ids of the k tokens that rise most (`up`) and least (`down`), with their rises."""
        high = torch.sort(rise, stable=True, descending=True).indices[:k]
        low = torch.sort(rise, stable=True).indices[:k]
        return [(name, ids.tolist(), rise[ids].tolist()) for name, ids in (("up", high), ("down", low))]


def value_tokens(
    model: Model, neurons: NeuronSet, facts: Fact | Sequence[Fact], *, k: int = DEFAULT_TOKENS
) -> pl.DataFrame:
    """The tokens that each neuron's value slot promotes and demotes most, at the answer's place of the facts' prompts.

    Columns: neuron, direction (`up`, `down`), rank (from 1), token, token_id, rise (of the token's logit above the mean
    token's, per unit of activation, along direct paths; see `ValueReader`). Of many prompts 16 are taken, evenly
    spread. Ties go by token id. What a neuron of an expert writes counts before the router's weight.

    Errors: QueryError when no prompt suits; DirectError and SlotError where the model does not let this be told;
    TextError for `k` below 1.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> table = na.value_tokens(model, model.layout().set(["L3.U366"]), fact, k=3)
    >>> table["direction"].to_list()
    ['up', 'up', 'up', 'down', 'down', 'down']
    """
    _check_count(k)
    reader = ValueReader.at(model, spread_steps(_queries(model, facts, neurons)))
    found = {neuron: reader.extremes(rise, k) for neuron, rise in reader.rises(neurons)}
    return ranked_tokens(model, {neuron: found[neuron] for neuron in neurons})


def ranked_tokens(model: Model, found: Mapping[Neuron, Sequence[tuple[str, list[int], list[float]]]]) -> pl.DataFrame:
    """The table of `value_tokens`, of what `ValueReader.extremes` found of each neuron."""
    rows: list[tuple[object, ...]] = []
    for neuron, extremes in found.items():
        for direction, ids, rises in extremes:
            ranked = zip(token_names(model, ids), ids, rises, strict=True)
            rows += [(str(neuron), direction, rank, *token) for rank, token in enumerate(ranked, start=1)]
    return pl.DataFrame(rows, schema=TOKENS, orient="row")


def key_prompts(
    model: Model, neurons: NeuronSet, facts: Fact | Sequence[Fact], *, k: int = DEFAULT_TEXTS, budget: int = 8192
) -> pl.DataFrame:
    """The prompts on which each neuron fires most, at the answer's place: what its key matches among these facts.

    Columns: neuron, rank (from 1), activation, fact (index), text. Of a prompt whose answer has several tokens, the
    highest activation over them. Ties go to the earlier prompt.

    Errors: QueryError when no prompt suits; TextError for `k` below 1; LayoutMismatchError.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> na.key_prompts(model, model.layout().set(["L3.U366"]), fact).select("neuron", "rank", "fact", "text").row(0)
    ('L3.U366', 1, 0, 'The capital of France is […].')
    """
    _check_count(k)
    model.layout(neurons.layout.site).require(neurons.layout)
    return ranked_prompts(model, neurons, _queries(model, facts, neurons), k=k, budget=budget)


def ranked_prompts(
    model: Model, neurons: NeuronSet, asked: Sequence[tuple[int, Query]], *, k: int, budget: int
) -> pl.DataFrame:
    """The table of `key_prompts`, of queries with the index of each one's fact."""
    if not asked or not len(neurons):
        return pl.DataFrame(schema=PROMPTS)
    values = np.concatenate(list(_activations(model, [query for _, query in asked], neurons, budget)))
    rows: list[tuple[object, ...]] = []
    for column, neuron in enumerate(neurons):
        order = np.argsort(-values[:, column], kind="stable")[:k]
        ranked = [(float(values[row, column]), asked[row][0], asked[row][1].text) for row in order]
        rows += [(str(neuron), rank, *found) for rank, found in enumerate(ranked, start=1)]
    return pl.DataFrame(rows, schema=PROMPTS, orient="row")


def key_texts(
    model: Model,
    neurons: NeuronSet,
    texts: Iterable[str],
    *,
    k: int = DEFAULT_TEXTS,
    progress: bool = True,
) -> pl.DataFrame:
    """The texts on which each neuron fires most, of a stream of any length: what its key matches.

    Columns: neuron, rank (from 1), activation (the highest over the text's tokens), token (where), line (from 1), text.

    Errors: TextError for a model whose texts cannot be read so, and `k` below 1; LayoutMismatchError.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> texts = ["Paris is the capital of France.", "The dog sleeps."]
    >>> na.key_texts(model, model.layout().set(["L3.U366"]), texts, k=1, progress=False).columns
    ['neuron', 'rank', 'activation', 'token', 'line', 'text']
    """
    _check_count(k)
    seen = [Extremes(k) for _ in neurons]
    total = len(texts) if isinstance(texts, list | tuple) else None
    with tqdm(desc="reading", unit="text", disable=not progress, total=total) as bar:
        for block in read_activations(model, texts, neurons):
            for column, extremes in enumerate(seen):
                values = block.values[:, column]
                for row in extremes.wanted(values):
                    peak = int(block.peaks[row, column])
                    extremes.add(Placed(float(values[row]), block.start + row, block.texts[row], peak))
            bar.update(len(block.texts))
    rows = [
        (str(neuron), rank, p.value, token_at(model, p.text, p.peak), p.index + 1, p.text)
        for neuron, extremes in zip(neurons, seen, strict=True)
        for rank, p in enumerate(extremes.top(), start=1)
    ]
    return pl.DataFrame(rows, schema=TEXTS, orient="row")


def _check_count(k: int) -> None:
    if k < 1:
        raise TextError(f"k is {k}: how many to show of each neuron, 1 or more, expected")


def spread_steps(queries: Sequence[tuple[int, Query]], most: int = STATES) -> list[Step]:
    """At most so many steps of the queries, evenly spread: whose states stand for all."""
    return spread([step for _, asked in queries for step in asked.steps], most)


def _queries(model: Model, facts: Fact | Sequence[Fact], neurons: NeuronSet) -> list[tuple[int, Query]]:
    """The prompts of facts that suit the model, at the answer's place, each with its fact's index."""
    many = [facts] if isinstance(facts, Fact) else list(facts)
    site, found, reasons = neurons.layout.site, [], ["there are no facts"]
    for index, fact in enumerate(many):
        queries, skipped = suiting_queries(model, fact, site=site)
        found += [(index, asked) for asked in queries.values()]
        reasons += skipped.values()
    if not found:
        raise QueryError(f"no prompt suits {model.name}: {reasons[-1]}")
    return found


def _activations(
    model: Model, queries: Sequence[Query], neurons: NeuronSet, budget: int
) -> Iterator[Float[np.ndarray, "query neuron"]]:
    """The neurons at the answer's place of each query, some queries at a time."""
    chosen = [neurons.layout.index(neuron) for neuron in neurons]
    for start in range(0, len(queries), _AT_ONCE):
        some = queries[start : start + _AT_ONCE]
        scores = attribute_queries(model, some, rule="activation", site=neurons.layout.site, budget=budget)
        yield np.stack([_highest(score)[chosen] for score in scores])


def _highest(score: Attribution) -> Float[np.ndarray, " neuron"]:
    found: Float[np.ndarray, " neuron"] = np.max([one.values for one in (score.tokens or (score,))], axis=0)
    return found
