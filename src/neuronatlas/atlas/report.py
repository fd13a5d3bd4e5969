"""An atlas as one HTML file to look at: it opens without a network, and equal atlases give equal bytes."""

import json
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from neuronatlas import durable
from neuronatlas.atlas import (
    comparing,
    knowledge,
    knowledge_study,
    salience,
    salient_study,
    shared_facts,
)
from neuronatlas.atlas.page import Kind, Page, flattened
from neuronatlas.atlas.provenance import AtlasError
from neuronatlas.atlas.store import Atlas
from neuronatlas.atlas.style import DARK, DARK_COLOURS, LIGHT

__all__ = ["KINDS", "page_of", "write_report"]

KINDS: dict[str, Kind] = {
    "comparison": comparing.KIND,
    "experiments": knowledge_study.KIND,
    "properties": salience.KIND,
    "facts": knowledge.KIND,
    "minimal_sets": salient_study.KIND,
    "shared_overlaps": shared_facts.KIND,
}
"""The kinds of atlas that have a report, by the table that tells an atlas's kind; the first one found counts."""


def write_report(atlas_folder: str | Path) -> Path:
    """Write `report.html` into a complete atlas and return its path.

    What the report is about, knowledge neurons, a study of them, or salient neurons, follows from the tables. Raises
    AtlasError if the folder is no atlas, not complete yet, or lacks a table; of a study there is a report at any time.
    """
    atlas = _complete(atlas_folder)
    page = _page(atlas)
    path = atlas.folder / "report.html"
    durable.write(path, render(atlas.meta, page).encode(), atlas.folder / ".tmp")
    durable.remove(atlas.folder / ".tmp")
    return path


def page_of(atlas_folder: str | Path) -> Page:
    """What the report of an atlas is made of. Raises AtlasError as `write_report` does."""
    return _page(_complete(atlas_folder))


def _complete(atlas_folder: str | Path) -> Atlas:
    """An atlas that has a report: a complete one, or a study at any time."""
    atlas = Atlas.open(atlas_folder)
    partial = any(kind.partial and table in atlas.tables for table, kind in KINDS.items())
    if atlas.state != "complete" and not partial:
        command = atlas.meta["command"] or "the command that began it"
        raise AtlasError(f"{atlas.folder} is not complete yet, so it has no report; run again: {command}")
    return atlas


def _page(atlas: Atlas) -> Page:
    kind = _kind(atlas)
    welcome = atlas.tables if kind.welcome is None else [name for name in kind.welcome if name in atlas.tables]
    names = dict.fromkeys([*kind.needed, *welcome])
    return kind.page({name: atlas.table(name) for name in names}, atlas.meta["settings"])


def _kind(atlas: Atlas) -> Kind:
    for table, kind in KINDS.items():
        if table in atlas.tables:
            return kind
    expected, found = " or ".join(map(repr, KINDS)), ", ".join(atlas.tables) or "none"
    raise AtlasError(f"no table {expected} in {atlas.folder}, so there is nothing to report on; it has {found}")


def render(meta: dict[str, Any], page: Page) -> str:
    """The HTML of a page about an atlas whose `atlas.json` is `meta`."""
    figures = {plot.name: _without_template(plot.figure) for section in page.sections for plot in section.plots}
    looks = {"light": LIGHT.to_plotly_json(), "dark": DARK.to_plotly_json(), "darkColours": DARK_COLOURS}
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            model=meta["model"].get("id") or "a model in memory",
            page=page,
            provenance=_provenance(meta),
            command=meta["command"],
            version=meta["versions"]["neuronatlas"],
            plotly=get_plotlyjs(),
            figures=_script_json({"figures": figures} | looks),
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _without_template(figure: Any) -> Any:
    plain = json.loads(figure.to_json(engine="json"))
    del plain["layout"]["template"]  # the page chooses between the light and the dark one
    return plain


def _script_json(value: object) -> str:
    """JSON that may stand between script tags, whatever a user's words are."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _provenance(meta: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    remembered = [(f"{name} (found)", value) for name, value in flattened(meta["remembered"])]
    return [
        ("Model", list(flattened(meta["model"]))),
        ("Settings", [*flattened(meta["settings"]), ("seed", str(meta["seed"])), *remembered]),
        ("Versions", [*flattened(meta["versions"]), ("atlas schema", str(meta["schema"]))]),
    ]
