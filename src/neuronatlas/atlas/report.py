"""An atlas as one HTML file to look at: it opens without a network, and equal atlases give equal bytes."""

import json
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from neuronatlas.atlas import durable, findings
from neuronatlas.atlas.caveats import caveats
from neuronatlas.atlas.findings import Tables
from neuronatlas.atlas.listings import flattened
from neuronatlas.atlas.provenance import AtlasError
from neuronatlas.atlas.sections import sections
from neuronatlas.atlas.store import Atlas
from neuronatlas.atlas.style import DARK, DARK_COLOURS, LIGHT
from neuronatlas.atlas.tiles import tiles

__all__ = ["write_report"]

_NEEDED = ("facts", "prompts", "neurons", "effects", "summary", "relations", "layers", "sharing")
_WELCOME = ("skipped",)


def write_report(atlas_folder: str | Path) -> Path:
    """Write `report.html` into a complete atlas and return its path.

    Raises AtlasError if the folder is no atlas, not complete yet, or lacks a table.
    """
    atlas = Atlas.open(atlas_folder)
    if atlas.state != "complete":
        command = atlas.meta["command"] or "the command that began it"
        raise AtlasError(f"{atlas.folder} is not complete yet, so it has no report; run again: {command}")
    names = [*_NEEDED, *(name for name in _WELCOME if name in atlas.tables)]
    page = render(atlas.meta, {name: atlas.table(name) for name in names})
    path = atlas.folder / "report.html"
    durable.write(path, page.encode(), atlas.folder / ".tmp")
    durable.remove(atlas.folder / ".tmp")
    return path


def render(meta: dict[str, Any], tables: Tables) -> str:
    """The page of an atlas whose `atlas.json` is `meta`."""
    parts = list(sections(tables))
    figures = {plot.name: _without_template(plot.figure) for part in parts for plot in part.plots}
    looks = {"light": LIGHT.to_plotly_json(), "dark": DARK.to_plotly_json(), "darkColours": DARK_COLOURS}
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            model=meta["model"].get("id") or "a model in memory",
            headline=findings.headline(tables["summary"]),
            tiles=list(tiles(tables)),
            caveats=caveats(tables),
            sections=parts,
            integration=findings.integration_sentence(tables["prompts"]),
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
