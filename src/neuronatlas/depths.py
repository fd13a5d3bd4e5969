"""At which depth neurons lie: how far one set lies from another, and how far a set is from an even spread.

Depth is 0 in a site's first layer and 1 in its last, so that models of different depth compare. Every function takes
numbers of neurons by layer, as `NeuronSet.layer_histogram` gives them. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from neuronatlas.statistics import DRAWS, Interval, StatisticsError, permutation_p_value, unbiased_interval

__all__ = [
    "Localisation",
    "Shift",
    "depth_distance",
    "layer_depths",
    "layer_shift",
    "localisation",
    "localisation_index",
    "mean_depth",
]

Counts = Int[np.ndarray, " layer"]
Draws = Int[np.ndarray, "draw layer"]
Numbers = Float[np.ndarray, "*draw"]
_NAN = float("nan")
_NOTHING = Interval(_NAN, _NAN, _NAN)


@dataclass(frozen=True)
class Shift:
    """How far the second of two sets lies from the first, in units of depth.

    `moved` is the mean depth of the second less that of the first: below 0 the second lies in lower layers. `distance`
    is the earth mover's distance between the two distributions over depth (Wasserstein-1): what has to be carried how
    far, so at least |moved|; it tells of a change that moves no mean. Both with a bootstrap interval over neurons.
    `expected` is the mean distance where only chance tells the sets apart, `p_value` how often chance gives a distance
    as large, and `p_moved` how often it moves the mean as far, up or down.
    """

    n_first: int
    n_second: int
    moved: Interval
    distance: Interval
    expected: float
    p_value: float
    p_moved: float


@dataclass(frozen=True)
class Localisation:
    """How far a set of neurons is from an even spread over layers: 0 for none, 1 for all in the narrowest layer.

    `index` is the plain index with a bootstrap interval over neurons, `chance` that of equally many neurons drawn at
    random (mean, and the range of 95 % of the draws), for a small set is never quite even. `excess` is what is beyond
    chance, (index - chance) / (1 - chance), the number to compare sets of different sizes by; `p_value` is how often
    random neurons are as localised.
    """

    n: int
    index: Interval
    chance: Interval
    excess: Interval
    p_value: float


def layer_depths(n_layers: int) -> Float[np.ndarray, " layer"]:
    """The depth of each of a site's layers, evenly from 0 to 1; 0 for a single layer.

    >>> layer_depths(5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return np.linspace(0.0, 1.0, n_layers)


def mean_depth(counts: ArrayLike, *, seed: int, draws: int = DRAWS, level: float = 0.95) -> Interval:
    """Mean depth of a set with a percentile bootstrap over its neurons; NaN for an empty set.

    >>> mean_depth([0, 0, 4], seed=0)
    Interval(estimate=1.0, low=1.0, high=1.0)
    """
    own = _checked(counts)
    if not own.sum():
        return _NOTHING
    depths = layer_depths(len(own))
    rng = np.random.default_rng(seed)
    means = rng.multinomial(own.sum(), own / own.sum(), size=draws) @ depths / own.sum()
    low, high = np.quantile(means, _ends(level))
    return Interval(float(own @ depths / own.sum()), float(low), float(high))


def depth_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Earth mover's distance (Wasserstein-1) between two histograms over layers, in units of depth; NaN for none.

    The histograms may have different numbers of layers, and of neurons: shares are compared.

    >>> depth_distance([1, 0, 0], [0, 0, 1]), depth_distance([2, 2], [1, 0, 1]), depth_distance([1, 0, 1], [0, 1, 0])
    (1.0, 0.0, 0.5)
    """
    ours, theirs = _checked(first), _checked(second)
    return float(_distances(ours[None], theirs[None])[0]) if ours.sum() and theirs.sum() else _NAN


def layer_shift(
    first: ArrayLike,
    second: ArrayLike,
    *,
    shared: ArrayLike | None = None,
    seed: int,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Shift:
    """How far and in which direction a second set lies from a first one, over depth.

    `first` [layer] and `second` [layer] count neurons; the two may be of models of different depth. `shared` [layer]
    counts those that are in both where the two are addresses of one shape: then the bootstrap draws whole neurons, with
    what they belong to, and only the neurons of one set alone are exchanged, as it should be where sets depend on
    each other. Chance is, where the layers are equally many, an exchange of neurons between the sets (a permutation
    test); else both sets are drawn anew from the pooled distribution over depth, each onto its own layers, so that the
    mere difference of the layers does not count as a shift. Of an empty set all is NaN.

    Errors: StatisticsError for what are no counts, or more shared than there are.

    >>> found = layer_shift([0, 0, 20], [20, 0, 0], seed=0)
    >>> found.moved.estimate, found.distance.estimate, found.p_value < 0.001
    (-1.0, 1.0, True)
    """
    ours, theirs = _checked(first), _checked(second)
    both = _checked_shared(shared, ours, theirs)
    n_ours, n_theirs = int(ours.sum()), int(theirs.sum())
    if not n_ours or not n_theirs:
        return Shift(n_ours, n_theirs, _NOTHING, _NOTHING, _NAN, _NAN, _NAN)
    rng = np.random.default_rng(seed)
    moved, distance = float(_moves(ours[None], theirs[None])[0]), depth_distance(ours, theirs)
    drawn = _resampled(ours, theirs, both, draws, rng)
    by_chance = _exchanged(ours, theirs, both, draws, rng) if len(ours) == len(theirs) else None
    by_chance = by_chance or _redrawn(ours, theirs, draws, rng)
    distances, moves = _distances(*by_chance), np.abs(_moves(*by_chance))
    return Shift(
        n_first=n_ours,
        n_second=n_theirs,
        moved=_interval(moved, _moves(*drawn), level, -1.0),
        distance=_interval(distance, _distances(*drawn), level, 0.0),
        expected=float(distances.mean()),
        # A draw that is the same in other words must not fall short by its last bit.
        p_value=permutation_p_value(distance - 1e-12, distances),
        p_moved=permutation_p_value(abs(moved) - 1e-12, moves),
    )


def localisation_index(counts: ArrayLike, widths: ArrayLike) -> float:
    """How far a histogram over layers is from an even spread, without intervals: see `localisation`.

    >>> localisation_index([5, 5], [10, 10]), localisation_index([0, 5], [10, 10])
    (0.0, 1.0)
    """
    own, width = _checked_widths(counts, widths)
    return float(_indices(own[None], width)[0]) if own.sum() else _NAN


def localisation(
    counts: ArrayLike, widths: ArrayLike, *, seed: int, draws: int = DRAWS, level: float = 0.95
) -> Localisation:
    """How far a set of neurons is from an even spread over the layers of its pool.

    `counts` [layer] are the set's, `widths` [layer] those of all neurons that could have been in it. The index is the
    divergence of Kullback and Leibler of the set's shares from the widths' shares over its largest value, which is that
    of a set in the narrowest layer alone. Where layers are equally wide it is 1 - H / log(number of layers), with H
    the entropy of the shares. Intervals are bootstrap percentiles moved by the bootstrap's own bias, as resampling
    makes any histogram less even. Of an empty set, or where only one layer has neurons, all is NaN.

    Errors: StatisticsError for what are no counts, or more neurons in a layer than it has: count different neurons.

    >>> found = localisation([0, 30, 0, 0], [100, 100, 100, 100], seed=0)
    >>> found.index.estimate, found.excess.estimate, found.p_value < 0.001
    (1.0, 1.0, True)
    """
    own, width = _checked_widths(counts, widths)
    total = int(own.sum())
    if not total or np.count_nonzero(width) < 2:
        return Localisation(total, _NOTHING, _NOTHING, _NOTHING, _NAN)
    rng = np.random.default_rng(seed)
    estimate = float(_indices(own[None], width)[0])
    index = _interval(estimate, _indices(rng.multinomial(total, own / total, size=draws), width), level, 0.0)
    random = _indices(rng.multivariate_hypergeometric(width, total, size=draws, method="marginals"), width)
    chance = float(random.mean())
    low, high = np.quantile(random, _ends(level))

    def beyond(value: float) -> float:
        return (value - chance) / (1 - chance) if chance < 1 else _NAN

    return Localisation(
        n=total,
        index=index,
        chance=Interval(chance, float(low), float(high)),
        excess=Interval(beyond(index.estimate), beyond(index.low), beyond(index.high)),
        p_value=permutation_p_value(estimate - 1e-12, random),
    )


def _indices(draws: Draws, widths: Counts) -> Numbers:
    there = widths > 0
    even = widths[there] / widths.sum()
    shares = draws[:, there] / draws.sum(axis=1, keepdims=True)
    terms = shares * np.log(np.where(shares > 0, shares, 1.0) / even)
    most = -np.log(even.min())
    found: Numbers = np.where(shares > 0, terms, 0.0).sum(axis=1) / most if most > 0 else np.full(len(draws), _NAN)
    return found.clip(0.0, 1.0)


def _distances(first: Draws, second: Draws) -> Numbers:
    """Wasserstein-1 of each pair of rows: the area between the two cumulative distributions."""
    places = np.unique(np.concatenate([layer_depths(first.shape[1]), layer_depths(second.shape[1])]).round(12))
    between = np.abs(_cumulative(first, places) - _cumulative(second, places))[:, :-1]
    area: Numbers = between @ np.diff(places)
    return area


def _cumulative(draws: Draws, places: Float[np.ndarray, " place"]) -> Float[np.ndarray, "draw place"]:
    summed = np.cumsum(draws, axis=1) / draws.sum(axis=1, keepdims=True)
    last = np.searchsorted(layer_depths(draws.shape[1]).round(12), places, side="right") - 1
    found: Float[np.ndarray, "draw place"] = summed[:, last]
    return found


def _moves(first: Draws, second: Draws) -> Numbers:
    ours, theirs = (draws @ layer_depths(draws.shape[1]) / draws.sum(axis=1) for draws in (first, second))
    difference: Numbers = theirs - ours
    return difference


def _resampled(
    ours: Counts, theirs: Counts, both: Counts | None, draws: int, rng: np.random.Generator
) -> tuple[Draws, Draws]:
    if both is None:
        return tuple(rng.multinomial(n.sum(), n / n.sum(), size=draws) for n in (ours, theirs))  # type: ignore[return-value]
    kinds = np.concatenate([both, ours - both, theirs - both])
    drawn = rng.multinomial(kinds.sum(), kinds / kinds.sum(), size=draws)
    kept, only_ours, only_theirs = np.split(drawn, 3, axis=1)
    return _unless_empty(kept + only_ours, ours), _unless_empty(kept + only_theirs, theirs)


def _unless_empty(drawn: Draws, estimate: Counts) -> Draws:
    """A draw without any neuron of a set says nothing: it counts as the estimate itself."""
    found: Draws = np.where(drawn.sum(axis=1, keepdims=True) > 0, drawn, estimate)
    return found


def _exchanged(
    ours: Counts, theirs: Counts, both: Counts | None, draws: int, rng: np.random.Generator
) -> tuple[Draws, Draws]:
    kept = np.zeros_like(ours) if both is None else both
    single = ours + theirs - 2 * kept
    drawn = rng.multivariate_hypergeometric(single, int((ours - kept).sum()), size=draws, method="marginals")
    return kept + drawn, kept + single - drawn


def _redrawn(ours: Counts, theirs: Counts, draws: int, rng: np.random.Generator) -> tuple[Draws, Draws]:
    """Both sets anew from what they are together, taken as even within each layer's part of the depth."""
    edges = np.unique(np.concatenate([_edges(len(counts)) for counts in (ours, theirs)]))
    pooled = sum(counts.sum() * np.diff(_up_to(counts, edges)) for counts in (ours, theirs)) / (
        ours.sum() + theirs.sum()
    )
    summed = np.concatenate([[0.0], np.cumsum(pooled)])
    found = []
    for counts in (ours, theirs):
        shares = np.diff(np.interp(_edges(len(counts)), edges, summed))
        found.append(rng.multinomial(counts.sum(), shares / shares.sum(), size=draws))
    return found[0], found[1]


def _edges(n_layers: int) -> Float[np.ndarray, " edge"]:
    return (np.arange(n_layers + 1) / n_layers).round(12)


def _up_to(counts: Counts, edges: Float[np.ndarray, " edge"]) -> Float[np.ndarray, " edge"]:
    shares = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    summed: Float[np.ndarray, " edge"] = np.interp(edges, _edges(len(counts)), shares)
    return summed


def _interval(estimate: float, drawn: Numbers, level: float, least: float) -> Interval:
    return unbiased_interval(estimate, drawn, level=level, least=least)


def _ends(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _checked(counts: ArrayLike) -> Counts:
    row = np.asarray(counts)
    if row.ndim != 1 or not len(row) or row.dtype.kind not in "iu" or row.min() < 0:
        raise StatisticsError(f"{row.dtype}{list(row.shape)} are no counts: integers from 0 expected, one a layer")
    return row.astype(np.int64)


def _checked_shared(shared: ArrayLike | None, ours: Counts, theirs: Counts) -> Counts | None:
    if shared is None:
        return None
    both = _checked(shared)
    if not both.shape == ours.shape == theirs.shape or np.any(both > np.minimum(ours, theirs)):
        raise StatisticsError("more neurons shared in a layer than the smaller set has there, or of other layers")
    return both


def _checked_widths(counts: ArrayLike, widths: ArrayLike) -> tuple[Counts, Counts]:
    own, width = _checked(counts), _checked(widths)
    if own.shape != width.shape:
        raise StatisticsError(f"counts of {len(own)} layers for widths of {len(width)}: as many expected")
    if np.any(own > width):
        layer = int(np.flatnonzero(own > width)[0])
        raise StatisticsError(
            f"{own[layer]} neurons in layer {layer}, which has {width[layer]}: count each neuron once"
        )
    return own, width
