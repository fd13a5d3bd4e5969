"""Times work in turns, measures the machine beside it, and takes a process's peak memory."""

from __future__ import annotations

import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
import transformers

__all__ = ["Bare", "interleaved", "machine", "peak_memory", "read_bandwidth"]

_PRODUCTS = ((2048, 768, 3072), (4096, 768, 3072), (4096, 3072, 768), (4096, 4096, 4096))
_PRODUCTS_QUICK = ((256, 256, 256),)


def interleaved(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each work in each run; every run does all of them in turn, so that a slow spell hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return seconds


class Bare:
    """The speed of a bare float32 matrix product: the best of several large shapes, by the median of its runs."""

    def __init__(self, quick: bool = False, repeats: int = 3) -> None:
        self.repeats = repeats
        self.seconds: dict[tuple[int, int, int], list[float]] = {
            shape: [] for shape in (_PRODUCTS_QUICK if quick else _PRODUCTS)
        }

    def run(self) -> None:
        """Time every shape a few times more; the first product, which only warms up, is not counted."""
        for (rows, inner, columns), found in self.seconds.items():
            left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
            product = partial(torch.mm, left, right, out=out)
            product()
            found.extend(interleaved({"": product}, self.repeats)[""])

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations a second, two a multiply-add."""
        return max(2e-9 * r * i * c / statistics.median(s) for (r, i, c), s in self.seconds.items())


def read_bandwidth(megabytes: int = 512, repeats: int = 7) -> float:
    """Bytes a second at which memory is read, by the median time of a product of a large matrix with a vector."""
    rows = megabytes * 2**20 // (4 * 4096)
    matrix, vector = torch.ones(rows, 4096), torch.ones(4096)
    seconds = interleaved({"": lambda: torch.mv(matrix, vector)}, repeats + 1)[""][1:]
    return matrix.nbytes / statistics.median(seconds)


def peak_memory() -> int:
    """Most bytes this process has held in memory so far."""
    # On Linux ru_maxrss of a started process begins at its parent's; VmHWM counts from its own start.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def machine() -> str:
    """The processor, its threads in use, and the versions that decide the speed."""
    return (
        f"{_processor()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
