"""The numbers at the head of a report on a study."""

from __future__ import annotations

from collections.abc import Iterator

from neuronatlas.atlas.knowledge.looks import gain_name
from neuronatlas.atlas.knowledge_study.published import PUBLISHED
from neuronatlas.atlas.knowledge_study.reading import change_of
from neuronatlas.atlas.knowledge_study.suppression import ENDS
from neuronatlas.atlas.page import Tables, Tile, whiskers
from neuronatlas.atlas.wording import Effect

__all__ = ["tiles"]


def tiles(tables: Tables) -> Iterator[Tile]:
    """What each gain does, beside the activation baseline and the paper."""
    if "summary" not in tables:
        return
    for gain in ENDS:
        located = change_of(tables["summary"], "located", gain)
        baseline = change_of(tables["summary"], "activation", gain)
        if located is None:
            continue
        zero, drawn = whiskers({"found": located} | ({"control": baseline} if baseline else {}))
        paper = PUBLISHED["change", "located", gain_name(gain)]
        note = f"activation baseline {baseline.size}; " if baseline else ""
        note += f"published {Effect(paper, paper, paper).size}"
        yield Tile(f"P(answer), {gain_name(gain)}", located.size, note, located.interval, zero, drawn)
