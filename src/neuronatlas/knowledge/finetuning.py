"""Constrained fine-tuning, for comparison: value slots trained towards a new answer, none farther than a bound."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from neuronatlas.knowledge.editing import about_fact, answer_queries, fact_with_answer
from neuronatlas.knowledge.edits import Edit, EditError, apply_edit, require_known
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.asking import batched, log_odds_of, step_logits
from neuronatlas.models.model import Model
from neuronatlas.models.slot_gradients import slots_shifted
from neuronatlas.models.slots import SITE, value_slots
from neuronatlas.neurons import NeuronSet

__all__ = ["FineTuning", "fine_tune"]


@dataclass(frozen=True)
class FineTuning:
    """How far and how long: `bound` on each weight's change (the infinity norm), Adam's `rate` and `steps`.

    It stops early where every prompt's answer has the log-odds `margin`.
    """

    bound: float = 0.05
    rate: float = 5e-3
    steps: int = 50
    margin: float = 2.0
    budget: int = 8192


def fine_tune(
    model: Model,
    fact: Fact,
    new_answer: str,
    *,
    neurons: NeuronSet | None = None,
    layer: int | None = None,
    settings: FineTuning | None = None,
) -> Edit:
    """Change a fact's answer by training value slots on its prompts, each weight within a bound of what it was.

    After Zhu et al. (2020), "Modifying Memories in Transformer Models", with the infinity norm: projected Adam on the
    answer's negative log-likelihood. What is trained are the slots of `neurons`, or of all neurons of one
    `layer` (by default the last one).

    Errors: EditError for a layer that does not exist or has no neurons, no neurons, neurons and a layer at once, or
    when nothing moves; those of `update`.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> edit = na.fine_tune(model, fact, "Rome", layer=3, settings=na.FineTuning(steps=2))
    >>> abs(float((edit.changes[0].after - edit.changes[0].before).abs().max()) - 0.01) < 1e-3
    True
    """
    chosen = settings or FineTuning()
    slots = value_slots(model, _trained(model, neurons, layer))
    steps = [step for asked in answer_queries(model, fact_with_answer(fact, new_answer)) for step in asked.steps]
    count = sum(len(group.neurons) for group in slots)
    shift = torch.zeros(count, slots[0].width, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([shift], lr=chosen.rate)
    for _ in range(chosen.steps):
        gradient, lowest = torch.zeros_like(shift), torch.inf
        for batch in batched(model, steps, chosen.budget):
            given = [steps[index] for index in batch]
            with torch.enable_grad(), slots_shifted(slots, shift):
                odds = log_odds_of(step_logits(model, given), [step.answer_id for step in given])
                loss = -torch.nn.functional.logsigmoid(odds).sum() / len(steps)
            gradient += torch.autograd.grad(loss, [shift])[0]
            lowest = min(lowest, float(odds.detach().min()))
        if lowest >= chosen.margin:
            break
        shift.grad = gradient
        adam.step()
        with torch.no_grad():
            shift.clamp_(-chosen.bound, chosen.bound)
    told = {**about_fact(fact, new_answer), **asdict(chosen), "trained": count}
    parts = shift.detach().split([len(group.neurons) for group in slots])
    # Layers may lie on other devices than the one that the model is given its tokens on.
    values = [group.read().double() + part.to(group.weight.device) for group, part in zip(slots, parts, strict=True)]
    return apply_edit(model, "constrained fine-tuning", told, slots, values)


def _trained(model: Model, neurons: NeuronSet | None, layer: int | None) -> NeuronSet:
    """The neurons that were given, or all of a layer."""
    if neurons is not None and layer is not None:
        raise EditError(f"both neurons and layer {layer} were given: one of them expected")
    if neurons is not None:
        if not len(neurons):
            raise EditError("no neurons to train: one or more expected, or a layer")
        return require_known(model, neurons)
    layout = model.layout(SITE)
    where = layout.n_layers - 1 if layer is None else layer
    if not 0 <= where < layout.n_layers:
        raise EditError(f"no layer {where}: {model.name} has layers 0 to {layout.n_layers - 1}")
    if not layout.widths[where]:
        raise EditError(f"layer {where} of {model.name} has no feed-forward neurons: another layer expected")
    return layout.set(layout.at(where, place) for place in range(layout.widths[where]))
