"""CoNLL-U, and CoNLL-U Plus with columns of its own (universaldependencies.org/format.html and /ext-format.html).

A label is any column (`upos`, `xpos`, `lemma`, `deprel`, ...), the relation without its subtype (`deprel.main`), one
feature (`feats.Number`) or one entry of MISC (`misc.Chunk`); words without it have no label.

The words are the syntactic ones. Those of a multi-word token (`2-3 im`) share its place in the text; empty nodes
(`8.1`) stand for words that the text leaves out, and are left out. The text is built from the tokens and their
`SpaceAfter=No`; `# text` is not read, so that words and text always agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from neuronatlas.probing.corpora import spread
from neuronatlas.readers.blocks import Block, Labels, Line, Spans, labels_of, split_blocks
from neuronatlas.readers.files import TextFile

__all__ = ["looks_like_conllu", "read_conllu"]

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_NEEDED = ("id", "form")
_PAIRS = ("feats", "misc")
_ID = re.compile(r"(?P<first>[1-9][0-9]*)(-(?P<last>[1-9][0-9]*))?|[0-9]+\.[1-9][0-9]*")
_PLUS = "# global.columns ="


def looks_like_conllu(text: str) -> bool:
    """Tell whether the first line that is no comment has the ten columns, or a comment names columns."""
    for line in text.split("\n"):
        if line.startswith(_PLUS):
            return True
        if line.strip() and not line.startswith("#"):
            cells = line.split("\t")
            return len(cells) == len(COLUMNS) and _ID.fullmatch(cells[0]) is not None
    return False


def read_conllu(file: TextFile) -> Iterator[Block]:
    """Read sentences; an error names the line of a broken one."""
    columns: Sequence[str] = COLUMNS
    for lines in split_blocks(file):
        comments = [line for line in lines if line[1].startswith("#")]
        tokens = [line for line in lines if not line[1].startswith("#")]
        for number, comment in comments:
            if comment.startswith(_PLUS):
                columns = _named_columns(file, number, comment)
        if tokens:
            yield _sentence(file, tokens, columns)
        elif any(comment.startswith("# text =") for _, comment in comments):
            raise file.error("the sentence has no words", f"line {comments[0][0]}")


def _named_columns(file: TextFile, number: int, comment: str) -> Sequence[str]:
    columns = tuple(comment.removeprefix(_PLUS).lower().split())
    if len(set(columns)) < len(columns) or not set(_NEEDED) <= set(columns):
        message = f"the columns are {', '.join(columns)}: {' and '.join(_NEEDED)}, and each of them once, expected"
        raise file.error(message, f"line {number}")
    return columns


def _sentence(file: TextFile, tokens: Sequence[Line], columns: Sequence[str]) -> Block:
    rows = [_cells(file, number, line, len(columns)) for number, line in tokens]
    place_of = {name: place for place, name in enumerate(columns)}
    words, units = _units(file, rows, [number for number, _ in tokens], place_of["id"])
    for (number, _), row in zip(tokens, rows, strict=True):
        if not row[place_of["form"]].strip():
            raise file.error("the word is empty", f"line {number}")
    forms = [row[place_of["form"]] for row in words]
    misc = place_of.get("misc")
    spaces = [misc is None or "SpaceAfter=No" not in unit[misc].split("|") for unit, _ in units]
    text, spans_of_units = spread([unit[place_of["form"]] for unit, _ in units], spaces)
    spans: Spans = tuple(span for span, (_, n_words) in zip(spans_of_units, units, strict=True) for _ in range(n_words))
    of_words = _labels(words, columns)
    return Block(text, tuple(forms), spans, file.source(tokens[0][0]), of_words, n_numbered=len(columns))


def _cells(file: TextFile, number: int, line: str, n_columns: int) -> list[str]:
    cells = line.split("\t")
    if len(cells) != n_columns:
        hint = ", separated by tabs," if len(cells) == 1 else ""
        raise file.error(f"{len(cells)} columns found, {n_columns}{hint} expected", f"line {number}")
    return cells


Row = list[str]


def _units(
    file: TextFile, rows: Sequence[Row], numbers: Sequence[int], id_place: int
) -> tuple[list[Row], list[tuple[Row, int]]]:
    """The rows of words, and the units that the text writes, each with how many words it stands for."""
    words: list[Row] = []
    units: list[tuple[Row, int]] = []
    range_end = range_line = 0
    for row, number in zip(rows, numbers, strict=True):
        match = _ID.fullmatch(row[id_place])
        if match is None:
            raise file.error(f"{row[id_place]!r} is no number of a word: {len(words) + 1} expected", f"line {number}")
        if match["first"] is None:
            continue
        if int(match["first"]) != len(words) + 1:
            raise file.error(f"word {row[id_place]} where word {len(words) + 1} is expected", f"line {number}")
        if match["last"] is None:
            words.append(row)
            if len(words) > range_end:
                units.append((row, 1))
            continue
        if len(words) < range_end or int(match["last"]) <= len(words):
            raise file.error(f"token {row[id_place]} overlaps another, or ends before it begins", f"line {number}")
        range_end, range_line = int(match["last"]), number
        units.append((row, range_end - len(words)))
    if len(words) < range_end:
        raise file.error(f"the sentence ends before word {range_end} of this token", f"line {range_line}")
    if not words:
        raise file.error("the sentence has no words", f"line {numbers[0]}")
    return words, units


def _labels(words: Sequence[Row], columns: Sequence[str]) -> dict[str, Labels]:
    """All labels of the words: the columns, in their order, and then what stands inside them."""
    values = dict(zip(columns, zip(*words, strict=True), strict=True))
    found = {name: labels_of(cells) for name, cells in values.items()}
    # `_` is a word like any other; where it is, its lemma is `_` too.
    found["form"] = values["form"]
    if "lemma" in found:
        pairs = zip(values["form"], values["lemma"], found["lemma"], strict=True)
        found["lemma"] = tuple("_" if form == lemma == "_" else label for form, lemma, label in pairs)
    if "deprel" in found:
        relations = found["deprel"]
        found["deprel.main"] = tuple(relation and relation.partition(":")[0] for relation in relations)
    for name in _PAIRS:
        entries = [_entries(cell) for cell in values.get(name, ())]
        for key in sorted({key for entry in entries for key, _ in entry}):
            found[f"{name}.{key}"] = tuple(dict(entry).get(key) for entry in entries)
    return found


@lru_cache(maxsize=4096)
def _entries(cell: str) -> tuple[tuple[str, str], ...]:
    """`Key=Value|...` taken apart; a key alone, such as MISC may have, is there and says `Yes`."""
    if cell == "_":
        return ()
    pairs = (entry.partition("=") for entry in cell.split("|") if entry)
    return tuple((key, value if equals else "Yes") for key, equals, value in pairs)
