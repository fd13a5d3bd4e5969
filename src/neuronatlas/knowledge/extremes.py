"""The texts of a stream with the highest and the lowest values: a few are held, however many pass."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

__all__ = ["Extremes", "Placed"]


@dataclass(frozen=True)
class Placed:
    """A text with its value, its number in the stream and the token where the neurons peak."""

    value: float
    index: int
    text: str
    peak: int


@dataclass
class Extremes:
    """The `k` highest and lowest texts so far; equal texts count once, ties go to the earlier one.

    >>> seen = Extremes(1)
    >>> for index, (value, text) in enumerate([(0.1, "low"), (0.9, "high"), (0.9, "later")]):
    ...     seen.add(Placed(value, index, text, 0))
    >>> [(name, placed.text) for name, placed in seen.ranked()]
    [('top', 'high'), ('bottom', 'low')]
    """

    k: int
    _top: _Best = field(init=False)
    _bottom: _Best = field(init=False)

    def __post_init__(self) -> None:
        self._top = _Best(self.k, lambda placed: placed.value)
        self._bottom = _Best(self.k, lambda placed: -placed.value)

    def add(self, placed: Placed) -> None:
        """Take note of a text."""
        self._top.add(placed)
        self._bottom.add(placed)

    def wanted(self, values: Float[np.ndarray, " text"]) -> list[int]:
        """Rows of those values that could still enter; what `add` makes of all others is nothing."""
        high, low = self._top.threshold, -self._bottom.threshold
        return [int(row) for row in np.flatnonzero(np.isfinite(values) & ((values > high) | (values < low)))]

    def top(self) -> list[Placed]:
        """The highest, first the highest of all."""
        return self._top.ranked()

    def ranked(self) -> Iterator[tuple[str, Placed]]:
        """The highest as `top` and the lowest as `bottom`, each from its extreme on."""
        yield from (("top", placed) for placed in self._top.ranked())
        yield from (("bottom", placed) for placed in self._bottom.ranked())


@dataclass
class _Best:
    k: int
    key: Callable[[Placed], float]
    heap: list[tuple[float, int, Placed]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    @property
    def threshold(self) -> float:
        """What a key must exceed to enter."""
        return self.heap[0][0] if len(self.heap) == self.k else -math.inf

    def add(self, placed: Placed) -> None:
        item = (self.key(placed), -placed.index, placed)
        if placed.text in self.held or (len(self.heap) == self.k and item[:2] <= self.heap[0][:2]):
            return
        self.held.add(placed.text)
        if len(self.heap) < self.k:
            heapq.heappush(self.heap, item)
        else:
            self.held.discard(heapq.heapreplace(self.heap, item)[2].text)

    def ranked(self) -> list[Placed]:
        return [placed for _, _, placed in sorted(self.heap, key=lambda item: item[:2], reverse=True)]
