"""The measures of edits, each with its definition, from what `judge_edits` found prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from neuronatlas.statistics import Interval, ratio_of_means

__all__ = ["EDIT_MEASURES", "Measure", "edit_measures"]

Values = tuple[pl.Expr, pl.Expr]
_LOWEST = -1e300


@dataclass(frozen=True)
class Measure:
    """A measure by name: over the prompts of which group, what of each before and after, and in words.

    `known` keeps only the prompts to which the model gave the old answer before; for `perplexity` the mean is of
    log P a token, and exp(-mean) is told.
    """

    name: str
    group: str
    definition: str
    before: pl.Expr
    after: pl.Expr
    known: bool = False
    perplexity: bool = False


def _both(column: str, change: Callable[[pl.Expr], pl.Expr] = lambda values: values) -> Values:
    return change(pl.col(f"{column}_before")), change(pl.col(f"{column}_after"))


def _number(values: pl.Expr) -> pl.Expr:
    return values.cast(pl.Float64)


_GENERATED = _both("generated", _number)
_NOT_GENERATED = _both("generated", lambda values: 1 - _number(values))
_RIGHT, _P, _RANK, _LOG_P = _both("right"), _both("log_p", pl.Expr.exp), _both("rank", _number), _both("log_p")
_SAME: Values = (_number(pl.col("same_choice")) * 0 + 1, _number(pl.col("same_choice")))

_SAID = "the model, choosing token by token, says"
_CHOSEN = "that are the first choice after the right ones before them (teacher-forced)"
_OF_THOSE = "answered right, of those that were before"

EDIT_MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "change rate",
            "edited, old",
            "prompts whose first choice was the old answer and is it no longer",
            *_NOT_GENERATED,
            known=True,
        ),
        Measure("success rate", "edited", f"prompts to which {_SAID} the new answer", *_GENERATED),
        Measure("reliability", "edited", f"rewrite_acc: share of the new answer's tokens {_CHOSEN}", *_RIGHT),
        Measure("generalisation", "paraphrase", "rephrase_acc: the same on paraphrases, unseen by the edit", *_RIGHT),
        Measure("generalisation, generated", "paraphrase", f"paraphrases to which {_SAID} the new answer", *_GENERATED),
        Measure(
            "generalisation, known",
            "paraphrase",
            "the same on those paraphrases alone to which the model said the old answer before",
            *_GENERATED,
            known=True,
        ),
        Measure(
            "paraphrases, old answer",
            "paraphrase, old",
            f"paraphrases to which {_SAID} the old answer: before the edit, those that it knew",
            *_GENERATED,
        ),
        Measure("locality", "locality", "prompts about something else whose first choices are all as before", *_SAME),
        Measure("portability", "portability", f"where the answer follows from the new one: tokens {_CHOSEN}", *_RIGHT),
        Measure("P(new)", "edited", "mean probability of the whole new answer", *_P),
        Measure("rank(new)", "edited", "mean rank of the new answer's worst token, 1 being the first choice", *_RANK),
        Measure("P(old)", "edited, old", "mean probability of the whole old answer", *_P),
        Measure("rank(old)", "edited, old", "mean rank of the old answer's worst token", *_RANK),
        Measure(
            "accuracy, same relation",
            "same relation",
            f"prompts of other facts of the relation {_OF_THOSE}",
            *_GENERATED,
            known=True,
        ),
        Measure(
            "accuracy, other relations",
            "other relations",
            f"prompts of facts of other relations {_OF_THOSE}",
            *_GENERATED,
            known=True,
        ),
        Measure(
            "perplexity, same relation",
            "same relation",
            "exp(-mean log P of an answer's token) on other facts of the relation",
            *_LOG_P,
            perplexity=True,
        ),
        Measure(
            "perplexity, other relations",
            "other relations",
            "the same on facts of other relations",
            *_LOG_P,
            perplexity=True,
        ),
    )
}


def edit_measures(judged: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Sum up what edits did: a row a measure, before and after, with bootstrap 95 % intervals over the cases.

    Columns: measure, before, after, low, high (of after), prompts, cases, definition. A mean is over all prompts of the
    group, the interval from resampling cases with all of their prompts. A group without prompts has 0 of them
    and nulls: it was not measured.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> table = na.judge_edits(
    ...     model, [na.EditCase(fact, "Rome")], lambda m, c: na.exact_update(m, c.fact, c.new_answer, keep=[])
    ... )
    >>> dict(na.edit_measures(table).select("measure", "after").iter_rows())["success rate"]
    1.0
    """
    return pl.DataFrame([_measured(judged, measure, seed) for measure in EDIT_MEASURES.values()], schema=_SCHEMA)


def _measured(judged: pl.DataFrame, measure: Measure, seed: int) -> dict[str, object]:
    rows = judged.filter(pl.col("group") == measure.group)
    if measure.known:
        rows = rows.filter(pl.col("knew"))
    weight = (pl.col("tokens").sum() if measure.perplexity else pl.len()).cast(pl.Float64)
    sums = rows.group_by("case", maintain_order=True).agg(
        measure.before.sum().alias("before"), measure.after.sum().alias("after"), weight.alias("weight")
    )
    found: dict[str, object] = {"measure": measure.name, "prompts": rows.height, "cases": sums.height}
    found |= {"definition": measure.definition}
    if not rows.height:
        return found | dict.fromkeys(("before", "after", "low", "high"))
    before, after = (_interval(sums, when, measure, seed) for when in ("before", "after"))
    return found | {"before": before.estimate, "after": after.estimate, "low": after.low, "high": after.high}


def _interval(sums: pl.DataFrame, when: str, measure: Measure, seed: int) -> Interval:
    pairs: Float[np.ndarray, "case 2"] = sums.select(when, "weight").to_numpy()
    # Log P is -inf where an edit broke the model, and resampling needs numbers.
    found = ratio_of_means(np.maximum(pairs, _LOWEST), seed=seed)
    if not measure.perplexity:
        return found
    # Falling in its argument: the ends of the interval change places.
    with np.errstate(over="ignore"):
        return Interval(*(float(np.exp(-end)) for end in (found.estimate, found.high, found.low)))


_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "measure": pl.String,
    "before": pl.Float64,
    "after": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "prompts": pl.Int64,
    "cases": pl.Int64,
    "definition": pl.String,
}
