"""Finds the stacks of blocks that a model runs: one, or an encoder and the decoder that reads it. No list of names.

A block is a member of a module list that maps hidden states to hidden states of the same shape. Which stack a block
belongs to is seen from what moves: what a decoder's blocks are given changes with the decoder's tokens, what an
encoder's are given does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronatlas.models.calls import Call, first_tensor, record_calls

__all__ = ["Stack", "StructureError", "trace_blocks", "trace_stacks"]

_MOVED = 1e-3
"""Share of the largest hidden state by which other tokens move them; rounding moves them far less."""


class StructureError(ValueError):
    """The model's structure could not be understood, with the reason."""


@dataclass(frozen=True)
class Stack:
    """The calls of one stack's blocks in a pass, in order.

    `positions` is the length of the sequence that it runs on; a model may append positions of its own. `numbers` says
    of each call how often its module was called before in the pass, `totals` how often it was in all. `reads` is the
    length of the sequence that its blocks are given beside their own (an encoder's), 0 where there is none. Hidden
    states are [row, position, width], or [position, row, width] where `positions_first`. Where the layers are `halved`,
    they are no modules of their own (XLM): the calls are of their position-wise halves, and the residual stream between
    two layers is the output of none.
    """

    calls: tuple[Call, ...]
    positions: int
    numbers: tuple[int, ...]
    totals: tuple[int, ...]
    reads: int = 0
    positions_first: bool = False
    halved: bool = False


def trace_blocks(module: nn.Module, run: Callable[[], Tensor]) -> Stack:
    """Run a model of one stack, which gives logits [row, position, token], and return its blocks' calls in order.

    Errors: StructureError when there is no list of blocks, or several lists that could be it, or when what goes through
    them is not one tensor of rows, positions and width.
    """
    calls, logits = _block_calls(module, run)
    return _stack(module, calls, calls, logits.shape[0], logits.shape[1])


def trace_stacks(
    module: nn.Module, run: Callable[[], Tensor], other_run: Callable[[], Tensor], encoder_positions: int
) -> tuple[Stack, Stack]:
    """The decoder, whose positions have the logits, and the encoder of a model that `run` runs on two sequences.

    `other_run` gives it the same tokens in the encoder and other ones, as many, in the decoder.

    Errors: StructureError as `trace_blocks`, and when a stack of either kind is missing.
    """
    calls, logits = _block_calls(module, run)
    others, _ = _block_calls(module, other_run)
    if [call.module for call in calls] != [call.module for call in others]:
        raise StructureError("other tokens in the decoder make it run other blocks")
    moved = [_moves(call, other) for call, other in zip(calls, others, strict=True)]
    for there, what in ((any(moved), "moves with"), (not all(moved), "is independent of")):
        if not there:
            raise StructureError(f"no block {what} the decoder's tokens: an encoder and a decoder are expected")
    rows = logits.shape[0]
    decoder = [call for call, moves in zip(calls, moved, strict=True) if moves]
    encoder = [call for call, moves in zip(calls, moved, strict=True) if not moves]
    return (
        _stack(module, decoder, calls, rows, logits.shape[1], reads=encoder_positions),
        _stack(module, encoder, calls, rows, encoder_positions),
    )


def _moves(call: Call, other: Call) -> bool:
    given, changed = call.hidden, other.hidden
    assert given is not None
    assert changed is not None
    if given.shape != changed.shape:
        return True
    return bool((given - changed).abs().max() > _MOVED * given.abs().max())


def _lists(module: nn.Module) -> dict[str, nn.ModuleList | nn.Sequential]:
    return {path: m for path, m in module.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m)}


def _owners(lists: dict[str, nn.ModuleList | nn.Sequential]) -> dict[nn.Module, str]:
    return {member: path for path, members in reversed(lists.items()) for member in members}


def _block_calls(module: nn.Module, run: Callable[[], Tensor]) -> tuple[list[Call], Tensor]:
    """Calls of what may be blocks or parts of them, in order, and the logits."""
    calls: list[Call] = []
    with torch.no_grad(), record_calls(list(_owners(_lists(module))), calls):
        logits = run()
    return [call for call in calls if _is_block_call(call) and any(True for _ in call.module.children())], logits


def _is_block_call(call: Call) -> bool:
    hidden, out = call.hidden, first_tensor(call.output)
    return hidden is not None and out is not None and hidden.ndim == 3 and hidden.shape == out.shape


def _stack(
    module: nn.Module, calls: Sequence[Call], every: Sequence[Call], rows: int, positions: int, reads: int = 0
) -> Stack:
    """The calls of the one list whose members are blocks; `every` are all of the pass, other stacks' too."""
    lists = _lists(module)
    owner = _owners(lists)
    stacks = _outermost({owner[call.module]: lists[owner[call.module]] for call in calls})
    if not stacks:
        raise StructureError(
            "no stack of blocks found: no module list whose members map hidden states to hidden states"
        )
    half = _position_wise_half([[call for call in calls if owner[call.module] == path] for path in stacks], calls)
    if len(stacks) > 1 and not half:
        kind = "models with one are supported" if not reads else "an encoder and a decoder of one each are supported"
        raise StructureError(f"several stacks of blocks found ({', '.join(sorted(stacks))}): only {kind}")
    members = {call.module for call in half} or set(next(iter(stacks.values())))
    blocks = tuple(call for call in calls if call.module in members)
    for call in blocks:
        _check_streams(call)
    positions_first = all(_is_positions_first(call, rows, positions) for call in blocks)
    numbers = {id(call): sum(c.module is call.module for c in every[:n]) for n, call in enumerate(every)}
    totals = tuple(sum(c.module is call.module for c in every) for call in blocks)
    return Stack(
        blocks, positions, tuple(numbers[id(call)] for call in blocks), totals, reads, positions_first, bool(half)
    )


def _position_wise_half(lists: Sequence[Sequence[Call]], calls: Sequence[Call]) -> Sequence[Call]:
    """Of two lists whose members take turns, as halves of layers do, the one that mixes no positions; or nothing."""
    if len(lists) != 2 or [id(c) for pair in zip(*lists, strict=False) for c in pair] != [id(c) for c in calls]:
        return ()
    found = [half for half in lists if all(map(_is_position_wise, half))]
    return found[0] if len(found) == 1 else ()


def _is_position_wise(call: Call) -> bool:
    """Whether other hidden states at the first position change what the module gives there alone."""
    assert call.hidden is not None
    changed = call.hidden.clone()
    changed[:, 0] += changed[:, 0].flip(-1) + 1
    try:
        with torch.no_grad():
            before, after = (first_tensor(call.given(hidden).run()) for hidden in (call.hidden, changed))
    except Exception:  # noqa: BLE001 - attention that keeps what it was given cannot be called again
        return False
    assert before is not None
    assert after is not None
    moved = (after - before).abs().amax((0, 2)) > _MOVED * before.abs().max()
    return bool(moved[0]) and not bool(moved[1:].any())


def _outermost(found: dict[str, nn.ModuleList | nn.Sequential]) -> dict[str, nn.ModuleList | nn.Sequential]:
    return {p: m for p, m in found.items() if not any(p != other and p.startswith(f"{other}.") for other in found)}


def _check_streams(call: Call) -> None:
    """A block gives one tensor of the hidden states' shape; a reversible one gives two."""
    given = call.output if isinstance(call.output, tuple | list) else [call.output]
    shape = None if call.hidden is None else call.hidden.shape
    streams = sum(isinstance(tensor, Tensor) and tensor.shape == shape for tensor in given)
    if streams > 1:
        raise StructureError(
            f"a block gives {streams} streams of hidden states ({type(call.module).__name__}): only one is supported"
        )


def _is_positions_first(call: Call, rows: int, positions: int) -> bool:
    """Whether the hidden states are [position, row, width]; a model may pad its positions at the end."""
    assert call.hidden is not None
    shape = tuple(call.hidden.shape)
    if shape[0] == rows and shape[1] >= positions:
        return False
    if shape[1] == rows and shape[0] >= positions:
        return True
    raise StructureError(
        f"a block takes hidden states of shape {shape} for {rows} rows of {positions} positions: only "
        "[row, position, width] and [position, row, width] are supported"
    )
