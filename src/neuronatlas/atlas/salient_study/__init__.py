"""The report of a study of salient neurons: a section for each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neuronatlas.atlas.page import Kind, Page, Section, Tables
from neuronatlas.atlas.salient_study import architectures, fine_tuning, languages, layers, minimal, redundancy
from neuronatlas.atlas.salient_study.findings import caveats, exactness, headline, tiles

__all__ = ["KIND", "QUESTIONS"]


@dataclass(frozen=True)
class Asked:
    """A question in the report: the tables that it reads, and its section where these have something to say."""

    tables: tuple[str, ...]
    section: Callable[[Tables], Section | None]


QUESTIONS: tuple[Asked, ...] = (
    Asked(("members", "minimal_sets", "class_sets", "curves"), minimal.section),
    Asked(("layer_shares", "localisation", "layer_probes", "property_pairs"), layers.section),
    Asked(("redundancy", "disjoint_sets"), redundancy.section),
    Asked(("child_pairs", "child_seeds", "child_task"), fine_tuning.section),
    Asked(("model_pairs",), architectures.section),
    Asked(("language_pairs", "language_halves", "transfer"), languages.section),
)
"""In the order in which they are read."""


def _page(tables: Tables, settings: Mapping[str, Any]) -> Page:
    made = [asked.section(tables) for asked in QUESTIONS if all(name in tables for name in asked.tables)]
    return Page(
        subject="Salient neurons",
        headline=headline(tables),
        tiles=tuple(tiles(tables)),
        caveats=tuple(caveats(tables, settings)),
        sections=tuple(section for section in made if section is not None),
        definitions="definitions/salient_study.html.jinja",
        exactness=exactness(tables, settings),
    )


KIND = Kind(
    needed=QUESTIONS[0].tables, welcome=tuple(name for asked in QUESTIONS[1:] for name in asked.tables), page=_page
)
