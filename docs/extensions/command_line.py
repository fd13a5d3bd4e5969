"""The command line as the program itself tells it: a page with the line `<!-- commands -->` gets every command.

Names, arguments, options, defaults and help come from the commands that `neuronatlas.cli.app` holds; none is typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from neuronatlas.cli import app as program

MARKER = "<!-- commands -->"
NAME = "neuronatlas"
EXAMPLE = "Example: "
PLAIN = "Options"

# Typer's commands are click's, in some versions of a copy of click that it brings along: what is used here is common.


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, groups before what they hold."""
    yield from _below(NAME, typer.main.get_command(program))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for key, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{name} {key}", inner)


def described(name: str, command: Any) -> str:
    """One command as MyST: heading, what it does, usage, arguments and options."""
    with command.make_context(name, [], resilient_parsing=True) as context:
        usage = command.get_usage(context).removeprefix("Usage: ")
        records = [(panel(one), one.get_help_record(context)) for one in command.get_params(context)]
    shown = sorted((each for each in records if each[1] and not each[1][0].startswith("--help")), key=_order)
    parts = [f"{'#' * len(name.split())} `{name}`" if name != NAME else "", f"```text\n{usage}\n```"]
    parts += [
        f"```sh\n{text.removeprefix(EXAMPLE)}\n```" if text.startswith(EXAMPLE) else text for text in texts(command)
    ]
    for title, group in groupby(shown, key=lambda each: each[0]):
        parts.append(f"*{title}*" if title != PLAIN else "")
        options = "\n".join(f".. option:: {names}\n\n   {in_rst(text)}\n" for _, (names, text) in group)
        parts.append(f"```{{eval-rst}}\n.. program:: {name}\n\n{options}```")
    return "\n\n".join(parts)


def texts(command: Any) -> list[str]:
    """The paragraphs of a command's help."""
    return [text for text in unescaped(f"{command.help or ''}\n\n{command.epilog or ''}").split("\n\n") if text]


def as_code(text: str) -> str:
    """A paragraph of help, in a block of code where it is an example."""
    return f"```sh\n{text.removeprefix(EXAMPLE)}\n```" if text.startswith(EXAMPLE) else text


def unescaped(text: str) -> str:
    """A help text without the escapes that the terminal's mark-up needs."""
    return text.replace("\\[", "[")


def panel(parameter: Any) -> str:
    """The heading under which the terminal's help shows an option."""
    return str(getattr(parameter, "rich_help_panel", None) or PLAIN)


def _order(record: tuple[str, Any]) -> tuple[bool, str]:
    return record[0] != PLAIN, record[0]


def in_rst(text: str) -> str:
    """The help of an option as reStructuredText."""
    escaped = re.sub(r"([\\*|_])", r"\\\1", unescaped(text))
    return re.sub(r"`([^`]+)`", lambda code: f"``{code[1].replace(chr(92), '')}``", escaped)


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the commands where a page asks for them."""
    if MARKER in source[0]:
        source[0] = source[0].replace(MARKER, "\n\n".join(described(*each) for each in commands()))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the above."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
