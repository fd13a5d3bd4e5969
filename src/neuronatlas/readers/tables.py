"""Tables with a header: one word a row, or one sentence a row; comma, semicolon or tab separated.

One word a row: a column `word`, `token` or `form`; sentences are parted by blank rows, or by a column `sentence`,
`sentence_id` or `sent_id` (or `sentence #`) whose value is another in another sentence (an empty cell says the same as
the row above). One sentence a row: a column `text` or `sentence`. These names may have capitals. All other columns are
labels, by name, those of words by number too; an empty cell and `_` are no label.

With commas and semicolons a cell may stand in quotes; between tabs quotes are characters as any other, for there they
are words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuronatlas.readers.blocks import Block, labels_of, split_words
from neuronatlas.readers.cells import delimiter_of, header_of, rows
from neuronatlas.readers.files import TextFile

__all__ = ["looks_like_labelled_table", "read_labelled_table"]

WORD_COLUMNS = ("word", "token", "form")
TEXT_COLUMNS = ("text", "sentence")
SENTENCE_COLUMNS = ("sentence", "sentence_id", "sent_id", "sentence #")
Row = tuple[int, list[str]]


def looks_like_labelled_table(text: str) -> bool:
    """Tell whether the first line names a column of words or of texts, and another one."""
    names = set(header_of(text))
    return len(names) > 1 and not names.isdisjoint((*WORD_COLUMNS, *TEXT_COLUMNS))


def read_labelled_table(file: TextFile) -> Iterator[Block]:
    """Read sentences; an error names the line of a row that has not as many cells as the header."""
    table = rows(file, quotes=delimiter_of(file.text) != "\t")
    header: list[str] = []
    for number, cells in table:
        if any(cell.strip() for cell in cells):
            header = [name.strip() for name in cells]
            _check(file, header, f"line {number}")
            break
    word = _place_of(WORD_COLUMNS, header)
    if word is None:
        yield from _sentences(file, table, header)
        return
    for several in _runs(file, table, header):
        yield _of_words(file, several, header, word)


def _check(file: TextFile, header: Sequence[str], where: str) -> None:
    if _place_of((*WORD_COLUMNS, *TEXT_COLUMNS), header) is None:
        found, known = ", ".join(map(repr, header)), " or ".join((*WORD_COLUMNS, *TEXT_COLUMNS))
        hint = "a file without a header is read as format='columns'"
        raise file.error(f"the columns are {found}: one called {known} expected; {hint}", where)
    for name in header:
        if header.count(name) > 1:
            raise file.error(f"column {name!r} stands twice", where)


def _place_of(names: Sequence[str], header: Sequence[str]) -> int | None:
    """Where the first of these names stands that the header has, in whatever capitals."""
    lower = [name.lower() for name in header]
    return next((lower.index(name) for name in names if name in lower), None)


def _sentences(file: TextFile, table: Iterator[Row], header: Sequence[str]) -> Iterator[Block]:
    place = _place_of(TEXT_COLUMNS, header) or 0
    for number, cells in table:
        if _is_blank(cells):
            continue
        _check_width(file, cells, header, number)
        words, spans = split_words(cells[place])
        if not words:
            raise file.error("the text is empty", f"line {number}")
        of_sentence = dict(zip(header, labels_of([cell.strip() for cell in cells]), strict=True))
        del of_sentence[header[place]]
        yield Block(cells[place], words, spans, file.source(number), of_sentence=of_sentence)


def _runs(file: TextFile, table: Iterator[Row], header: Sequence[str]) -> Iterator[list[Row]]:
    """Yield the rows of each sentence."""
    place = _place_of(SENTENCE_COLUMNS, header)
    run, running = list[Row](), ""
    for number, cells in table:
        blank = _is_blank(cells)
        if not blank:
            _check_width(file, cells, header, number)
        named = "" if blank or place is None else cells[place].strip()
        if run and (blank or (named and named != running)):
            yield run
            run = []
        if not blank:
            run.append((number, cells))
            running = named or running
    if run:
        yield run


def _is_blank(cells: Sequence[str]) -> bool:
    return not any(cell.strip() for cell in cells)


def _of_words(file: TextFile, several: Sequence[Row], header: Sequence[str], word: int) -> Block:
    columns = list(zip(*([cell.strip() for cell in cells] for _, cells in several), strict=True))
    for (number, _), form in zip(several, columns[word], strict=True):
        if not form:
            raise file.error("the word is empty", f"line {number}")
    of_words = {name: labels_of(column) for name, column in zip(header, columns, strict=True)}
    of_words[header[word]] = columns[word]
    return Block.of(columns[word], file.source(several[0][0]), of_words, n_numbered=len(header))


def _check_width(file: TextFile, cells: Sequence[str], header: Sequence[str], number: int) -> None:
    if len(cells) != len(header):
        hint = "is a cell that holds the delimiter not in quotes?" if len(cells) > len(header) else "one is missing"
        raise file.error(f"{len(cells)} cells where the header has {len(header)}: {hint}", f"line {number}")
