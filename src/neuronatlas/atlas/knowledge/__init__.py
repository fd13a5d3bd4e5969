"""The report of an atlas of knowledge neurons."""

from collections.abc import Mapping
from typing import Any

from neuronatlas.atlas.knowledge import findings
from neuronatlas.atlas.knowledge.caveats import caveats
from neuronatlas.atlas.knowledge.memory import MEMORY_TABLES
from neuronatlas.atlas.knowledge.sections import sections
from neuronatlas.atlas.knowledge.tiles import tiles
from neuronatlas.atlas.page import Kind, Page, Tables

__all__ = ["KIND"]


def _page(tables: Tables, settings: Mapping[str, Any]) -> Page:
    routing = settings.get("routing")  # which only a mixture of experts has
    return Page(
        subject="Knowledge neurons",
        headline=findings.headline(tables["summary"]),
        tiles=tuple(tiles(tables)),
        caveats=tuple(caveats(tables, routing)),
        sections=tuple(sections(tables)),
        definitions="definitions/knowledge.html.jinja",
        exactness=findings.integration_sentence(tables["prompts"], routing),
    )


KIND = Kind(
    needed=("facts", "prompts", "neurons", "effects", "summary", "relations", "layers", "sharing"),
    welcome=("skipped", *MEMORY_TABLES),
    page=_page,
)
