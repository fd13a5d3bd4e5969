"""Plain texts, one a line, read as a stream: a file of any size in bounded memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from neuronatlas.readers.files import CorpusFileError

__all__ = ["read_texts"]


def read_texts(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 text file, gzipped or not, without spaces around them.

    Only the line at hand is held. Empty lines count, so that numbers are those of the file.

    Errors: CorpusFileError, at once for a file that cannot be opened, and on the way for a line that is not UTF-8 or an
    archive that is broken.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "texts.txt"
    ...     _ = path.write_text("One.\n\n Two. \n", encoding="utf-8")
    ...     list(read_texts(path))
    ['One.', '', 'Two.']
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
    except FileNotFoundError:
        raise CorpusFileError(f"{file}: no such file") from None
    except OSError as error:
        raise CorpusFileError(f"{file}: cannot be read ({error.strerror})") from None
    return _lines(file, packed)


def _lines(file: Path, packed: bool) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(file) if packed else file.open("rb") as opened:
            for number, line in enumerate(opened, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        raise CorpusFileError(f"{file}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8 text") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusFileError(f"{file}: the gzip archive is broken ({error})") from None
