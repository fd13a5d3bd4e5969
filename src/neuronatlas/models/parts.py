"""The parts of a block that hold neurons: a projection, or experts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

__all__ = ["Experts", "Projection"]


@dataclass(frozen=True)
class Projection:
    """A projection back to the model's width; the neurons are its inputs."""

    path: str
    module: nn.Module
    width: int


@dataclass(frozen=True)
class Experts:
    """Experts that share a module, each of `width` neurons; `shared` is the one that every position is sent to."""

    path: str
    module: nn.Module
    count: int
    width: int
    shared: Projection | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of neurons of each expert, the shared one last."""
        return (self.width,) * self.count + (() if self.shared is None else (self.shared.width,))
