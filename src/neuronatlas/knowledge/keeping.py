"""What an edit is to leave alone: a sample of other prompts and texts, with the token that the model prefers there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neuronatlas.knowledge.edit_cases import EditCase, other_facts
from neuronatlas.knowledge.edit_files import EditError
from neuronatlas.knowledge.facts import Fact, FactError, split_prompt
from neuronatlas.models.asking import BUDGET, all_logits, lead_of, log_odds_of
from neuronatlas.models.model import Model
from neuronatlas.models.queries import QueryError, Step, place_tokens, query
from neuronatlas.models.reading import added_tokens, text_ids

__all__ = ["Kept", "Seen", "divided", "kept", "preferred_log_odds"]

WATCHED = 4
"""One item in so many is watched, not fitted."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Of each kept row: whether the model still prefers the same token, and that one's lead over the rivals."""

    same: Bool[Tensor, " row"]
    leads: Float[Tensor, " row"]


@dataclass(frozen=True, eq=False)
class Kept:
    """Rows that are to stay, each asking for the token that the model prefers, and the lead of that over rivals."""

    rows: tuple[Step, ...]
    rivals: tuple[int, ...]
    leads: Float[Tensor, " row"]

    def seen(self, model: Model, budget: int = BUDGET) -> Seen:
        """The rows in the model as it runs now."""
        found = Seen(torch.ones_like(self.leads, dtype=torch.bool), torch.zeros_like(self.leads))
        for batch, logits in all_logits(model, self.rows, budget):
            tokens = [self.rows[index].answer_id for index in batch]
            found.same[batch] = logits.argmax(1) == torch.tensor(tokens, device=logits.device)
            found.leads[batch] = lead_of(logits, tokens, self.rivals).double()
        return found

    def safe(self, seen: Seen, safe: float) -> Bool[Tensor, " row"]:
        """Rows where the same token is still the first choice and has half of the lead that it should keep.

        That is `safe`, or what it had where that is less; all of it where that is below 0.
        """
        return seen.same & (seen.leads >= torch.minimum(self.leads, self.leads.clamp(max=safe) / 2))


def divided(keep: Sequence[Fact | str], edited: Sequence[Fact], seed: int) -> tuple[list[Fact | str], list[Fact | str]]:
    """Divide what is to be kept, without the edited facts, into items that an edit is fitted to and unseen ones.

    Every fourth of the shuffled items is watched, among the edited facts' relations and among the others; fewer than
    four are all fitted.

    >>> fitted, watched = divided([f"text {number}" for number in range(9)], [], seed=0)
    >>> len(fitted), len(watched), sorted(fitted + watched)[0]
    (7, 2, 'text 0')
    """
    rng, facts = np.random.default_rng(seed), [item for item in keep if not isinstance(item, str)]
    texts = [item for item in keep if isinstance(item, str)]
    left: list[Fact | str] = [*other_facts(facts, [EditCase(fact, fact.answer) for fact in edited]), *texts]
    fitted, watched = list[Fact | str](), list[Fact | str]()
    near = {fact.relation for fact in edited}
    for wanted in (True, False):
        group = [item for item in left if (not isinstance(item, str) and item.relation in near) == wanted]
        for count, index in enumerate(rng.permutation(len(group))):
            (watched if count % WATCHED == WATCHED - 1 else fitted).append(group[int(index)])
    return fitted, watched


def kept(
    model: Model,
    keep: Sequence[Fact | str],
    *,
    sample: int,
    seed: int,
    edited: Sequence[Fact] = (),
    barred: Sequence[Step] = (),
    budget: int = BUDGET,
) -> Kept:
    """Draw a sample of facts' prompts and plain texts, and ask the model what it prefers there.

    Of a fact one prompt is drawn at a time; of a text one place, masked or (in a causal model) read up to there. Items
    are drawn in turn, shuffled by the seed, so that a sample larger than `keep` takes several prompts of an item. Four
    fifths of the sample are of the relations of the `edited` facts, which an edit moves first. What does not suit the
    model, and what asks the same as a row of `barred`, is passed over; the tokens that those rows ask for are the
    rivals.

    Errors: EditError for a sample of less than 1.
    """
    if sample < 1:
        raise EditError(f"a sample of {sample} prompts to keep: 1 or more expected")
    rng, found = np.random.default_rng(seed), dict[tuple[tuple[int, ...], int], Step]()
    taken = {(row.ids, row.answer_position) for row in barred}
    nearest = {fact.relation for fact in edited}
    near = [item for item in keep if not isinstance(item, str) and item.relation in nearest]
    for items, wanted in ((near, sample * 4 // 5), (keep, sample)):
        for _ in range(0, wanted, max(1, len(items))):
            for index in rng.permutation(len(items)):
                if len(found) >= wanted:
                    break
                row = _row(model, items[int(index)], rng)
                if row is not None and (row.ids, row.answer_position) not in taken:
                    found.setdefault((row.ids, row.answer_position), row)
    return _preferred(model, list(found.values()), sorted({row.answer_id for row in barred}), budget)


def _row(model: Model, item: Fact | str, rng: np.random.Generator) -> Step | None:
    if isinstance(item, str):
        return _text_row(model, item, rng)
    prompt = item.prompts[int(rng.integers(len(item.prompts)))]
    try:
        left, right = split_prompt(prompt, place_tokens(model))
        return query(model, left, right, item.answer).first
    except (QueryError, FactError):
        return None


def _text_row(model: Model, text: str, rng: np.random.Generator) -> Step | None:
    [ids], none = text_ids(model, [text]), {*added_tokens(model), model.tokenizer.mask_token_id}
    places = [place for place, token in enumerate(ids) if token not in none]
    if model.kind == "masked":
        mask = model.tokenizer.mask_token_id
        if not places or not isinstance(mask, int):
            return None
        place = places[int(rng.integers(len(places)))]
        return Step((*ids[:place], mask, *ids[place + 1 :]), ids[place], place, place)
    if len(places) < 2:
        return None
    place = places[int(rng.integers(1, len(places)))]
    return Step(tuple(ids[:place]), ids[place], place - 1, place - 1)


def _preferred(model: Model, rows: Sequence[Step], rivals: Sequence[int], budget: int) -> Kept:
    """The same rows, each asking for the token that the model prefers."""
    tokens = [row.answer_id for row in rows]
    leads = torch.zeros(len(rows), dtype=torch.float64, device=model.device)
    for batch, logits in all_logits(model, rows, budget):
        first = logits.argmax(1).tolist()
        leads[batch] = lead_of(logits, first, rivals).double()
        for index, token in zip(batch, first, strict=True):
            tokens[index] = int(token)
    asked = tuple(replace(row, answer_id=token) for row, token in zip(rows, tokens, strict=True))
    return Kept(asked, tuple(rivals), leads)


def preferred_log_odds(model: Model, rows: Sequence[Step], *, budget: int = BUDGET) -> Float[Tensor, " row"]:
    """Log-odds of what the model prefers at each row's place."""
    found = torch.zeros(len(rows), dtype=torch.float64, device=model.device)
    for batch, logits in all_logits(model, rows, budget):
        found[batch] = log_odds_of(logits, logits.argmax(1).tolist()).double()
    return found
