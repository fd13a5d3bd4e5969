"""Text files and what is read from them: what every reader shares."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.probing.corpora import CorpusError

__all__ = [
    "CorpusFileError",
    "FactFileError",
    "FactFileWarning",
    "PlacedFact",
    "RelationFilter",
    "TextFile",
    "open_text",
]

_GZIP = b"\x1f\x8b"


class FactFileError(FactError):
    """A file of facts that cannot be read; the message names the file and the line."""


class CorpusFileError(CorpusError):
    """Labelled text that cannot be read; the message names the file and the line."""


class FactFileWarning(UserWarning):
    """Something in a file of facts that was read otherwise than it stands there."""


@dataclass(frozen=True)
class TextFile:
    """A text file, unpacked and decoded; `suffix` is the last one but for `.gz`, in lower case.

    `kind` is what its faults are raised as.
    """

    path: Path
    suffix: str
    text: str
    kind: type[ValueError] = FactFileError

    def error(self, message: str, where: str = "") -> ValueError:
        """Make the error for a fault at a place in this file."""
        return self.kind(f"{self.path}{', ' if where else ''}{where}: {message}")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines with their numbers, which count from 1, without their ends."""
        # Not splitlines(): a text may hold characters, such as U+2028, that end a line for Python alone.
        for number, line in enumerate(self.text.split("\n"), start=1):
            yield number, line.removesuffix("\r")

    def source(self, line: int) -> str:
        """Name a line of this file, for those who read on what came from it."""
        return f"{self.path.name}, line {line}"

    @contextmanager
    def faults_at(self, where: str) -> Iterator[None]:
        """Name the file and the place in any fault of a fact that the body raises."""
        try:
            yield
        except FactFileError:
            raise
        except FactError as fault:
            raise self.error(str(fault), where) from None


@dataclass(frozen=True)
class PlacedFact:
    """A fact and where its file has it, such as `line 3`; partial when other lines may hold more of its prompts."""

    fact: Fact
    where: str
    partial: bool = False


@dataclass
class RelationFilter:
    """Tells which relations are wanted, by name or by the id before the bracket, and remembers all it was asked about.

    >>> wanted = RelationFilter(("P36",))
    >>> wanted("P36(capital)"), wanted("P37(official language)")
    (True, False)
    """

    names: Sequence[str] | None
    seen: dict[str, None] = field(default_factory=dict)

    def __call__(self, relation: str) -> bool:
        """Tell whether a relation of this name is wanted."""
        self.seen[relation] = None
        return self.names is None or any(_names(name, relation) for name in self.names)

    def unknown(self) -> list[str]:
        """List the wanted names that no relation asked about goes by."""
        return [name for name in self.names or () if not any(_names(name, relation) for relation in self.seen)]


Read = Callable[[TextFile, RelationFilter, Sequence[str]], Iterable[PlacedFact]]
"""A reader: takes a file, the relations wanted and the places an answer may have; FactFileError for any fault."""


def open_text(path: Path, kind: type[ValueError] = FactFileError) -> TextFile:
    """Read a UTF-8 text file, gzipped or not; an error of this kind when it cannot be read, is empty or is not text."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    try:
        packed = path.read_bytes()
        content = gzip.decompress(packed) if packed.startswith(_GZIP) else packed
    except FileNotFoundError:
        raise kind(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise kind(f"{path}: the gzip archive is broken ({error})") from None
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise kind(f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8 text") from None
    if not text.strip():
        raise kind(f"{path}: the file is empty")
    suffix = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    return TextFile(path, suffix, text, kind)


def _names(name: str, relation: str) -> bool:
    return relation == name or relation.startswith(f"{name}(")
