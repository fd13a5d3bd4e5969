"""What recorded edits did to a model's weights, so that they can be undone and old addresses still be told apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["History"]


@dataclass(eq=False)
class History:
    """The edits that stand, oldest first, and the digests that the model went through by edits alone.

    >>> history = History()
    >>> history.moved("a", "b")
    >>> sorted(history.known("b")), sorted(history.known("c"))
    (['a', 'b'], ['c'])
    """

    live: list[Any] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    current: str = ""

    def known(self, digest: str) -> set[str]:
        """Digests that led by recorded edits, and nothing else, to the one that the model has."""
        return {*self.digests, digest} if digest == self.current else {digest}

    def moved(self, before: str, after: str) -> None:
        """Note that an edit, or the undoing of one, led from one digest to the next."""
        self.digests = {*self.known(before), after}
        self.current = after

    def resumed(self, known: Iterable[str], now: str) -> None:
        """Note digests that led to the one that the model has, as a record says."""
        self.digests = {*self.known(now), *known, now}
        self.current = now
