"""What made an atlas, and how another run would differ from it."""

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

__all__ = ["SCHEMA", "AtlasError", "describe", "differences"]

SCHEMA = 1
_PACKAGES = ("neuronatlas", "torch", "transformers", "polars", "numpy")


class AtlasError(ValueError):
    """An atlas folder that cannot be used as asked. One line: what was found, and what to do."""


def describe(model: Mapping[str, Any], settings: Mapping[str, Any], command: str, seed: int) -> dict[str, Any]:
    """The content of a new `atlas.json`, as plain JSON. It holds no time, so that equal runs give equal bytes.

    Raises AtlasError if `model` has no `digest`, and TypeError or ValueError for what JSON cannot hold.

    >>> describe({"digest": "ab12"}, {"gains": (0, 2)}, "neuronatlas demo", 0)["settings"]
    {'gains': [0, 2]}
    """
    if "digest" not in model:
        raise AtlasError(f"the model's description needs the digest of its weights; it has {', '.join(model)}")
    meta = {
        "schema": SCHEMA,
        "state": "running",
        "model": dict(model),
        "settings": dict(settings),
        "seed": seed,
        "command": command,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "remembered": {},
    }
    plain: dict[str, Any] = json.loads(json.dumps(meta, allow_nan=False))
    return plain


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from its source, as this package may be
        return str(getattr(sys.modules.get(package), "__version__", "not installed"))


def differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    """Say, one phrase each, in what two descriptions would not give the same tables.

    That is the weights' digest, the settings, the seed and, while the first is unfinished, the packages' versions;
    the command and the model's name are free to differ.

    >>> first, second = (describe({"digest": "ab12"}, {"nodes": nodes}, "", 0) for nodes in (5, 8))
    >>> list(differences(first, second))
    ['settings.nodes was 5, now 8']
    """
    unfinished = there["state"] == "running"

    def compared(meta: dict[str, Any]) -> dict[str, Any]:
        versions = {"versions": meta["versions"]} if unfinished else {}
        return {"model.digest": meta["model"]["digest"], "settings": meta["settings"], "seed": meta["seed"]} | versions

    yield from _nested_differences(compared(there), compared(here))


def _nested_differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in there | here:
        old, new = (side.get(key, "not set") for side in (there, here))
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _nested_differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old}, now {new}"
