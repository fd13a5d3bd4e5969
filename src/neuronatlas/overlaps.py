"""How many neurons two sets share, against what chance alone would give. Knows no model.

>>> layout = Layout(site="ffn", widths=(10, 10))
>>> first, second = layout.set(["L0.U0", "L0.U1", "L1.U0"]), layout.set(["L0.U1", "L1.U0", "L1.U5"])
>>> found = overlap(first, second)
>>> found.n_shared, found.jaccard, found.expected, round(found.p_value, 4)
(2, 0.5, 0.45, 0.0456)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.stats import hypergeom

from neuronatlas.neurons import Layout, LayoutMismatchError, NeuronError, NeuronSet
from neuronatlas.statistics import StatisticsError

__all__ = ["Overlap", "carried_over", "overlap", "overlap_of_counts"]

Counts = Int[np.ndarray, " layer"]
Chances = Float[np.ndarray, " count"]


@dataclass(frozen=True)
class Overlap:
    """How two sets of neurons overlap, and how two random sets would.

    `jaccard` is the share of the shared ones among those in either set; `of_first` and `of_second` are shares of one
    set. `expected` and `expected_jaccard` are the means for two sets of these sizes drawn from all neurons, and
    `p_value` is the probability that such sets share as many or more. `expected_in_layers` and `p_in_layers` are the
    same for sets that keep, each, its number of neurons in every layer: sets that lie in the same layers share more by
    chance alone, and only the second p-value discounts that. Shares of an empty set are NaN, its Jaccard is 0.
    """

    n_first: int
    n_second: int
    n_shared: int
    jaccard: float
    of_first: float
    of_second: float
    expected: float
    expected_jaccard: float
    p_value: float
    expected_in_layers: float
    p_in_layers: float


def overlap(first: NeuronSet, second: NeuronSet, pool: NeuronSet | None = None) -> Overlap:
    """Compare two sets of one layout; `pool` are the neurons that could have been in them, without one all.

    Errors: LayoutMismatchError for sets of different layouts (`carried_over` takes one to the other model's);
    NeuronError for neurons that are not in the pool.
    """
    first.layout.require(second.layout)
    widths = np.array(first.layout.widths)
    if pool is not None:
        for neurons in (first, second):
            if outside := len(neurons - pool):
                raise NeuronError(f"{outside} of {len(neurons)} neurons are not in the pool of {len(pool)}: widen it")
        widths = pool.layer_histogram()
    return overlap_of_counts(
        (first & second).layer_histogram(), first.layer_histogram(), second.layer_histogram(), widths
    )


def overlap_of_counts(shared: ArrayLike, first: ArrayLike, second: ArrayLike, widths: ArrayLike) -> Overlap:
    """The same from the numbers of neurons in each layer: shared, in each set, and in all (`widths`).

    The p-values are exact: that over all neurons is hypergeometric, that within layers the convolution of the layers'
    hypergeometric distributions.

    Errors: StatisticsError for counts that no two sets have.

    >>> found = overlap_of_counts([1, 0], [2, 0], [1, 1], [5, 5])
    >>> round(found.p_value, 4), found.expected_in_layers, round(found.p_in_layers, 4)
    (0.3778, 0.4, 0.4)
    """
    both, ours, theirs, width = _checked(shared, first, second, widths)
    n_both, n_ours, n_theirs, size = (int(counts.sum()) for counts in (both, ours, theirs, width))
    chance = _by_chance([n_ours], [n_theirs], [size])
    in_layers = _by_chance(ours.tolist(), theirs.tolist(), width.tolist())
    counts = np.arange(len(chance))
    either = np.maximum(n_ours + n_theirs - counts, 1)
    return Overlap(
        n_first=n_ours,
        n_second=n_theirs,
        n_shared=n_both,
        jaccard=n_both / max(n_ours + n_theirs - n_both, 1),
        of_first=n_both / n_ours if n_ours else float("nan"),
        of_second=n_both / n_theirs if n_theirs else float("nan"),
        expected=n_ours * n_theirs / max(size, 1),
        expected_jaccard=float(chance @ (counts / either)),
        p_value=_tail(chance, n_both),
        expected_in_layers=float((ours * theirs / np.maximum(width, 1)).sum()),
        p_in_layers=_tail(in_layers, n_both),
    )


def carried_over(neurons: NeuronSet, layout: Layout) -> NeuronSet:
    """The same addresses in another model of the same shape, such as a base model's in its fine-tuned child.

    Errors: LayoutMismatchError when site, stack, widths or experts differ; only the weights may.

    >>> base, child = Layout("ffn", (2, 2), digest="base"), Layout("ffn", (2, 2), digest="child")
    >>> carried_over(base.set(["L0.U1"]), child) <= child.set(["L0.U1", "L1.U0"])
    True
    """
    if replace(neurons.layout, digest=layout.digest) != layout:
        ours, theirs = _shape(neurons.layout), _shape(layout)
        raise LayoutMismatchError(
            f"neurons of {ours} cannot be compared one by one with those of {theirs}: compare their layers"
        )
    return NeuronSet(layout, neurons.members)


def _shape(layout: Layout) -> str:
    widths = sorted(set(layout.widths))
    each = f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
    experts = ", some in experts" if layout.experts else ""
    return f"{layout.n_layers} layers of {each} neurons at {layout.stack} {layout.site!r}{experts}"


def _checked(*given: ArrayLike) -> tuple[Counts, Counts, Counts, Counts]:
    rows = [np.asarray(counts) for counts in given]
    if any(row.ndim != 1 or row.shape != rows[3].shape or row.dtype.kind not in "iu" for row in rows):
        shapes = ", ".join(f"{row.dtype}{list(row.shape)}" for row in rows)
        raise StatisticsError(f"counts of {shapes}: four rows of integers expected, one number a layer")
    both, ours, theirs, widths = (row.astype(np.int64) for row in rows)
    fits = (both <= ours) & (both <= theirs) & (ours + theirs - both <= widths)
    if not np.all(fits & (both >= 0)):
        layer = int(np.flatnonzero(~(fits & (both >= 0)))[0])
        raise StatisticsError(
            f"layer {layer}: {both[layer]} neurons shared of sets of {ours[layer]} and {theirs[layer]}, "
            f"of {widths[layer]} in all: no two sets have these counts"
        )
    return both, ours, theirs, widths


def _by_chance(first: Sequence[int], second: Sequence[int], widths: Sequence[int]) -> Chances:
    """Probability of each number of shared neurons, from 0 on: the sum over layers of independent draws."""
    start, chances = 0, np.ones(1)
    for ours, theirs, width in zip(first, second, widths, strict=True):
        if not ours or not theirs:
            continue
        least, most = _likely(ours, theirs, width)
        own = np.nan_to_num(hypergeom.pmf(np.arange(least, most + 1), width, ours, theirs))
        there = np.flatnonzero(own)
        start += least + int(there[0])
        chances = np.convolve(chances, own[there[0] : there[-1] + 1])
    return np.concatenate([np.zeros(start), chances])


def _likely(ours: int, theirs: int, width: int) -> tuple[int, int]:
    """The least and the most shared neurons whose chance may be more than the smallest float: the others cost time."""
    mean = ours * theirs / width
    far = int(45 * mean**0.5) + 200
    return max(0, ours + theirs - width, int(mean) - far), min(ours, theirs, int(mean) + far)


def _tail(chances: Chances, least: int) -> float:
    """Probability of `least` or more. Small ones are added first, so that a small tail is not lost."""
    return float(np.clip(np.sort(chances[least:]).sum(), 0, 1)) if least else 1.0
