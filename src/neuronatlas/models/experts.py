"""Mixtures of experts: their neurons, reached by an experts implementation of our own in transformers' interface.

transformers keeps the experts of a layer as stacks of matrices in one module, whose forward it looks up by name. The
implementation here computes one expert after the other and lets edits see and change what goes into the
down-projections: [position, neuron], the experts side by side, 0 for every expert that a position is not sent to. It is
chosen when a model is loaded and proved equal to the implementation that the model had (see `choose`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from neuronatlas.models.calls import Call, first_tensor, record_calls
from neuronatlas.models.parts import Experts
from neuronatlas.models.precision import SAME_PRODUCT

__all__ = [
    "ExpertsError",
    "Route",
    "choose",
    "edited",
    "expert_output",
    "expert_width",
    "interface_reason",
    "route_of",
    "routed_as",
    "routed_output",
]

IMPLEMENTATION = "neuronatlas"
_MARKS = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed")

RoutedEdit = Callable[[Float[Tensor, "position neuron"]], Float[Tensor, "position neuron"] | None]

Route = tuple[Int[Tensor, "position choice"], Float[Tensor, "position choice"]]
"""The experts that each position is sent to, and the weights of what they write."""

_edits: WeakKeyDictionary[nn.Module, list[RoutedEdit]] = WeakKeyDictionary()
_routes: WeakKeyDictionary[nn.Module, Route] = WeakKeyDictionary()


class ExpertsError(ValueError):
    """Experts whose neurons cannot be reached, with the reason."""


def interface_reason(module: nn.Module) -> str:
    """Why a module's experts cannot be reached through transformers' interface; nothing when they can."""
    if not all(hasattr(module, mark) for mark in _MARKS):
        return f"{type(module).__name__} does not compute its experts through transformers' interface"
    down = getattr(module, "down_proj", None)
    if not isinstance(down, nn.Parameter) or down.ndim != 3 or not down.is_floating_point():
        return f"{type(module).__name__} has no stack of down-projections"
    return ""


def expert_width(module: Any) -> int:
    """Number of neurons of each expert."""
    return int(module.down_proj.shape[1 if module.is_transposed else 2])


@contextmanager
def edited(module: nn.Module, edit: RoutedEdit) -> Iterator[None]:
    """Let an edit see the experts' neurons on every pass inside, and change them; nested, the outer acts first."""
    edits = _edits.setdefault(module, [])
    edits.append(edit)
    try:
        yield
    finally:
        edits.remove(edit)


@contextmanager
def routed_as(routes: Mapping[nn.Module, Route]) -> Iterator[None]:
    """Send positions to the given experts with the given weights inside, whatever the model's routers say."""
    before = {module: _routes[module] for module in routes if module in _routes}
    _routes.update(routes)
    try:
        yield
    finally:
        for module in routes:
            del _routes[module]
        _routes.update(before)


def route_of(call: Call) -> Route:
    """Where a recorded call of experts sent the positions."""
    return _arguments(call)[1:]


def experts_forward(
    self: Any,
    hidden_states: Float[Tensor, "position width"],
    top_k_index: Int[Tensor, "position choice"],
    top_k_weights: Float[Tensor, "position choice"],
) -> Float[Tensor, "position width"]:
    """What transformers calls in place of the experts' own forward.

    A choice that is no expert's index adds nothing.
    """
    top_k_index, top_k_weights = _routes.get(self, (top_k_index, top_k_weights))
    sent = [(top_k_index == expert).nonzero(as_tuple=True) for expert in range(len(self.down_proj))]
    neurons = {e: _neurons(self, e, hidden_states[where[0]]) for e, where in enumerate(sent) if len(where[0])}
    for edit in list(_edits.get(self, ())):
        together = _side_by_side(neurons, sent, hidden_states, expert_width(self))
        changed = edit(together.flatten(1))
        if changed is not None:
            changed = changed.reshape(together.shape)
            neurons = {e: changed[sent[e][0], e] for e in neurons}
    dtype = torch.result_type(hidden_states, top_k_weights)
    # A place for each choice, then their sum: an addition into one place would depend on the order of the experts.
    out = torch.zeros(*top_k_index.shape, hidden_states.shape[-1], dtype=dtype, device=hidden_states.device)
    for expert, values in neurons.items():
        where = sent[expert]
        out = out.index_put(where, (_down(self, expert, values) * top_k_weights[where][:, None]).to(dtype))
    return out.sum(1).to(hidden_states.dtype)


def _side_by_side(
    neurons: dict[int, Tensor], sent: Sequence[tuple[Tensor, ...]], like: Tensor, width: int
) -> Float[Tensor, "position expert unit"]:
    together = like.new_zeros(len(like), len(sent), width)
    for expert, values in neurons.items():
        places = sent[expert][0]
        together = together.index_put((places, torch.full_like(places, expert)), values.to(together.dtype))
    return together


def _linear(module: Any, name: str, expert: int, values: Tensor) -> Tensor:
    weight = getattr(module, name)[expert]
    bias = getattr(module, f"{name}_bias")[expert] if module.has_bias else None
    return functional.linear(values, weight.T if module.is_transposed else weight, bias)


def _neurons(module: Any, expert: int, hidden: Tensor) -> Tensor:
    if module.has_gate:
        gated: Tensor = module._apply_gate(_linear(module, "gate_up_proj", expert, hidden))
        return gated
    active: Tensor = module.act_fn(_linear(module, "up_proj", expert, hidden))
    return active


def _down(module: Any, expert: int, values: Tensor) -> Tensor:
    written = _linear(module, "down_proj", expert, values)
    return module.post_expert_norm(written) if module.has_post_expert_norm else written


def expert_output(
    module: nn.Module, expert: int, neurons: Float[Tensor, "*position unit"]
) -> Float[Tensor, "*position width"]:
    """What one expert writes when its neurons are these, before the router's weight."""
    return _down(module, expert, neurons)


def routed_output(call: Call, neurons: Float[Tensor, "position neuron"]) -> Float[Tensor, "position width"]:
    """What the experts of a recorded call write when their neurons are these, reckoned expert by expert by hand."""
    module: Any = call.module
    hidden, index, weights = _arguments(call)
    width, total = expert_width(module), torch.zeros_like(hidden)
    for expert in range(len(module.down_proj)):
        share = (weights * (index == expert)).sum(-1, keepdim=True)
        part = neurons[:, expert * width : (expert + 1) * width]
        total = total + (_down(module, expert, part) * share).to(total.dtype)
    return total


def _arguments(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    given = [*call.args, *call.kwargs.values()]
    if len(given) != 3 or not all(isinstance(value, Tensor) for value in given) or given[0].ndim != 2:
        raise ExpertsError(f"{type(call.module).__name__} is not called with hidden states, choices and weights alone")
    return given[0], given[1], given[2]


def choose(root: PreTrainedModel, experts: Sequence[Experts], run: Callable[[], Tensor]) -> None:
    """Make the model use the implementation here, proved on what the experts are given in a pass of the model.

    Each experts module must give what it gave before to within 1e-4 of the largest (of half precision: 3e-2), and so
    must the model. The choice stays with the model, as one of an attention implementation does; it is undone when the
    proof fails.

    Errors: ExpertsError with the reason.
    """
    modules = [part.module for part in experts]
    before = root.get_experts_implementation()
    calls: list[Call] = []
    with torch.no_grad(), record_calls(modules, calls):
        logits = run()
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts_forward)
    try:
        root.set_experts_implementation(IMPLEMENTATION)
        _prove(modules, calls, logits, run)
    except Exception as error:
        root.set_experts_implementation(before)
        if isinstance(error, ExpertsError):
            raise
        raise ExpertsError(f"experts cannot be run one by one ({type(error).__name__}: {error})") from error


def _prove(modules: Sequence[Any], calls: Sequence[Call], logits: Tensor, run: Callable[[], Tensor]) -> None:
    elsewhere = [m for m in modules if m.config._experts_implementation != IMPLEMENTATION]
    if elsewhere:
        raise ExpertsError(f"{type(elsewhere[0]).__name__} keeps the implementation that it has")
    if sorted(map(id, modules)) != sorted(id(call.module) for call in calls):
        raise ExpertsError("the experts of a layer do not run once in each pass")
    with torch.no_grad():
        for call in calls:
            _arguments(call)
            found, expected = first_tensor(call.run()), first_tensor(call.output)
            assert found is not None
            assert expected is not None
            _compare(found, expected, type(call.module).__name__)
        _compare(run(), logits, "the model")


def _compare(found: Tensor, expected: Tensor, name: str) -> None:
    apart = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if not apart <= SAME_PRODUCT.of(expected.dtype):
        raise ExpertsError(
            f"{name} gives something else when its experts are run one by one: {apart:.1e} of the largest"
        )
