"""Counts the multiply-adds in matrix products that attribution by replay needs, and the bytes of weights it must read.

Bias, normalisation, activation and softmax are left out, so the fraction of a bare product's speed that is computed
from these counts charges them as lost time. Gradients go through the activations only, so a projection costs backward
what it costs forward; a product of two activations costs twice that.
"""

from __future__ import annotations

from dataclasses import dataclass

from shapes import Shape

__all__ = ["Arithmetic", "block", "block_backward", "head", "needed", "projections", "weight_bytes"]


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-adds by what they are for.

    `clean`: one pass over the prompts, with the head at the answers' places. `forward` and `backward`: the rows of the
    integration. `gap`: rows with a layer's neurons at 0, which the completeness gap needs unless 0 is a node anyway.
    """

    clean: int
    forward: int
    backward: int
    gap: int

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return self.clean + self.forward + self.backward + self.gap

    @property
    def gflop(self) -> float:
        """Billions of floating-point operations, two a multiply-add."""
        return 2 * self.total / 1e9


def projections(shape: Shape) -> int:
    """A block's projections at one position: queries, keys, values, attention output, up, down and a Llama's gate."""
    shared = shape.key_value_heads or shape.heads
    feed_forward = 2 if shape.key_value_heads is None else 3
    attention = 2 * shape.width**2 + 2 * shape.width**2 * shared // shape.heads
    return attention + feed_forward * shape.width * shape.ffn


def head(shape: Shape) -> int:
    """The output head at one position; that of BERT has a projection of its own before the vocabulary."""
    own = shape.width**2 if shape.kind == "masked" else 0
    return own + shape.width * shape.vocabulary


def block(shape: Shape, tokens: int) -> int:
    """A row through a block: all positions of a masked model, the last one of a causal model against all keys."""
    queries = tokens if shape.kind == "masked" else 1
    return queries * (projections(shape) + 2 * tokens * shape.width)


def block_backward(shape: Shape, tokens: int) -> int:
    """The gradient of a row back through a block; a causal row needs none towards the prompt's keys and values."""
    if shape.kind == "masked":
        return tokens * (projections(shape) + 4 * tokens * shape.width)
    return projections(shape) + 2 * tokens * shape.width + 2 * shape.width


def needed(shape: Shape, tokens: int, prompts: int, nodes: int, *, zero_is_node: bool) -> Arithmetic:
    """What replay needs for all layers of `prompts` prompts of one length at `nodes` points of integration a layer."""
    forward, backward = _rows_forward(shape, tokens), _rows_backward(shape, tokens)
    whole = shape.layers * tokens * (projections(shape) + 2 * tokens * shape.width) + head(shape)
    gap = 0 if zero_is_node else prompts * forward
    return Arithmetic(prompts * whole, prompts * nodes * forward, prompts * nodes * backward, gap)


def _rows_forward(shape: Shape, tokens: int) -> int:
    """One row a layer: from its down-projection through the blocks above and the head."""
    return _rows(shape, block(shape, tokens), _top(shape, tokens, 2))


def _rows_backward(shape: Shape, tokens: int) -> int:
    return _rows(shape, block_backward(shape, tokens), _top(shape, tokens, 4))


def _rows(shape: Shape, middle: int, top: int) -> int:
    own = shape.width * shape.ffn + head(shape)
    through_middle = sum(shape.layers - 2 - layer for layer in range(shape.layers - 1))
    last = top if shape.kind == "masked" else middle
    return shape.layers * own + through_middle * middle + (shape.layers - 1) * last


def _top(shape: Shape, tokens: int, products: int) -> int:
    """A masked model's last block: attention over all positions, all that follows it at the answer's place alone."""
    attention = tokens * (3 * shape.width**2 + products * tokens * shape.width)
    return attention + shape.width**2 + 2 * shape.width * shape.ffn


def weight_bytes(shape: Shape, *, zero_is_node: bool, bytes_each: int = 4) -> int:
    """Bytes read when every pass over the layers (clean, rows forward, rows backward, gap) reads all weights once."""
    weights = shape.layers * projections(shape) + head(shape)
    return (3 if zero_is_node else 4) * weights * bytes_each
