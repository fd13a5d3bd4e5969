"""How much memory work takes: counts the bytes of tensors that are alive at once, and says what a device has free."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "MemoryLimitError", "as_bytes", "free_bytes"]

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class MemoryLimitError(ValueError):
    """A limit of memory that cannot be read, or that is too small for the work."""


class LiveBytes(TorchDispatchMode):
    """Counts, inside, the bytes of the tensors that torch's operations make and that are alive at once.

    `now` are those alive, `peak` the most that were; tensors that were there before do not count. The same on every
    device and on every run, unlike what an allocator holds. What a kernel uses for itself is not seen.

    >>> with LiveBytes() as live:
    ...     kept = torch.zeros(256) + torch.ones(256)
    >>> live.now, live.peak
    (1024, 3072)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._seen: dict[int, ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run an operation and count what is new in what it gives."""
        given = dict(kwargs or {})
        for tensor in _tensors((args, given)):
            self._note(tensor, new=False)
        out = func(*args, **given)
        for tensor in _tensors(out):
            self._note(tensor, new=True)
        return out

    def _note(self, tensor: Tensor, *, new: bool) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # tensors of other kinds have none
            return
        address = storage._cdata
        if address in self._seen:
            return
        counted = storage.nbytes() if new and not tensor.is_meta else 0

        def gone(_: object) -> None:
            self.now -= counted
            self._seen.pop(address, None)

        self._seen[address] = ref(storage, gone)
        self.now += counted
        self.peak = max(self.peak, self.now)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def as_bytes(text: str) -> int:
    """Read an amount of memory.

    >>> as_bytes("8GB"), as_bytes("512 MiB")
    (8000000000, 536870912)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if found is None or found[2].upper() not in _UNITS or not float(found[1]):
        raise MemoryLimitError(f"no amount of memory: {text!r}; expected one such as 8GB or 512MiB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def free_bytes(device: torch.device) -> int:
    """What can still be used: of a GPU, or of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    for line in info.read_text(encoding="ascii").splitlines() if info.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
