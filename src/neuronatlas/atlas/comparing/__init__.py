"""The report of two atlases compared."""

from collections.abc import Mapping
from typing import Any

from neuronatlas.atlas.comparing import findings
from neuronatlas.atlas.comparing.sections import sections
from neuronatlas.atlas.page import Kind, Page, Tables

__all__ = ["KIND"]


def _page(tables: Tables, _settings: Mapping[str, Any]) -> Page:
    return Page(
        subject="Two atlases compared: neurons",
        headline=findings.headline(tables),
        tiles=tuple(findings.tiles(tables)),
        caveats=tuple(tables["notes"]["note"]),
        sections=tuple(sections(tables)),
        definitions="definitions/comparing.html.jinja",
        exactness=findings.EXACTNESS,
    )


KIND = Kind(needed=("comparison", "layers", "pairs", "correlations", "sides", "notes"), welcome=(), page=_page)
