"""Data sets of the library `datasets`: objects, and names on the hub, which are loaded when the user names them.

Rows are records (see `records`); numbers that stand for the names of classes are given these names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Protocol

from neuronatlas.readers.blocks import Block
from neuronatlas.readers.files import CorpusFileError
from neuronatlas.readers.records import record_block

__all__ = ["HUB", "Rows", "load_from_hub", "read_rows"]

HUB = "hf:"
_PLAIN = ("Value", "ClassLabel", "List", "LargeList", "Sequence")


class Rows(Protocol):
    """A `datasets.Dataset`, or an `IterableDataset`."""

    @property
    def features(self) -> Any:
        """What the columns hold, by name."""

    def __iter__(self) -> Iterator[Any]:
        """The rows, each a dictionary."""


def load_from_hub(name: str) -> Rows:
    """Load `hf:NAME`, `hf:NAME:SPLIT` or `hf:NAME:CONFIGURATION:SPLIT`; the split is `train` unless named.

    Errors: CorpusFileError when `datasets` is not installed, and for whatever keeps it from loading.
    """
    parts = name.removeprefix(HUB).split(":")
    if not all(parts) or len(parts) > 3:
        raise CorpusFileError(f"{name}: {HUB}NAME, {HUB}NAME:SPLIT or {HUB}NAME:CONFIGURATION:SPLIT expected")
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise CorpusFileError(f"{name}: this needs the library datasets: pip install datasets") from None
    split = parts[-1] if len(parts) > 1 else "train"
    try:
        loaded: Rows = datasets.load_dataset(*parts[: 2 if len(parts) == 3 else 1], split=split)
    except Exception as error:  # noqa: BLE001 - it raises errors of several libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorpusFileError(f"{name}: cannot be loaded ({reason:.300})") from None
    return loaded


def read_rows(data: Rows, name: str) -> Iterator[Block]:
    """Read a data set's rows; an error names the row, counted from 0 as `datasets` does."""
    if callable(getattr(data, "keys", None)):
        splits = ", ".join(map(repr, getattr(data, "keys", list)()))
        raise CorpusFileError(f"{name}: a data set of several splits: give one of {splits}")
    if not hasattr(data, "features"):
        found = type(data).__name__
        raise CorpusFileError(f"{name}: {found} found: a path, '{HUB}NAME' or a datasets.Dataset expected")
    features = dict(data.features or {})
    kept = [column for column, feature in features.items() if getattr(feature, "_type", "") in _PLAIN]
    # Images and sounds would be decoded row by row only to be left out.
    chosen: Any = data.select_columns(kept) if hasattr(data, "select_columns") and kept else data
    classes = {column: names for column in kept if (names := _class_names(features[column])) is not None}

    def fault(message: str, where: str) -> CorpusFileError:
        return CorpusFileError(f"{name}, {where}: {message}")

    for number, row in enumerate(chosen):
        where = f"row {number}"
        named = dict(row)
        for column, names in classes.items():
            try:
                named[column] = _named(row[column], names)
            except IndexError:
                raise fault(f"{column!r} has a class that is none of the {len(names)} named ones", where) from None
        yield record_block(named, f"{name}, {where}", where, fault)


def _class_names(feature: Any) -> list[str] | None:
    """Names of the classes that a feature's numbers, or those in its lists, stand for."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return None if names is None else list(names)


def _named(value: Any, names: list[str]) -> Any:
    """Replace numbers by the names of their classes; -1 is what `datasets` gives where there is no label."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return None if value is None or value < 0 else names[value]
