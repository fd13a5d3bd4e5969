"""Replay for causal models whose changed position is the last: one position a row, against cached keys and values.

The rows of a prompt are packed as query positions of one sequence: each attends to the prompt's cached keys and to its
own key, so the cache is neither copied nor expanded, and every matrix product sees all rows at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from neuronatlas.models.calls import Call, stop_after
from neuronatlas.models.model import Model
from neuronatlas.models.precision import SAME_PASS
from neuronatlas.models.replay import PartReplay, Recorded, tensor_of
from neuronatlas.models.ways import Prompts, Values, WayError

__all__ = ["CachedReplay", "filled_cache", "steps_from_last"]


def steps_from_last(model: Model, prompts: Prompts) -> bool:
    """Whether only the last position of causal prompts changes, so that one step past a filled cache is enough."""
    last = prompts.ids.shape[1] - 1
    return model.kind == "causal" and last > 0 and not bool((prompts.positions != last).any())


def filled_cache(model: Model, ids: Int[Tensor, "prompt position"]) -> tuple[DynamicCache, Callable[[], Tensor]]:
    """A cache of all but the last token, and what runs the last token's step with it and gives logits."""
    module, ones, last = model.module, torch.ones_like(ids), model.blocks[-1]
    cache = DynamicCache(config=module.config)

    def run(ids: Tensor, mask: Tensor) -> Any:
        return module(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)

    with torch.no_grad():
        # The cache is full once the last block has returned; logits of the prompt's words are not needed.
        stop_after(last.module, lambda: run(ids[:, :-1], ones[:, :-1]), nth=last.call)
    return cache, lambda: run(ids[:, -1:], ones).logits[:, 0]


class _PrefixCache:
    """Stands in for a cache: gives the prompt's keys and values before the new ones, and stores nothing."""

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self.keys, self.values = keys, values

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys[layer_idx], key], dim=2), torch.cat([self.values[layer_idx], value], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(self.keys[layer_idx].shape[2])


class CachedReplay(PartReplay):
    """Replay of the last position only, for causal models."""

    name = "replay-cached"
    most_packed = 256

    def __init__(self, model: Model, prompts: Prompts) -> None:
        super().__init__(model, prompts)
        if not steps_from_last(model, prompts):
            raise WayError("the changed position is not the last one of a causal prompt")
        first, self.template_cache, prefix = self._step(prompts.ids[:1])
        self.calls, self.attended = first.blocks, [call.output for call in first.attention]
        every = first
        if len(prompts) > 1:
            every, _, prefix = self._step(prompts.ids)
        self.prefix_keys, self.prefix_values = prefix
        self.clean_logits = every.logits
        self.hidden = [tensor_of(call.hidden) for call in every.blocks]
        self.mixed = [tensor_of(call.output) for call in every.attention]
        self.neurons = every.neurons

    def _step(self, ids: Tensor) -> tuple[Recorded, DynamicCache, tuple[list[Tensor], list[Tensor]]]:
        """Fill a cache with all but the last token, then record the last token's step."""
        cache, last_step = filled_cache(self.model, ids)
        prefix = _kept(cache.layers, "keys"), _kept(cache.layers, "values")
        if len(cache.layers) != len(self.model.blocks):
            raise WayError(f"{len(cache.layers)} layers of keys and values for {len(self.model.blocks)} blocks")
        return self._record(last_step, torch.zeros_like(ids[:, 0]), self.attention), cache, prefix

    @property
    def tokens_per_row(self) -> int:
        """The last position only."""
        return 1

    def packs_faithfully(self) -> bool:
        """Whether as many rows as are ever packed into a prompt each give what a row alone gives.

        Models that reckon distances or masks themselves, by the row's place among the queries, fail here.
        """
        one = [self.neurons[0][:1, None] * 0.5]
        many = [one[0].expand(-1, self.most_packed, -1)]
        alone, packed = (self.readings([0], values, slice(0, 1)) for values in (one, many))
        tolerance = SAME_PASS.of(one[0].dtype)
        return bool(((packed - alone).abs() <= tolerance * alone.abs()).all())

    def _states(self, layers: Sequence[int], values: Values, chosen: slice) -> Float[Tensor, "row 1 width"]:
        nodes = values[0].shape[1]
        of = dict(zip(layers, values, strict=True))
        cache = _PrefixCache([k[chosen] for k in self.prefix_keys], [v[chosen] for v in self.prefix_values])
        state: Tensor | None = None
        for layer in range(min(layers), len(self.model.blocks)):
            parts = [] if state is None else [self._lift(layer, state, cache)]
            if layer in of:
                hidden = self.hidden[layer][chosen].expand(-1, nodes, -1)
                mixed = self.mixed[layer][chosen].expand(-1, nodes, -1)
                parts.append(self._rest(layer, hidden, mixed, of[layer]))
            state = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        assert state is not None
        return state.reshape(len(state), len(layers), nodes, -1).transpose(0, 1).flatten(0, 2)[:, None]

    def _lift(self, layer: int, state: Tensor, cache: _PrefixCache) -> Tensor:
        """Rows through a block: each sees the prompt's keys and its own."""
        call = self.calls[layer].given(state).swapped({id(self.template_cache): cache})
        rows, before = state.shape[1], cache.get_seq_length(layer)
        mask = state.new_zeros(rows, before + rows)
        mask[:, before:] = torch.finfo(state.dtype).min
        mask[:, before:].fill_diagonal_(0)
        return tensor_of(_with_mask(call, mask[None, None]).run())


def _kept(layers: Sequence[object], name: str) -> list[Tensor]:
    """Keys or values of every layer of a cache; other kinds of memory (state spaces) do not suit."""
    kept = [getattr(layer, name, None) for layer in layers]
    found = [tensor for tensor in kept if isinstance(tensor, Tensor) and tensor.ndim == 4]
    if len(found) != len(kept):
        raise WayError("the model does not keep keys and values in every layer")
    return found


def _with_mask(call: Call, mask: Tensor) -> Call:
    """The call with another attention mask, wherever its signature takes it."""
    names = list(inspect.signature(call.module.forward).parameters)
    args, kwargs = list(call.args), dict(call.kwargs)
    if "attention_mask" in names[: len(args)]:
        args[names.index("attention_mask")] = mask
    else:
        kwargs["attention_mask"] = mask
    return Call(call.module, tuple(args), kwargs, call.output)
