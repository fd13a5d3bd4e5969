"""Triggers: which texts activate the neurons of a fact or of a relation (Dai et al. 2022, section 4.2).

The paper takes the mean activation of a fact's neurons on sentences that hold its subject and its answer, its subject
alone, or neither. At which positions of a sentence is not known here: a neuron's value on a sentence is its highest
activation over the sentence's tokens, or their mean (`pooling`), and that of several neurons is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from neuronatlas.knowledge.extremes import Extremes, Placed
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.mentions import KINDS, Mentions, kind_of
from neuronatlas.models.model import Model
from neuronatlas.models.reading import TextBlock, TextError, read_activations, token_at
from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import StreamedMeans

__all__ = ["Triggers", "triggers", "triggers_of_many"]

MEANS = {"kind": pl.String, "n": pl.Int64, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}
SENTENCES = {
    "direction": pl.String,
    "rank": pl.Int64,
    "activation": pl.Float64,
    "kind": pl.String,
    "line": pl.Int64,
    "token": pl.String,
    "text": pl.String,
}


@dataclass(frozen=True, eq=False)
class Triggers:
    """What activates some neurons, of a fact or of a relation.

    `means`: kind (`KINDS`: what the sentences hold of the fact), n (sentences), mean (of the neurons' activation), low,
    high (95 % bootstrap interval over sentences). `sentences`: direction (`top`, `bottom`), rank (from 1), activation,
    kind, line (from 1), token (where the neuron that fires highest does), text; equal sentences count once in it.
    `n_cut` texts were longer than the model takes and read up to there; `n_empty` had no token.
    """

    label: str
    neurons: NeuronSet
    pooling: str
    means: pl.DataFrame
    sentences: pl.DataFrame
    k: int
    n_texts: int
    n_cut: int
    n_empty: int

    def precision(self, k: int) -> float:
        """Share of the k sentences that activate the neurons most which hold subject and answer; NaN without any.

        Of fewer sentences than k, the share of those. Errors: TextError for a k above the one that was asked for.
        """
        if not 1 <= k <= self.k:
            raise TextError(f"precision at {k}: the {self.k} top sentences were kept, ask for more")
        kinds = self.sentences.filter(pl.col("direction") == "top").head(k)["kind"].to_list()
        return kinds.count(KINDS[0]) / len(kinds) if kinds else float("nan")


@dataclass
class _Target:
    """A fact, or several of one relation, with neurons: what was seen so far."""

    facts: Sequence[Fact]
    columns: Int[np.ndarray, " neuron"]
    extremes: Extremes

    def values(self, block: TextBlock) -> Float[np.ndarray, " text"]:
        """Mean over the neurons of their pooled activations."""
        means: Float[np.ndarray, " text"] = block.values[:, self.columns].mean(1)
        return means

    def rank(self, block: TextBlock, values: Float[np.ndarray, " text"]) -> None:
        """Keep those of the block's texts that are among the extremes."""
        for row in self.extremes.wanted(values):
            loudest = self.columns[int(block.values[row, self.columns].argmax())]
            peak = int(block.peaks[row, loudest])
            self.extremes.add(Placed(float(values[row]), block.start + row, block.texts[row], peak))

    def members(self, mentions: Mentions, values: Float[np.ndarray, " text"]) -> Float[np.ndarray, "text kind"]:
        """Which kind each text is: 1 in that column, and 0 in all where it is empty."""
        kinds: Float[np.ndarray, "text kind"] = np.eye(len(KINDS))[mentions.kinds(self.facts)]
        kinds[~np.isfinite(values)] = 0.0
        return kinds


def triggers(
    model: Model,
    fact: Fact | Sequence[Fact],
    neurons: NeuronSet,
    texts: Iterable[str],
    *,
    pooling: str = "max",
    k: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Triggers:
    """Read texts and say which of them activate the neurons of a fact, or of several facts of one relation.

    `texts` is any stream of sentences, such as `na.read_texts("sentences.txt")`: a few hundred are held at a time.
    `pooling` is the highest activation over a sentence's tokens (`max`) or their `mean`.

    Errors: TextError for no neurons, no facts, an unknown pooling, or a sequence-to-sequence model;
    LayoutMismatchError.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> texts = ["Paris is the capital of France.", "France is large.", "The dog sleeps.", "A cat sat."]
    >>> found = na.triggers(model, fact, model.layout().set(["L3.U366", "L3.U779"]), texts, k=2, progress=False)
    >>> found.means["n"].to_list(), found.sentences.filter(direction="top").height
    ([1, 1, 0, 2], 2)
    """
    return triggers_of_many(model, [(fact, neurons)], texts, pooling=pooling, k=k, seed=seed, progress=progress)[0]


def triggers_of_many(
    model: Model,
    targets: Sequence[tuple[Fact | Sequence[Fact], NeuronSet]],
    texts: Iterable[str],
    *,
    pooling: str = "max",
    k: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> list[Triggers]:
    """The triggers of many facts or relations, each with its neurons, by one reading of the texts: see `triggers`."""
    if not targets or not all(len(neurons) for _, neurons in targets):
        raise TextError("no neurons to read: each fact needs at least 1")
    if k < 1:
        raise TextError(f"{k} sentences: at least 1 expected")
    together = targets[0][1]
    for _, neurons in targets[1:]:
        together = together | neurons
    place = {neuron: column for column, neuron in enumerate(together)}
    seen = [
        _Target(_facts(fact), np.array([place[neuron] for neuron in neurons]), Extremes(k)) for fact, neurons in targets
    ]
    means = [StreamedMeans(len(KINDS)) for _ in seen]
    n_texts = n_cut = n_empty = 0
    with tqdm(desc="reading", unit="sentence", disable=not progress, total=_length(texts)) as bar:
        for block in read_activations(model, texts, together, pooling=pooling):
            mentions = Mentions(block.texts)
            weights = StreamedMeans.weights(len(block.texts), seed, block.start)
            for target, mean in zip(seen, means, strict=True):
                values = target.values(block)
                target.rank(block, values)
                mean.add(np.nan_to_num(values), target.members(mentions, values), weights)
            n_texts, n_cut = n_texts + len(block.texts), n_cut + int(block.cut.sum())
            n_empty += int(np.isnan(block.values[:, 0]).sum())
            bar.update(len(block.texts))
    return [
        Triggers(
            target.facts[0].label if len(target.facts) == 1 else target.facts[0].relation,
            neurons,
            pooling,
            _means(mean),
            _sentences(model, target),
            k,
            n_texts,
            n_cut,
            n_empty,
        )
        for target, mean, (_, neurons) in zip(seen, means, targets, strict=True)
    ]


def _facts(fact: Fact | Sequence[Fact]) -> list[Fact]:
    facts = [fact] if isinstance(fact, Fact) else list(fact)
    if not facts:
        raise TextError("no facts to look for in the texts: at least 1 expected")
    return facts


def _length(texts: Iterable[str]) -> int | None:
    return len(texts) if isinstance(texts, list | tuple) else None


def _means(mean: StreamedMeans) -> pl.DataFrame:
    intervals = zip(KINDS, mean.counts(), mean.intervals(), strict=True)
    rows = [(kind, count, found.estimate, found.low, found.high) for kind, count, found in intervals]
    return pl.DataFrame(rows, schema=MEANS, orient="row")


def _sentences(model: Model, target: _Target) -> pl.DataFrame:
    rows = []
    rank = {"top": 0, "bottom": 0}
    for direction, placed in target.extremes.ranked():
        rank[direction] += 1
        kind, token = kind_of(placed.text, target.facts), token_at(model, placed.text, placed.peak)
        rows.append((direction, rank[direction], placed.value, kind, placed.index + 1, token, placed.text))
    return pl.DataFrame(rows, schema=SENTENCES, orient="row")
