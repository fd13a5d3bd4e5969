"""The findings of Durrani et al. (2023) as atlases of salient neurons show them, as a Markdown table.

python benchmarks/findings.py neuronatlas-demo/language other-atlas --markdown findings.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from neuronatlas import Atlas
from outcome import table

__all__ = ["as_markdown"]

MEASURE, LEVEL = "class mass", 0.05

HEAD = (
    "model",
    "property",
    "classes",
    "accuracy",
    "random weights",
    "each word's class",
    "selectivity",
    "minimal set",
    "its accuracy",
    "disjoint sets",
    "redundant",
    "mean layer",
    "best single layer",
    "used together",
    "used by class",
)


def as_markdown(folders: list[Path]) -> str:
    """One row a property of each atlas; accuracies in per cent, 95 % intervals over sentences in brackets."""
    return table(HEAD, [row for folder in folders for row in _rows(Atlas.open(folder))]) + "\n"


def _rows(atlas: Atlas) -> Iterator[tuple[str, ...]]:
    layers, single = atlas.table("layers"), atlas.table("layer_probes").filter(~pl.col("upto"))
    for found in atlas.table("properties").iter_rows(named=True):
        mine = layers.filter((pl.col("label") == found["label"]) & pl.col("class").is_null())
        total = int(mine["n"].sum())
        mean = float((mine["layer"] * mine["n"]).sum()) / total if total else float("nan")
        best = single.filter(label=found["label"]).sort("accuracy", descending=True).row(0, named=True)
        yield (
            Path(atlas.meta["model"]["id"]).name,
            found["label"],
            str(found["n_classes"]),
            _interval(found, "accuracy", "accuracy_low", "accuracy_high"),
            _interval(found, "random_weights", "random_weights_low", "random_weights_high"),
            f"{100 * found['word_majority']:.1f}",
            _interval(found, "selectivity", "selectivity_low", "selectivity_high"),
            f"{found['minimal_size']} ({found['minimal_share']:.1%})",
            _interval(found, "minimal_accuracy", "minimal_low", "minimal_high"),
            f"{found['n_disjoint']}{' or more' if found['disjoint_bound'] else ''}",
            f"{found['redundant_share']:.0%}",
            f"{mean:.1f} of 0 to {int(mine['layer'].max())}",  # type: ignore[arg-type]
            f"{best['layer']} ({100 * best['accuracy']:.1f})",
            _together(atlas, found["label"]),
            _by_class(atlas, found["label"]),
        )


def _together(atlas: Atlas, label: str) -> str:
    """By how many points the right class becomes less probable in the running model, and p against random neurons."""
    rows = atlas.table("interventions").filter(pl.col("class").is_null(), label=label, measure=MEASURE)
    if rows.is_empty():
        return ""
    row = rows.row(0, named=True)
    return f"{100 * row['change']:.1f} (p = {row['p']:.2f})"


def _by_class(atlas: Atlas, label: str) -> str:
    """How many classes fall more than by chance when their own neurons are replaced, of those that were asked for."""
    rows = atlas.table("class_interventions").filter(pl.col("class").is_not_null(), label=label, measure=MEASURE)
    falling = rows.filter((pl.col("p_adjusted") <= LEVEL) & (pl.col("change") < 0))
    return f"{len(falling)} of {len(rows)}" if len(rows) else ""


def _interval(row: dict[str, Any], value: str, low: str, high: str) -> str:
    return f"{100 * row[value]:.1f} [{100 * row[low]:.1f}, {100 * row[high]:.1f}]"


def main(
    folders: Annotated[list[Path], typer.Argument(help="Atlases that `neuronatlas probe` wrote.")],
    markdown: Annotated[Path | None, typer.Option(help="Write the table to this file as well.")] = None,
) -> None:
    """Print the findings of atlases."""
    text = as_markdown(folders)
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
