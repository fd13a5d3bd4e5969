"""Activations in a folder: shards of rows, written whole or not at all, and memory-mapped when read.

DIR/manifest.json                what the rows are of, and the list of shards
DIR/shard-00000.safetensors ...  `activations` [row, column] in the dtype asked for, `items` [row]
DIR/.tmp/, DIR/activations.lock  while running: unfinished writes, and the hold of the process that writes
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float32, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neuronatlas import durable
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.manifest import MANIFEST, Lost, Manifest, read_manifest, refuse_differences, shard_name

__all__ = ["ShardFolder", "Shards", "clear", "open_activations"]

_LOCK, _SCRATCH = "activations.lock", ".tmp"

Indices = Int[np.ndarray, " index"]
Block = Float32[np.ndarray, "row column"]


class Shards:
    """Rows in pieces of any dtype, in memory or in files that are mapped into memory when first read."""

    def __init__(self, pieces: Sequence[Tensor | Path], rows: Sequence[int], n_columns: int) -> None:
        self._pieces = list(pieces)
        self._bounds = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._n_columns = n_columns

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self._bounds[-1]), self._n_columns

    def read(self, rows: slice | Indices, columns: Indices | None) -> Block:
        """Some rows, in the order given, and all columns or some, as float32; a view of a file where that can be."""
        asked = np.arange(self.shape[0])[rows] if isinstance(rows, slice) and rows.step else rows
        if isinstance(asked, slice):
            return self._between(*asked.indices(self.shape[0])[:2], columns)
        block = torch.empty(len(asked), self._n_columns if columns is None else len(columns))
        piece_of = np.searchsorted(self._bounds, asked, side="right") - 1
        for piece in np.unique(piece_of).tolist():
            there = np.flatnonzero(piece_of == piece)
            local = torch.from_numpy(asked[there] - self._bounds[piece])
            block[torch.from_numpy(there)] = self._part(piece, local, columns).float()
        return block.numpy()

    def _between(self, start: int, stop: int, columns: Indices | None) -> Block:
        first, last = np.searchsorted(self._bounds, [start, max(start, stop - 1)], side="right") - 1
        parts = []
        for piece in range(first, min(last + 1, len(self._pieces))):
            begin = self._bounds[piece]
            local = slice(int(max(start, begin) - begin), int(max(min(stop, self._bounds[piece + 1]) - begin, 0)))
            parts.append(self._part(piece, local, columns))
        if len(parts) == 1:
            return parts[0].float().numpy()
        block = torch.empty(max(stop - start, 0), self._n_columns if columns is None else len(columns))
        for part, rows in zip(parts, block.split([len(part) for part in parts]), strict=True):
            rows.copy_(part)
        return block.numpy()

    def _part(self, piece: int, rows: slice | Tensor, columns: Indices | None) -> Tensor:
        """Rows of one piece; of a file, only the pages that hold them are read."""
        tensor = self._tensor(piece)
        if columns is not None and len(columns) and np.array_equal(columns, np.arange(columns[0], columns[-1] + 1)):
            tensor, columns = tensor[:, columns[0] : columns[-1] + 1], None
        taken = tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows)
        return taken if columns is None else taken.index_select(1, torch.from_numpy(columns))

    def _tensor(self, piece: int) -> Tensor:
        found = self._pieces[piece]
        if isinstance(found, Tensor):
            return found
        with safe_open(found, "pt") as file:
            tensor: Tensor = file.get_tensor("activations")
        self._pieces[piece] = tensor
        return tensor


class ShardFolder:
    """A folder that activations are written to, shard by shard; takes up what an earlier run left.

    `content` is what `manifest.describe` gives. Only one process at a time may write to a folder.

    Errors: ActivationsError when the folder holds something else, or another process writes to it.
    """

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        _refuse_other_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = _hold(folder)
        try:
            there = read_manifest(folder)
            if there is not None:
                refuse_differences(there, content)
            clear(folder)
            if there is None:
                self._write(content)
            else:
                self._content = dict(there.content)
        except BaseException:
            self._lock.release()
            raise

    @property
    def shards(self) -> list[dict[str, Any]]:
        """What is there already, in order."""
        shards: list[dict[str, Any]] = self._content["shards"]
        return shards

    def add(self, values: Tensor, items: Indices, sentences: tuple[int, int], lost: Lost) -> None:
        """Write the next shard: rows of the sentences from the first up to the second index."""
        name = shard_name(len(self.shards))
        scratch = self.folder / _SCRATCH
        scratch.mkdir(exist_ok=True)
        save_file({"activations": values, "items": torch.from_numpy(items)}, scratch / name)
        durable.publish(scratch / name, self.folder / name)
        entry = {
            "file": name,
            "sentences": list(sentences),
            "rows": len(items),
            "items": [int(items[0]), int(items[-1])] if len(items) else [],
            "vanished": lost.vanished,
            "cut": lost.cut,
        }
        self._write({**self._content, "shards": [*self.shards, entry]})

    def finish(self) -> None:
        """Mark the folder as complete."""
        self._write({**self._content, "state": "complete"})
        clear(self.folder)

    def _write(self, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        durable.write(self.folder / MANIFEST, text.encode(), self.folder / _SCRATCH)
        self._content = content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def clear(folder: Path) -> None:
    """Remove the unfinished writes that an interrupted run left."""
    durable.remove(folder / _SCRATCH)


def open_activations(folder: str | Path) -> Activations:
    """Open a folder of activations; rows are read from its files when they are asked for.

    Errors: ActivationsError for a folder that holds none, is unfinished, or whose files are missing or damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise ActivationsError(f"{folder} holds no activations: a folder with {MANIFEST} expected, as `extract` makes")
    corpus, total = manifest.content["corpus"], len(manifest.columns)
    if not manifest.complete:
        done = manifest.shards[-1]["sentences"][1] if manifest.shards else 0
        raise ActivationsError(
            f"{folder} is unfinished ({done} of {corpus['sentences']} sentences): extract into it again to finish it"
        )
    rows = [shard["rows"] for shard in manifest.shards]
    items = [_items(manifest, index, count, total) for index, count in enumerate(rows)]
    files = [folder / shard_name(index) for index in range(len(rows))]
    return Activations(
        Shards(files, rows, total),
        manifest.layout,
        manifest.columns,
        np.concatenate(items),
        corpus["items"],
        corpus["words_digest"],
        manifest.content["model"]["name"],
        manifest.notes,
    )


def _items(manifest: Manifest, index: int, rows: int, columns: int) -> Indices:
    """Items of a shard's rows, once its file has proved to be what the manifest says."""
    path = manifest.folder / shard_name(index)
    try:
        with safe_open(path, "pt") as file:
            found, dtype = file.get_slice("activations").get_shape(), file.get_slice("activations").get_dtype()
            items: Tensor = file.get_tensor("items")
    except (OSError, SafetensorError) as error:
        reason = "is missing" if not path.exists() else f"is damaged ({str(error).splitlines()[0]})"
        raise ActivationsError(f"{path} {reason}: remove the folder and extract anew, or restore it") from None
    expected = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[manifest.dtype]
    if list(found) != [rows, columns] or dtype != expected or len(items) != rows:
        raise ActivationsError(
            f"{path} holds {found} values of {dtype}, {[rows, columns]} of {expected} expected: extract anew"
        )
    return items.numpy()


def _refuse_other_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ActivationsError(f"{folder} is a file: give a folder for the activations")
    if not folder.exists() or (folder / MANIFEST).exists():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in {_SCRATCH, _LOCK})
    if others:
        raise ActivationsError(
            f"{folder} is neither empty nor a folder of activations (it holds {others[0]!r}): choose another folder"
        )


def _hold(folder: Path) -> durable.FolderLock:
    try:
        return durable.FolderLock(folder / _LOCK)
    except BlockingIOError:
        holder = durable.FolderLock.holder(folder / _LOCK)
        message = f"another run (process {holder}) is writing to {folder}: wait for it, or choose another folder"
        raise ActivationsError(message) from None
