"""Ablation: what is left of a probe's accuracy when the top, bottom or random neurons of a ranking are gone.

A ranking judged by the probe that made it confounds the two (Antverg and Belinkov 2022): give a probe of another kind,
retrain, and test in the model as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64
from tqdm.auto import tqdm

from neuronatlas.probing.examples import Examples
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.scoring import Classifier, Hits, fitted, hits, majority_hits, refitted
from neuronatlas.probing.selection import Places, SelectionError, places_of
from neuronatlas.statistics import accuracy_interval

__all__ = ["ABLATED_SHARES", "Ablation", "ablation_curve", "ablations"]

ABLATED_SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of all neurons that an ablation curve looks at by default."""

Which = Literal["top", "bottom", "random"]
Mode = Literal["keep", "drop"]


@dataclass(frozen=True)
class Ablation:
    """A share of the neurons (top, bottom or random ones of a ranking), alone ("keep") or taken out ("drop").

    Not retrained, the neurons that are gone stand at their mean over train: 0 in the probe's standardised units.
    Retrained, a fresh probe never sees them.

    Errors: SelectionError for another word than those above, and for a share that is not above 0 and at most 1.
    """

    which: Which
    mode: Mode
    share: float
    retrained: bool = False

    def __post_init__(self) -> None:
        for name, given, known in (("which", self.which, get_args(Which)), ("mode", self.mode, get_args(Mode))):
            if given not in known:
                raise SelectionError(f"{name} is {given!r}: one of {', '.join(known)} expected")
        if not 0 < self.share <= 1:
            raise SelectionError(f"a share of {self.share}: above 0 and at most 1 expected")


def ablations(
    which: Sequence[Which] = get_args(Which),
    modes: Sequence[Mode] = ("keep",),
    shares: Sequence[float] = ABLATED_SHARES,
    retrained: Sequence[bool] = (False,),
) -> tuple[Ablation, ...]:
    """All combinations, shares running fastest.

    >>> [f"{a.mode} {a.which} {a.share}" for a in ablations(("top", "bottom"), shares=(0.1, 0.2))]
    ['keep top 0.1', 'keep top 0.2', 'keep bottom 0.1', 'keep bottom 0.2']
    """
    return tuple(Ablation(w, m, s, r) for m, r, w, s in product(modes, retrained, which, shares))


def ablation_curve(
    train: Examples,
    test: Examples,
    ranking: Ranking,
    plan: Sequence[Ablation] | None = None,
    *,
    probe: Classifier | None = None,
    draws: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> pl.DataFrame:
    """Accuracy on test under each ablation of the plan (`ablations()` without one).

    A probe that is fitted on these columns of train is used as it is; else a copy of it, or an ElasticNetProbe, is
    fitted. "random" is the mean over `draws` random orders of the neurons. Columns: which, mode, retrained, share,
    n_neurons (kept, or dropped), accuracy and its bootstrap 95 % interval over sentences (low, high), chance (accuracy
    of train's most frequent class), all shares from 0 to 1.

    Errors: SelectionError when the ranking lacks neurons of the examples, and without a draw; LayoutMismatchError for
    another model's ranking.

    >>> from neuronatlas.probing.activations import Activations
    >>> labels = ["A", "B"] * 20
    >>> values = np.stack([np.tile([0.0, 1.0], 20), np.tile([0.0, 0.0, 1.0, 1.0], 10)], axis=1)
    >>> examples = Examples.of(Activations.of(values), labels, ["w"] * 40, range(40))
    >>> ranking = Ranking(examples.acts.layout, np.array([0, 1]), method="by hand")
    >>> plan = ablations(("top", "bottom"), shares=(0.5,))
    >>> ablation_curve(examples, examples, ranking, plan, progress=False)["accuracy"].to_list()
    [1.0, 0.5]
    """
    plan = ablations() if plan is None else tuple(plan)
    if draws < 1:
        raise SelectionError(f"{draws} draws of random neurons: at least 1 expected")
    bench = _Bench(train, test, fitted(probe, train), _column_means(train))
    order = places_of(ranking, train)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(order) for _ in range(draws)]
    chance = float(majority_hits(train, test).mean())
    rows = []
    for ablation in tqdm(plan, desc="ablations", unit="ablation", disable=not progress):
        count = max(1, round(ablation.share * len(order)))
        orders = {"top": [order], "bottom": [order[::-1]], "random": shuffled}[ablation.which]
        right = np.mean([bench.right(ablation, named[:count]) for named in orders], axis=0)
        found = accuracy_interval(right, test.sentences, seed=seed)
        what = (ablation.which, ablation.mode, ablation.retrained, ablation.share, count)
        rows.append((*what, found.estimate, found.low, found.high, chance))
    return pl.DataFrame(rows, schema=_CURVE, orient="row")


_CURVE = {
    "which": pl.String,
    "mode": pl.String,
    "retrained": pl.Boolean,
    "share": pl.Float64,
    "n_neurons": pl.Int64,
    "accuracy": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "chance": pl.Float64,
}


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every ablation of a curve is measured with."""

    train: Examples
    test: Examples
    probe: Classifier
    means: Float32[np.ndarray, " column"]

    def right(self, ablation: Ablation, named: Places) -> Hits:
        """Where the probe is right under an ablation of the named columns."""
        rest = np.setdiff1d(np.arange(self.test.n_neurons), named)
        kept, gone = {"keep": (np.sort(named), rest), "drop": (rest, np.sort(named))}[ablation.mode]
        return self._relearned(kept) if ablation.retrained else self._masked(gone)

    def _masked(self, gone: Places) -> Hits:
        found = np.empty(len(self.test), dtype=bool)
        for rows, block in self.test.acts.chunks():
            masked = np.array(block)
            masked[:, gone] = self.means[gone]
            found[rows] = np.asarray(self.probe.predict(masked)) == self.test.labels[rows]
        return found

    def _relearned(self, kept: Places) -> Hits:
        if not len(kept):
            return majority_hits(self.train, self.test)
        return hits(refitted(self.probe, self.train.take_columns(kept)), self.test.take_columns(kept))


def _column_means(examples: Examples) -> Float32[np.ndarray, " column"]:
    """Mean of each column, summed in float64, chunk by chunk."""
    total: Float64[np.ndarray, " column"] = np.zeros(examples.n_neurons)
    for _, block in examples.acts.chunks():
        total += block.sum(axis=0, dtype=np.float64)
    return (total / len(examples)).astype(np.float32)
