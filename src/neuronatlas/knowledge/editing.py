"""Editing by the paper's rules: update a fact, or erase a relation, in value slots (Dai et al. 2022, section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.attribution import suiting_queries
from neuronatlas.knowledge.edits import Edit, EditError, apply_edit, require_known
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.locating import locate
from neuronatlas.models.model import Model
from neuronatlas.models.output_rows import output_rows
from neuronatlas.models.queries import Query, QueryError
from neuronatlas.models.slots import SITE, value_slots
from neuronatlas.neurons import Neuron, NeuronSet

__all__ = ["UPDATE_RULES", "answer_queries", "erase", "fact_with_answer", "shared_by_relation", "update"]

WEAKEN, PROMOTE = 1.0, 8.0
SHARED_AT_MOST = 0.1
MOST_FREQUENT = 20

Rule = Callable[[Float[Tensor, "slot width"], Tensor, Tensor, float, float], Float[Tensor, "slot width"]]


@dataclass(frozen=True)
class UpdateRule:
    """A way of moving value slots from one answer to another; `summary` is its formula."""

    name: str
    moved: Rule
    summary: str


def _normalised(slots: Tensor, old: Tensor, new: Tensor, weaken: float, promote: float) -> Tensor:
    lengths = slots.norm(dim=1, keepdim=True)
    found: Tensor = slots - weaken * lengths * (old / old.norm()) + promote * lengths * (new / new.norm())
    return found


def _printed(slots: Tensor, old: Tensor, new: Tensor, weaken: float, promote: float) -> Tensor:
    return slots - weaken * old + promote * new


UPDATE_RULES: dict[str, UpdateRule] = {
    rule.name: rule
    for rule in (
        UpdateRule(
            "normalised", _normalised, "v + |v| (promote e_new/|e_new| - weaken e_old/|e_old|), the official code"
        ),
        UpdateRule("printed", _printed, "v + promote e_new - weaken e_old, as Dai et al. print it"),
    )
}


def update(
    model: Model,
    fact: Fact,
    new_answer: str,
    *,
    neurons: NeuronSet | None = None,
    relation: Sequence[NeuronSet] = (),
    rule: str = "normalised",
    weaken: float = WEAKEN,
    promote: float = PROMOTE,
) -> Edit:
    """Change a fact's answer by moving the value slots of its neurons (Dai et al. 2022, section 5.1).

    `rule="normalised"` is what the official code does: v + |v| (promote * e_new / |e_new| - weaken * e_old / |e_old|);
    `"printed"` is the paper's v - weaken * e_old + promote * e_new. e is the answer's row of the output embedding, of
    the residual width (see `output_rows`). `neurons` are the fact's, by default those that `locate` finds; `relation`
    are those of the relation's other facts: neurons that more than 10 % of them have are left out. Nothing here makes
    sure that the answer becomes the new one: `exact_update` does, `judge_edits` measures it.

    Errors: EditError when the new answer is the old one, is several tokens, or no neuron is left; SlotError and
    OutputRowError where slots or rows cannot be proved; LayoutMismatchError for neurons of another model, or found
    before the model was changed by something else than edits.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> edit = na.update(model, fact, "Rome", neurons=model.layout().set(["L3.U10"]))
    >>> edit.diff()["neuron"].to_list()
    ['L3.U10']
    >>> edit.undo()
    """
    if rule not in UPDATE_RULES:
        raise EditError(f"no rule {rule!r} of updating: expected one of {', '.join(UPDATE_RULES)}")
    wanted = fact_with_answer(fact, new_answer)
    old, new = _token(model, fact), _token(model, wanted)
    if old == new:
        raise EditError(
            f"the new answer {new_answer!r} is the same token to this model as the old one, {fact.answer!r}"
        )
    others = [require_known(model, members) for members in relation]
    # Only neurons of this site have value slots, whichever site the model is looked at by default.
    chosen = locate(model, fact, site=SITE) if neurons is None else require_known(model, neurons)
    left_out = shared_by_relation(chosen, others)
    kept = NeuronSet.of(chosen.layout, (n for n in chosen if n not in left_out))
    if not len(kept):
        found = f"all {len(chosen)} of its neurons are shared by more than 10 % of its relation" if left_out else "none"
        raise EditError(
            f"no neurons to edit for fact {fact.label!r} ({found}): exact_update takes others by attribution"
        )
    e_old, e_new = output_rows(model, [old, new])
    slots = value_slots(model, kept)
    moved = [_moved(rule, group.read(), e_old, e_new, weaken, promote) for group in slots]
    settings = {
        **about_fact(fact, new_answer),
        "rule": rule,
        "weaken": weaken,
        "promote": promote,
        "tokens": model.tokenizer.convert_ids_to_tokens([old, new]),
        "left_out": [str(neuron) for neuron in sorted(left_out)],
    }
    return apply_edit(model, "update", settings, slots, moved)


def erase(model: Model, neurons: NeuronSet | Sequence[NeuronSet], *, count: int = MOST_FREQUENT) -> Edit:
    """Erase knowledge by setting value slots to 0 (Dai et al. 2022, section 5.2).

    Given one set, all of its slots; given the sets of a relation's facts, the slots of the `count` neurons that most of
    the facts have (ties by address), 20 in the paper.

    Errors: EditError when there is no neuron; those of `update` about neurons and slots.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> edit = na.erase(model, [model.layout().set(["L3.U10", "L3.U77"]), model.layout().set(["L3.U77"])], count=1)
    >>> [str(neuron) for neuron in edit.neurons]
    ['L3.U77']
    """
    settings: dict[str, Any]
    if isinstance(neurons, NeuronSet):
        chosen, settings = require_known(model, neurons), {"about": f"{len(neurons)} neurons"}
    else:
        if count < 1:
            raise EditError(f"count is {count}: 1 neuron or more expected")
        sets = [require_known(model, members) for members in neurons]
        ranked = frequent_neurons(sets)[:count]
        chosen = model.layout().set(neuron for neuron, _ in ranked)
        settings = {
            "about": f"the {len(ranked)} most frequent neurons of {len(sets)} facts",
            "facts": len(sets),
            "frequency": {str(neuron): times for neuron, times in ranked},
        }
    if not len(chosen):
        raise EditError("no neurons to erase: the facts have none")
    slots = value_slots(model, chosen)
    return apply_edit(model, "erase", settings, slots, [torch.zeros_like(group.read()) for group in slots])


def frequent_neurons(sets: Sequence[NeuronSet]) -> list[tuple[Neuron, int]]:
    """Neurons of facts with how many of the facts have each, the most frequent first, ties by address."""
    counts = Counter(neuron for members in sets for neuron in members)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def shared_by_relation(neurons: NeuronSet, relation: Sequence[NeuronSet]) -> set[Neuron]:
    """Those of the neurons that more than 10 % of the relation's other facts have too."""
    counts = Counter(neuron for other in relation for neuron in other)
    return {neuron for neuron in neurons if counts[neuron] > SHARED_AT_MOST * len(relation)}


def fact_with_answer(fact: Fact, answer: str) -> Fact:
    """The same fact with another answer; EditError when it is the one that the fact has."""
    if not answer.strip():
        raise EditError("the new answer is empty: a word expected")
    if answer.strip() == fact.answer:
        raise EditError(f"the new answer of fact {fact.label!r} is the old one: {fact.answer!r}")
    return Fact(fact.relation, fact.subject, answer.strip(), fact.prompts)


def about_fact(fact: Fact, new_answer: str) -> dict[str, Any]:
    """What an edit's record says of its fact."""
    about = f"{fact.relation} of {fact.label}: {fact.answer} -> {new_answer.strip()}"
    whole = {"relation": fact.relation, "subject": fact.subject, "answer": fact.answer, "prompts": list(fact.prompts)}
    return {"about": about, "fact": whole, "new_answer": new_answer.strip()}


def answer_queries(model: Model, fact: Fact) -> list[Query]:
    """The prompts of a fact that suit the model, encoded; QueryError with the first reason when none does."""
    found, skipped = suiting_queries(model, fact)
    if not found:
        reason = next(iter(skipped.values()), "")
        raise QueryError(f"no prompt of fact {fact.label!r} with answer {fact.answer!r} suits {model.name}: {reason}")
    return list(found.values())


def _token(model: Model, fact: Fact) -> int:
    """The answer's token, as the most of its prompts spell it."""
    rows = [asked.steps for asked in answer_queries(model, fact)]
    several = next((row for row in rows if len(row) > 1), None)
    if several is not None:
        raise EditError(
            f"answer {fact.answer!r} is {len(several)} tokens for this model, and an update moves slots towards one: "
            "exact_update takes answers of several tokens"
        )
    return Counter(row[0].answer_id for row in rows).most_common(1)[0][0]


def _moved(rule: str, slots: Tensor, old: Tensor, new: Tensor, weaken: float, promote: float) -> Tensor:
    """The rule, reckoned in the precision of the output rows or the slots, whichever is the finer."""
    wide = slots.to(old) if slots.dtype != old.dtype and slots.element_size() < old.element_size() else slots
    return UPDATE_RULES[rule].moved(wide, old.to(wide), new.to(wide), weaken, promote)
