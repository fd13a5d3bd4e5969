"""What in the numbers of an atlas of salient neurons asks for care, in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import polars as pl

from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.salience.names import items_of, short_name
from neuronatlas.atlas.salience.reading import (
    ALPHA,
    Row,
    is_beyond,
    main_interventions,
    own_interventions,
    rows_of,
    score,
)
from neuronatlas.atlas.wording import Difference, Score, count, listed, number, percent, points

__all__ = ["FEW_TESTED", "LARGE_GAP", "LOW_SELECTIVITY", "MUCH_WORSE", "NEARLY", "caveats"]

LARGE_GAP = 1e-6  # nats; where the settings ask for no other
LOW_SELECTIVITY = 0.1
NEARLY = 0.9  # of what the probe has beyond the majority class
MUCH_WORSE = 0.1
FEW_TESTED = 200
MANY = 3  # one class in so many
FAIR = 1.25  # by how many times random neurons may vary less


def caveats(tables: Tables, tol: float | None = None) -> list[str]:
    """What in these very numbers asks for care, one entry each; nothing where nothing does.

    `tol` is the duality gap that was asked for.
    """
    checks: list[Callable[[Tables], str]] = [
        _not_beyond_majority,
        _words_alone,
        _random_weights,
        _unselective,
        _unseen,
        _by_type,
        _not_minimal,
        _bounded,
        partial(_large_gap, tol=tol or LARGE_GAP),
        _not_used,
        _not_interventions,
        _too_few_controls,
        _too_few_class_controls,
        _unlike_in_variance,
        _dropped,
        _left_out,
        _few_tested,
    ]
    return [text for check in checks if (text := check(tables))]


def _told(tables: Tables, beginning: str, test: Callable[[Row], str]) -> str:
    """A caveat with what a test finds in each property, and with the names of these where there are several."""
    rows = rows_of(tables)
    found = [(row, text) for row in rows if (text := test(row))]
    if not found:
        return ""
    told = {text for _, text in found}
    if len(told) == 1 and len(found) == len(rows):
        return f"{beginning} ({found[0][1]})."
    named = [f"{short_name(row['label'])} ({text})" for row, text in found]
    return f"{beginning}: {listed(named, 8)}."


def _not_beyond_majority(tables: Tables) -> str:
    def test(row: Row) -> str:
        low = row["accuracy"] is not None and row["majority"] is not None and not is_beyond(row, "majority")
        return f"{score(row, 'accuracy')} against {Score(row['majority'])}" if low else ""

    return _told(tables, "The probe is no better than always saying the most frequent class", test)


def _words_alone(tables: Tables) -> str:
    def test(row: Row) -> str:
        low = row["accuracy"] is not None and row["word_majority"] is not None and not is_beyond(row, "word_majority")
        return f"{score(row, 'accuracy')} against {Score(row['word_majority'])}" if low else ""

    text = "Each word's most frequent class does as well as the probe or better, so neurons need not tell more than it"
    return _told(tables, text, test)


def _random_weights(tables: Tables) -> str:
    def test(row: Row) -> str:
        if row["accuracy"] is None or row["random_weights"] is None:
            return ""
        chance = row["majority"] or 0.0
        near = row["random_weights"] - chance >= NEARLY * (row["accuracy"] - chance)
        if is_beyond(row, "random_weights") and not near:
            return ""
        return f"{score(row, 'random_weights')} against {score(row, 'accuracy')}"

    text = "The same probe does nearly as well on the model with random weights, so what it reads need not be learned"
    return _told(tables, text, test)


def _unselective(tables: Tables) -> str:
    def test(row: Row) -> str:
        low = row["selectivity"] is not None and row["selectivity"] < LOW_SELECTIVITY
        return str(Difference(row["selectivity"], row["selectivity_low"], row["selectivity_high"])) if low else ""

    return _told(tables, "Selectivity is low: the probe has the room to learn words by heart", test)


def _unseen(tables: Tables) -> str:
    def test(row: Row) -> str:
        seen, unseen = row["seen_accuracy"], row["unseen_accuracy"]
        worse = seen is not None and unseen is not None and seen - unseen > MUCH_WORSE
        return f"{Score(unseen)} against {Score(seen)}" if worse else ""

    return _told(tables, "Words that did not occur in training are read much worse", test)


def _by_type(tables: Tables) -> str:
    def test(row: Row) -> str:
        own, apart = row["accuracy"], row["by_type_accuracy"]
        worse = own is not None and apart is not None and own - apart > MUCH_WORSE
        return f"{score(row, 'by_type_accuracy')} against {Score(own)}" if worse else ""

    text = "With no word type in both training and test the accuracy is much lower, so part of it is known words"
    return _told(tables, text, test)


def _not_minimal(tables: Tables) -> str:
    def test(row: Row) -> str:
        if row["minimal_reached"] is not False:
            return ""
        return f"allowed to lose {points(row['delta'])}" if row["delta"] is not None else "at any loss"

    return _told(tables, "No set smaller than all neurons did as well as all", test)


def _bounded(tables: Tables) -> str:
    def test(row: Row) -> str:
        return f"{row['n_disjoint'] or 0:,} found" if row["disjoint_bound"] else ""

    return _told(tables, "The search for further disjoint sets was ended by its bound, there may be more", test)


def _large_gap(tables: Tables, tol: float) -> str:
    def test(row: Row) -> str:
        # A gap that was stopped at the limit may be a rounding above it.
        return f"{row['gap']:.1e}" if row["gap"] is not None and row["gap"] > tol * 1.01 else ""

    return _told(tables, f"The probe was stopped before its duality gap fell to {tol:g}", test)


def _not_used(tables: Tables) -> str:
    def test(row: Row) -> str:
        own = main_interventions(tables, row["label"]).filter(pl.col("class").is_not_null())
        tested = own.filter(pl.col("p_adjusted").is_not_null())
        if tested.is_empty() or (tested["p_adjusted"] <= ALPHA).any():
            return ""
        lowest = number(tested["p_adjusted"].to_numpy().min(), 3)
        return f"lowest adjusted p of {count(tested.height, 'class', 'classes')}: {lowest}"

    text = "In no class does replacing the neurons in the running model do more than replacing matched random ones"
    return _told(tables, text, test)


def _not_interventions(tables: Tables) -> str:
    asked = set(tables["interventions"].filter(pl.col("change").is_not_null())["label"])
    rows = rows_of(tables)
    missing = [short_name(row["label"]) for row in rows if row["label"] not in asked]
    if not missing:
        return ""
    which = f" for {listed(missing)}" if len(rows) > 1 else ""
    text = f"What the model does without these neurons was not measured{which}"
    return f"{text}: what they encode it need not use."


def _too_few_controls(tables: Tables) -> str:
    """With n random sets no p is below 1 / (1 + n), and none is low once adjusted for several classes."""
    found = tables["interventions"].filter(pl.col("class").is_not_null(), pl.col("n_controls").is_not_null())
    low = found["n_controls"].min()
    if not isinstance(low, int) or 1 / (1 + low) <= ALPHA / 2:
        return ""
    least = number(1 / (1 + low), 3)
    text = f"With {count(low, 'random set')} to compare with, no p-value can be below {least}"
    return f"{text}: a few classes among many cannot be told from chance."


def _too_few_class_controls(tables: Tables) -> str:
    """K equal p-values of n classes pass the correction when n * p / K is at most ALPHA."""

    def test(row: Row) -> str:
        own = own_interventions(tables, row["label"]).filter(pl.col("p_adjusted").is_not_null())
        most = own["n_controls"].max()
        if not isinstance(most, int):
            return ""
        needed = math.ceil(own.height / (1 + most) / ALPHA - 1e-9)
        return f"{count(most, 'set')}, {needed} of {own.height}" if needed > max(1, own.height // MANY) else ""

    text = "With so few random sets no class is marked unless many fall without their own neurons"
    return _told(tables, text, test)


def _unlike_in_variance(tables: Tables) -> str:
    """A neuron at its mean changes the model by as much as it varies, so that random ones have to vary alike."""

    def test(row: Row) -> str:
        own = own_interventions(tables, row["label"]).filter(pl.col("class").is_not_null())
        unlike = own.filter(pl.col("p_adjusted") <= ALPHA, pl.col("variance_ratio") < 1 / FAIR).sort("variance_ratio")
        told = [
            f"{short_name(name)} {number(ratio, 2)}" for name, ratio in unlike.select("class", "variance_ratio").rows()
        ]
        return listed(told, 4)

    text = "Of some classes that fall without their own neurons the random ones vary less, which may be a part of it"
    return _told(tables, text, test)


def _dropped(tables: Tables) -> str:
    dropped = tables["dropped_classes"]
    if dropped.is_empty():
        return ""
    labels = dropped["label"].unique(maintain_order=True).to_list()
    told = [_rare(dropped.filter(pl.col("label") == label)) for label in labels]
    if tables["properties"].height > 1:
        told = [f"{text} of {short_name(label)}" for label, text in zip(labels, told, strict=True)]
    return f"Classes with too few examples were left out: {listed(told, 8)}."


def _rare(dropped: pl.DataFrame) -> str:
    names = [name[:40] for name in dropped["class"].drop_nulls()]
    total = f" with {count(n, 'example')} in all" if (n := int(dropped["n"].sum())) else ""
    return f"{count(dropped.height, 'class', 'classes')}{total} ({listed(names, 4)})"


def _left_out(tables: Tables) -> str:
    def test(row: Row) -> str:
        item = items_of(row["level"])
        vanished, truncated = row["n_vanished"] or 0, row["n_truncated"] or 0
        told = [f"{count(vanished, item)} that the tokenizer drops"] if vanished else []
        told += [f"{count(truncated, item)} beyond the model's longest input"] if truncated else []
        if told and row["n_items"]:
            share = (vanished + truncated) / row["n_items"]
            told.append(f"{percent(share, 1) if share >= 0.001 else 'less than 0.1 %'} of all")
        return ", ".join(told)

    return _told(tables, "What has no activations was left out", test)


def _few_tested(tables: Tables) -> str:
    def test(row: Row) -> str:
        few = row["n_test"] is not None and row["n_test"] < FEW_TESTED
        return count(row["n_test"], items_of(row["level"])) if few else ""

    return _told(tables, "The test is small, so intervals are wide and little can be told apart", test)
