"""Finds a model's blocks and, inside each, the projections that write to the residual stream. No list of names.

A block is a member of a module list that maps hidden states to hidden states of the same shape. Inside it a *writer* is
a projection to the model's width whose output reaches the block's output directly. A writer whose input depends on its
own position alone is the feed-forward down-projection; one whose input mixes positions is the attention output; one
whose input moves with the states of an encoder that the block is given is the output of cross-attention.
Everything is found by changing one position and looking at what moves, so a renamed or restructured architecture is
either understood or refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from neuronatlas.models.block_search import BlockSearch
from neuronatlas.models.experts import expert_width, interface_reason
from neuronatlas.models.parts import Block, Experts, Projection
from neuronatlas.models.stacks import Stack
from neuronatlas.models.weights import is_coded, resident

__all__ = ["Block", "find_blocks"]


def find_blocks(module: nn.Module, stack: Stack) -> tuple[Block, ...]:
    """Find the writers of every traced block of a stack, by running the blocks again one by one."""
    names = {m: path for path, m in module.named_modules()}
    blocks = []
    for layer, call in enumerate(stack.calls):
        with resident(call.module):
            blocks.append(_find_block(layer, names[call.module], stack))
    return tuple(blocks)


def _find_block(layer: int, path: str, stack: Stack) -> Block:
    call = stack.calls[layer]
    place: dict[str, Any] = {
        "layer": layer,
        "path": path,
        "module": call.module,
        "call": stack.numbers[layer],
        "output": call.output,
        "calls": stack.totals[layer],
        "positions_first": stack.positions_first,
    }
    try:
        search = BlockSearch(call, stack)
        writers = search.writers()
        reach = {w: search.reach(w, writers) for w in writers}
        past, opaque = search.past(writers), search.opaque(writers)
    except Exception as error:  # noqa: BLE001 - whatever an unknown block raises, its other sites remain
        reason = f"the block cannot be run by itself ({type(error).__name__}: {' '.join(str(error).split())})"
        return Block(**place, ffn=None, attention=None, attention_module=None, ups=(), reason=reason)
    experts = search.experts([*past, *(f"{search.names[w]}.weight" for w in writers if not is_coded(w))])
    own = [w for w in writers if reach[w] == "own"]
    ffn, mixture = None, None
    if opaque:
        reason = f"{opaque[0]} has quantised weights that may write to the residual stream past every projection found"
    elif experts:
        mixture, reason = _mixture(search, writers, own, experts)
    else:
        ffn, reason = _feed_forward(search, own, past)
    mixers = [w for w in writers if reach[w] == "others"]
    attention = search.projection(mixers[0]) if len(mixers) == 1 else None
    readers = [w for w in writers if reach[w] == "encoder"]
    crossing = search.projection(readers[0]) if len(readers) == 1 else None
    feeding = mixture.modules if mixture else [ffn.module] if ffn else []
    child = search.child_without(attention, feeding) if attention and feeding else None
    inside = set(child.modules()) if child is not None else set()
    ups = search.ups(ffn, [m for m in search.outputs if m not in inside and m not in writers]) if ffn else ()
    unaccounted = bool(experts or past or opaque) and mixture is None
    return Block(
        **place,
        ffn=ffn,
        attention=attention,
        attention_module=child,
        ups=ups,
        reason=reason,
        unaccounted=unaccounted,
        experts=mixture,
        cross_attention=crossing,
        own=len(own),
    )


def _feed_forward(
    search: BlockSearch, candidates: Sequence[nn.Module], past: Sequence[str]
) -> tuple[Projection | None, str]:
    """The down-projection among the position-wise writers, or why there is none."""
    if past:
        return None, search.why_past(past)
    found = [search.projection(writer) for writer in candidates]
    # Narrower ones beside it are bottlenecks: adapters, gates of inputs that a layer has for itself.
    wide = [p for p in found if p.width >= search.model_width] if len(found) > 1 else found
    if len(wide) == 1:
        return wide[0], ""
    return None, f"{len(wide)} position-wise projections write to the residual stream, 1 expected"


def _mixture(
    search: BlockSearch, writers: Sequence[nn.Module], own: Sequence[nn.Module], weights: Sequence[str]
) -> tuple[Experts | None, str]:
    """The experts of a block and the one that they share, or why their neurons cannot be told."""
    said = f"its feed-forward neurons are those of a mixture of experts ({weights[0]})"
    paths = sorted({name.rpartition(".")[0] for name in weights})
    if len(paths) > 1:
        return None, f"{said}, and of another ({paths[1]})"
    module: Any = search.call.module.get_submodule(paths[0])
    reason = interface_reason(module)
    if reason:
        return None, f"{said}: {reason}"
    left = search.past(writers, frozen=[module])
    if left:
        return None, f"{said}, and {left[0]} writes to the residual stream past them"
    beside = [search.projection(writer) for writer in own]
    if len(beside) > 1:
        # A shared expert may be narrow, but lies beside the others; narrow ones elsewhere are bottlenecks, as of norms.
        near = f"{paths[0].rpartition('.')[0]}."
        beside = [p for p in beside if p.width >= search.model_width or p.path.startswith(near)]
    if len(beside) > 1:
        return None, f"{said}, beside {len(beside)} position-wise projections: 1 is supported, of a shared expert"
    shared = beside[0] if beside else None
    return Experts(paths[0], module, len(module.down_proj), expert_width(module), shared), ""
