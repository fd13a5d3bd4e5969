"""Examples in which it is known which neurons tell the classes apart."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.examples import Examples
from neuronatlas.probing.ranking import Ranking


def planted(
    columns: tuple[tuple[int, ...], ...] = ((3, 11),),
    *,
    rows: int = 400,
    widths: tuple[int, ...] = (20, 20),
    n_words: int = 150,
    seed: int = 0,
) -> Examples:
    """Rows of noise, but for the planted columns: a class is a row of bits, and each bit needs a neuron of its own.

    `columns` are copies of the same thing: each has one column a bit, and each copy alone is enough. No neuron has a
    mean of 0. Sentences have five words; words say nothing about classes.
    """
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, size=(rows, len(columns[0])))
    values = rng.normal(size=(rows, sum(widths)))
    for copy in columns:
        values[:, list(copy)] = 4.0 * bits - 2 + rng.normal(scale=0.3, size=bits.shape)
    values += rng.normal(scale=3, size=sum(widths))
    labels = ["".join(map(str, row)) for row in bits]
    words = [f"w{word}" for word in rng.integers(0, n_words, size=rows)]
    acts = Activations.of(values, Layout(site="hidden", widths=widths))
    return Examples.of(acts, labels, words, np.arange(rows) // 5)


def halves(examples: Examples) -> tuple[Examples, Examples]:
    """The first and the second half of the rows."""
    middle = len(examples) // 2
    return examples.take(range(middle)), examples.take(range(middle, len(examples)))


def logistic() -> LogisticRegression:
    """A probe that is not ours."""
    return LogisticRegression(max_iter=1000)


def planted_first(examples: Examples, first: tuple[int, ...]) -> Ranking:
    """A ranking by hand: the given columns, then the others by address."""
    rest = [column for column in examples.acts.columns.tolist() if column not in first]
    return Ranking(examples.acts.layout, np.array([*first, *rest]), method="by hand")
