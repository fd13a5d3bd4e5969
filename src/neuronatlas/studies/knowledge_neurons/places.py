"""How many neurons a fact has, in which layers they lie, and how many two facts share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from neuronatlas.statistics import DRAWS, Interval, mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import Study, Tables, all_and_each, frame
from neuronatlas.studies.locating import AskedFact

__all__ = ["places"]

COUNTS = {"relation": pl.String, "rule": pl.String, "n_facts": pl.Int64, "without": pl.Float64}
LAYERS = {"rule": pl.String, "layer": pl.Int64}
SHARED = {"pairs": pl.String, "n_pairs": pl.Int64}
_INTERVAL = {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def places(study: Study) -> Tables:
    """Tables `neuron_counts`, `layer_shares` and `sharing_means`, with bootstrap intervals over facts.

    A mean number of neurons is over facts, over all relations the unweighted mean of theirs, as is the share of a
    layer: the neurons of the facts that lie in it over all their neurons. Sharing is a mean over pairs of facts.
    """
    rules = study.settings.locate.rules
    return {
        "neuron_counts": pl.concat([_counts(study, rule) for rule in rules]),
        "layer_shares": pl.concat([_layers(study, rule) for rule in rules]),
        "sharing_means": _sharing(study),
    }


def _counts(study: Study, rule: str) -> pl.DataFrame:
    groups = {name: _sizes(study, facts, rule) for name, facts in study.relations.items()}
    rows = []
    for name, parts in all_and_each(groups).items():
        found = mean_of_ratios_of_means([np.stack([s, np.ones(len(s))], axis=1) for s in parts], seed=study.seed)
        without = float(np.mean([np.mean(sizes == 0) for sizes in parts]))
        n_facts = sum(map(len, parts))
        rows.append((name, rule, n_facts, without, found.estimate, found.low, found.high))
    return frame(rows, COUNTS | _INTERVAL)


def _sizes(study: Study, facts: Sequence[AskedFact], rule: str) -> Float[np.ndarray, " fact"]:
    return np.array([len(study.of(fact, rule=rule)) for fact in facts], dtype=np.float64)


def _layers(study: Study, rule: str) -> pl.DataFrame:
    groups = [
        np.array([study.of(fact, rule=rule).layer_histogram() for fact in facts], dtype=np.float64)
        for facts in study.relations.values()
    ]
    rows = []
    for layer in range(study.layout.n_layers):
        sums = [np.stack([counts[:, layer], counts.sum(1)], axis=1) for counts in groups]
        found = mean_of_ratios_of_means(sums, seed=study.seed)
        rows.append((rule, layer, found.estimate, found.low, found.high))
    return frame(rows, LAYERS | _INTERVAL)


def _sharing(study: Study) -> pl.DataFrame:
    place = {
        neuron: index for index, neuron in enumerate(sorted({n for f in study.asked.values() for n in study.of(f)}))
    }
    rng, total, within = np.random.default_rng(study.seed), _Pairs(), _Pairs()
    for facts in study.relations.values():
        members = np.zeros((len(facts), len(place)))
        for row, fact in enumerate(facts):
            members[row, [place[neuron] for neuron in study.of(fact)]] = 1
        weights = rng.multinomial(len(facts), np.full(len(facts), 1 / len(facts)), size=DRAWS).astype(np.float64)
        part = _Pairs.of(members, np.concatenate([np.ones((1, len(facts))), weights]))
        within, total = within.beside(part), total.with_all(part)
    rows = []
    for name, pairs in (("one relation", within), ("two relations", total.less(within))):
        found, n_pairs = pairs.interval()
        rows.append((name, n_pairs, found.estimate, found.low, found.high))
    return frame(rows, SHARED | _INTERVAL)


class _Pairs:
    """Neurons shared by pairs of facts, and pairs, in each draw of the bootstrap; the first draw takes each fact once.

    A fact drawn twice makes no pair with itself.
    """

    def __init__(self) -> None:
        self.counts: Float[np.ndarray, "draw neuron"] = np.zeros((DRAWS + 1, 0))
        self.own = self.facts = self.squares = self.shared = self.pairs = np.zeros(DRAWS + 1)

    @classmethod
    def of(cls, members: Float[np.ndarray, "fact neuron"], weights: Float[np.ndarray, "draw fact"]) -> _Pairs:
        """Those of one relation."""
        found = cls()
        found.counts, found.own = weights @ members, weights**2 @ members.sum(1)
        found.facts, found.squares = weights.sum(1), (weights**2).sum(1)
        found._count()
        return found

    def _count(self) -> None:
        self.shared = ((self.counts**2).sum(1) - self.own) / 2
        self.pairs = (self.facts**2 - self.squares) / 2

    def beside(self, other: _Pairs) -> _Pairs:
        """The pairs of both, none across."""
        found = _Pairs()
        found.shared, found.pairs = self.shared + other.shared, self.pairs + other.pairs
        return found

    def with_all(self, other: _Pairs) -> _Pairs:
        """The pairs of both and those across."""
        found = _Pairs()
        found.counts = other.counts if not self.counts.shape[1] else self.counts + other.counts
        found.own, found.facts = self.own + other.own, self.facts + other.facts
        found.squares = self.squares + other.squares
        found._count()
        return found

    def less(self, other: _Pairs) -> _Pairs:
        """These pairs without those."""
        found = _Pairs()
        found.shared, found.pairs = self.shared - other.shared, self.pairs - other.pairs
        return found

    def interval(self) -> tuple[Interval, int]:
        """Mean neurons a pair shares, and how many pairs there are."""
        if not self.pairs[0]:
            return Interval(float("nan"), float("nan"), float("nan")), 0
        means = np.divide(self.shared, self.pairs, out=np.full(len(self.pairs), np.nan), where=self.pairs > 0)
        low, high = np.nanquantile(means[1:], [0.025, 0.975])
        return Interval(float(means[0]), float(low), float(high)), round(self.pairs[0])
