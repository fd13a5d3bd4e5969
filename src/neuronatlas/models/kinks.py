"""Tells whether a model's neurons have kinks, which decides how finely a path through them must be sampled."""

from __future__ import annotations

import torch

from neuronatlas.models.hooks import capture
from neuronatlas.models.model import Model

__all__ = ["KINKED_SHARE", "has_kinks"]

KINKED_SHARE = 0.05
"""Smooth activations (GELU, SiLU) give an exact 0 next to never; ReLU and its kin to a good part of all neurons."""


def has_kinks(model: Model) -> bool:
    """Whether at least `KINKED_SHARE` of the feed-forward neurons are exactly 0 on fixed random tokens.

    So ReLU, its square and gates made of it count as kinked. A model without a site `ffn` counts as kinked too: more
    nodes than needed are no fault, too few are one.

    >>> from neuronatlas.models import load
    >>> from neuronatlas.specimen import specimen_folder
    >>> has_kinks(load(specimen_folder()))
    True
    """
    if "kinks" not in model.ways:
        model.ways["kinks"] = "yes" if "ffn" not in model.sites or _zeros(model) >= KINKED_SHARE else "no"
    return model.ways["kinks"] == "yes"


def _zeros(model: Model) -> float:
    with torch.no_grad(), model.proving(), capture(model, "ffn") as seen:
        model.logits(model.probe_ids, model.probe_decoder_ids)
    zeros = total = 0
    for layer, values in seen.items():
        for group in values.split(model.layout("ffn").experts_of(layer) or values.shape[-1], dim=-1):
            # All of an expert's neurons are 0 where the model does not send a position to it: that is no kink.
            sent = group[(group != 0).any(-1)]
            zeros += int((sent == 0).sum())
            total += sent.numel()
    return zeros / max(total, 1)
