"""Redundancy: neurons that say the same, properties that share neurons, and the layers they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Float64, Int
from scipy.cluster.hierarchy import fcluster, linkage
from tqdm.auto import tqdm

from neuronatlas.neurons import Layout, Neuron, NeuronSet
from neuronatlas.overlaps import overlap
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.ranking import Ranking
from neuronatlas.statistics import benjamini_hochberg

__all__ = [
    "MOST_COLUMNS",
    "Clusters",
    "CorrelationTree",
    "RedundancyError",
    "correlation_tree",
    "correlations",
    "layer_histogram",
    "overlaps",
]

MOST_COLUMNS = 12_000
"""Neurons whose correlations are computed at most: two matrices of float32 (1.2 GB at 12,000 neurons)."""

Columns = Int[np.ndarray, " column"]
Correlation = Float32[np.ndarray, "column column"]


class RedundancyError(ValueError):
    """Activations or sets whose redundancy cannot be told."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Neurons in clusters of like behaviour: `ids[column]` counts from 0, clusters in the order of their first neuron.

    `columns` are flat indices into the layout. `n_constant` neurons never change: each is a cluster of its own.
    """

    layout: Layout
    columns: Columns
    ids: Columns
    threshold: float
    n_constant: int

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.ids.max(initial=-1)) + 1

    @property
    def redundant(self) -> float:
        """Share of the neurons that can go when one a cluster stays."""
        return 1 - self.n_clusters / len(self.ids)

    def members(self, cluster: int) -> NeuronSet:
        """The neurons of one cluster."""
        return _neurons(self.layout, self.columns[self.ids == cluster])

    def representatives(self, ranking: Ranking | None = None) -> NeuronSet:
        """One neuron a cluster: the one that a ranking puts first, or the first by address.

        Errors: LayoutMismatchError for another model's ranking. Neurons that it does not name come last.
        """
        ranks = np.arange(len(self.ids))
        if ranking is not None:
            self.layout.require(ranking.layout)
            place = np.full(self.layout.n_neurons, len(ranking))
            place[ranking.order] = np.arange(len(ranking))
            ranks = place[self.columns]
        order = np.lexsort((np.arange(len(self.ids)), ranks, self.ids))
        first = order[np.unique(self.ids[order], return_index=True)[1]]
        return _neurons(self.layout, self.columns[np.sort(first)])


@dataclass(frozen=True, eq=False)
class CorrelationTree:
    """How neurons join into ever larger clusters as the distance 1 - |correlation| grows: cut it where you like."""

    layout: Layout
    columns: Columns
    links: Float64[np.ndarray, "link 4"]
    constant: Bool[np.ndarray, " column"]

    def cut(self, threshold: float = 0.3) -> Clusters:
        """Clusters whose average distance is at most `threshold` (0.3 to 0.5 are in use).

        Errors: RedundancyError for a threshold that is not from 0 up to 1.
        """
        if not 0 <= threshold < 1:
            raise RedundancyError(f"threshold {threshold}: a distance 1 - |correlation| from 0 up to 1 expected")
        ids = np.zeros(len(self.columns), dtype=np.int64)
        if len(self.links):
            ids = fcluster(self.links, t=threshold, criterion="distance")
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        by_address = np.argsort(np.argsort(first))
        return Clusters(self.layout, self.columns, by_address[inverse], threshold, int(self.constant.sum()))


def correlations(
    acts: Activations, *, most: int = MOST_COLUMNS, progress: bool = True
) -> tuple[Correlation, Bool[np.ndarray, " column"]]:
    """Pearson correlations of all neurons with each other, and which neurons are constant.

    Rows are read twice, in chunks. Means and variances are summed in float64, products of centred values in float32:
    within 1e-5 of numpy's `corrcoef`. A constant neuron has correlation 0 with all others, 1 with itself.

    Errors: RedundancyError for fewer than two rows, values that are not finite, and more than `most` neurons.

    >>> matrix, constant = correlations(Activations.of([[0, 0, 1], [1, -2, 1], [2, -4, 1]]), progress=False)
    >>> matrix.round(3).tolist(), constant.tolist()
    ([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [False, False, True])
    """
    n_rows, n_columns = acts.shape
    if n_rows < 2:
        raise RedundancyError(f"{n_rows} rows of activations: correlations need at least two")
    if n_columns > most:
        raise RedundancyError(
            f"correlations of {n_columns} neurons need {2 * 4 * n_columns**2 / 1e9:.1f} GB, at most {most} neurons are "
            "allowed: choose some, a layer at a time, or raise `most`"
        )
    means = _means(acts)
    products, block_products = (np.zeros((n_columns, n_columns), dtype=np.float32) for _ in range(2))
    squares = np.zeros(n_columns)
    with tqdm(total=n_rows, desc="correlations", unit="row", disable=not progress) as bar:
        for _, block in acts.chunks():
            centred = block - means
            squares += np.einsum("rc,rc->c", centred, centred, dtype=np.float64)
            products += np.matmul(centred.T, centred, out=block_products)
            bar.update(len(block))
    constant = squares == 0
    scale = np.where(constant, 0.0, 1 / np.sqrt(np.where(constant, 1.0, squares)))
    for row, ours in zip(products, scale, strict=True):
        row[:] = np.clip(row * (ours * scale), -1, 1)
    np.fill_diagonal(products, 1)
    return products, constant


def correlation_tree(acts: Activations, *, most: int = MOST_COLUMNS, progress: bool = True) -> CorrelationTree:
    """Cluster neurons by average linkage of the distance 1 - |correlation|.

    Memory: two matrices of float32 over neurons, then two triangles of float64: 0.8 GB at 10,000 neurons.

    Errors: those of `correlations`.

    Source: Dalvi, Sajjad, Durrani and Belinkov (2020), section 4.

    >>> tree = correlation_tree(Activations.of([[0, 0, 1], [1, -2, 5], [2, -4, 0], [3, -6, 2]]), progress=False)
    >>> clusters = tree.cut(0.3)
    >>> clusters.ids.tolist(), round(clusters.redundant, 3), [str(neuron) for neuron in clusters.representatives()]
    ([0, 0, 1], 0.333, ['L0.U0', 'L0.U2'])
    """
    matrix, constant = correlations(acts, most=most, progress=progress)
    n_columns = len(matrix)
    if n_columns < 2:
        return CorrelationTree(acts.layout, acts.columns, np.empty((0, 4)), constant)
    distances = np.empty(n_columns * (n_columns - 1) // 2)
    start = 0
    for column in range(n_columns - 1):
        stop = start + n_columns - column - 1
        np.subtract(1, np.abs(matrix[column, column + 1 :]), out=distances[start:stop])
        start = stop
    del matrix  # linkage copies the distances: three at once would be the peak
    return CorrelationTree(acts.layout, acts.columns, linkage(distances, method="average"), constant)


def overlaps(sets: Mapping[str, NeuronSet], pool: NeuronSet | None = None) -> pl.DataFrame:
    """How many neurons each two properties share, against chance; one row a pair, in the order given.

    `pool` are the neurons that could have been chosen (all of the layout without one). Columns: first, second,
    n_first, n_second, n_both, jaccard (n_both over those in either), expected_both and expected_jaccard (two sets of
    these sizes drawn from the pool at random), expected_in_layers (shared neurons when each is drawn at random within
    its own layers), p_value (hypergeometric: as many shared or more), q_value (Benjamini-Hochberg over the pairs).

    Errors: RedundancyError for neurons outside of the pool; LayoutMismatchError for sets of different layouts.

    >>> layout = Layout(site="hidden", widths=(5, 5))
    >>> sets = {"number": layout.set(["L0.U0", "L0.U1"]), "tense": layout.set(["L0.U1", "L1.U0"])}
    >>> [round(number, 3) for number in overlaps(sets).select("n_both", "expected_both", "p_value").row(0)]
    [1, 0.4, 0.378]
    """
    for name, neurons in sets.items():
        if pool is not None and not neurons <= pool:
            outside = len(neurons - pool)
            raise RedundancyError(f"{outside} of the {len(neurons)} neurons of {name!r} are not in the pool: widen it")
    found = [(a, b, overlap(sets[a], sets[b], pool)) for a, b in combinations(sets, 2)]
    rows = [
        {"first": a, "second": b} | {name: getattr(one, field) for name, field in _FIELDS.items()}
        for a, b, one in found
    ]
    frame = pl.DataFrame(rows, schema=_OVERLAPS)
    return frame.with_columns(q_value=pl.Series(benjamini_hochberg(frame["p_value"].to_numpy()), dtype=pl.Float64))


_OVERLAPS = {
    "first": pl.String,
    "second": pl.String,
    "n_first": pl.Int64,
    "n_second": pl.Int64,
    "n_both": pl.Int64,
    "jaccard": pl.Float64,
    "expected_both": pl.Float64,
    "expected_jaccard": pl.Float64,
    "expected_in_layers": pl.Float64,
    "p_value": pl.Float64,
}


_FIELDS = {
    "n_first": "n_first",
    "n_second": "n_second",
    "n_both": "n_shared",
    "jaccard": "jaccard",
    "expected_both": "expected",
    "expected_jaccard": "expected_jaccard",
    "expected_in_layers": "expected_in_layers",
    "p_value": "p_value",
}


def layer_histogram(neurons: NeuronSet, pool: NeuronSet | None = None) -> pl.DataFrame:
    """Where a set of neurons lies: one row a layer.

    Columns: layer, n_neurons, share (of the set), pool_share (of the pool: what chance expects). NaN for a set, or a
    pool, of none.

    >>> layer_histogram(Layout(site="hidden", widths=(5, 15)).set(["L0.U0", "L1.U1"])).rows()
    [(0, 1, 0.5, 0.25), (1, 1, 0.5, 0.75)]
    """
    counts, widths = neurons.layer_histogram(), _widths(neurons.layout, pool)
    return pl.DataFrame(
        {
            "layer": np.arange(len(counts)),
            "n_neurons": counts,
            "share": _shares(counts),
            "pool_share": _shares(widths),
        }
    )


def _widths(layout: Layout, pool: NeuronSet | None) -> Int[np.ndarray, " layer"]:
    if pool is None:
        return np.array(layout.widths)
    layout.require(pool.layout)
    return pool.layer_histogram()


def _shares(counts: Int[np.ndarray, " layer"]) -> Float64[np.ndarray, " layer"]:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), np.nan)


def _means(acts: Activations) -> Float32[np.ndarray, " column"]:
    total = np.zeros(acts.shape[1])
    for rows, block in acts.chunks():
        with np.errstate(invalid="ignore"):
            sums = block.sum(axis=0, dtype=np.float64)
        if not np.isfinite(sums).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            neuron, item = acts.layout.neuron(int(acts.columns[column])), acts.items[rows.start + row]
            raise RedundancyError(f"{neuron} is {block[row, column]} at item {item}: finite activations expected")
        total += sums
    return (total / len(acts)).astype(np.float32)


def _neurons(layout: Layout, columns: Columns) -> NeuronSet:
    return NeuronSet(layout, tuple[Neuron, ...](layout.neuron(int(index)) for index in columns))
