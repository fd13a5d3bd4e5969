"""The atlas folder: tables and arrays, written in parts that survive any interruption.

```
DIR/atlas.json                    what made it: model, settings, seed, versions, command; `state` running or complete
DIR/<table>.parquet               one table each
DIR/<name>.safetensors            dense arrays
DIR/parts/<stage>/<index>/        while running: the tables of one finished piece of work
DIR/.tmp/, DIR/atlas.lock         while running: unfinished writes, and the hold of the process that writes
```
Every file and every part gets its name by one atomic rename after it has been flushed to the disk. Nothing in the
folder depends on the clock, so work that was interrupted and taken up again ends in the same bytes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import polars as pl
import safetensors.numpy
from numpy.typing import NDArray

from neuronatlas import durable
from neuronatlas.atlas.provenance import SCHEMA, AtlasError, describe, differences

__all__ = ["Atlas"]

T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_ROW_GROUP = 1 << 16  # fixed, so that the bytes of a table do not depend on how it was cut into parts


class Atlas:
    """A folder of tables and arrays that says which neuron holds what, with the evidence.

    `Atlas.open` reads one; `Atlas.create_or_resume` starts one or takes it up again. `meta` is the content of
    `atlas.json`; `folder` is where it lies. As a context manager it lets go of the folder at the end.

    >>> from tempfile import TemporaryDirectory
    >>> temporary = TemporaryDirectory()
    >>> folder, settings = Path(temporary.name) / "capitals", {"nodes": 5, "gains": [0, 2]}
    >>> with Atlas.create_or_resume(folder, model={"id": "tiny", "digest": "ab12"}, settings=settings) as atlas:
    ...     atlas.write_part("locate", 0, {"facts": pl.DataFrame({"fact": [0, 1], "answer": ["Paris", "Rome"]})})
    ...     atlas.finish()
    >>> Atlas.open(folder).table("facts")["answer"].to_list()
    ['Paris', 'Rome']
    >>> temporary.cleanup()
    """

    def __init__(self, folder: Path, meta: dict[str, Any], lock: durable.FolderLock | None = None) -> None:
        self.folder = folder
        self.meta = meta
        self._lock = lock
        self._schemas: dict[str, dict[str, pl.DataType]] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open an atlas, finished or not, to read it. Raises AtlasError if the folder is not one."""
        folder = Path(folder)
        file = folder / "atlas.json"
        if not file.is_file():
            found = "is not an atlas: it has no atlas.json" if folder.exists() else "does not exist"
            raise AtlasError(f"{folder} {found}; give a folder that locate, probe, compare or a study wrote")
        try:
            meta = json.loads(file.read_text(encoding="utf-8"))
            schema = meta["schema"]
        except (ValueError, KeyError, TypeError):
            raise AtlasError(
                f"{file} is not the description of an atlas; give a folder that locate, probe, compare or a study wrote"
            ) from None
        if schema != SCHEMA:
            raise AtlasError(f"{folder} has atlas schema {schema}, this version reads {SCHEMA}; make the atlas again")
        return cls(folder, meta)

    @classmethod
    def create_or_resume(
        cls,
        folder: str | Path,
        *,
        model: Mapping[str, Any],
        settings: Mapping[str, Any],
        command: str = "",
        seed: int = 0,
    ) -> Self:
        """Start an atlas in an empty or new folder, or take up the one that is there, and hold the folder.

        `model` needs `digest` (of the weights) and is best given `id` and `revision` too. An atlas of another model,
        other settings, another seed or, while it is unfinished, other package versions raises AtlasError, as does a
        folder of something else or one that another process holds. A finished atlas comes back with state `complete`.
        """
        folder = Path(folder)
        wanted = describe(model, settings, command, seed)
        with _disk_room(folder, kept="nothing was written yet"):
            _refuse_other_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
            lock = _hold(folder)
            try:
                if (folder / "atlas.json").exists():
                    atlas = cls(folder, cls.open(folder).meta, lock)
                    _refuse_differences(folder, atlas.meta, wanted)
                else:
                    atlas = cls(folder, wanted, lock)
                    atlas._write_meta()
                atlas._clean()
            except BaseException:
                lock.release()
                raise
        return atlas

    @property
    def state(self) -> str:
        """`running` until `finish` has been called, then `complete`."""
        return str(self.meta["state"])

    @property
    def tables(self) -> list[str]:
        """The names of the tables that can be read now, sorted; of a running atlas also those still in parts."""
        names = {file.stem for file in self.folder.glob("*.parquet")}
        return sorted(names | {file.stem for file in self._parts("*")})

    def table(self, name: str) -> pl.DataFrame:
        """One table as a polars frame; of a running atlas, what its finished parts hold so far."""
        if name not in self.tables:
            raise AtlasError(f"no table {name!r} in {self.folder}; it has {', '.join(self.tables) or 'none'}")
        return pl.concat(self.read_parts(name))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays written under `name`, by key."""
        file = self.folder / f"{_checked(name)}.safetensors"
        if not file.is_file():
            there = sorted(other.stem for other in self.folder.glob("*.safetensors"))
            raise AtlasError(f"no arrays {name!r} in {self.folder}; it has {', '.join(there) or 'none'}")
        return dict(safetensors.numpy.load_file(file))

    def has_part(self, stage: str, index: int) -> bool:
        """Whether a piece of work is already done. A complete atlas has every part."""
        return self.state == "complete" or self._part(stage, index).is_dir()

    def write_part(self, stage: str, index: int, tables: Mapping[str, pl.DataFrame]) -> None:
        """Commit all tables of one piece of work at once: after a kill either all of them are there or none.

        Within a table, parts are read by stage (alphabetically), then by index, however they were written.
        """
        self._refuse_unless_writing()
        target = self._part(stage, index)
        if target.exists():
            raise AtlasError(f"part {index} of stage {stage!r} is in {self.folder} already; ask `has_part` before")
        for name, frame in tables.items():
            self._check_part_table(_checked(name), frame)
        with self._disk_room(f"part {index} of stage {stage!r}"):
            temporary = self._scratch / f"{stage}-{index}"
            durable.remove(temporary)
            temporary.mkdir(parents=True)
            for name, frame in tables.items():
                _sink(frame.lazy(), temporary / f"{name}.parquet")
            durable.publish(temporary, target)

    def read_parts(self, table: str) -> Iterator[pl.DataFrame]:
        """The pieces of a table in order, one at a time; the whole table at once when it is no longer in parts."""
        whole = self.folder / f"{_checked(table)}.parquet"
        for file in self._parts(table) or ([whole] if whole.exists() else []):
            yield pl.read_parquet(file, glob=False, hive_partitioning=False)

    def write_table(self, name: str, frame: pl.DataFrame) -> None:
        """Write a whole table, or replace it."""
        self._refuse_unless_writing()
        if self._parts(_checked(name)):
            raise AtlasError(f"table {name!r} is written in parts in {self.folder}; give the whole table another name")
        with self._disk_room(f"table {name!r}"):
            self._write_parquet(name, frame.lazy())

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write dense arrays by key as one safetensors file, or replace it."""
        self._refuse_unless_writing()
        data = safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
        with self._disk_room(f"arrays {name!r}"):
            durable.write(self.folder / f"{_checked(name)}.safetensors", data, self._scratch)

    def remember(self, key: str, find: Callable[[], T]) -> T:
        """What `find()` gave the first time in this folder.

        For choices, such as an automatic batch size, that a resumed run must not make anew. The value goes into
        `atlas.json`, so it must be plain JSON.
        """
        if key not in self.meta["remembered"]:
            self._refuse_unless_writing()
            self.meta["remembered"][key] = json.loads(json.dumps(find(), allow_nan=False))
            with self._disk_room(f"the choice of {key!r}"):
                self._write_meta()
        value: T = self.meta["remembered"][key]
        return value

    def finish(self) -> None:
        """Merge the parts into `<table>.parquet`, mark the atlas complete and let go of the folder.

        Killed half-way it can be called again after `create_or_resume`; the tables end in the same bytes.
        """
        if self.state != "complete":
            self._refuse_unless_writing()
            with self._disk_room("the merged tables"):
                for name in sorted({file.stem for file in self._parts("*")}):
                    files = self._parts(name)
                    self._write_parquet(name, pl.scan_parquet(files, glob=False, hive_partitioning=False))
                self.meta["state"] = "complete"
                self._write_meta()
        if self._lock is not None:
            self._clean()
        self.close()

    def close(self) -> None:
        """Let go of the folder, finished or not."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _scratch(self) -> Path:
        return self.folder / ".tmp"

    def _part(self, stage: str, index: int) -> Path:
        return self.folder / "parts" / _checked(stage) / f"{index:08d}"

    def _parts(self, table: str) -> list[Path]:
        if self.state == "complete":
            return []  # what lies there was merged already and only waits to be removed
        return sorted((self.folder / "parts").glob(f"*/*/{table}.parquet"))

    def _write_parquet(self, name: str, frame: pl.LazyFrame) -> None:
        self._scratch.mkdir(exist_ok=True)
        temporary = self._scratch / f"{name}.parquet"
        _sink(frame, temporary)
        durable.publish(temporary, self.folder / temporary.name)

    def _write_meta(self) -> None:
        text = json.dumps(self.meta, indent=2, ensure_ascii=False) + "\n"
        durable.write(self.folder / "atlas.json", text.encode(), self._scratch)

    def _clean(self) -> None:
        durable.remove(self._scratch)
        if self.state == "complete":
            durable.remove(self.folder / "parts")

    def _check_part_table(self, name: str, frame: pl.DataFrame) -> None:
        if (self.folder / f"{name}.parquet").exists():
            raise AtlasError(f"table {name!r} is in {self.folder} as a whole; give the part's table another name")
        if name not in self._schemas:
            first = self._parts(name)[:1]
            self._schemas[name] = dict(pl.read_parquet_schema(first[0]) if first else frame.schema)
        if self._schemas[name] != (found := dict(frame.schema)):
            raise AtlasError(f"a part of table {name!r} has columns {found}, expected {self._schemas[name]}")

    def _refuse_unless_writing(self) -> None:
        if self.state == "complete":
            raise AtlasError(f"{self.folder} is complete and takes no more; choose another folder")
        if self._lock is None:
            raise AtlasError(f"{self.folder} is open for reading only; `Atlas.create_or_resume` opens it for writing")

    @contextmanager
    def _disk_room(self, what: str) -> Iterator[None]:
        finished = sum(1 for _ in (self.folder / "parts").glob("*/*"))
        kept = f"no room for {what}, the {finished} parts finished before are kept"
        with _disk_room(self.folder, kept):
            try:
                yield
            except (OSError, pl.exceptions.PolarsError):
                durable.remove(self._scratch)
                raise


@contextmanager
def _disk_room(folder: Path, kept: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        if not durable.is_disk_full(error):
            raise
        message = f"the disk of {folder} is full: {kept}; make some and run the same command to go on"
        raise AtlasError(message) from error


def _sink(frame: pl.LazyFrame, file: Path) -> None:
    frame.sink_parquet(file, compression="zstd", row_group_size=_ROW_GROUP, maintain_order=True)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise AtlasError(f"{name!r} cannot name a table or stage: use lower-case letters, digits, '-' and '_'")
    return name


def _refuse_differences(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    if differing := "; ".join(differences(there, here)):
        raise AtlasError(f"{folder} is an atlas made otherwise: {differing}; choose another folder, or run as then")


def _refuse_other_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise AtlasError(f"{folder} is a file; give a folder for the atlas")
    if not folder.exists() or (folder / "atlas.json").exists():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in {".tmp", "atlas.lock"})
    if others:
        raise AtlasError(f"{folder} is neither empty nor an atlas (it holds {others[0]!r}); choose another folder")


def _hold(folder: Path) -> durable.FolderLock:
    try:
        return durable.FolderLock(folder / "atlas.lock")
    except BlockingIOError:
        holder = durable.FolderLock.holder(folder / "atlas.lock")
        message = f"another run (process {holder}) is writing to {folder}; wait for it, or choose another folder"
        raise AtlasError(message) from None
