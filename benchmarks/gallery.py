"""The gallery of the docs, made from atlases: each question, its picture, the command, and what is seen.

    neuronatlas demo
    python benchmarks/gallery.py neuronatlas-demo/facts neuronatlas-demo/language

writes docs/gallery.md and docs/images/gallery. Only the questions are written here: pictures, captions, findings and
commands are those of the atlases' reports. Pictures are SVG, drawn by a browser that runs without a window (Chromium).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
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
WIDTH = 760
INTRODUCTION = """# Gallery

<!-- Made by `python benchmarks/gallery.py`; not typed. -->

Each question of the two papers, its picture, the command that makes it, and what is seen. Pictures, captions and
findings are those of the reports, which show more; `neuronatlas report DIR` makes them.
"""
# By the table that tells an atlas's kind: questions, and the plots of its report that answer them (those that it has).
# Of other kinds, those of studies, every section of the report is a question.
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
const figure = {figure};
const box = document.body.appendChild(document.createElement("div"));
Plotly.newPlot(box, figure.data, figure.layout, {{staticPlot: true}})
  .then(() => Plotly.toImage(box, {{format: "svg", width: {width}, height: {height}}}))
  .then((url) => {{ document.body.innerHTML = decodeURIComponent(url.slice(url.indexOf(",") + 1)); }});
</script>"""


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


def drawn(plot: Plot, template: Any, colours: dict[str, str], browser: str) -> str:
    """A plot as SVG, in the look of a template, with colours that are replaced by others."""
    figure = json.loads(plot.figure.to_json(engine="json"))
    layout = figure["layout"] | {"template": template.to_plotly_json(), "width": WIDTH, "autosize": False}
    text = json.dumps({"data": figure["data"], "layout": layout})
    for light, dark in colours.items():
        text = text.replace(light, dark)
    with TemporaryDirectory() as folder:
        page = Path(folder, "figure.html")
        source = PAGE.format(plotly=get_plotlyjs(), figure=text, width=WIDTH, height=plot.height)
        page.write_text(source, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
        command = [browser, *options, f"--user-data-dir={folder}/user", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"<svg.*</svg>", done.stdout, re.DOTALL)
    if found is None:
        raise SystemExit(f"{browser} drew nothing of {plot.name}: {done.stderr[-500:]}")
    return steady(found[0].replace("&nbsp;", "\N{NO-BREAK SPACE}"))  # the one name of HTML that XML does not know


def steady(svg: str) -> str:
    """An SVG with the ids that are drawn at random counted instead, so that the same figure gives the same file."""
    random = dict.fromkeys(re.findall(r"(?:clip|defs-|topdefs-|legend|trace|g|cb)([0-9a-f]{6})(?=[\"xycp-])", svg))
    for number, name in enumerate(random):
        svg = svg.replace(name, f"{number:06d}")
    return svg


def entries(name: str, atlas: Atlas, images: Path, browser: str) -> Iterator[str]:
    """What the page says of one atlas, question by question; pictures are written beside it."""
    table, page = page_of(atlas)
    found = pictures(page)
    model = Path(str(atlas.meta["model"].get("id") or "a model in memory")).name
    command = re.sub(r"(?<=\s)/\S*/", "", atlas.meta["command"])  # where it lay on the machine says nothing
    yield f"## {page.subject[0].upper()}{page.subject[1:]} in `{model}`\n\n```sh\n{command}\n```"
    sections = {section.title: tuple(plot.name for plot in section.plots) for section in page.sections}
    for question, wanted in QUESTIONS.get(table, sections).items():
        shown = [found[plot] for plot in wanted if plot in found]
        lost = [plot for plot in wanted if plot not in found]
        if lost:
            print(f"{name} has no plot {', '.join(lost)}: {question}", file=sys.stderr)
        if not shown:
            continue
        yield f"### {question}"
        for one in shown:
            for look, template, colours in (("light", LIGHT, {}), ("dark", DARK, DARK_COLOURS)):
                file = images / f"{name}-{one.plot.name}-{look}.svg"
                file.write_text(drawn(one.plot, template, colours, browser), encoding="utf-8")
                yield f":::{{image}} images/gallery/{file.name}\n:class: only-{look}\n:alt: {one.plot.caption}\n:::"
            yield f"*{one.plot.caption}*"
        yield " ".join(dict.fromkeys(one.section.finding for one in shown))


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
    for folder in arguments.atlases:
        parts += entries(folder.name, Atlas.open(folder), images, arguments.browser)
    (arguments.into / "gallery.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
