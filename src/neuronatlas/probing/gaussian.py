"""The Gaussian probe: neurons chosen one by one for what they tell about the class (Torroba Hennigen et al. 2020).

Each class is a Gaussian over the chosen neurons, and Bayes' rule gives the class of a row. A set of neurons is judged
by the mean log-probability of the rows' classes; added to the entropy of the classes it is what the set tells about
them, in bits. Each step adds the neuron that raises it most.

>>> rng = np.random.default_rng(0)
>>> classes = np.repeat([0, 1], 200)
>>> values = rng.standard_normal((400, 3)) + np.outer(classes, [0.0, 4.0, 0.5])
>>> rows = Labelled.of(values, classes, progress=False)
>>> gaussian(rows).order.tolist(), gaussian(rows).notes
([1, 2, 0], ('chosen greedily: 3, which tell 0.931 of 1.000 bits about the 400 rows that they were chosen on',))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int
from tqdm.auto import tqdm

from neuronatlas.probing.labelled_rows import ClassMoments, Labelled, Outcome, by_falling, class_moments
from neuronatlas.probing.ranking import Order, RankingError

__all__ = ["PRIOR_ROWS", "gaussian", "information_alone"]

PRIOR_ROWS = 10.0
"""Rows that the prior of a class' covariance counts for."""

LEAST_VARIANCE = 1e-6
"""Least variance inside classes, as a share of a neuron's variance."""

BUDGET_BYTES = 512 * 2**20
"""Most memory for the conditional covariances, and again for the rows as each class sees them."""

LOG2E = float(np.log2(np.e))

TILE = 256
"""Rows whose probabilities are worked out at once: small enough to stay in a processor's cache."""

Columns = Int[np.ndarray, " column"]


def gaussian(rows: Labelled, *, limit: int = 50, shortlist: int = 128, sample: int = 10_000) -> Outcome:
    """Rank by a greedy choice of `limit` neurons under a Gaussian probe; the others follow by what each tells alone.

    Time and memory are bounded in three ways. At most `sample` rows are used, each class' share of them spread evenly
    over the corpus. The greedy choice ends at `limit` neurons, or before, when nothing adds any more. Each step tries
    `shortlist` neurons, not all: one half are those that added most when last tried, the other half those of most
    information by a closed form, log var(x | chosen) - log sum_c p_c var_c(x | chosen), which holds where classes
    share one covariance and finds neurons that tell little alone. A `shortlist` of twice the number of neurons tries
    all of them: the exact greedy choice.

    A class' covariance is that of its rows, shrunk as by an inverse Wishart prior of `PRIOR_ROWS` rows whose columns
    are independent with the variance inside classes, so that rare classes have one too.

    The scores are what each neuron tells alone, in bits, measured as for a set.

    Errors: RankingError for a `limit`, `shortlist` or `sample` below 1.
    """
    for name, value in (("limit", limit), ("shortlist", shortlist), ("sample", sample)):
        if value < 1:
            raise RankingError(f"{name}={value}: a number from 1 expected")
    limit = min(limit, rows.acts.shape[1])
    # Each class keeps, for every row and every column, what the chosen neurons leave of it: limit numbers in float32.
    most_rows = max(BUDGET_BYTES // (4 * limit * len(rows.classes)), len(rows.classes))
    model = _Model.of(rows, min(sample, most_rows))
    alone = information_alone(model, progress=rows.progress)
    most_columns = max(BUDGET_BYTES // (8 * limit * (len(rows.classes) + 1)), limit)
    pool = np.sort(by_falling(alone)[:most_columns])
    chosen, told = _greedy(model.of_columns(pool), alone[pool], limit, shortlist, progress=rows.progress)
    first = pool[chosen]
    rest = by_falling(alone)
    order = np.concatenate([first, rest[~np.isin(rest, first)]])
    note = (
        f"chosen greedily: {len(first)}, which tell {told:.3f} of {model.entropy:.3f} bits "
        f"about the {len(model.codes)} rows that they were chosen on"
    )
    return Outcome(order, alone, notes=(note,))


@dataclass(frozen=True, eq=False)
class _Model:
    """Standardised rows, class after class, and a Gaussian for each class: means, and variances after shrinking."""

    values: Float32[np.ndarray, "row column"]
    codes: Int[np.ndarray, " row"]
    moments: ClassMoments
    means: Float64[np.ndarray, "class column"]
    variances: Float64[np.ndarray, "class column"]

    @classmethod
    def of(cls, rows: Labelled, sample: int) -> _Model:
        places = _spread(rows.codes, rows.counts, sample)
        taken = rows.taken(np.sort(places))
        values = np.empty(taken.acts.shape, dtype=np.float32)
        destination = np.argsort(places)
        moments = class_moments(taken)
        centre, spread = moments.mean, np.sqrt(moments.variance)
        spread = np.where(spread > 0, spread, 1.0)
        for where, block in taken.blocks("Reading"):
            values[destination[where]] = (block - centre) / spread
        means, within = (moments.means - centre) / spread, moments.variances / spread**2
        pooled = np.maximum(moments.shares @ within, LEAST_VARIANCE)
        counts = moments.counts[:, None]
        variances = (counts * within + PRIOR_ROWS * pooled) / (counts + PRIOR_ROWS)
        return cls(values, rows.codes[places], moments, means, variances)

    @property
    def entropy(self) -> float:
        """Entropy of the classes, in bits."""
        shares = self.moments.shares
        return float(-(shares * np.log2(shares)).sum())

    def of_columns(self, columns: Columns) -> _Model:
        """The model of some columns; the rows are not copied when it is all of them."""
        if len(columns) == self.values.shape[1]:
            return self
        return _Model(
            self.values[:, columns], self.codes, self.moments, self.means[:, columns], self.variances[:, columns]
        )

    def covariances(self, column: int) -> Float64[np.ndarray, "class column"]:
        """Covariance of one column with all, in each class, shrunk; the last row is that of all classes together."""
        counts = self.moments.counts
        ends = np.cumsum(counts)
        found = np.empty((len(counts) + 1, self.values.shape[1]))
        for code, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
            block = self.values[start:end]
            product = block[:, column] @ block / counts[code] - self.means[code, column] * self.means[code]
            found[code] = product * (counts[code] / (counts[code] + PRIOR_ROWS))
            found[code, column] = self.variances[code, column]
        found[-1] = self.moments.shares @ (found[:-1] + self.means[:, [column]] * self.means)
        return found


def information_alone(model: _Model, *, progress: bool = False) -> Float64[np.ndarray, " column"]:
    """What each column tells alone, in bits: entropy plus the mean log-probability of the rows' classes."""
    n_columns, width = model.values.shape[1], 64
    told = np.empty(n_columns)
    logs = np.log(model.moments.shares)
    with tqdm(total=n_columns, desc="Neurons alone", unit="neuron", disable=not progress) as bar:
        for start in range(0, n_columns, width):
            columns = np.arange(start, min(start + width, n_columns))
            base = np.broadcast_to(logs, (len(model.codes), len(logs)))
            told[columns] = _mean_log_probability(model, columns, base, model.variances[:, columns])
            bar.update(len(columns))
    told *= LOG2E
    told += model.entropy
    return told


def _mean_log_probability(
    model: _Model,
    columns: Columns,
    base: Float64[np.ndarray, "row class"],
    variances: Float64[np.ndarray, "class column"],
    seen: tuple[Float32[np.ndarray, "class row step"], Float64[np.ndarray, "class step column"]] | None = None,
) -> Float64[np.ndarray, " column"]:
    """Mean log-probability of the rows' classes when each column is added to the chosen ones.

    `base` is log(p_c p(chosen | c)) for each row, `variances` the columns' given the chosen ones; `seen` are the chosen
    neurons, made independent with variance 1, and the columns' covariances with them.
    """
    total = np.zeros(len(columns))
    half = (-0.5 / variances).astype(np.float32)[:, None]
    logs = (-0.5 * np.log(variances)).astype(np.float32)[:, None]
    means = model.means[:, columns].astype(np.float32)[:, None]
    loads = None if seen is None else seen[1].astype(np.float32)
    base = (base - base.max(axis=1, keepdims=True)).astype(np.float32)
    for start in range(0, len(model.codes), TILE):
        stop = min(start + TILE, len(model.codes))
        logits = model.values[start:stop, columns] - means
        if seen is not None and loads is not None:
            logits -= seen[0][:, start:stop] @ loads
        np.square(logits, out=logits)
        logits *= half
        logits += logs
        logits += base[start:stop].T[:, :, None]
        right = logits[model.codes[start:stop], np.arange(stop - start)]
        largest = logits.max(axis=0)
        logits -= largest
        np.exp(logits, out=logits)
        total += (right - largest - np.log(logits.sum(axis=0))).sum(axis=0, dtype=np.float64)
    return total / len(model.codes)


class _Conditionals:
    """What the chosen neurons leave of every column, kept up to date by one row of a Cholesky factor a step."""

    def __init__(self, model: _Model, limit: int) -> None:
        n_classes, (n_rows, n_columns) = len(model.moments.counts), model.values.shape
        self.model = model
        self.chosen: list[int] = []
        self.base = np.repeat(np.log(model.moments.shares)[None], n_rows, axis=0)
        # The last class is all classes together.
        total = model.moments.shares @ (model.variances + model.means**2)
        self.variances = np.concatenate([model.variances, total[None]])
        self._loads = np.zeros((n_classes + 1, limit, n_columns))
        self._seen = np.zeros((n_classes, n_rows, limit), dtype=np.float32)

    def gains(self) -> Float64[np.ndarray, " column"]:
        """Conditional information of each column by the closed form, as if classes shared one covariance."""
        gains: Float64[np.ndarray, " column"]
        gains = np.log(self.variances[-1]) - np.log(self.model.moments.shares @ self.variances[:-1])
        return gains

    def told(self, columns: Columns) -> Float64[np.ndarray, " column"]:
        """Mean log-probability of the rows' classes with each of the columns added."""
        step = len(self.chosen)
        seen = self._seen[:, :, :step], self._loads[:-1, :step][:, :, columns]
        return _mean_log_probability(self.model, columns, self.base, self.variances[:-1, columns], seen)

    def add(self, column: int) -> None:
        """Choose a column."""
        step, model = len(self.chosen), self.model
        before = self._loads[:, :step]
        own = before[:, :, column]
        deviation = np.sqrt(self.variances[:, column])[:, None]
        load = (model.covariances(column) - (own[:, None] @ before)[:, 0]) / deviation
        self._loads[:, step] = load
        # Rounding may leave less than nothing of a column that the chosen ones determine.
        np.maximum(self.variances - load**2, 1e-3 * LEAST_VARIANCE, out=self.variances)
        for code in range(len(self._seen)):
            explained = self._seen[code, :, :step] @ own[code]
            rest = (model.values[:, column] - model.means[code, column] - explained) / deviation[code]
            self._seen[code, :, step] = rest
            self.base[:, code] -= 0.5 * rest**2 + np.log(deviation[code])
        self.chosen.append(column)


def _greedy(
    model: _Model, alone: Float64[np.ndarray, " column"], limit: int, shortlist: int, *, progress: bool
) -> tuple[Order, float]:
    """Columns in the order of choice, and what they tell together, in bits."""
    state, told, added = _Conditionals(model, limit), 0.0, alone.copy()
    with tqdm(total=limit, desc="Neurons chosen", unit="neuron", disable=not progress) as bar:
        # A round in which none of those tried adds anything chooses none, and lowers what they are known to add.
        for _ in range(2 * limit):
            if len(state.chosen) == limit or added.max() <= 0:
                break
            tried = _tried(state, added, shortlist)
            found = model.entropy + state.told(tried) * LOG2E
            added[tried] = found - told
            best = int(np.argmax(found))
            if found[best] > told:
                told = float(found[best])
                state.add(int(tried[best]))
                added[state.chosen] = -np.inf
                bar.update(1)
    return np.array(state.chosen, dtype=np.int64), told


def _tried(state: _Conditionals, added: Float64[np.ndarray, " column"], shortlist: int) -> Columns:
    """Columns to try: half of them by what they added when last tried, half by the closed form."""
    if not state.chosen:
        # Alone, every neuron is known exactly.
        return by_falling(added)[:1]
    by_form = state.gains()
    by_form[state.chosen] = -np.inf
    free = len(added) - len(state.chosen)
    half = min((shortlist + 1) // 2, free)
    return np.union1d(by_falling(added)[:half], by_falling(by_form)[:half])


def _spread(
    codes: Int[np.ndarray, " row"], counts: Int[np.ndarray, " class"], sample: int
) -> Int[np.ndarray, " place"]:
    """Places of about `sample` rows, class after class, of each class its share, at least one, evenly spread."""
    by_class = np.argsort(codes, kind="stable")
    if len(codes) <= sample:
        return by_class
    taken = np.maximum(counts * sample // len(codes), 1)
    starts = np.cumsum(counts) - counts
    places = [
        start + np.arange(share) * count // share for start, count, share in zip(starts, counts, taken, strict=True)
    ]
    kept: Int[np.ndarray, " place"] = by_class[np.concatenate(places)]
    return kept
