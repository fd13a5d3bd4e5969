"""Which neurons an exact edit takes where a fact's own do not suffice: of those attribution puts first, the selective.

A neuron that fires for a whole relation moves all of its facts. So of the neurons that attribution ranks highest for
the fact those come first that fire strongly on its prompts and little on the prompts that are to stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.editing import answer_queries
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.asking import batched, step_logits
from neuronatlas.models.hooks import capture
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Step
from neuronatlas.models.slots import SITE
from neuronatlas.neurons import Neuron, NeuronScores, NeuronSet

__all__ = ["FIRST_GROWN", "candidates", "grown", "mean_squares"]

POOL = 256
"""Neurons of the highest attribution among which the selective are looked for."""
FIRST_GROWN, GROWTH = 32, 4
_BUDGET = 2048
_FLOOR = 0.1


def mean_squares(model: Model, rows: Sequence[Step]) -> list[Float[Tensor, " unit"]]:
    """Mean square of every feed-forward neuron's activation at the rows' positions, a tensor a layer."""
    layers = range(len(model.layout(SITE).widths))
    sums: list[Tensor] = []
    for batch in batched(model, rows, _BUDGET):
        chosen = [rows[index] for index in batch]
        places = torch.tensor([row.position for row in chosen])
        with torch.no_grad(), capture(model, SITE) as seen:
            step_logits(model, chosen)
        found = [seen[layer][torch.arange(len(chosen)), places].float().pow(2).sum(0) for layer in layers]
        sums = [old + new for old, new in zip(sums, found, strict=True)] if sums else found
    return [total / len(rows) for total in sums]


def candidates(model: Model, fact: Fact, rows: Sequence[Step], kept: Sequence[Float[Tensor, " unit"]]) -> list[Neuron]:
    """Neurons by which a fact's set may grow, the most selective first.

    They are those of the highest mean attribution of the old answer, in the order of their root mean square on the
    fact's `rows` over that on the prompts that are to stay (`kept`: mean squares), to which a tenth of its mean in the
    layer is added; without such prompts they stay in the order of attribution.
    """
    scores = NeuronScores.mean(list(attribute_queries(model, answer_queries(model, fact), site=SITE)))
    best = scores.top(POOL)
    if not kept:
        return list(best)
    layout = model.layout(SITE)
    ratios = [
        own.sqrt() / (others.sqrt() + _FLOOR * others.sqrt().mean()).clamp(min=1e-12)
        for own, others in zip(mean_squares(model, rows), kept, strict=True)
    ]
    flat = torch.cat([layer.cpu() for layer in ratios])
    return sorted(best, key=lambda neuron: -float(flat[layout.index(neuron)]))


def grown(members: NeuronSet, further: Sequence[Neuron], most: int) -> NeuronSet:
    """Four times as many neurons, 32 at least and `most` at most, the new ones being the first of `further`.

    >>> from neuronatlas.neurons import Layout
    >>> layout = Layout("ffn", (100,), "encoder", "digest")
    >>> len(grown(layout.set(["L0.U1"]), [Neuron(0, unit) for unit in range(50)], most=40))
    32
    """
    wanted = min(max(FIRST_GROWN, GROWTH * len(members)), most)
    found = dict.fromkeys(members)
    for neuron in further:
        if len(found) >= wanted:
            break
        found.setdefault(neuron)
    return NeuronSet.of(members.layout, found)
