"""The sections of a report on a study, by experiment, in the order of its table of experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from neuronatlas.atlas.knowledge_study import (
    editing,
    implicit,
    interactions,
    places,
    rules,
    suppression,
    sweeps,
    triggers,
    wordings,
)
from neuronatlas.atlas.page import Section, Tables

__all__ = ["SECTIONS", "sections"]

SECTIONS: dict[str, Callable[[Tables], Section]] = {
    "places": places.section,
    "suppression": suppression.section,
    "triggers": triggers.section,
    "update": editing.update_section,
    "erase": editing.erase_section,
    "gains": sweeps.gain_section,
    "thresholds": sweeps.threshold_section,
    "halves": wordings.halves_section,
    "symmetry": wordings.symmetry_section,
    "frequency": wordings.frequency_section,
    "rules": rules.section,
    "interactions": interactions.section,
    "implicit": implicit.section,
}
"""What makes the section of an experiment that has run; the section has the experiment's name as its id."""


def sections(tables: Tables) -> Iterator[Section]:
    """The sections of all experiments that have run and measured something."""
    for name, refused, done in tables["experiments"].select("experiment", "refused", "done").iter_rows():
        if done and refused is None and name in SECTIONS:
            yield SECTIONS[name](tables)
