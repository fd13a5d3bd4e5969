"""What a folder of activations says of itself: which model, words and neurons its rows are of, and how far it got."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import tokenizers
import torch
import transformers
from jaxtyping import Int

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import ActivationsError
from neuronatlas.probing.corpora import Corpus

__all__ = ["DTYPES", "MANIFEST", "Lost", "Manifest", "describe", "read_manifest", "refuse_differences", "shard_name"]

MANIFEST = "manifest.json"
SCHEMA = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

_PACKAGES = {"torch": torch, "transformers": transformers, "tokenizers": tokenizers, "safetensors": safetensors}
_FREE = {"state", "shards", "model.name", "model.revision", "corpus.name"}
"""What may differ between runs that give the same numbers; `run` too, once a folder is complete."""


@dataclass(frozen=True)
class Lost:
    """How many words vanished in the tokenizer, and how many (or how many sentences) the model's length cut."""

    vanished: int = 0
    cut: int = 0

    def __add__(self, other: Lost) -> Lost:
        return Lost(self.vanished + other.vanished, self.cut + other.cut)

    def notes(self, level: str, max_length: int) -> tuple[str, ...]:
        """What a reader must know, one sentence each.

        >>> Lost(cut=2).notes("word", 512)
        ('2 words lie beyond the 512 tokens that the model takes: they have no row',)
        """
        told = []
        if self.vanished:
            told.append(f"{self.vanished} {level}s have no token in the model's tokenizer: they have no row")
        if self.cut and level == "word":
            told.append(f"{self.cut} words lie beyond the {max_length} tokens that the model takes: they have no row")
        elif self.cut:
            told.append(f"{self.cut} sentences were cut to the {max_length} tokens that the model takes")
        return tuple(told)


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read: plain JSON, and what the rows are of."""

    folder: Path
    content: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all rows are there."""
        return bool(self.content["state"] == "complete")

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The shards written so far, in order: `rows`, first and last item, `sentences`, and what was lost."""
        shards: list[dict[str, Any]] = self.content["shards"]
        return shards

    @property
    def layout(self) -> Layout:
        """Where the columns' addresses count."""
        model, experts = self.content["model"], tuple(map(tuple, self.content.get("experts", ())))
        return Layout(self.content["site"], tuple(self.content["widths"]), model["stack"], model["digest"], experts)

    @property
    def columns(self) -> Int[np.ndarray, " column"]:
        """Flat indices of the neurons that are held."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.content["columns"]])

    @property
    def dtype(self) -> torch.dtype:
        """How values are stored."""
        return DTYPES[self.content["dtype"]]

    @property
    def notes(self) -> tuple[str, ...]:
        """What has no row, and why."""
        lost = sum((Lost(shard["vanished"], shard["cut"]) for shard in self.shards), Lost())
        return lost.notes(self.content["corpus"]["level"], self.content["max_length"])


def shard_name(index: int) -> str:
    """File name of a shard.

    >>> shard_name(3)
    'shard-00003.safetensors'
    """
    return f"shard-{index:05d}.safetensors"


def describe(
    corpus: Corpus, layout: Layout, columns: Int[np.ndarray, " column"], model: Mapping[str, Any], **settings: Any
) -> dict[str, Any]:
    """The content of a new manifest, as plain JSON. It holds no time, so that equal runs give equal bytes.

    `settings` are `pooling`, `dtype`, `max_length`, `tokenizer` (a digest) and `run`.
    """
    breaks = np.flatnonzero(np.diff(columns) != 1) + 1
    runs = [[int(part[0]), int(part[-1]) + 1] for part in np.split(columns, breaks)]
    content = {
        "schema": SCHEMA,
        "state": "running",
        "model": {**model, "stack": layout.stack, "digest": layout.digest},
        "corpus": {
            "name": corpus.name,
            "level": corpus.level,
            "words_digest": corpus.words_digest,
            "sentences": len(corpus),
            "items": corpus.n_items,
        },
        "site": layout.site,
        "widths": list(layout.widths),
        **({"experts": layout.experts} if layout.experts else {}),
        "columns": runs,
        **settings,
        "shards": [],
    }
    content["run"] |= {"versions": {name: package.__version__ for name, package in _PACKAGES.items()}}
    plain: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return plain


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where the folder is missing or empty of one.

    Errors: ActivationsError for a manifest that is damaged or of a later version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = Manifest(folder, json.loads(path.read_text("utf-8")))
        schema = manifest.content["schema"]
        _ = manifest.complete, manifest.layout, manifest.columns, manifest.dtype, manifest.notes
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ActivationsError(
            f"{path} is damaged ({reason}): remove the folder and extract anew, or restore it"
        ) from None
    if schema != SCHEMA:
        raise ActivationsError(f"{path} has schema {schema}, this version reads {SCHEMA}: extract anew")
    return manifest


def refuse_differences(there: Manifest, wanted: Mapping[str, Any]) -> None:
    """Raise ActivationsError where a folder's rows are not those wanted; unfinished ones must also be made alike."""
    differing = "; ".join(
        f"{name} was {old}, now {new}"
        for name, old, new in _differences(there.content, wanted)
        if name not in _FREE and not (there.complete and name.startswith("run."))
    )
    if differing:
        raise ActivationsError(
            f"{there.folder} holds activations made otherwise: {differing}; choose another folder, or extract as then"
        )


def _differences(there: Any, here: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in there | here:
        old, new, name = there.get(key, "not set"), here.get(key, "not set"), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{name}.")
        elif old != new:
            yield name, _short(old), _short(new)


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
