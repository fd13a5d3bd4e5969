"""How a child is fine-tuned: all that its weights depend on beside the base and the corpus."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuronatlas.probing.examples import SHARES
from neuronatlas.probing.pooling import POOLINGS, Pooling
from neuronatlas.studies.settings import SettingsError

__all__ = ["ChildError", "ChildSettings"]


class ChildError(ValueError):
    """A model that no child can be made of, or a folder that holds no child of the model at hand."""


@dataclass(frozen=True)
class ChildSettings:
    """How long and how fast a child is trained, and on what.

    `epochs` passes over the training sentences, `batch` sentences a step; AdamW with a learning `rate` that rises over
    the first share `warm_up` of the steps and falls to 0 in a straight line, and `weight_decay`. `pooling` says which
    tokens the classifier reads, as that of `extract` does. `shares` of train, dev and test are met by whole sentences;
    classes of fewer than `min_count` items are left out. With `shuffled` the training labels are permuted: the control.
    `seed` draws the split, the permutation, the classifier's first weights, the order of the sentences, and dropout.

    Errors: SettingsError for a number that makes no sense.
    """

    epochs: int = 3
    rate: float = 5e-5
    batch: int = 16
    seed: int = 0
    shuffled: bool = False
    pooling: Pooling | None = None
    warm_up: float = 0.1
    weight_decay: float = 0.01
    shares: tuple[float, float, float] = SHARES
    min_count: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "min_count"):
            self._require(name, getattr(self, name) >= 1, "a number from 1 expected")
        self._require("seed", self.seed >= 0, "a number from 0 expected")
        self._require("rate", 0 < self.rate < math.inf, "a number above 0 expected")
        self._require("warm_up", 0 <= self.warm_up < 1, "a number from 0 and below 1 expected")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "a number from 0 expected")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise SettingsError(f"no pooling {self.pooling!r}: one of {', '.join(POOLINGS)} expected")
        divides = len(self.shares) == 3 and min(self.shares) > 0 and abs(sum(self.shares) - 1) < 1e-9
        self._require("shares", divides, "three positive numbers of sum 1 expected, for train, dev and test")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SettingsError(f"{name} {getattr(self, name)}: {expected}")
