"""The findings of studies of salient neurons, for a page of the docs: what their reports say, section by section.

python benchmarks/salient_findings.py embedded --markdown docs/salient-study.md --block findings
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edit_tables import write_block
from gallery import page_of
from neuronatlas.atlas import Atlas
from neuronatlas.atlas.page import Section

__all__ = ["as_list"]

WIDTH = 120


def as_list(sections: Sequence[Section]) -> str:
    """A point a section that has pictures: its short title, and its finding."""
    return "\n".join(
        textwrap.fill(
            f"- **{section.short}.** {section.finding}",
            WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for section in sections
        if section.plots
    )


def main(
    study: Annotated[Path, typer.Argument(help="A finished study's folder.")],
    markdown: Annotated[Path | None, typer.Option(help="A page with a block for the findings.")] = None,
    block: Annotated[str, typer.Option(help="Name of that block.")] = "findings",
) -> None:
    """Print what a study's report finds."""
    _, page = page_of(Atlas.open(study))
    text = as_list(page.sections)
    print(text)
    if markdown is not None:
        write_block(markdown, block, text)


if __name__ == "__main__":
    typer.run(main)
