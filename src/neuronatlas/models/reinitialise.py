"""A model re-initialised for real: the same architecture and tokenizer with weights that have learned nothing."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from neuronatlas.models.loading import ModelError, load
from neuronatlas.models.model import Model
from neuronatlas.models.weights import is_offloaded

__all__ = ["reinitialised"]


def reinitialised(model: Model, seed: int) -> Model:
    """A new model of the same configuration whose weights its architecture draws anew; `model` stays as it is.

    The baseline for what a probe finds in weights that were trained: positions, word identities and the width of the
    layers are still there, what was learned is not. The module is built from the configuration alone, on the CPU and in
    float32, by its own `_init_weights`, then takes the dtypes and the device of the model; no trained tensor is copied,
    and the caller's random state is left alone. The same seed gives the same weights.

    Errors: ModelError when weights are offloaded, when the architecture cannot be built from its configuration, when
    what is built has other tensors than the model, or when a weight matrix (two or more dimensions) came out as it was.

    >>> from neuronatlas.specimen import specimen_folder
    >>> trained = load(specimen_folder())
    >>> fresh = reinitialised(trained, seed=0)
    >>> fresh.layout() == trained.layout(), fresh.layout().widths == trained.layout().widths
    (False, True)
    """
    if is_offloaded(model.module):
        raise ModelError(
            f"{model.name} cannot be re-initialised: some of its weights are offloaded; load it on one device"
        )
    module = _built(model, seed)
    given, drawn = _tensors(model.module), _tensors(module)
    _check_tensors(model, given, drawn)
    for name, tensor in drawn.items():
        # One by one, so that each has the dtype that loading gave it, and in place, so that what is tied stays tied.
        tensor.data = tensor.data.to(device=given[name].device, dtype=given[name].dtype)
    _check_changed(model, module, seed)
    fresh = load((module, model.tokenizer), site=model.default_site)
    fresh.name, fresh.revision = f"{model.name} (re-initialised, seed {seed})", None
    return fresh


def _built(model: Model, seed: int) -> PreTrainedModel:
    config = deepcopy(model.module.config)
    # `manual_seed` of torch itself would also seed every GPU, whose state is not forked here.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        try:
            module: PreTrainedModel = type(model.module)(config)
        except Exception as error:  # remote code may raise anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{model.name} cannot be built from its configuration: {reason}") from error
    return module.requires_grad_(False)


def _tensors(module: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones under each of their names, those that are not saved too."""
    found: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    return found | dict(module.named_buffers(remove_duplicate=False))


def _check_tensors(model: Model, given: dict[str, Tensor], drawn: dict[str, Tensor]) -> None:
    odd = sorted(given.keys() ^ drawn.keys())
    odd += [name for name in given if name in drawn and given[name].shape != drawn[name].shape]
    if odd:
        raise ModelError(
            f"{model.name} cannot be re-initialised: its configuration does not give the tensors it has, such as "
            f"{odd[0]}; a quantised or altered model has to be loaded plainly first"
        )


def _check_changed(model: Model, module: PreTrainedModel, seed: int) -> None:
    """Prove that no weight matrix is still the trained one: more than half of each one's entries must differ."""
    drawn = dict(module.named_parameters())
    kept = [
        name
        for name, old in model.module.named_parameters()
        if old.ndim > 1 and float((old == drawn[name]).double().mean()) > 0.5
    ]
    if kept:
        raise ModelError(
            f"{model.name}: {len(kept)} weight matrices, such as {kept[0]}, came out of re-initialising as they were; "
            f"if the model is itself one of random weights, take another seed than {seed}"
        )
