"""The gallery of the docs, made from atlases: each question, its picture, the command, and what is seen.

    neuronatlas demo
    python benchmarks/gallery.py neuronatlas-demo/facts neuronatlas-demo/language

writes docs/gallery.md and docs/images/gallery. Only the questions are written here: pictures, captions, findings and
commands are those of the atlases' reports; gallery_notes.toml tells, atlas by atlas and question by question, what is
not seen. Pictures are SVG, drawn by a browser that runs without a window (Chromium).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plotly.offline import get_plotlyjs

from neuronatlas.atlas import Atlas
from neuronatlas.atlas.page import Page, Plot, Section
from neuronatlas.atlas.report import KINDS
from neuronatlas.atlas.style import DARK, DARK_COLOURS, LIGHT

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTES = Path(__file__).with_name("gallery_notes.toml")
WIDTH = 760
INTRODUCTION = """# Gallery

<!-- Made by `python benchmarks/gallery.py`; not typed. -->

Each question of the two papers, its picture, the command that makes it, and what is seen. Pictures, captions and
findings are those of the reports, which show more; `neuronatlas report DIR` makes them.
"""
# By the table that tells an atlas's kind: questions, and the plots of its report that answer them (those that it has).
# Of other kinds, those of studies, every section of the report is a question, and its first plot the picture.
QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "facts": {
        "Do these neurons express the facts?": ("effects",),
        "Also relation by relation, against every control?": ("relations-change-0",),
        "In which layers do they lie?": ("layers", "layers-by-relation"),
        "How many does a fact have?": ("neurons-per-fact",),
        "Do facts share them?": ("sharing", "sharing-by-relation"),
    },
    "properties": {
        "Can the property be read from neurons, and would a control do as well?": ("accuracy",),
        "Is the ranking of neurons right?": ("ablation-keep-retr-0", "methods-0"),
        "Which subsets of neurons capture a property?": ("minimal",),
        "How redundantly is it kept?": ("disjoint",),
        "How is it spread over layers?": ("layers", "layer-probes"),
        "Does the model use these neurons?": ("interventions-0",),
        "Do properties share neurons?": ("overlaps",),
    },
}
PAGE = """<!doctype html><meta charset="utf-8"><body><script>{plotly}</script><script>
async function draw(number, figure, height) {{
  const box = document.createElement("div");
  await Plotly.newPlot(box, figure.data, figure.layout, {{staticPlot: true}});
  const url = await Plotly.toImage(box, {{format: "svg", width: {width}, height: height}});
  Plotly.purge(box);
  const drawn = document.body.appendChild(document.createElement("div"));
  drawn.id = "drawn-" + number;
  drawn.innerHTML = decodeURIComponent(url.slice(url.indexOf(",") + 1));
}}
(async () => {{ for (const [number, [figure, height]] of {figures}.entries()) await draw(number, figure, height); }})();
</script>"""
LOOKS: tuple[tuple[str, Any, dict[str, str]], ...] = (("light", LIGHT, {}), ("dark", DARK, DARK_COLOURS))


@dataclass(frozen=True)
class Picture:
    """A plot of an atlas's report, with the section that it stands in."""

    section: Section
    plot: Plot


def page_of(atlas: Atlas) -> tuple[str, Page]:
    """The table that tells an atlas's kind, and what its report says."""
    table, kind = next((table, kind) for table, kind in KINDS.items() if table in atlas.tables)
    welcome = atlas.tables if kind.welcome is None else [name for name in kind.welcome if name in atlas.tables]
    names = dict.fromkeys([*kind.needed, *welcome])
    return table, kind.page({name: atlas.table(name) for name in names}, atlas.meta["settings"])


def pictures(page: Page) -> dict[str, Picture]:
    """All plots of a report by name."""
    return {plot.name: Picture(section, plot) for section in page.sections for plot in section.plots}


def in_look(plot: Plot, template: Any, colours: dict[str, str]) -> tuple[Any, int]:
    """A plot's figure and height, in the look of a template, with colours that are replaced by others."""
    figure = json.loads(plot.figure.to_json(engine="json"))
    layout = figure["layout"] | {"template": template.to_plotly_json(), "width": WIDTH, "autosize": False}
    text = json.dumps({"data": figure["data"], "layout": layout})
    for light, dark in colours.items():
        text = text.replace(light, dark)
    return json.loads(text), plot.height


def drawn(figures: Sequence[tuple[Any, int]], browser: str) -> list[str]:
    """Figures with their heights as SVG, all by one run of the browser."""
    with TemporaryDirectory() as folder:
        page = Path(folder, "figures.html")
        page.write_text(PAGE.format(plotly=get_plotlyjs(), figures=json.dumps(figures), width=WIDTH), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=600000", "--dump-dom"]
        command = [browser, *options, f"--user-data-dir={folder}/user", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    found = re.split(r'<div id="drawn-\d+">', done.stdout.rpartition("</script>")[2])[1:]
    pictures = [re.search(r"<svg.*</svg>", part, re.DOTALL) for part in found]
    if len(pictures) != len(figures) or None in pictures:
        raise SystemExit(f"{browser} drew {len(pictures)} of {len(figures)} figures: {done.stderr[-500:]}")
    # The one name of HTML that XML does not know.
    return [steady(one[0].replace("&nbsp;", "\N{NO-BREAK SPACE}")) for one in pictures if one is not None]


def steady(svg: str) -> str:
    """An SVG with the ids that are drawn at random counted instead, so that the same figure gives the same file."""
    random = dict.fromkeys(re.findall(r"(?:clip|defs-|topdefs-|legend|trace|g|cb)([0-9a-f]{6})(?=[\"xycp-])", svg))
    for number, name in enumerate(random):
        svg = svg.replace(name, f"{number:06d}")
    return svg


def entries(name: str, atlas: Atlas, notes: dict[str, str], images: Path, browser: str) -> Iterator[str]:
    """What the page says of one atlas, question by question; pictures are written beside it."""
    table, page = page_of(atlas)
    found = pictures(page)
    yield f"## {page.subject[0].upper()}{page.subject[1:]} in {models_of(atlas)}"
    asked = questions(name, table, page)
    plots = [found[plot].plot for wanted in asked.values() for plot in wanted]
    figures = [in_look(plot, template, colours) for plot in plots for _, template, colours in LOOKS]
    files = [f"{name}-{plot.name}-{look}.svg" for plot in plots for look, *_ in LOOKS]
    for file, svg in zip(files, drawn(figures, browser) if figures else [], strict=True):
        (images / file).write_text(svg, encoding="utf-8")
    command = re.sub(r"(?<=[\s=])/\S*/", "", atlas.meta["command"])  # where it lay on the machine says nothing
    for question, wanted in asked.items():
        yield f"### {question}\n\n```sh\n{command}\n```"
        for plot in (found[one].plot for one in wanted):
            for look, *_ in LOOKS:
                file = f"images/gallery/{name}-{plot.name}-{look}.svg"
                yield f":::{{image}} {file}\n:class: only-{look}\n:alt: {plot.caption}\n:::"
            yield f"*{plot.caption}*"
        yield " ".join(dict.fromkeys(found[one].section.finding for one in wanted))
        if question in notes:
            yield f"**Not seen:** {notes[question]}"
    if unknown := sorted(set(notes) - set(asked)):
        raise SystemExit(f"{NOTES.name} has notes on what {name} does not ask: {', '.join(unknown)}")


def questions(name: str, table: str, page: Page) -> dict[str, list[str]]:
    """The questions that a report answers, with the names of the plots that do."""
    found, asked = pictures(page), dict[str, list[str]]()
    sections = {section.title: tuple(plot.name for plot in section.plots[:1]) for section in page.sections}
    for question, wanted in QUESTIONS.get(table, sections).items():
        if lost := [plot for plot in wanted if plot not in found]:
            print(f"{name} has no plot {', '.join(lost)}: {question}", file=sys.stderr)
        if shown := [plot for plot in wanted if plot in found]:
            asked[question] = shown
    return asked


def models_of(atlas: Atlas) -> str:
    """The model or models that an atlas is of, by name."""
    models = str(atlas.meta["model"].get("id") or "a model in memory").split(", ")
    return ", ".join(f"`{Path(model).name}`" for model in models)


def main() -> None:
    """Make the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlases", nargs="+", type=Path, help="folders of finished atlases")
    parser.add_argument("--browser", default="chromium", help="the program that draws (chromium)")
    parser.add_argument("--into", type=Path, default=DOCS, help="where gallery.md and images/gallery go (docs)")
    arguments = parser.parse_args()
    images = arguments.into / "images" / "gallery"
    images.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION.rstrip()]
    notes = tomllib.loads(NOTES.read_text(encoding="utf-8"))
    for old in images.glob("*.svg"):
        old.unlink()
    for folder in arguments.atlases:
        parts += entries(folder.name, Atlas.open(folder), notes.get(folder.name, {}), images, arguments.browser)
    (arguments.into / "gallery.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
