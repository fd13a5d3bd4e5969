"""Atlases written from given tables, and what their reports are made of."""

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
from plotly.offline import get_plotlyjs

from neuronatlas.atlas import Atlas

RULE = "gauss-legendre"


class Page(HTMLParser):
    """What a page is made of: tags with attributes, the text in sight, and scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.own = self.source.replace(get_plotlyjs(), "")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(self.own)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        if self.stack:
            self.scripts += [data] if self.stack[-1] == "script" else []
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        text = " ".join(" ".join(self.texts).split())
        return text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")

    @property
    def figures(self) -> dict[str, Any]:
        (data,) = (script for script in self.scripts if script.startswith('{"figures"'))
        figures: dict[str, Any] = json.loads(data)["figures"]
        return figures


def write_atlas(folder: Path, tables: Mapping[str, pl.DataFrame], **about: Any) -> None:
    """Write a complete atlas."""
    model = {"id": "made-up/bert", "revision": "0123abc", "digest": "5f" * 32}
    settings = {"rule": RULE, "nodes": 5, "gains": [0, 2], "threshold": {"coarse": 0.2}}
    command = "neuronatlas locate made-up/bert facts.jsonl -o atlas"
    description: dict[str, Any] = {"model": model, "settings": settings, "command": command, "seed": 7}
    with Atlas.create_or_resume(folder, **(description | about)) as atlas:
        for name, frame in tables.items():
            atlas.write_table(name, frame)
        atlas.finish()
