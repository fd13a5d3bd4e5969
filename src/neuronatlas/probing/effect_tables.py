"""What was measured at single words under interventions, put together by class: means, intervals and p-values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64

from neuronatlas.probing.questions import Questions
from neuronatlas.statistics import DRAWS, benjamini_hochberg, permutation_p_value

__all__ = ["EffectTables", "tabulate"]

LEVEL = 0.95


@dataclass(frozen=True)
class EffectTables:
    """Tables by class and measure, by measure, and by control, class and measure: see `PropertyEffects`."""

    classes: pl.DataFrame
    overall: pl.DataFrame
    controls: pl.DataFrame


def tabulate(
    questions: Questions, measured: Float64[np.ndarray, "run question measure"], measures: Sequence[str], *, seed: int
) -> EffectTables:
    """Means over the words of each class, and over the classes; runs are untouched, the set's, then the controls'.

    Controls that a class was not asked for are NaN: of the mean over the classes only those count that all have.
    Intervals are percentiles over 2,000 draws of whole sentences, the same ones for all classes and measures.
    """
    codes, n_classes = questions.class_codes, len(questions.classes)
    means = np.stack([measured[:, codes == code].mean(axis=1) for code in range(n_classes)], axis=1)
    low, high = _intervals(questions, measured[1] - measured[0], seed)
    # The mean over the classes stands last, as one class more.
    means = np.concatenate([means, means.mean(axis=1, keepdims=True)], axis=1)
    rows = [
        {"class": name, "measure": measure, **_counts(questions, name), **_compared(means[:, row, column])}
        | {"low": float(low[row, column]), "high": float(high[row, column])}
        for row, name in enumerate([*questions.classes, None])
        for column, measure in enumerate(measures)
    ]
    table = pl.DataFrame(rows, schema_overrides={"class": pl.String}).select(_COLUMNS)
    classes = table.filter(pl.col("class").is_not_null()).with_columns(
        p_adjusted=pl.col("p").map_batches(_adjusted, return_dtype=pl.Float64).over("measure")
    )
    return EffectTables(
        classes, table.filter(pl.col("class").is_null()).drop("class"), _controls(means, questions, measures)
    )


_COLUMNS = (
    *("class", "measure", "n_words", "n_sentences", "before", "after", "change", "low", "high"),
    *("control_change", "control_low", "control_high", "n_controls", "z", "p"),
)


def _adjusted(p_values: pl.Series) -> pl.Series:
    return pl.Series(benjamini_hochberg(p_values.to_numpy()))


def _counts(questions: Questions, name: str | None) -> dict[str, int]:
    mine = [question for question in questions.asked if name is None or question.label == name]
    return {"n_words": len(mine), "n_sentences": len({question.sentence for question in mine})}


def _compared(runs: Float64[np.ndarray, " run"]) -> dict[str, float]:
    """A mean before and after, and its change beside those of the controls."""
    before, after = float(runs[0]), float(runs[1])
    controls = runs[2:] - before
    controls = controls[~np.isnan(controls)]
    spread = controls.std(ddof=1) if len(controls) > 1 else 0.0
    return {
        "before": before,
        "after": after,
        "change": after - before,
        "control_change": float(controls.mean()),
        "control_low": float(controls.min()),
        "control_high": float(controls.max()),
        "n_controls": len(controls),
        "z": float((after - before - controls.mean()) / spread) if spread else float("nan"),
        # The larger the fall, the more extreme.
        "p": permutation_p_value(before - after, -controls),
    }


def _intervals(
    questions: Questions, changes: Float64[np.ndarray, "question measure"], seed: int
) -> tuple[Float64[np.ndarray, "row measure"], Float64[np.ndarray, "row measure"]]:
    """Bounds of the mean change in each class, and last of the mean over the classes."""
    codes, sentences = questions.class_codes, np.unique(questions.sentences, return_inverse=True)[1]
    shape = (int(sentences.max()) + 1, len(questions.classes), changes.shape[1] + 1)
    sums = np.zeros(shape)
    # The last column counts the words.
    np.add.at(sums, (sentences, codes), np.column_stack([changes, np.ones(len(changes))]))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), size=DRAWS) @ sums.reshape(shape[0], -1)
    totals = drawn.reshape(DRAWS, *shape[1:])
    # A draw without a word of a class says nothing of it: it counts as the estimate itself.
    totals = np.where(totals[..., -1:] > 0, totals, sums.sum(axis=0))
    means = totals[..., :-1] / totals[..., -1:]
    means = np.concatenate([means, means.mean(axis=1, keepdims=True)], axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _controls(
    means: Float64[np.ndarray, "run row measure"], questions: Questions, measures: Sequence[str]
) -> pl.DataFrame:
    changes = means[2:, :-1] - means[0, :-1]
    return pl.DataFrame(
        [
            (control, name, measure, float(changes[control, row, column]))
            for control in range(len(changes))
            for row, name in enumerate(questions.classes)
            for column, measure in enumerate(measures)
            if not np.isnan(changes[control, row, column])
        ],
        {"control": pl.Int64, "class": pl.String, "measure": pl.String, "change": pl.Float64},
        orient="row",
    )
