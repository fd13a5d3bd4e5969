"""The public names of the package, by the room that each comes from: pages list them with `api` comments.

A page holds lines such as

    <!-- api: knowledge.locating knowledge.facts -->
    <!-- api: knowledge -->

and each gets the documentation of the public names that come from these modules, or from anywhere else in the room: the
longest prefix that some page asks for decides, so a name stands once, and a new one needs no line of its own. Errors
stand together, at `<!-- api: errors -->`; classes that public functions take or give without being public themselves at
`<!-- api: values -->`. A public name that no page asks for stops the build.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from textwrap import indent
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import ExtensionMetadata

import neuronatlas
from docstrings import escaped, marked_up
from names import ORIGINS, is_error, values

MARKER = re.compile(r"^<!-- api: (?P<prefixes>[a-z_. ]+) -->$", re.MULTILINE)
ERRORS, VALUES = "errors", "values"


def asked_prefixes(folder: Path) -> set[str]:
    """All prefixes that some page asks for."""
    markers = (found for page in folder.rglob("*.md") for found in MARKER.finditer(page.read_text(encoding="utf-8")))
    return {prefix for marker in markers for prefix in marker["prefixes"].split()}


def place(name: str, prefixes: set[str]) -> str | None:
    """The prefix under which a public name is documented, None where no page asks for it."""
    if is_error(name):
        return ERRORS if ERRORS in prefixes else None
    within = [prefix for prefix in prefixes if f"{ORIGINS[name]}.".startswith(f"{prefix}.")]
    return max(within, key=len, default=None)


def directive(name: str) -> str:
    """The documentation of one public name, as Sphinx's own directives give it."""
    value = getattr(neuronatlas, name)
    if is_error(name):
        return f".. autoexception:: neuronatlas.{name}\n   :show-inheritance:\n"
    if inspect.isclass(value):
        return f".. autoclass:: neuronatlas.{name}\n   :members:\n"
    if inspect.isfunction(value):
        return f".. autofunction:: neuronatlas.{name}\n"
    return constant(name, value)


def constant(name: str, value: Any) -> str:
    """The documentation of a public table of names: what stands below it in its module, and its entries."""
    module = ModuleAnalyzer.for_module(f"neuronatlas.{ORIGINS[name]}")
    lines = [*module.find_attr_docs().get(("", name), []), ""]
    entries = [f"- ``{key}``: {told(entry)}" for key, entry in value.items()]
    body = "\n".join([marked_up(line) for line in lines] + [escaped(entry) for entry in entries])
    return f".. py:data:: neuronatlas.{name}\n\n{indent(body, '   ')}\n"


def told(entry: Any) -> Any:
    """What an entry of a table says of itself."""
    return getattr(entry, "description", None) or getattr(entry, "definition", entry)


def listed(prefixes: list[str], all_prefixes: set[str]) -> str:
    """The documentation of the names under some prefixes, in the order of the prefixes and then of the alphabet."""
    if prefixes == [VALUES]:
        body = "\n".join(f".. autoclass:: {one.__module__}.{one.__qualname__}\n   :members:\n" for one in values())
        return f"```{{eval-rst}}\n{body}```"
    names = [
        name
        for prefix in prefixes
        for name in sorted(ORIGINS, key=lambda name: (ORIGINS[name], name))
        if place(name, all_prefixes) == prefix
    ]
    body = "\n".join(directive(name) for name in names)
    return f"```{{eval-rst}}\n{body}```" if names else ""


def fill(app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the documentation of names where a page asks for it."""
    prefixes = asked_prefixes(Path(app.srcdir))
    source[0] = MARKER.sub(lambda marker: listed(marker["prefixes"].split(), prefixes), source[0])


def check(app: Sphinx) -> None:
    """Stop where a public name has no place."""
    prefixes = asked_prefixes(Path(app.srcdir))
    lost = [name for name in ORIGINS if place(name, prefixes) is None]
    if lost:
        raise SphinxError(f"no page has an api comment for {', '.join(lost)}: see docs/extensions/public_names.py")


def is_foreign(_app: Sphinx, _kind: str, _name: str, member: Any, _skip: bool, _options: Any) -> bool | None:
    """Leave out what a library adds to classes of the package."""
    return True if str(getattr(member, "__module__", "neuronatlas")).startswith("sklearn.") else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the above."""
    app.connect("builder-inited", check)
    app.connect("source-read", fill)
    app.connect("autodoc-skip-member", is_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
