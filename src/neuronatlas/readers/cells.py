"""Rows of cells with a delimiter, and the lines that they begin on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from neuronatlas.readers.files import TextFile

__all__ = ["delimiter_of", "header_of", "rows"]

_DELIMITERS = "\t,;"


def delimiter_of(text: str) -> str:
    """The delimiter that the first line uses most: tab, comma or semicolon."""
    header = _first_line(text)
    return max(_DELIMITERS, key=header.count)


def header_of(text: str) -> list[str]:
    """Names in the first line, in lower case."""
    return [name.strip().strip('"').lower() for name in _first_line(text).split(delimiter_of(text))]


def rows(file: TextFile, quotes: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield all rows, each with the line that it begins on; without quotes these are characters as any other."""
    stream = io.StringIO(file.text, newline="")
    delimiter = delimiter_of(file.text)
    if quotes:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(stream, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise file.error(f"the line is broken ({error})", f"line {number}") from None
        yield number, cells


def _first_line(text: str) -> str:
    return text.lstrip().partition("\n")[0]
