"""The report of a study of knowledge neurons: an experiment a section, beside what Dai et al. (2022) published."""

from collections.abc import Mapping
from typing import Any

from neuronatlas.atlas.knowledge_study.caveats import caveats
from neuronatlas.atlas.knowledge_study.sections import sections
from neuronatlas.atlas.knowledge_study.suppression import headline
from neuronatlas.atlas.knowledge_study.tiles import tiles
from neuronatlas.atlas.page import Headline, Kind, Page, Tables
from neuronatlas.atlas.store import Atlas

__all__ = ["KIND", "findings_of"]


def _page(tables: Tables, settings: Mapping[str, Any]) -> Page:
    known = Headline("A study of knowledge neurons, in part.", "Suppressing and amplifying has not been run yet.")
    return Page(
        subject="A study of knowledge neurons",
        headline=headline(tables["summary"]) if "summary" in tables else known,
        tiles=tuple(tiles(tables)),
        caveats=tuple(caveats(tables)),
        sections=tuple(sections(tables)),
        definitions="definitions/knowledge-study.html.jinja",
        exactness="How exact the attribution scores are is told in the neurons' own report, neurons/report.html.",
    )


KIND = Kind(needed=("experiments",), welcome=None, page=_page, partial=True)
"""The report of a study of knowledge neurons, finished or not."""


def findings_of(study: Atlas) -> dict[str, str]:
    """What each experiment of a study found, in a sentence or two, by its name."""
    tables = {name: study.table(name) for name in study.tables}
    return {section.id: section.finding for section in sections(tables)}
