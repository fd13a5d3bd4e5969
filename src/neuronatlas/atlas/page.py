"""What the page of a report is made of, whatever the atlas is about: headline, tiles, sections, figures, lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neuronatlas.atlas.wording import Effect, Score

__all__ = [
    "Example",
    "Headline",
    "Kind",
    "Listing",
    "Page",
    "Plot",
    "Section",
    "Tables",
    "Tile",
    "Whisker",
    "flattened",
    "level",
    "whiskers",
]

Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Headline:
    """The main result: a statement with its numbers, and what the comparison with controls says."""

    statement: str
    verdict: str


@dataclass(frozen=True)
class Whisker:
    """An interval and its middle on a line from 0 to 100; `kind` is `found` or `control`."""

    kind: str
    left: float
    at: float
    width: float


@dataclass(frozen=True)
class Tile:
    """A number with what it is, what to compare it with, and one small picture.

    `detail` stands below the number: an interval, or what the number is made of. The picture is an interval against
    its control (`whiskers` about `zero`), columns (`bars`, 0 to 100) or a filled line (`filled`, 0 to 100).
    """

    label: str
    number: str
    note: str
    detail: str = ""
    zero: float = 0.0
    whiskers: tuple[Whisker, ...] = ()
    bars: tuple[float, ...] = ()
    filled: float | None = None


@dataclass(frozen=True)
class Plot:
    """A figure with its name in the page and its caption."""

    name: str
    figure: Any
    caption: str

    @property
    def height(self) -> int:
        """The height in pixels; the width is the page's to give."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Example:
    """A word in its sentence, with the value of a neuron there and the place that the sentence came from."""

    value: str
    before: str
    word: str
    after: str
    source: str


@dataclass(frozen=True)
class Listing:
    """A table of text: headings, whether each column holds numbers, and rows.

    A list with a `search` (what stands in the empty field) can be searched, and scrolls. `examples` has, for each row,
    sentences that unfold in its last cell.
    """

    headings: list[str]
    numeric: list[bool]
    rows: list[list[str]]
    caption: str = ""
    search: str = ""
    examples: tuple[tuple[Example, ...], ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page: `short` names it in the navigation, `finding` says in a sentence what is seen."""

    id: str
    short: str
    title: str
    finding: str
    plots: tuple[Plot, ...] = ()
    listings: tuple[Listing, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All that a report says of an atlas beside its provenance.

    `subject` is what was looked for in the model; `definitions` the template that explains the words; `exactness` a
    sentence on how exact the numbers are.
    """

    subject: str
    headline: Headline
    tiles: tuple[Tile, ...]
    caveats: tuple[str, ...]
    sections: tuple[Section, ...]
    definitions: str
    exactness: str


@dataclass(frozen=True)
class Kind:
    """A kind of atlas: its tables, those that it may lack, and how a page is made of them and of the settings.

    `welcome` None are all that it has. Of a `partial` kind an atlas that is not complete has a report too.
    """

    needed: tuple[str, ...]
    welcome: tuple[str, ...] | None
    page: Callable[[Tables, Mapping[str, Any]], Page]
    partial: bool = False


def level(shown: list[Plot]) -> tuple[Plot, ...]:
    """Give figures that stand side by side one height."""
    tallest = max((plot.height for plot in shown), default=0)
    for plot in shown:
        plot.figure.update_layout(height=tallest)
    return tuple(shown)


def whiskers(effects: Mapping[str, Effect | Score]) -> tuple[float, tuple[Whisker, ...]]:
    """Effects or scores by kind (`found`, `control`) on one line, and the place of nought on it."""
    ends = {kind: found.bounds for kind, found in effects.items()}
    places = [0.0, *(place for kind, found in effects.items() for place in (*ends[kind], found.value))]
    low, span = min(places), (max(places) - min(places)) or 1.0

    def at(place: float) -> float:
        return round(3 + 94 * (place - low) / span, 2)

    drawn = (
        Whisker(kind, at(ends[kind][0]), at(found.value), round(at(ends[kind][1]) - at(ends[kind][0]), 2))
        for kind, found in effects.items()
    )
    return at(0.0), tuple(drawn)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text.

    >>> list(flattened({"rule": "midpoint", "threshold": {"coarse": 0.2}, "gains": [0, 2]}))
    [('rule', 'midpoint'), ('threshold.coarse', '0.2'), ('gains', '0, 2')]
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
