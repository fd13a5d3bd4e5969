"""The section on fine-tuning: what children keep of their base's neurons, where these move, and the control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.salience.names import short_name
from neuronatlas.atlas.salient_study import figures, layers_of_children
from neuronatlas.atlas.salient_study.layers_of_children import CHILD, CONTROL, accuracy_lines
from neuronatlas.atlas.salient_study.reading import Row, both_read, dash, labels, left_out, listing, spanned
from neuronatlas.atlas.style import BLUE, GREY, VERMILION, Look
from neuronatlas.atlas.wording import count, number, percent

__all__ = ["section"]

ALPHA = 0.05
_LOOKS = {CHILD: Look("Children", BLUE, "circle", 9), CONTROL: Look("On shuffled labels", VERMILION, "square", 8)}
_CHANCE = Look("Children, by chance", GREY, "diamond", 8)
_NOTE = (
    "Kept: the share of the base's set that the child's has too; by chance: that of random neurons, as many in each "
    "layer; p is against these, adjusted for all properties and children. Moved: mean depth in the child less that in "
    "the base (0 lowest, 1 highest layer), below 0 is down. Distance: the earth mover's distance over depth. In "
    "brackets 95 % intervals over neurons. Whiskers in the pictures: from the least to the most over the children's "
    "seeds. On shuffled labels: children that were trained as long on permuted labels. Sentences that a child was "
    "trained on take no part."
)


def section(tables: Tables) -> Section | None:
    """What fine-tuning moves; nothing without a child."""
    if not tables["child_pairs"].height:
        return None
    plots = (*level(list(_sets(tables))), *layers_of_children.plots(tables), *_task(tables))
    return Section(
        "fine-tuning", "Fine-tuning", "What fine-tuning moves", _finding(tables), plots, (_listing(tables),), _NOTE
    )


def _seeds(tables: Tables, role: str) -> list[Row]:
    found = tables["child_seeds"].filter(pl.col("of") == "top", pl.col("role") == role, pl.col("n_seeds") > 0)
    renamed = {name: name.removesuffix(end) + to for end, to in _ENDS for name in found.columns if name.endswith(end)}
    return list(found.rename(renamed).iter_rows(named=True))


_ENDS = (("_least", "_low"), ("_most", "_high"))


def _finding(tables: Tables) -> str:
    told = []
    pairs = tables["child_pairs"].filter(pl.col("of") == "top", pl.col("role") == CHILD)
    for row in _seeds(tables, CHILD):
        own = both_read(pairs.filter(pl.col("label") == row["label"], pl.col("base") == row["base"]))
        beyond = own.filter(pl.col("p_in_layers_adjusted") <= ALPHA).height
        moved = own.filter(pl.col("p_moved_adjusted") <= ALPHA).height
        text = (
            f"{short_name(row['label'])}: children keep {percent(row['kept'])} of the top neurons (by chance in the "
            f"same layers {percent(row['kept_expected'])}; more than chance in {beyond} of {row['n_seeds']}) and their "
            f"mean depth moves by {number(row['moved'], 2)}, down in {row['n_down']} of "
            f"{count(row['n_seeds'], 'child', 'children')}, further than chance in {moved}"
        )
        if row["control_kept"] is not None:
            text += (
                f"; trained on shuffled labels {percent(row['control_kept'])} stay, moved by "
                f"{number(row['control_moved'], 2)}"
            )
        told.append(text + ".")
    every = tables["child_pairs"].filter(pl.col("of") == "top")
    return " ".join(told) + left_out(every)


def _sets(tables: Tables) -> Iterator[Plot]:
    roles = [role for role in _LOOKS if _seeds(tables, role)]
    found: dict[str, list[Row]] = {role: _seeds(tables, role) for role in roles}
    looks = {role: _LOOKS[role] for role in roles}
    if CHILD in found:
        found["chance"] = [row | {f"kept{end}": row[f"kept_expected{end}"] for end in _SPAN} for row in found[CHILD]]
        kept_looks = looks | {"chance": _CHANCE}
    else:
        kept_looks = looks
    names = labels(tables)
    figure = figures.dots(found, "kept", names, "label", kept_looks, "Top neurons kept (%)", scale=100)
    figure.update_xaxes(rangemode="tozero")
    yield Plot("child-kept", figure, "The share of the base's top neurons that are top neurons of its children too.")
    figure = figures.dots(found, "moved", names, "label", looks, "Moved (units of depth, below 0 is down)")
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color=GREY)
    yield Plot("child-moved", figure, "How far the mean depth of the top neurons moved from base to children.")


_SPAN = ("", "_low", "_high")


def _task(tables: Tables) -> Iterator[Plot]:
    for place, task in enumerate(tables["child_task"]["task"].unique(maintain_order=True)):
        own = tables["child_task"].filter(pl.col("task") == task)
        caption = (
            f"{short_name(task)}, which the children were trained for, read from each layer alone, on sentences that "
            "none was trained on; means over seeds."
        )
        yield Plot(f"child-task-{place}", _task_lines(own), caption)


def _task_lines(own: pl.DataFrame) -> Any:
    series = pl.when(pl.col("which") == "base").then(pl.lit("base")).otherwise(pl.col("role")).alias("series")
    means = own.with_columns(series).group_by("series", "layer").agg(pl.mean("accuracy")).sort("layer")
    figure = accuracy_lines(means, 320, "Accuracy (%), dashed: most frequent class")
    figure.add_hline(y=100 * float(own["chance"].mean() or 0), line_width=1, line_dash="dash", line_color=GREY)  # type: ignore[arg-type]
    return figure


def _p(row: Row, name: str) -> str:
    return number(row[f"{name}_adjusted"], 3)


def _listing(tables: Tables) -> Listing:
    headings = ["Child", "Labels", "Property", "Neurons", "#Of the base", "#Kept, %", "#By chance", "#Adjusted p"]
    headings += [
        "#Moved",
        "#Its adjusted p",
        "#Signed distance",
        "#Distance by chance",
        "#Accuracy, base",
        "#Accuracy, child",
    ]
    sets = {"top": "top neurons", "set": "minimal set"}
    found = [
        [
            *(
                row["model"],
                "shuffled" if row["role"] == CONTROL else "true",
                short_name(row["label"]),
                sets[row["of"]],
            ),
            *(f"{row['n_base']:,}", dash(row, "kept"), percent(row["kept_expected"]), _p(row, "p_in_layers")),
            *(
                spanned(row, "moved"),
                _p(row, "p_moved"),
                number(row["signed_distance"], 2),
                number(row["distance_expected"], 2),
            ),
            *(percent(row["base_accuracy"], 1), percent(row["accuracy"], 1)),
        ]
        for row in both_read(tables["child_pairs"]).iter_rows(named=True)
    ]
    return listing(headings, found, "Children against their base", "Find a child or property")
