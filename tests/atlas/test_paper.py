"""Figures for papers: every figure of every report, the same bytes each time, of the width that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from neuronatlas.atlas import AtlasError
from neuronatlas.atlas.paper import export
from neuronatlas.atlas.paper.export import FigureError, drawn, write_figures
from neuronatlas.atlas.report import page_of

Make = Callable[..., Any]


@pytest.fixture(params=["knowledge", "salience"])
def atlas(request: pytest.FixtureRequest, make_atlas: Make, make_tables: Make, make_salience: Make) -> Path:
    knowledge = request.param == "knowledge"
    small = make_tables(relations=3, facts=5) if knowledge else make_salience(labels=("upos",), n_classes=3, layers=4)
    folder: Path = make_atlas(small)
    return folder


def test_every_figure_of_a_report_can_be_printed(atlas: Path, tmp_path: Path) -> None:
    written = write_figures(atlas, tmp_path / "figures")
    plots = [plot for section in page_of(atlas).sections for plot in section.plots]
    assert [path.stem for path in written] == [plot.name for plot in plots]
    captions = (tmp_path / "figures" / "figures.txt").read_text(encoding="utf-8").splitlines()
    assert captions == [f"{plot.name}.svg: {plot.caption}" for plot in plots]
    for path in written:
        svg = path.read_text(encoding="utf-8")
        assert 'width="241.2pt"' in svg  # 85 mm
        assert "<dc:date>" not in svg


@pytest.mark.parametrize("format", export.FORMATS)
def test_the_same_atlas_gives_the_same_bytes(make_atlas: Make, make_tables: Make, tmp_path: Path, format: str) -> None:  # noqa: A002
    atlas = make_atlas(make_tables(relations=3, facts=5))
    first, second = (write_figures(atlas, tmp_path / name, format=format, only="layers-by") for name in "ab")
    assert len(first) == len(second) > 0
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_letters_can_stay_text_and_a_figure_can_be_two_columns_wide(make_atlas: Make, tmp_path: Path) -> None:
    (path,) = write_figures(make_atlas(), tmp_path, columns="two", text=True, only="sharing-by")
    svg = path.read_text(encoding="utf-8")
    assert 'width="496.8pt"' in svg
    assert re.search(r"<text[^>]*>capital</text>", svg)


def test_axes_carry_their_titles_with_units(make_atlas: Make, make_tables: Make, tmp_path: Path) -> None:
    (path,) = write_figures(make_atlas(make_tables(relations=2, facts=3)), tmp_path, text=True, only="effects-log-odds")
    assert "Change of log-odds (nats)" in path.read_text(encoding="utf-8")


def test_names_are_printed_as_they_are() -> None:
    figure = go.Figure(layout={"height": 200, "xaxis": {"tickvals": [0], "ticktext": ["a&lt;b&gt; <b>$x$</b>"]}})
    figure.add_scatter(x=[0, None, 1], y=[1.0, None, 2.0], mode="lines")
    svg = drawn(figure, format="svg", width=3.0, text=True).decode()
    assert "a&lt;b&gt; $x$" in svg


def test_what_cannot_be_drawn_is_refused(
    make_atlas: Make, make_tables: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AtlasError, match="no way to draw pie for a paper: bar, heatmap, scatter expected"):
        drawn(go.Figure(go.Pie(values=[1, 2])), format="svg", width=3.0)
    atlas = make_atlas(make_tables(relations=2, facts=3))
    odd = go.Figure(go.Scatter(x=[1], y=[1], mode="markers", marker={"symbol": "hourglass"}))
    with pytest.raises(AtlasError, match="no way to draw the symbol 'hourglass' for a paper"):
        drawn(odd, format="svg", width=3.0)
    with pytest.raises(FigureError, match="'gif' is none of svg, pdf, png"):
        write_figures(atlas, tmp_path, format="gif")
    with pytest.raises(FigureError, match="'three' is none of one, two"):
        write_figures(atlas, tmp_path, columns="three")
    with pytest.raises(FigureError, match="a name that begins with 'nothing': it has layers, "):
        write_figures(atlas, tmp_path, only="nothing")

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(export, "import_module", missing)
    with pytest.raises(FigureError, match=r"need matplotlib: pip install 'neuronatlas\[figures\]'"):
        write_figures(atlas, tmp_path)
