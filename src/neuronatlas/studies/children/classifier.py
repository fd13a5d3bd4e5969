"""The body of a language model with a linear classifier on top, and the batches that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from neuronatlas.models import Model
from neuronatlas.models.model import probe_ids
from neuronatlas.models.weights import is_offloaded, is_plain
from neuronatlas.studies.children.settings import ChildError
from neuronatlas.studies.children.task import Row

__all__ = ["Classifier", "batch_of", "classifier_of"]


class Classifier(nn.Module):
    """A language model whose body feeds a linear classifier.

    The classifier reads the body's last hidden states (after the last norm), the mean over an item's tokens; what the
    language model does with them to say words takes no part in the pass.
    """

    def __init__(self, module: PreTrainedModel, head: nn.Linear) -> None:
        super().__init__()
        self.module, self.head = module, head
        taken = inspect.signature(module.base_model.forward).parameters
        self._cache = {"use_cache": False} if "use_cache" in taken else {}

    def hidden(
        self, input_ids: Int[Tensor, "row position"], attention_mask: Int[Tensor, "row position"]
    ) -> Float[Tensor, "row position d_model"]:
        """Last hidden states of the body."""
        body = self.module.base_model(input_ids=input_ids, attention_mask=attention_mask, **self._cache)
        states: Tensor = body.last_hidden_state
        return states

    def forward(
        self,
        input_ids: Int[Tensor, "row position"],
        attention_mask: Int[Tensor, "row position"],
        places: Int[Tensor, " token"],
        item_of: Int[Tensor, " token"],
        labels: Int[Tensor, " item"],
    ) -> dict[str, Tensor]:
        """Mean cross entropy over the items, and their logits [item, class].

        `places` are flat indices of tokens in [row, position], `item_of` the item of each.
        """
        taken = self.hidden(input_ids, attention_mask).flatten(0, 1).index_select(0, places)
        sums = taken.new_zeros(len(labels), taken.shape[-1]).index_add(0, item_of, taken)
        counts = torch.bincount(item_of, minlength=len(labels)).unsqueeze(1)
        logits = self.head(sums / counts)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def batch_of(rows: Sequence[Row], fill: int) -> dict[str, Tensor]:
    """Pad sentences to the right with the token `fill` and number their items through."""
    width = max(len(row.ids) for row in rows)
    ids, mask = np.full((len(rows), width), fill), np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)], mask[index, : len(row.ids)] = row.ids, 1
    places = np.concatenate([row.positions + index * width for index, row in enumerate(rows)])
    counts = np.concatenate([row.counts for row in rows])
    given = {
        "input_ids": ids,
        "attention_mask": mask,
        "places": places,
        "item_of": np.repeat(np.arange(len(counts)), counts),
        "labels": np.concatenate([row.targets for row in rows]),
    }
    return {name: torch.from_numpy(values) for name, values in given.items()}


def classifier_of(base: Model, n_classes: int, seed: int) -> Classifier:
    """A copy of a model, in float32 and all of its body free to move, with a classifier of small random weights.

    Errors: ChildError for a model with two stacks of blocks, offloaded or quantised weights, or a body that gives no
    hidden state for each token.
    """
    if base.kind == "seq2seq":
        raise ChildError(f"{base.name} has an encoder and a decoder: a masked or a causal model expected")
    if is_offloaded(base.module) or not all(map(is_plain, base.module.parameters())):
        raise ChildError(f"{base.name} is offloaded or quantised, its weights cannot be trained: load it plainly")
    module = deepcopy(base.module).float()
    if module.base_model is module:
        raise ChildError(f"{base.name}: {type(module).__name__} does not tell its body from its head")
    module.requires_grad_(False)
    module.base_model.requires_grad_(True)
    # Not initialised by itself, which would draw from the process' own random state.
    head: nn.Linear = torch.nn.utils.skip_init(nn.Linear, _width(base, module), n_classes, device=base.device)
    with torch.no_grad():
        drawn = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed)) * _SPREAD
        head.weight.copy_(drawn)
        head.bias.zero_()
    return Classifier(module, head)


_SPREAD = 0.02
"""Standard deviation of the classifier's first weights, that of BERT's own."""


def _width(base: Model, module: PreTrainedModel) -> int:
    ids = probe_ids(module, base.tokenizer)
    with torch.no_grad():
        found = module.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))
    states = getattr(found, "last_hidden_state", None)
    if not isinstance(states, Tensor) or states.shape[:2] != ids.shape or states.ndim != 3:
        raise ChildError(f"{base.name}: its body gives no hidden state for each token: no classifier can read it")
    return states.shape[2]
