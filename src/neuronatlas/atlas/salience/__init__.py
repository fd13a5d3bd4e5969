"""The report of an atlas of salient neurons."""

from collections.abc import Mapping
from typing import Any

from neuronatlas.atlas.page import Kind, Page, Tables
from neuronatlas.atlas.salience import findings
from neuronatlas.atlas.salience.caveats import caveats
from neuronatlas.atlas.salience.sections import sections
from neuronatlas.atlas.salience.tables import COLUMNS, completed
from neuronatlas.atlas.salience.tiles import tiles

__all__ = ["KIND"]


def _page(tables: Tables, settings: Mapping[str, Any]) -> Page:
    found = completed(tables)
    return Page(
        subject="Salient neurons",
        headline=findings.headline(found),
        tiles=tuple(tiles(found)),
        caveats=tuple(caveats(found, settings.get("tol"))),
        sections=tuple(sections(found)),
        definitions="definitions/salience.html.jinja",
        exactness=findings.exactness_sentence(found),
    )


KIND = Kind(needed=("properties",), welcome=tuple(name for name in COLUMNS if name != "properties"), page=_page)
