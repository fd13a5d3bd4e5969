"""Formulas as MathML, which browsers draw themselves: no script, no font and no network when a page is read.

The converter is that of docutils, which Sphinx brings along.
"""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator


def converted(node: nodes.Element, *, as_block: bool) -> str:
    """The MathML of a formula; one that the converter does not know stops the build."""
    try:
        return str(tex2mathml(node.astext(), as_block=as_block))
    except Exception as error:
        raise SphinxError(f"{node.source}:{node.line}: no MathML for {node.astext()!r}: {error}") from error


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(f'<span class="math">{converted(node, as_block=False)}</span>')
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    translator.body.append(f'<div class="math">{converted(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Offer the renderer, and take it."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
