"""What a model's weights are where they are no plain matrices on one device: offloaded ones, and quantised ones.

Offloaded weights lie in memory or on a disk and are brought to a device for the time of a call, by the hooks that
accelerate puts on modules; between calls their place is held by tensors without contents. Quantised weights are codes:
integers, packed bytes, or a tensor class of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "coded_modules",
    "execution_device",
    "is_coded",
    "is_offloaded",
    "is_plain",
    "is_projection",
    "letting_go",
    "resident",
    "stored_tensors",
    "wanting_gradients",
]

_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CODES = (torch.uint8, torch.int8, torch.int32)
"""What quantised weights are packed into; positions and other indices are int64, masks are bool."""


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but floating-point numbers that torch computes with and differentiates."""
    return type(tensor) in (Tensor, nn.Parameter, nn.Buffer) and tensor.dtype in _PLAIN


def is_coded(module: nn.Module) -> bool:
    """Whether a module itself, not those inside it, has quantised weights."""
    parameters = [p for p in module.parameters(recurse=False) if p.ndim >= 2]
    buffers = [b for b in module.buffers(recurse=False) if b.ndim >= 2]
    return any(not is_plain(p) for p in parameters) or any(b.dtype in _CODES or _is_float8(b) for b in buffers)


def _is_float8(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.element_size() == 1


def coded_modules(root: nn.Module) -> dict[str, nn.Module]:
    """The modules with quantised weights, by their paths."""
    return {path: module for path, module in root.named_modules() if is_coded(module)}


def _offloading(module: nn.Module) -> list[Any]:
    """The hooks of accelerate that bring a module's own weights for each call."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", (hook,))  # several in a row, or one
    return [one for one in hooks if getattr(one, "offload", False) and getattr(one, "weights_map", None) is not None]


def is_offloaded(root: nn.Module) -> bool:
    """Whether any weights are kept elsewhere between calls."""
    return any(_offloading(module) for module in root.modules())


def execution_device(module: nn.Module) -> torch.device:
    """Where a module computes: where its weights are, or where they are brought to."""
    for hook in _offloading(module):
        if hook.execution_device is not None:
            return torch.device(hook.execution_device)
    return next(module.parameters()).device


@contextmanager
def resident(root: nn.Module) -> Iterator[None]:
    """Keep the offloaded weights of a module and of all inside it on their device, and let them go again on exit.

    Needed wherever weights themselves are looked at: their gradients, their product by hand. What stands in for them
    between calls is empty, and changed at each.
    """
    with ExitStack() as stack:
        for module in root.modules():
            for hook in _offloading(module):
                hook.pre_forward(module)
                hook.offload = False
                stack.callback(_let_go, module, hook)
        yield


def _let_go(module: nn.Module, hook: Any) -> None:
    hook.offload = True
    hook.post_forward(module, None)


def stored_tensors(root: nn.Module) -> dict[str, tuple[Mapping[str, Tensor], str]]:
    """Where each offloaded tensor is kept, by its name in the model: a mapping that loads it, and its key there."""
    found: dict[str, tuple[Mapping[str, Tensor], str]] = {}
    for path, module in root.named_modules(remove_duplicate=False):
        for hook in _offloading(module):
            deep = bool(hook.place_submodules)
            own = [*module.named_parameters(recurse=deep), *module.named_buffers(recurse=deep)]
            found |= {f"{path}.{name}".lstrip("."): (hook.weights_map, name) for name, t in own if t.is_meta}
    return found


@dataclass(frozen=True)
class _Stored:
    """An offloaded weight, or a view of it, that autograd wants again later."""

    kept: Mapping[str, Tensor]
    name: str
    like: Tensor
    place: tuple[tuple[int, ...], tuple[int, ...], int]

    def load(self) -> Tensor:
        return self.kept[self.name].to(self.like.device, self.like.dtype).as_strided(*self.place)


@contextmanager
def letting_go(root: nn.Module) -> Iterator[None]:
    """Inside, autograd keeps of offloaded weights only where they are stored, and loads them again for the way back.

    Otherwise a graph would hold on to the weights of all layers that it goes through.
    """
    held = [(module, hook) for module in root.modules() for hook in _offloading(module)]
    if not held:
        yield
        return

    def pack(tensor: Tensor) -> Tensor | _Stored:
        return _stored(tensor, held) or tensor

    def unpack(saved: Tensor | _Stored) -> Tensor:
        return saved.load() if isinstance(saved, _Stored) else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _stored(tensor: Tensor, held: Sequence[tuple[nn.Module, Any]]) -> _Stored | None:
    """Where a tensor is stored, when it is an offloaded weight that is on its device now, or a view of one."""
    if not is_plain(tensor):
        return None
    address = tensor.untyped_storage().data_ptr()
    for module, hook in held:
        for name, own in module.named_parameters(recurse=bool(hook.place_submodules)):
            if is_plain(own) and not own.is_meta and own.untyped_storage().data_ptr() == address:
                place = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset() - own.storage_offset())
                return _Stored(hook.weights_map, name, tensor.new_empty(0), place)
    return None


def is_projection(module: nn.Module) -> bool:
    """Whether a module may be a projection: it holds no other module, and a matrix or more, quantised or not."""
    weight = getattr(module, "weight", None)
    matrix = isinstance(weight, Tensor) and weight.ndim >= 2
    return not any(True for _ in module.children()) and (matrix or is_coded(module))


@contextmanager
def wanting_gradients(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let autograd follow the weights, and give every flag back on exit."""
    still = [weight for weight in weights if not weight.requires_grad]
    try:
        for weight in still:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in still:
            weight.requires_grad_(False)
