"""JSON in which nothing is lost, whole or an object a line: a key that stands twice in an object is a fault."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from neuronatlas.readers.files import TextFile

__all__ = ["StrictJSONError", "parse_json", "read_objects", "starts_with_object"]


class StrictJSONError(ValueError):
    """Text that is no strict JSON; `line` counts from 1, and is None where the parser does not tell it."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_json(text: str) -> Any:
    """Parse one JSON value; StrictJSONError for anything else.

    >>> parse_json('{"P36": 1, "P36": 2}')
    Traceback (most recent call last):
    neuronatlas.readers.strict_json.StrictJSONError: key 'P36' stands twice in an object
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise StrictJSONError(f"column {error.colno}: {error.msg}", error.lineno) from None
    except RecursionError:
        raise StrictJSONError("nested too deeply") from None
    except StrictJSONError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise StrictJSONError(str(error)) from None


def read_objects(file: TextFile) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""Read the object of each line that is not blank, with the line's number; an error names the line of another.

    >>> from pathlib import Path
    >>> list(read_objects(TextFile(Path("a.jsonl"), ".jsonl", '{"text": "Anna sleeps."}\n\n{}\n')))
    [(1, {'text': 'Anna sleeps.'}), (3, {})]
    """
    for number, line in file.lines():
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            found = parse_json(line)
        except StrictJSONError as fault:
            raise file.error(f"the line is no JSON object ({fault})", where) from None
        if not isinstance(found, dict):
            raise file.error(f"the line holds {type(found).__name__} {found!r:.80}: an object expected", where)
        yield number, found


def starts_with_object(text: str, keys: Collection[str]) -> bool:
    """Tell whether the first line is an object with one of these keys.

    >>> starts_with_object('{"text": "Anna sleeps."}', ["text", "sentence"]), starts_with_object("Anna", ["text"])
    (True, False)
    """
    try:
        first = parse_json(text.lstrip().partition("\n")[0])
    except StrictJSONError:
        return False
    return isinstance(first, dict) and not first.keys().isdisjoint(keys)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) < len(pairs):
        keys = [key for key, _ in pairs]
        raise StrictJSONError(f"key {next(key for key in whole if keys.count(key) > 1)!r} stands twice in an object")
    return whole
