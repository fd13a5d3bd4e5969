"""Which ways of running the rows of an attribution are proved on a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neuronatlas.models.gradients import choose_way, gradients_refused
from neuronatlas.models.model import Model
from neuronatlas.models.queries import AHEAD
from neuronatlas.models.ways import Prompts

__all__ = ["ProvedWays", "prove_ways"]


@dataclass(frozen=True)
class ProvedWays:
    """The ways used for neurons at the answer's place and at other positions, and why faster ones were refused."""

    at_answer: str
    elsewhere: str
    refused: dict[str, str]


def prove_ways(model: Model) -> ProvedWays:
    """Find the fastest proved way for the default site, by comparing each with plain re-runs on two random prompts."""
    reason = gradients_refused(model)
    if reason:
        return ProvedWays("none", "none", {"gradients": reason})
    if model.sees_ahead:
        return ProvedWays("none", "none", {"causality": f"it is {AHEAD}"})
    if model.kind == "seq2seq":
        return ProvedWays("plain", "plain", {"replay": "prompts of an encoder and a decoder are run whole"})
    ids = model.probe_ids
    end = torch.full((len(ids),), ids.shape[1] - 1)
    start = torch.zeros_like(end)
    at_answer, elsewhere = (
        choose_way(model, Prompts(ids, positions, end, ids[:, 0]), model.default_site).name
        for positions in (end, start)
    )
    return ProvedWays(
        at_answer, elsewhere, {way: reason for way, reason in model.ways.items() if reason and way != "kinks"}
    )
