"""Words in columns, as CoNLL-2000 and CoNLL-2003 have them: a word a line, blank lines between sentences.

The first column is the word. Columns are separated by tabs where the first word's line has one, else by any spaces.
A label is a column's number, counted from 1, or its name: two columns are `word tag`, three `word pos chunk`, four
`word pos chunk ner`; of more, only the word has a name. `_` is no label. `-DOCSTART-` lines and comments before a
sentence are skipped: a line that begins with `#` is a comment unless it has as many columns as the words have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from neuronatlas.readers.blocks import Block, Line, labels_of, split_blocks
from neuronatlas.readers.files import TextFile

__all__ = ["looks_like_columns", "read_columns"]

_NAMES = {2: ("word", "tag"), 3: ("word", "pos", "chunk"), 4: ("word", "pos", "chunk", "ner")}
_DOCUMENT = "-DOCSTART-"
_LINES_LOOKED_AT = 1000


def looks_like_columns(text: str) -> bool:
    """Tell whether all lines at the beginning have equally many columns, two or more, with blank lines between runs.

    Where no two lines follow one another it is no text in columns: nobody writes sentences of one word.
    """
    lines = text.split("\n", _LINES_LOOKED_AT + 1)[:_LINES_LOOKED_AT]
    split = [_split(line, tabs="\t" in text) for line in lines if not line.startswith(_DOCUMENT)]
    width = next((len(cells) for cells in split if cells and not cells[0].startswith("#")), 0)
    words = [cells for cells in split if not (cells and cells[0].startswith("#") and len(cells) != width)]
    alike = all(len(cells) == width for cells in words if cells)
    return width > 1 and alike and [] in words[:-1] and any(first and second for first, second in pairwise(words))


def read_columns(file: TextFile) -> Iterator[Block]:
    """Read sentences; an error names the line whose columns are not as many as those of the first word."""
    tabs, n_columns = False, 0
    for lines in split_blocks(file):
        if not n_columns:
            first = next((line for _, line in lines if not line.startswith((_DOCUMENT, "#"))), "")
            tabs, n_columns = "\t" in first, len(_split(first, tabs="\t" in first))
            if n_columns == 1:
                where = f"line {next(number for number, line in lines if line == first)}"
                raise file.error("1 column found: a word and its labels, separated by tabs or spaces, expected", where)
        words = list(_words(file, lines, tabs, n_columns))
        if words:
            yield _block(file, words)


def _words(file: TextFile, lines: Sequence[Line], tabs: bool, n_columns: int) -> Iterator[tuple[int, list[str]]]:
    begun = False
    for number, line in lines:
        cells = _split(line, tabs=tabs)
        if line.startswith(_DOCUMENT) or (line.startswith("#") and not begun and len(cells) != n_columns):
            continue
        if len(cells) != n_columns:
            message = f"{len(cells)} columns found, {n_columns} expected as in the first word's line"
            raise file.error(message, f"line {number}")
        if not cells[0]:
            raise file.error("the word is empty", f"line {number}")
        begun = True
        yield number, cells


def _block(file: TextFile, words: Sequence[tuple[int, list[str]]]) -> Block:
    columns = list(zip(*(cells for _, cells in words), strict=True))
    names = _NAMES.get(len(columns), ("word", *map(str, range(2, len(columns) + 1))))
    of_words = {name: labels_of(column) for name, column in zip(names, columns, strict=True)}
    of_words[names[0]] = columns[0]
    return Block.of(columns[0], file.source(words[0][0]), of_words, n_numbered=len(columns))


def _split(line: str, *, tabs: bool) -> list[str]:
    if tabs and line.strip():
        return [cell.strip() for cell in line.split("\t")]
    # Not split() alone: a word may hold a space of another kind (`2\u00a0001`).
    return [cell for cell in line.replace("\t", " ").split(" ") if cell]
