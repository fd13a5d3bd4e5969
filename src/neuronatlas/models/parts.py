"""A block as it was found, and the parts of it that hold neurons: a projection, or experts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["Block", "Experts", "Projection"]


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

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that their neurons go into."""
        return [self.module, *(() if self.shared is None else (self.shared.module,))]


@dataclass(frozen=True)
class Block:
    """One layer: a call of a block module, and the projections found in it.

    `call` is how often the module was called before in the same pass (0 but for models whose layers share weights), and
    `calls` how often it is called in all; `positions_first` where its hidden states are [position, row, width].
    `attention_module` is the largest submodule that holds the attention output and no feed-forward neurons; `ups` are
    the projections that feed the down-projection, each with its output's width; `output` is what the block gave in the
    traced pass, whose form its stand-ins copy. A mixture of experts has `experts` in place of `ffn`. `reason` says why
    there is neither, and `unaccounted` whether weights behind no projection write to the residual stream. `own` is how
    many position-wise projections write to it.
    """

    layer: int
    path: str
    module: nn.Module
    call: int
    ffn: Projection | None
    attention: Projection | None
    attention_module: nn.Module | None
    ups: tuple[tuple[nn.Module, int], ...]
    output: Any = field(repr=False)
    reason: str = ""
    unaccounted: bool = False
    experts: Experts | None = None
    cross_attention: Projection | None = None
    calls: int = 1
    positions_first: bool = False
    own: int = 0

    @property
    def bare(self) -> bool:
        """Whether it has no feed-forward neurons: all that writes to the residual stream is one mixer of positions."""
        return self.experts is None and self.own == 0 and self.attention is not None and not self.unaccounted
