"""Comparing two atlases, and figures for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console

from neuronatlas.atlas import write_report
from neuronatlas.atlas.comparing import findings
from neuronatlas.atlas.paper.export import write_figures
from neuronatlas.atlas.wording import number, percent
from neuronatlas.cli.options import AsJson, AtlasFolder, as_names
from neuronatlas.cli.running import command_line, console, print_json, shows_progress
from neuronatlas.cli.show import table_of
from neuronatlas.studies.comparing.comparison import Comparison
from neuronatlas.studies.comparing.comparison import compare as compare_atlases

__all__ = ["compare", "figures"]


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a finished atlas.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another one.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Leave tables and report.html here.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap and of the draws by chance.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare the neurons of two atlases: what they share against chance, which way they moved, how scores agree.

    Example: neuronatlas compare base/ tuned/ -o compared

    Two atlases of `locate` are matched fact by fact, two of `probe` property by property. Where both are of one site
    and of layers of the same widths neurons are compared one by one; else only the depths at which they lie.
    """
    found = compare_atlases(first, second, output, seed=seed, command=command_line(), progress=shows_progress())
    report = None if output is None else write_report(output)
    if as_json:
        tables = {name: table.to_dicts() for name, table in found.tables.items()}
        print_json({"by_neuron": found.by_neuron, "report": None if report is None else str(report)} | tables)
        return
    out = console()
    _show(out, found)
    if report is not None:
        out.print(f"\nThe report, with pictures: {report}", soft_wrap=True)


def figures(
    folder: AtlasFolder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where they go.", show_default=False)],
    file_format: Annotated[str, typer.Option("--format", metavar="svg|pdf|png", help="What to write.")] = "svg",
    columns: Annotated[
        str, typer.Option(metavar="one|two", help="Wide as one column of a page (85 mm) or as two (175 mm).")
    ] = "one",
    text: Annotated[bool, typer.Option("--text", help="Keep letters in SVG as text, not as outlines.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Only figures whose name begins with one of these: with commas between, or the option again.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the figures of a finished atlas for a paper: the report's own, as vector graphics, without a browser.

    Example: neuronatlas figures neuronatlas-demo/facts -o figures --format pdf

    Needs matplotlib (pip install 'neuronatlas[figures]'). The same atlas gives the same bytes; figures.txt has the
    captions.
    """
    paths = write_figures(folder, output, format=file_format, columns=columns, text=text, only=as_names(only))
    if as_json:
        print_json({"figures": [str(path) for path in paths], "captions": str(output / "figures.txt")})
        return
    out = console()
    for path in paths:
        out.print(str(path), soft_wrap=True)
    out.print(f"Captions: {output / 'figures.txt'}", soft_wrap=True)


def _show(out: Console, found: Comparison) -> None:
    tables = found.tables
    for place, side in zip(("First", "Second"), (found.first, found.second), strict=True):
        out.print(f"{place}: {side.name}, {side.n_layers} layers at {side.site} ({side.folder})", soft_wrap=True)
    headline = findings.headline(tables)
    out.print(f"\n{headline.statement} {headline.verdict}\n")
    rows = findings.main_rows(tables)
    if found.by_neuron:
        columns = ("set", "first", "second", "shared", "chance", "in layers", "of either", "q", "q in layers")
        out.print(table_of(columns, map(_overlap, rows.iter_rows(named=True))))
    moved = rows.drop_nulls("moved")
    listed = moved.to_dicts()
    out.print(table_of(("set", "depth", "moved", "q", "distance", "by chance"), map(_moved, listed)))
    out.print(table_of(("set", "localised, first", "q", "localised, second", "q"), map(_localised, listed)))
    agreed = tables["correlations"].filter(pl.col("correlation").is_not_null())
    if agreed.height:
        heads = ("of", "scores", "items", "rank correlation")
        out.print(table_of(heads, map(_agreed, agreed.iter_rows(named=True)), left=2))
    out.print(
        "Depth: 0 first layer, 1 last. q: p-values against chance, corrected (Benjamini and Hochberg). In brackets: "
        "95 % intervals. Distance: the earth mover's. Localised: 0 as random neurons, 1 all in one layer."
    )
    for text in found.notes:
        out.print(f"Note: {text}")


def _overlap(row: dict[str, object]) -> tuple[str, ...]:
    counts = (f"{row[name]:,}" for name in ("n_first", "n_second", "n_shared"))
    chance = (_number(row, name, 1) for name in ("expected", "expected_in_layers"))
    jaccard = row["jaccard"]
    either = percent(jaccard if isinstance(jaccard, float) else None, 1)
    return (str(row["name"]), *counts, *chance, either, _number(row, "q_value", 4), _number(row, "q_in_layers", 4))


def _moved(row: dict[str, object]) -> tuple[str, ...]:
    depths = f"{_number(row, 'depth_first', 2)} to {_number(row, 'depth_second', 2)}"
    distance = (_number(row, name, 3) for name in ("distance", "expected_distance"))
    return (str(row["name"]), depths, findings.shift(row), _number(row, "q_moved", 4), *distance)


def _localised(row: dict[str, object]) -> tuple[str, ...]:
    found = []
    for side in ("first", "second"):
        low, high = _number(row, f"excess_{side}_low", 2), _number(row, f"excess_{side}_high", 2)
        found += [f"{_number(row, f'excess_{side}', 2)} [{low}, {high}]", _number(row, f"q_local_{side}", 4)]
    return (str(row["name"]), *found)


def _agreed(row: dict[str, object]) -> tuple[str, ...]:
    interval = f"{_number(row, 'correlation', 2)} [{_number(row, 'low', 2)}, {_number(row, 'high', 2)}]"
    return (str(row["name"]), str(row["what"]), f"{row['n']:,}", interval)


def _number(row: dict[str, object], name: str, digits: int) -> str:
    value = row[name]
    return number(value if isinstance(value, float) else None, digits)
