"""JSON in which nothing is lost: a key that stands twice in an object is a fault."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["StrictJSONError", "parse_json"]


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


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) < len(pairs):
        keys = [key for key, _ in pairs]
        raise StrictJSONError(f"key {next(key for key in whole if keys.count(key) > 1)!r} stands twice in an object")
    return whole
