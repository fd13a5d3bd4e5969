"""Interactions: what the neurons of a fact do together, beyond what each of them does alone.

The game: its players are neurons, and the value of a set is the log-odds of the answer (or P) with the neurons of the
set multiplied by the gain at the answer's place, mean over the fact's prompts. What pairs do is told in two ways: with
all other neurons left as they are (joint effect less the two single ones), and by the Shapley interaction index, in
which the others are in all companies (see `coalitions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.knowledge.coalitions import Remembered, exact_interactions, sampled_interactions, sets_asked
from neuronatlas.knowledge.effects import DEFAULT_BUDGET, Trial, run_trials
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.pair_kinds import PairValues, pair_columns
from neuronatlas.models.hooks import InterventionError
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query
from neuronatlas.neurons import NeuronSet

__all__ = ["EXACT_UP_TO", "MEASURES", "ROUNDS", "Interactions", "Measure", "interactions"]

Measure = Literal["log_odds", "p"]
MEASURES: tuple[Measure, ...] = ("log_odds", "p")

EXACT_UP_TO = 10
"""Neurons of which all sets are run, up to 1,024 of them: for more, sampling asks for fewer."""

ROUNDS = 16
"""Estimates of the index of every pair, where there are more neurons."""

_SETS_AT_ONCE = 512
_ROUNDING = 16
"""Differences of fewer units in the last place of the largest value are taken for rounding."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """What pairs of neurons do together to a fact's answer.

    `pairs` has a row for each measure (`log_odds`, in nats, or `p`) and pair of neurons `a`, `b` (see `interactions`).
    `whole` has a row for each measure: `single_sum`, the effects of the neurons one by one, added up; `joint`, the
    effect of all at once; `rest`, the second less the first; `before`, the measure of the untouched model; means over
    the `n_prompts` prompts. `way`: `exact` (all sets of neurons) or `sampled` (`rounds` estimates).
    """

    fact: Fact
    neurons: NeuronSet
    gain: float
    way: Literal["exact", "sampled"]
    rounds: int
    n_prompts: int
    pairs: pl.DataFrame
    whole: pl.DataFrame

    def matrix(
        self, value: str = "interaction", measure: Measure = "log_odds", *, alone: bool = False
    ) -> Float[np.ndarray, "neuron neuron"]:
        """A column of `pairs` as a symmetric matrix in address order.

        On the diagonal is NaN or, if `alone`, the effect of each neuron alone.

        Errors: InterventionError for a column that is none of `pairs`, or not of numbers.
        """
        rows = self.pairs.filter(pl.col("measure") == measure)
        if value not in rows.columns or not rows[value].dtype.is_numeric():
            raise InterventionError(f"no numbers {value!r} in pairs: take interaction, shapley, joint or another")
        found = np.full((len(self.neurons), len(self.neurons)), np.nan)
        upper = np.triu_indices(len(self.neurons), 1)
        found[upper] = rows[value].to_numpy()
        found.T[upper] = found[upper]
        if alone:
            np.fill_diagonal(found, [rows["a_alone"][0], *rows["b_alone"].head(len(self.neurons) - 1)])
        return found


def interactions(
    model: Model,
    fact: Fact,
    neurons: NeuronSet,
    *,
    gain: float = 0.0,
    exact_up_to: int = EXACT_UP_TO,
    rounds: int = ROUNDS,
    position: str | int = "answer",
    seed: int = 0,
    budget: int = DEFAULT_BUDGET,
    progress: bool = False,
) -> Interactions:
    """Compare what pairs of a fact's neurons do together with what each does alone, when multiplied by the gain.

    Columns of `pairs`: measure; a, b; a_alone, b_alone and joint (changes of the measure, mean over prompts);
    interaction (joint less both single ones) with low and high, a 95 % t interval over prompts, and q, its p-value
    corrected for the number of pairs (Benjamini and Hochberg); shapley, the Shapley interaction index (Grabisch and
    Roubens 1999), with shapley_low and shapley_high over prompts and shapley_error, the standard error of sampling
    (0 where all sets were run); kind, by the rule of `pair_kinds`: redundancy, degenerate, synergy, mixed, none found
    or untested.

    Up to `exact_up_to` neurons all of their sets are run, for more `rounds` samples of the index of each pair are
    drawn, about n^2 sets each. Rows with different neurons share passes of at most `budget` token positions.

    Errors: InterventionError for fewer than two neurons, a gain of 1 or one that is not finite, or no rounds;
    FactError, QueryError; LayoutMismatchError when the neurons are not of this model as it is now.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK].", "[MASK] rules France."])
    >>> found = na.interactions(model, fact, model.layout().set(["L2.U1", "L3.U5", "L3.U7"]))
    >>> found.way, found.pairs.height, found.matrix("shapley").shape
    ('exact', 6, (3, 3))
    """
    _check(neurons, gain, rounds)
    model.layout(neurons.layout.site).require(neurons.layout)
    queries = list(fact_queries(model, fact, position=position, site=neurons.layout.site).values())
    exact, n = len(neurons) <= exact_up_to, len(neurons)
    total = 1 + 2 * n + math.comb(n, 2) + ((1 << n) if exact else sets_asked(n, rounds))
    with tqdm(total=total, desc="sets of neurons", disable=not progress) as bar:
        ask = _Asked(model, queries, neurons, gain, budget)
        game = Remembered(ask)

        def counted(sets: Sequence[int]) -> Float[np.ndarray, "set item"]:
            found = [game(sets[start : start + _SETS_AT_ONCE]) for start in _starts(sets, bar)]
            return np.concatenate(found)

        single = counted([0, (1 << n) - 1, *(1 << i for i in range(n))])
        joint = counted([1 << i | 1 << j for i, j in combinations(range(n), 2)])
        drawn = (
            exact_interactions(counted, n)[None]
            if exact
            else sampled_interactions(counted, n, rounds, np.random.default_rng(seed))
        )
    finest = _resolution(model, single[:, : len(queries)])
    values = [
        PairValues.of(single[2:, part], joint[:, part], single[0, part], drawn[..., part], finest)
        for part in (slice(k * len(queries), (k + 1) * len(queries)) for k in range(len(MEASURES)))
    ]
    pairs = [
        pair_columns(list(map(str, neurons)), each, name, gain) for name, each in zip(MEASURES, values, strict=True)
    ]
    whole = _whole(single.reshape(n + 2, len(MEASURES), len(queries)).mean(2))
    way: Literal["exact", "sampled"] = "exact" if exact else "sampled"
    return Interactions(fact, neurons, gain, way, 0 if exact else rounds, len(queries), pl.concat(pairs), whole)


class _Asked:
    """The game as the model plays it: sets of neurons to the log-odds on every prompt, then P on every prompt."""

    def __init__(self, model: Model, queries: Sequence[Query], neurons: NeuronSet, gain: float, budget: int) -> None:
        self.model, self.queries, self.neurons, self.gain, self.budget = model, queries, neurons, gain, budget

    def __call__(self, sets: Sequence[int]) -> Float[np.ndarray, "set item"]:
        members = self.neurons.members
        scaled = [
            NeuronSet(self.neurons.layout, tuple(neuron for i, neuron in enumerate(members) if mask >> i & 1))
            for mask in sets
        ]
        trials = [Trial(asked, some, self.gain) for some in scaled for asked in self.queries]
        outcomes = list(run_trials(self.model, trials, budget=self.budget))
        found = np.array([[o.log_odds for o in outcomes], [o.probability for o in outcomes]])
        if not np.isfinite(found).all():
            raise InterventionError("P of an answer of several tokens is 1 to the last digit: it has no log-odds")
        return found.reshape(len(MEASURES), len(sets), len(self.queries)).transpose(1, 0, 2).reshape(len(sets), -1)


def _starts(sets: Sequence[int], bar: tqdm) -> Iterable[int]:
    for start in range(0, len(sets), _SETS_AT_ONCE):
        yield start
        bar.update(min(_SETS_AT_ONCE, len(sets) - start))


def _check(neurons: NeuronSet, gain: float, rounds: int) -> None:
    if len(neurons) < 2:
        raise InterventionError(f"{len(neurons)} neurons have no interaction: two or more expected")
    if not math.isfinite(gain) or gain == 1:
        raise InterventionError(
            f"gain {gain:g} changes nothing that could be compared: take 0 to suppress, 2 to double"
        )
    if rounds < 2:
        raise InterventionError(f"rounds {rounds}: two or more expected, for a standard error")


def _resolution(model: Model, log_odds: Float[np.ndarray, "set item"]) -> float:
    """What rounding may do to differences of log-odds, and so of P, in the precision that the model computes in."""
    return _ROUNDING * torch.finfo(model.dtype).eps * max(1.0, float(np.abs(log_odds).max()))


def _whole(means: Float[np.ndarray, "set measure"]) -> pl.DataFrame:
    before, joint = means[0], means[1] - means[0]
    single = (means[2:] - before).sum(0)
    return pl.DataFrame(
        {
            "measure": list(MEASURES),
            "before": before,
            "single_sum": single,
            "joint": joint,
            "rest": joint - single,
        }
    )
