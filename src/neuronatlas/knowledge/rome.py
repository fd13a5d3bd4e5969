"""ROME, for comparison: a rank-one change of one down-projection at the subject's last token (Meng et al. 2022).

The down-projection W of a causal model's layer is taken for a linear memory of keys and values. The edit is the W'
closest to W on keys of ordinary text, |(W' - W) K|, for which W' k* = v*: the key k* is what the layer's neurons are at
the subject's last token, and v* what it would have to write there for the model to give the new answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.editing import about_fact, answer_queries, fact_with_answer
from neuronatlas.knowledge.edits import Edit, EditError, apply_edit
from neuronatlas.knowledge.facts import Fact, split_prompt
from neuronatlas.models.asking import step_logits
from neuronatlas.models.calls import first_tensor, with_first_tensor
from neuronatlas.models.hooks import capture
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, QueryError, Step, by_shape, place_tokens, query
from neuronatlas.models.reading import text_ids
from neuronatlas.models.slots import SITE, Slots, value_slots

__all__ = ["RomeSettings", "rank_one_change", "rome"]


@dataclass(frozen=True)
class RomeSettings:
    """Constants of ROME.

    `prefixes`: beginnings of texts put before the prompts, each of `prefix_tokens` tokens. `steps`, `rate`: Adam's, for
    v*. `decay`: weight of |v - v0|^2 / |v0|^2, `essence`: of the divergence that keeps "{subject} is a" as it is.
    `damping`: added to the diagonal of the keys' second moments, as a share of its mean.
    """

    prefixes: int = 10
    prefix_tokens: int = 5
    steps: int = 25
    rate: float = 0.5
    decay: float = 1e-3
    essence: float = 0.0625
    damping: float = 1e-4


def rome(
    model: Model,
    fact: Fact,
    new_answer: str,
    *,
    layer: int,
    texts: Sequence[str],
    settings: RomeSettings | None = None,
) -> Edit:
    """Change a fact by a rank-one edit of one layer's down-projection at the subject's last token.

    After Meng et al. (2022), "Locating and Editing Factual Associations in GPT", section 3.1: k* is the mean key over
    prompts behind random beginnings (equation 3), v* minimises the answer's negative log-likelihood and keeps what
    the subject is (equation 4), and W' = W + (v* - W k*) (C^-1 k*)' / ((C^-1 k*)' k*) with C the second moments of keys
    over `texts` (equation 2). Beginnings are cut from `texts` too.

    Errors: EditError for a masked model, a fact without a subject, a prompt that does not name it before the answer, a
    layer of experts, or too few texts; those of `update`, but that the answer may have several tokens.
    """
    chosen = settings or RomeSettings()
    _require(model, fact, layer, texts)
    [slots] = value_slots(model, model.layout(SITE).set(_all(model, layer)))
    wanted = fact_with_answer(fact, new_answer)
    answer_queries(model, wanted)
    prompts = _behind_beginnings(model, wanted, texts, chosen)
    keys, outputs = _keys(model, slots, [asked.first for asked in prompts])
    key, start = keys.mean(0), outputs.mean(0)
    value = _value(model, slots, prompts, _essence(model, fact), start, chosen)
    change = rank_one_change(_second_moments(model, slots, texts, layer), key, value - start, chosen.damping)
    told = {**about_fact(fact, new_answer), "layer": layer, "texts": len(texts), **asdict(chosen)}
    return apply_edit(model, "ROME", told, [slots], [slots.read().double() + change.to(slots.weight.device)])


def rank_one_change(
    moments: Float[Tensor, "unit unit"],
    key: Float[Tensor, " unit"],
    lacking: Float[Tensor, " width"],
    damping: float,
) -> Float[Tensor, "unit width"]:
    """The change D of value slots, least in tr(D' C D), that writes what is lacking for a key: key D = lacking.

    Meng et al. (2022), equation 2, the slots being the columns of W.

    >>> rank_one_change(torch.eye(2).double(), torch.tensor([2.0, 0.0]).double(), torch.tensor([1.0]).double(), 0.0)
    tensor([[0.5000],
            [0.0000]], dtype=torch.float64)
    """
    eye = torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    solved = torch.linalg.solve(moments + damping * moments.diagonal().mean() * eye, key)
    return torch.outer(solved / (solved @ key), lacking)


def _require(model: Model, fact: Fact, layer: int, texts: Sequence[str]) -> None:
    if model.kind != "causal":
        raise EditError(f"ROME is for causal models, {model.name} is a {model.kind} one: use exact_update")
    if fact.subject is None:
        raise EditError(f"ROME edits at the subject's last token, and fact {fact.label!r} names no subject")
    if not 0 <= layer < len(model.blocks):
        raise EditError(f"no layer {layer}: {model.name} has layers 0 to {len(model.blocks) - 1}")
    if model.blocks[layer].ffn is None:
        raise EditError(f"ROME edits one down-projection, and layer {layer} of {model.name} has experts")
    if not texts:
        raise EditError("ROME needs texts, for the second moments of keys and for beginnings: none were given")


def _all(model: Model, layer: int) -> list[Any]:
    layout = model.layout(SITE)
    return [layout.at(layer, place) for place in range(layout.widths[layer])]


def _behind_beginnings(model: Model, fact: Fact, texts: Sequence[str], settings: RomeSettings) -> list[Query]:
    """The prompts with the new answer, by themselves and behind beginnings of texts; positions are the subject's."""
    beginnings = [""]
    for text in texts[: settings.prefixes]:
        ids = model.tokenizer(text, add_special_tokens=False).input_ids[: settings.prefix_tokens]
        beginning = str(model.tokenizer.decode(ids)).strip()
        # One that names the subject would be taken for the place where it is edited.
        if beginning and str(fact.subject).lower() not in beginning.lower():
            beginnings.append(f"{beginning}. ")
    found = []
    for prompt in fact.prompts:
        left, right = split_prompt(prompt, place_tokens(model))
        for beginning in dict.fromkeys(beginnings):
            try:
                asked = query(model, beginning + left, right, fact.answer, position="subject", subject=fact.subject)
            except QueryError:
                continue
            found.append(asked)
    if not found:
        raise EditError(f"no prompt of fact {fact.label!r} names {fact.subject!r} before its answer, as ROME needs it")
    return found


def _essence(model: Model, fact: Fact) -> Step | None:
    """The prompt "{subject} is a", read at its end, with the subject's position."""
    try:
        return query(model, f"{fact.subject} is a ", "", "the", position="subject", subject=fact.subject).first
    except QueryError:
        return None


def _keys(model: Model, slots: Slots, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """The layer's neurons at the subject's last token in each step, and what the down-projection gives there."""
    layer = slots.neurons[0].layer
    keys = torch.zeros(len(steps), len(slots.neurons), dtype=torch.float64, device=model.device)
    outputs = torch.zeros(len(steps), slots.width, dtype=torch.float64, device=model.device)
    for batch in by_shape([step.shape for step in steps], 4096):
        chosen, seen = [steps[index] for index in batch], list[Tensor]()
        with torch.no_grad(), capture(model, SITE, [layer]) as neurons, _outputs_to(slots, seen.append):
            step_logits(model, chosen)
        rows, places = torch.arange(len(batch)), torch.tensor([step.position for step in chosen])
        keys[batch] = neurons[layer][rows, places].double().to(keys.device)
        outputs[batch] = seen[0].reshape(len(batch), -1, slots.width)[rows, places].double().to(outputs.device)
    return keys, outputs


@contextmanager
def _outputs_to(slots: Slots, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Show every output of the down-projection to `act`; what it gives back, if anything, takes the output's place."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        assert tensor is not None
        changed = act(tensor)
        return None if changed is None else with_first_tensor(output, changed)

    handle = slots.module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _value(
    model: Model, slots: Slots, prompts: Sequence[Query], essence: Step | None, start: Tensor, settings: RomeSettings
) -> Float[Tensor, " width"]:
    """v*: what the layer has to write at the subject's last token for the new answer (equation 4), found by Adam.

    Of an answer of several tokens each is asked for, given those before it: their log-likelihoods add up.
    """
    steps = [step for asked in prompts for step in asked.steps]
    before = None if essence is None else _written(model, slots, [essence], None).log_softmax(1).detach()
    value = start.clone().requires_grad_()
    adam = torch.optim.Adam([value], lr=settings.rate)
    for _ in range(settings.steps):
        adam.zero_grad()
        with torch.enable_grad():
            loss = settings.decay * (value - start).pow(2).sum() / start.pow(2).sum().clamp(min=1e-12)
            for batch in by_shape([step.shape for step in steps], 4096):
                chosen = [steps[index] for index in batch]
                logs = _written(model, slots, chosen, value).log_softmax(1)
                tokens = torch.tensor([step.answer_id for step in chosen], device=logs.device)
                loss = loss - logs.gather(1, tokens[:, None]).sum() / len(prompts)
            if essence is not None and before is not None:
                now = _written(model, slots, [essence], value).log_softmax(1)
                loss = loss + settings.essence * (now.exp() * (now - before)).sum()
            (value.grad,) = torch.autograd.grad(loss, [value])
        adam.step()
    return value.detach()


def _written(model: Model, slots: Slots, steps: Sequence[Step], value: Tensor | None) -> Float[Tensor, "row token"]:
    """Logits, with `value` in the place of what the layer writes at the subject's last token."""

    def act(out: Tensor) -> Tensor | None:
        if value is None:
            return None
        shaped = out.reshape(len(steps), -1, slots.width).clone()
        shaped[torch.arange(len(steps)), torch.tensor([step.position for step in steps])] = value.to(out)
        return shaped.reshape(out.shape)

    with _outputs_to(slots, act):
        return step_logits(model, steps).double().to(model.device)


def _second_moments(model: Model, slots: Slots, texts: Sequence[str], layer: int) -> Float[Tensor, "unit unit"]:
    """C: the mean outer product of the layer's neurons with themselves over all tokens of the texts."""
    size = len(slots.neurons)
    total, count = torch.zeros(size, size, dtype=torch.float64, device=model.device), 0
    for text in texts:
        ids = text_ids(model, [text])
        if not ids[0]:
            continue
        with torch.no_grad(), capture(model, SITE, [layer]) as seen:
            model.logits(torch.tensor(ids, device=model.device))
        keys = seen[layer][0].double().to(total.device)
        total, count = total + keys.T @ keys, count + len(keys)
    return total / max(1, count)
