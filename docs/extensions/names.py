"""The public names of the package, where they come from, and the classes that come with them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import neuronatlas


def origins() -> dict[str, str]:
    """The module of the package in which each public name is defined, or for a table that of its import."""
    tree = ast.parse(Path(neuronatlas.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    found = {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}
    defined = {name: getattr(getattr(neuronatlas, name), "__module__", found[name]) for name in neuronatlas.__all__}
    return {name: module.removeprefix("neuronatlas.") for name, module in defined.items()}


ORIGINS = origins()


def is_error(name: str) -> bool:
    """Whether a public name is that of an exception."""
    value = getattr(neuronatlas, name)
    return inspect.isclass(value) and issubclass(value, BaseException)


def values() -> list[type]:
    """Classes of the package, not public, that stand in the annotations of what is, by name."""
    found: dict[str, type] = {}
    for name in ORIGINS:
        value = getattr(neuronatlas, name)
        owned = vars(value).values() if inspect.isclass(value) else ()
        members = [getattr(member, "__func__", getattr(member, "fget", member)) for member in owned]
        for one in [value, *filter(inspect.isfunction, members)]:
            if inspect.isclass(one) or inspect.isfunction(one):
                found |= {each.__name__: each for hint in hints(one) for each in classes_in(hint) if is_hidden(each)}
    return [found[name] for name in sorted(found)]


def hints(value: Any) -> list[Any]:
    """The annotations of a function or class, none where they cannot be read."""
    try:
        return list(get_type_hints(value).values())
    except (NameError, TypeError):  # names that are imported for type checkers alone
        return []


def classes_in(hint: Any) -> Iterator[type]:
    """All classes that an annotation is made of."""
    inner = get_args(hint)
    if inspect.isclass(hint) and not inner:
        yield hint
    for one in inner:
        yield from classes_in(one)


def is_hidden(value: type) -> bool:
    """Whether a class is one of the package that has no public name, and is not private to its module either."""
    inside = value.__module__.startswith("neuronatlas.")
    return inside and value.__name__ not in ORIGINS and not value.__name__.startswith("_")
