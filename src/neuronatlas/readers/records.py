"""Records with a text and its label, or with words and lists of their labels: what JSON lines and data sets hold.

`{"text": "Anna sleeps.", "label": "calm"}`, or `{"tokens": ["Anna", "sleeps", "."], "upos": ["PROPN", "VERB", ...]}`.
The words are in `tokens` or `words`, the text in `text` or `sentence`; every other text, number or list of such is a
label. Nothing (null, an empty text, `_`) is no label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from neuronatlas.readers.blocks import Block, labels_of, place, split_words
from neuronatlas.readers.files import TextFile
from neuronatlas.readers.strict_json import read_objects, starts_with_object

__all__ = ["looks_like_records", "read_records", "record_block"]

WORD_FIELDS = ("tokens", "words")
TEXT_FIELDS = ("text", "sentence")
Fault = Callable[[str, str], ValueError]


def looks_like_records(text: str) -> bool:
    """Tell whether the first line is an object with words or a text."""
    return starts_with_object(text, (*WORD_FIELDS, *TEXT_FIELDS))


def read_records(file: TextFile) -> Iterator[Block]:
    """Read JSON lines; an error names the line of a broken one."""
    for number, record in read_objects(file):
        yield record_block(record, file.source(number), f"line {number}", file.error)


def record_block(record: Mapping[str, Any], source: str, where: str, fault: Fault) -> Block:
    """Make a block of one record; `fault` makes the error for what is wrong at `where`."""
    text_field = next((name for name in TEXT_FIELDS if name in record), None)
    word_field = next((name for name in WORD_FIELDS if name in record), None)
    if word_field is None and text_field is None:
        known = " or ".join((*WORD_FIELDS, *TEXT_FIELDS))
        raise fault(f"the record has {', '.join(map(repr, record)) or 'nothing'}: {known} expected", where)
    text = None if text_field is None else record[text_field]
    if text is not None and not isinstance(text, str):
        raise fault(f"{text_field!r} is {text!r:.80}: a text expected", where)
    others = {name: value for name, value in record.items() if name not in {text_field, word_field}}
    of_sentence = {name: _label(value) for name, value in others.items() if _is_label(value)}
    if word_field is None:
        words, spans = split_words(text or "")
        if not words:
            raise fault("the text is empty", where)
        return Block(text or "", words, spans, source, of_sentence=of_sentence)
    tokens = _tokens(record[word_field], word_field, where, fault)
    of_words = {
        name: labels_of([_label(value) or "" for value in values])
        for name, values in others.items()
        if isinstance(values, list) and all(_is_label(value) for value in values)
    }
    placed = None if text is None else place(tokens, text)
    if text is None or placed is None:
        bare = Block.of(tokens, source, of_words)
        text, placed = bare.text, bare.spans
    return Block(text, tuple(tokens), placed, source, of_words, of_sentence)


def _tokens(tokens: Any, name: str, where: str, fault: Fault) -> list[str]:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise fault(f"{name!r} is {tokens!r:.80}: a list of texts expected", where)
    if not tokens:
        raise fault("the sentence has no words", where)
    for number, token in enumerate(tokens, start=1):
        if not token.strip():
            raise fault(f"word {number} is empty", where)
    return tokens


def _is_label(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _label(value: Any) -> str | None:
    return labels_of([str(value)])[0] if value is not None else None
