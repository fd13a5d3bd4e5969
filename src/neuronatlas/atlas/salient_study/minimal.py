"""The section on minimal sets, of properties and of classes."""

from __future__ import annotations

from collections.abc import Iterator

from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.salience import curves
from neuronatlas.atlas.salience.looks import BASELINES
from neuronatlas.atlas.salience.names import property_name, short_name
from neuronatlas.atlas.salient_study import figures
from neuronatlas.atlas.salient_study.reading import (
    as_salience,
    dash,
    is_read,
    labels,
    listing,
    looks,
    models,
    reach,
    rows,
)
from neuronatlas.atlas.style import GREY, Look
from neuronatlas.atlas.wording import Score, number, percent

__all__ = ["section"]

_LOOKS = {**BASELINES, "shuffled": Look("Shuffled labels", GREY, "x-thin-open", 8)}
_MISSED = " \N{DAGGER}"
_NOTE = (
    "Accuracy on test, in %; in brackets 95 % intervals. A class is told from equally many words of the other classes, "
    "so that 50 % is chance. \N{DAGGER} No set smaller than all did as well."
)


def section(tables: Tables) -> Section:
    """How few neurons are enough."""
    plots = [*_accuracies(tables), *_sizes(tables), *_classes(tables)]
    title = "Which neurons capture a property: how few are enough"
    return Section(
        "minimal",
        "Minimal sets",
        title,
        _finding(tables),
        tuple(plots),
        (_listing(tables), _class_listing(tables)),
        _NOTE,
    )


def _finding(tables: Tables) -> str:
    found = [row for row in rows(tables, "minimal_sets") if is_read(row)]
    few = min((row for row in found if row["reached"]), key=lambda row: row["set_share"], default=None)
    if few is None:
        return "No set smaller than all neurons reads a property as well as all do."
    shares = [row["set_share"] for row in found if row["reached"]]
    score = Score(few["set_accuracy"], few["set_accuracy_low"], few["set_accuracy_high"])
    text = f"{reach(shares)} of the neurons are enough for a property. The smallest set, of {short_name(few['label'])}"
    text += f" in {few['model']}, has {few['set_size']:,} neurons and reads {score}"
    text += f", all neurons {Score(few['accuracy'], few['accuracy_low'], few['accuracy_high'])}."
    beyond = [row for row in found if row["shuffled_high"] is not None and row["majority"] is not None]
    if beyond:
        worst = max(beyond, key=lambda row: row["shuffled"] - row["majority"])
        text += f" On labels in random order a probe reads at most {percent(worst['shuffled'], 1)} of "
        text += f"{short_name(worst['label'])}, where the most frequent class is {percent(worst['majority'], 1)}."
    return text


def _accuracies(tables: Tables) -> Iterator[Plot]:
    found = []
    for place, model in enumerate(models(tables)):
        caption = f"{model}: accuracy of the probe on all neurons and on the minimal set, and what else could give it."
        found.append(Plot(f"accuracy-{place}", curves.score_dots(as_salience(tables, model), _LOOKS), caption))
    yield from found if len(found) == 1 else level(found)


def _sizes(tables: Tables) -> Iterator[Plot]:
    several = len(models(tables)) > 1
    if not several:
        caption = "Accuracy on development sentences of a probe trained anew on the top neurons alone, at every size "
        caption += "that was tried. Rings: minimal sets."
        yield Plot("sizes", curves.minimal_curves(as_salience(tables, models(tables)[0])), caption)
        return
    for place, label in enumerate(labels(tables)):
        caption = (
            f"{property_name(label)}: accuracy on development sentences of a probe trained anew on the top neurons "
        )
        caption += "alone, at every size that was tried. Rings: minimal sets."
        yield Plot(f"sizes-{place}", figures.accuracy_by_size(tables, label), caption)


def _classes(tables: Tables) -> Iterator[Plot]:
    shown = []
    for place, label in enumerate(labels(tables)):
        found = {model: list(rows(tables, "class_sets", label=label, model=model)) for model in models(tables)}
        known = [row for own in found.values() for row in own if row["set_share"] is not None]
        if not known:
            continue
        names = list(dict.fromkeys(row["class"] for row in known))
        figure = figures.dots(found, "set_share", names, "class", looks(tables), "Share of all neurons (%)", scale=100)
        figure.update_xaxes(rangemode="tozero")
        caption = f"{property_name(label)}: size of the minimal set that tells each class from the others."
        shown.append(Plot(f"class-sets-{place}", figure, caption))
    yield from level(shown)


def _listing(tables: Tables) -> Listing:
    headings = [
        "Model",
        "Property",
        "#Classes",
        "#Minimal set",
        "#Share, %",
        "#With it",
        "#All neurons",
        "#Selectivity",
    ]
    headings += ["#Control task", "#Random weights", "#Shuffled labels", "#By word", "#Most frequent"]
    listed = [
        [
            *(row["model"], short_name(row["label"]), f"{row['n_classes'] or 0:,}"),
            f"{row['set_size'] or 0:,}{'' if row['reached'] else _MISSED}",
            number(100 * row["set_share"], 1) if row["set_share"] is not None else "\N{EN DASH}",
            *(dash(row, name) for name in ("set_accuracy", "accuracy", "selectivity", "control_accuracy")),
            *(dash(row, name) for name in ("random_weights", "shuffled", "word_majority", "majority")),
        ]
        for row in rows(tables, "minimal_sets")
    ]
    return listing(headings, listed, "Properties")


def _class_listing(tables: Tables) -> Listing:
    headings = ["Model", "Property", "Class", "#Words in training", "#Minimal set", "#Share, %", "#With it"]
    headings += ["#All neurons", "#Selectivity", "Left out"]
    listed = [
        [
            *(row["model"], short_name(row["label"]), row["class"]),
            *("\N{EN DASH}" if row[name] is None else f"{row[name]:,}" for name in ("n_train", "set_size")),
            number(None if row["set_share"] is None else 100 * row["set_share"], 1),
            *(dash(row, name) for name in ("set_accuracy", "accuracy", "selectivity")),
            row["left_out"] or "",
        ]
        for row in rows(tables, "class_sets")
    ]
    if tables["class_sets"]["left_out"].is_null().all():
        headings, listed = headings[:-1], [row[:-1] for row in listed]
    return listing(headings, listed, "Classes", "Find a model, property or class")
