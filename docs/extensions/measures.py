"""The measures of edits as a table: a page with the line `<!-- measures -->` gets every one; none is typed."""

from __future__ import annotations

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from neuronatlas import EDIT_MEASURES

MARKER = "<!-- measures -->"
ASKED = {
    "edited": "the edited prompts",
    "edited, old": "the edited prompts, with the old answer",
    "paraphrase": "paraphrases",
    "paraphrase, old": "paraphrases, with the old answer",
    "locality": "prompts about something else",
    "portability": "prompts whose answer follows",
    "same relation": "other facts of the relation",
    "other relations": "facts of other relations",
}
"""What each group of prompts is; a group without a line here stops the build."""


def table() -> str:
    """All measures, in their order: on what they are taken, and their definition."""
    rows = [f"| {one.name} | {ASKED[one.group]} | {one.definition} |" for one in EDIT_MEASURES.values()]
    return "\n".join(("| measure | asked | definition |", "| --- | --- | --- |", *rows))


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the table where a page asks for it."""
    source[0] = source[0].replace(MARKER, table())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the above."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
