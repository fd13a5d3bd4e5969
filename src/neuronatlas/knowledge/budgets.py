"""How many token positions are computed at once: found on the model at hand, so that a limit of memory is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from neuronatlas.knowledge.quadrature import QUADRATURES, rule_nodes, usual_steps
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.memory import LiveBytes, MemoryLimitError, as_bytes, free_bytes
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, Step
from neuronatlas.models.ways import Prompts, Routing

__all__ = ["DEFAULT_BUDGET", "Budget", "found_budget"]

DEFAULT_BUDGET = 2048

Budget = int | str
"""A number of token positions, "auto" for as many as fit into what is free, or a limit such as "8GB"."""

_MOST, _MOST_ON_GPU = DEFAULT_BUDGET, 65536
"""More is no faster."""
_SHARE_OF_FREE = 0.8
"""Kernels use memory for themselves, and allocators do not use all that they hold."""
_FIRST = 64


def found_budget(
    model: Model,
    queries: Sequence[Query],
    budget: Budget,
    *,
    rule: str,
    steps: int | None = None,
    site: str | None = None,
    routing: Routing = "free",
) -> int:
    """The number of token positions that a budget stands for: a power of two, found by trying the longest prompt.

    From 64 it is halved until the memory that a batch takes is within the limit, or doubled while twice of it is: a
    batch of twice the positions takes no more. A limit such as "8GB" is for everything on the model's device, its
    weights too; "auto" is 80 % of what is free beside them. A size that the device has no memory for is not taken.

    Errors: MemoryLimitError for a budget that cannot be read, or a limit that one prompt does not fit into.
    """
    if isinstance(budget, int):
        if budget < 1:
            raise MemoryLimitError(
                f"a budget of {budget} token positions: expected at least 1, auto, or 8GB and the like"
            )
        return budget
    limit = _room(model, budget)
    if not queries:
        return DEFAULT_BUDGET
    longest = max((step for asked in queries for step in asked.steps), key=lambda step: sum(step.shape))
    # Rules that integrate nothing take no more than a gradient.
    taken_as = rule if rule in QUADRATURES else "grad-x-activation"
    nodes, weights = rule_nodes(taken_as, usual_steps(taken_as, steps, kinks=has_kinks(model)))
    try:
        work = _Work(model, longest, nodes, weights, site or model.default_site, routing)
    except torch.OutOfMemoryError as error:
        raise _too_little(longest, math.inf, limit) from error
    size = _FIRST
    taken = work.memory(size)
    while taken > limit and size > 1:
        size //= 2
        taken = work.memory(size)
    if taken > limit:
        raise _too_little(longest, taken, limit)
    most = _MOST if model.device.type == "cpu" else _MOST_ON_GPU
    enough = work.positions * sum(len(asked.steps) for asked in queries)
    while 2 * taken <= limit and 2 * size <= most and size < enough:
        more = work.memory(2 * size)
        if more > limit:
            break
        size, taken = 2 * size, more
    return size


def _too_little(longest: Step, taken: float, limit: float) -> MemoryLimitError:
    takes = f"{taken / 1e6:,.1f} MB" if math.isfinite(taken) else "more memory than the device has"
    return MemoryLimitError(
        f"one prompt of {sum(longest.shape)} tokens takes {takes} beside the weights, "
        f"{max(limit, 0) / 1e6:,.1f} MB are left: raise the limit, or spread the model over more devices"
    )


class _Work:
    """The part of attribution that takes most: the deepest rows of a full batch of prompts."""

    def __init__(
        self, model: Model, step: Step, nodes: Sequence[float], weights: Sequence[float], site: str, routing: Routing
    ) -> None:
        self.model, self.step, self.nodes, self.weights = model, step, nodes, weights
        self.site: str = site
        self.routing: Routing = routing
        self._prove()

    def _prove(self) -> None:
        """Prove the ways that there are, which takes memory of its own but once."""
        model, nodes, weights, site, routing = self.model, self.nodes, self.weights, self.site, self.routing
        path_gradients(model, self._prompts(1), nodes, weights, site=site, budget=_FIRST, routing=routing, chunks=1)

    @property
    def positions(self) -> int:
        """All that one prompt could ask for."""
        return sum(self.step.shape) * len(self.nodes) * len(self.model.site(self.site).points)

    def _prompts(self, count: int) -> Prompts:
        return Prompts.of([self.step] * count, self.model.device)

    def memory(self, budget: int) -> float:
        """Most bytes alive at once, for a batch of as many prompts as the budget allows; inf where there are not."""
        count = max(1, budget // sum(self.step.shape))
        with LiveBytes() as live:
            try:
                path = path_gradients(
                    self.model,
                    self._prompts(count),
                    self.nodes,
                    self.weights,
                    site=self.site,
                    budget=budget,
                    routing=self.routing,
                    chunks=1,
                )
                path.scores()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                return math.inf
        return float(live.peak)


def _room(model: Model, budget: str) -> int:
    """Bytes that may be used beside the weights."""
    if budget == "auto":
        return int(_SHARE_OF_FREE * free_bytes(model.device))
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in model.module.parameters()
        if tensor.device == model.device
    }
    return as_bytes(budget) - sum(held.values())
