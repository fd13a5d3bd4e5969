"""Docstrings as they are written: single backticks around code, names of public things as links, no other mark-up."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

import neuronatlas
from names import ORIGINS

CODE = re.compile(r"`+([^`]+)`+")
ERROR_NAME = re.compile(r"\b[A-Z]\w+Error\b")
MARKUP = re.compile(r"[*|]|_(?!\w)")


def mark_up(_app: Sphinx, _kind: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Read docstrings as they are written: `code` in single backticks, `name` of something public as a link."""
    paragraphs = re.split(r"\n(?=\s*\n)", "\n".join(lines))
    lines[:] = "\n".join(map(marked_up, paragraphs)).split("\n")


def marked_up(paragraph: str) -> str:
    """A paragraph of a docstring as reStructuredText; an example stays as it is."""
    if paragraph.lstrip().startswith(">>>"):
        return paragraph
    parts = CODE.split(paragraph)  # text and code in turn
    return "".join(reference(part) if index % 2 else escaped(part) for index, part in enumerate(parts))


def escaped(text: str) -> str:
    """Plain text with the characters that would begin mark-up escaped, and the names of errors as links."""
    plain = MARKUP.sub(r"\\\g<0>", text)
    return ERROR_NAME.sub(lambda found: reference(found[0]) if found[0] in ORIGINS else found[0], plain)


def reference(text: str) -> str:
    """What stands between backticks, as a link where it is a public name, else as it is."""
    name = text.removeprefix("na.").removeprefix("neuronatlas.")
    return f":py:obj:`{text} <neuronatlas.{name}>`" if name in ORIGINS else f"``{text}``"


def shorten(
    _app: Sphinx, _kind: str, _name: str, value: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out the signature of a class that functions make, told by its private parameters or fields."""
    inner = is_dataclass(value) and any(field.name.startswith("_") and field.init for field in fields(value))
    return ("" if inner else (signature or "").replace("<factory>", "...") or signature), returned


def by_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Resolve a reference to where a public name is defined, as annotations have it, to its public name."""
    target = str(node.get("reftarget", ""))
    name = target.rsplit(".", 1)[-1]
    if node.get("refdomain") != "py" or name not in ORIGINS or not is_place_of(name, target):
        return None
    domain = env.domains["py"]
    source = node.get("refdoc", "")
    return domain.resolve_xref(env, source, app.builder, "obj", f"neuronatlas.{name}", node, content)


def is_place_of(name: str, target: str) -> bool:
    """Whether a dotted name is one by which a public name is known: bare, or that of where it is defined."""
    value = getattr(neuronatlas, name)
    return target in {name, f"neuronatlas.{ORIGINS[name]}.{name}", f"{getattr(value, '__module__', '')}.{name}"}


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the above."""
    app.connect("autodoc-process-docstring", mark_up)
    app.connect("autodoc-process-signature", shorten)
    app.connect("missing-reference", by_public_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
