"""The folder of an edited model: one that transformers loads, with the edits' record and slots beside the weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuronatlas.durable import publish
from neuronatlas.models.model import Model

__all__ = ["RECORD", "SLOTS", "EditError", "read_record", "versions", "write_folder"]

RECORD, SLOTS = "neuronatlas-edits.json", "neuronatlas-edits.safetensors"
SCHEMA = 1


class EditError(ValueError):
    """An edit that makes no sense, that cannot be undone, or a record that cannot be read."""


def write_folder(model: Model, folder: Path, record: Mapping[str, Any], slots: Mapping[str, Tensor]) -> None:
    """Write model, tokenizer, record and slots to a new folder, whole or not at all.

    Errors: EditError for a folder that exists.
    """
    if folder.exists():
        raise EditError(f"{folder} exists: give a folder that does not, nothing is overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model.module.save_pretrained(scratch)
        model.tokenizer.save_pretrained(scratch)
        text = json.dumps({"schema": SCHEMA, **record}, ensure_ascii=False, indent=1)
        (scratch / RECORD).write_text(text + "\n", encoding="utf-8")
        save_file({name: tensor.cpu().contiguous() for name, tensor in slots.items()}, scratch / SLOTS)
        scratch.chmod(0o755)
        publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_record(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record of the edits in a folder, and their slots before and after.

    Errors: EditError when there is none, or it is broken or of another version.
    """
    path = Path(folder).expanduser()
    if not (path / RECORD).is_file():
        raise EditError(f"{path} is not the folder of an edited model: it has no {RECORD}")
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        slots = load_file(path / SLOTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise EditError(f"the record of edits in {path} cannot be read: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise EditError(f"the record of edits in {path} is of version {found}: {SCHEMA} expected")
    return record, slots


def versions() -> dict[str, str]:
    """Versions of the libraries that wrote a record."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}
