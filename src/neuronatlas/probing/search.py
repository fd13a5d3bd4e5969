"""The choice of l1 and l2: a grid of fits, judged on dev by accuracy or by what ablation makes of the ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from sklearn.base import clone
from tqdm.auto import tqdm

from neuronatlas.probing.ablation import ablation_curve, ablations
from neuronatlas.probing.columns import ProbeError
from neuronatlas.probing.examples import Examples
from neuronatlas.probing.probe import ElasticNetProbe, path
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.scoring import hits

__all__ = ["L1S", "L2S", "SCORES", "Searched", "search"]

L1S = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
L2S = (1e-2, 1e-3, 1e-4)
KEPT_SHARE = 0.2
"""Share of the neurons that the ablation score keeps, from the top and from the bottom of the ranking."""

Score = Callable[[float, float, float, float], float]


@dataclass(frozen=True, eq=False)
class Searched:
    """The probe that was chosen, and all that were tried.

    `tried` has a row a fit: l1, l2, accuracy on dev, top and bottom (accuracy on dev when only these neurons are
    kept, the others at their mean), score, n_nonzero, gap.
    """

    probe: ElasticNetProbe
    tried: pl.DataFrame


def _by_accuracy(accuracy: float, _best: float, _top: float, _bottom: float) -> float:
    return accuracy


def _by_ablation(accuracy: float, best: float, top: float, bottom: float) -> float:
    return (top - bottom) / 2 - (best - accuracy) / 2


SCORES: dict[str, Score] = {"dev": _by_accuracy, "ablation": _by_ablation}
"""Ways to judge a fit: `dev` by accuracy, `ablation` by half of (top - bottom) less half of the accuracy lost.

The second follows the grid search of Dalvi et al. (2019): a good ranking separates the neurons that matter from those
that do not, and regularisation must not cost accuracy, here against the best fit of the grid.
"""


def search(
    probe: ElasticNetProbe,
    train: Examples,
    dev: Examples,
    *,
    by: str = "dev",
    l1s: Sequence[float] = L1S,
    l2s: Sequence[float] = L2S,
    progress: bool = True,
) -> Searched:
    """Fit every pair of l1 and l2, warm-started along l1, and choose the one of the highest score.

    Ties go to the larger l1, then the larger l2: fewer neurons. `probe` gives the other settings.

    Errors: ProbeError for an unknown score or an empty grid.

    >>> import numpy as np
    >>> from neuronatlas.probing.activations import Activations
    >>> values = np.random.default_rng(0).standard_normal((200, 6))
    >>> labels = np.where(values[:, 3] > 0, "yes", "no")
    >>> examples = Examples.of(Activations.of(values), labels, ["w"] * 200, range(200))
    >>> found = search(ElasticNetProbe(), examples, examples, l1s=(0.1, 0.01), l2s=(0.01,), progress=False)
    >>> found.tried.height, found.probe.l1 in {0.1, 0.01}
    (2, True)
    """
    if by not in SCORES:
        raise ProbeError(f"no score {by!r} to search by: expected one of {', '.join(SCORES)}")
    if not l1s or not l2s:
        raise ProbeError("the grid is empty: at least one l1 and one l2 expected")
    falling = sorted(set(l1s), reverse=True)
    fits: list[ElasticNetProbe] = []
    with tqdm(total=len(falling) * len(set(l2s)), desc="l1, l2", unit="fit", disable=not progress) as bar:
        for l2 in sorted(set(l2s), reverse=True):
            for fit in path(clone(probe).set_params(l2=l2), train.acts, train.labels, falling):
                assert isinstance(fit, ElasticNetProbe)
                fits.append(fit)
                bar.update()
    rows = [_tried(fit, train, dev) for fit in fits]
    best = max(row["accuracy"] for row in rows)
    for row in rows:
        row["score"] = SCORES[by](row["accuracy"], best, row["top"], row["bottom"])
    chosen = max(range(len(fits)), key=lambda index: (rows[index]["score"], rows[index]["l1"], rows[index]["l2"]))
    return Searched(fits[chosen], pl.DataFrame(rows))


def _tried(fit: ElasticNetProbe, train: Examples, dev: Examples) -> dict[str, float]:
    ranking = rank(train.acts, train.labels, method="lca", probe=fit, progress=False)
    plan = ablations(("top", "bottom"), shares=(KEPT_SHARE,))
    curve = ablation_curve(train, dev, ranking, plan, probe=fit, progress=False)
    top, bottom = curve["accuracy"].to_list()
    return {
        "l1": fit.l1,
        "l2": fit.l2,
        "accuracy": float(hits(fit, dev).mean()),
        "top": top,
        "bottom": bottom,
        "n_nonzero": float((fit.coef_ != 0).any(axis=0).sum()),
        "gap": fit.gap_,
    }
