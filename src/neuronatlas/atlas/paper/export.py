"""Write every figure of an atlas' report as SVG, PDF or PNG: same atlas, same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from neuronatlas import durable
from neuronatlas.atlas.page import Plot
from neuronatlas.atlas.provenance import AtlasError
from neuronatlas.atlas.report import page_of

__all__ = ["FORMATS", "WIDTHS", "FigureError", "write_figures"]

FORMATS = ("svg", "pdf", "png")
WIDTHS = {"one": 3.35, "two": 6.9}
"""Inches: a column of most journals (85 mm), and two with the space between (175 mm)."""

_DPI = 300


class FigureError(AtlasError):
    """A figure that cannot be drawn or written."""


def write_figures(
    atlas_folder: str | Path,
    folder: str | Path,
    *,
    format: str = "svg",  # noqa: A002 - what every tool that saves figures calls it
    columns: str = "one",
    text: bool = False,
    only: str | Sequence[str] | None = None,
) -> list[Path]:
    """Write the figures of a finished atlas into `folder`, one file each, and `figures.txt` with their captions.

    `columns` is the width, of `one` or `two` columns (85 or 175 mm); heights follow. In SVG, letters are outlines that
    look the same everywhere, or with `text` stay text that can be edited; in PDF they are TrueType. `only` takes the
    figures whose name begins so, or with one of these.

    Errors: FigureError without matplotlib, for an unknown format or width, or where nothing has the name; AtlasError
    as for a report.
    """
    if format not in FORMATS or columns not in WIDTHS:
        found, expected = (format, FORMATS) if format not in FORMATS else (columns, tuple(WIDTHS))
        raise FigureError(f"{found!r} is none of {', '.join(expected)}")
    there, beginnings = (
        list(_plots(atlas_folder)),
        ("",) if only is None else (only,) if isinstance(only, str) else only,
    )
    for beginning in beginnings:
        if not any(plot.name.startswith(beginning) for plot in there):
            names = ", ".join(plot.name for plot in there) or "no figures"
            raise FigureError(f"no figure of {atlas_folder} has a name that begins with {beginning!r}: it has {names}")
    plots = [plot for plot in there if plot.name.startswith(tuple(beginnings))]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in plots:
        path = folder / f"{plot.name}.{format}"
        durable.write(path, drawn(plot.figure, format=format, width=WIDTHS[columns], text=text), folder / ".tmp")
        written.append(path)
    captions = "".join(f"{path.name}: {plot.caption}\n" for path, plot in zip(written, plots, strict=True))
    durable.write(folder / "figures.txt", captions.encode(), folder / ".tmp")
    durable.remove(folder / ".tmp")
    return written


def _plots(atlas_folder: str | Path) -> Iterator[Plot]:
    for section in page_of(atlas_folder).sections:
        yield from section.plots


def drawn(figure: Any, *, format: str, width: float, text: bool = False) -> bytes:  # noqa: A002
    """One figure as the bytes of a file, `width` inches wide."""
    try:
        mpl, translation = import_module("matplotlib"), import_module("neuronatlas.atlas.paper.translation")
    except ImportError:
        raise FigureError("figures for papers need matplotlib: pip install 'neuronatlas[figures]'") from None
    # Without these the file would hold the hour at which it was written, and names drawn at random.
    dates: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    fonts = {"svg.fonttype": "none" if text else "path", "svg.hashsalt": "neuronatlas", "pdf.fonttype": 42}
    with mpl.rc_context({**mpl.rcParamsDefault, **translation.STYLE, **fonts}):
        made = translation.translated(figure, width)
        target = io.BytesIO()
        made.savefig(target, format=format, dpi=_DPI, metadata=dates[format])
    return target.getvalue()
