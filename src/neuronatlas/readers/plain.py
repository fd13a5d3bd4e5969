"""Plain text: one sentence a line, words between spaces, no labels but those that need no annotation.

A mark that follows a word without a space is a part of it, `sleeps.`, and such a word has no suffix.
"""

from __future__ import annotations

from collections.abc import Iterator

from neuronatlas.readers.blocks import Block, split_words
from neuronatlas.readers.files import TextFile

__all__ = ["read_plain_text"]


def read_plain_text(file: TextFile) -> Iterator[Block]:
    """Read the lines that are not blank."""
    for number, line in file.lines():
        words, spans = split_words(line)
        if words:
            yield Block(line, words, spans, file.source(number))
