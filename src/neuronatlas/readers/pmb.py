"""Layers of the Parallel Meaning Bank in columns, as its own scripts write them (pmb.let.rug.nl).

Columns are word, tok, sym, sem, cat, sns and rol, or as a comment (`# tok:gold ...`) names them, counted from 1; `sem`
goes by the name `semtag` too, `cat` by `ccg`. The bank writes several words that it takes for one with tildes
(`New~York`); here such a word has spaces, as in the text. The text is that of `# raw sent =`; where this does not have
the words one after another with nothing but spaces in between (21 of the 9,972 English gold sentences of release
4.0.0, such as `ex-wife` as `ex` and `wife`) it is built from the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from neuronatlas.probing.corpora import spread
from neuronatlas.readers.blocks import Block, labels_of, place, split_blocks
from neuronatlas.readers.files import TextFile

__all__ = ["looks_like_pmb", "read_pmb"]

COLUMNS = ("word", "tok", "sym", "sem", "cat", "sns", "rol")
_SYNONYMS = {"semtag": "sem", "ccg": "cat"}
_TEXT = "# raw sent ="
_LAYERS = "# tok:"
_TILDE = re.compile(r"(?<=[^~])~(?=[^~])")


def looks_like_pmb(text: str) -> bool:
    """Tell whether there is a comment with a sentence's raw text."""
    return text.startswith(_TEXT) or f"\n{_TEXT}" in text


def read_pmb(file: TextFile) -> Iterator[Block]:
    """Read sentences; an error names the line of a broken one."""
    columns: Sequence[str] = COLUMNS
    for lines in split_blocks(file):
        texts: list[str] = []
        words: list[tuple[int, list[str]]] = []
        for number, line in lines:
            cells = line.split("\t")
            if not _is_comment(cells):
                words.append((number, _word(file, cells, columns, f"line {number}")))
            elif line.startswith(_LAYERS):
                columns = _named_columns(file, cells, f"line {number}")
            elif line.startswith(_TEXT):
                texts.append(line.removeprefix(_TEXT).strip())
                if words or len(texts) > 1:
                    raise file.error("a blank line is expected before the next sentence's text", f"line {number}")
        if words:
            yield _block("".join(texts), [cells for _, cells in words], columns, file.source(words[0][0]))
        elif texts:
            raise file.error("the sentence has no words", f"line {lines[-1][0]}")


def _named_columns(file: TextFile, cells: Sequence[str], where: str) -> Sequence[str]:
    columns = ("word", *(cell.strip().partition(":")[0] for cell in cells[1:]))
    if len(set(columns)) < len(columns):
        raise file.error(f"the columns are {', '.join(columns)}: each of them once expected", where)
    return columns


def _is_comment(cells: Sequence[str]) -> bool:
    """Words may begin with `#` too, but they hold no spaces and have labels."""
    return cells[0].startswith("#") and (len(cells) == 1 or " " in cells[0])


def _word(file: TextFile, cells: list[str], columns: Sequence[str], where: str) -> list[str]:
    if len(cells) != len(columns):
        raise file.error(f"{len(cells)} columns found, {len(columns)} expected ({', '.join(columns)})", where)
    if not cells[0].strip():
        raise file.error("the word is empty", where)
    return cells


def _block(raw: str, rows: Sequence[list[str]], columns: Sequence[str], source: str) -> Block:
    values = dict(zip(columns, zip(*rows, strict=True), strict=True))
    words = [_TILDE.sub(" ", word) for word in values["word"]]
    of_words = {name: labels_of(cells) for name, cells in values.items()} | {"word": tuple(words)}
    of_words |= {name: of_words[column] for name, column in _SYNONYMS.items() if column in of_words}
    text, spans = raw, place(words, raw)
    if spans is None:
        text, spans = spread(words, [True] * len(words))
    return Block(text, tuple(words), spans, source, of_words, n_numbered=len(columns))
