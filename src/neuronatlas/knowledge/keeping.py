"""What an edit is to leave alone: a sample of other prompts and texts, with the token that the model prefers there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.edit_files import EditError
from neuronatlas.knowledge.facts import Fact, FactError, split_prompt
from neuronatlas.models.asking import BUDGET, all_logits, log_odds_of
from neuronatlas.models.model import Model
from neuronatlas.models.queries import QueryError, Step, place_tokens, query

__all__ = ["kept_rows", "preferred_log_odds"]


def kept_rows(
    model: Model,
    keep: Sequence[Fact | str],
    *,
    sample: int,
    seed: int,
    barred: Iterable[Step] = (),
    nearest: Collection[str] = (),
    budget: int = BUDGET,
) -> list[Step]:
    """Rows of a sample of facts' prompts and plain texts, each asking for the token that the model prefers there now.

    Of a fact one prompt is drawn at a time; of a text one place, masked or (in a causal model) read up to there. Items
    are drawn in turn, shuffled by the seed, so that a sample larger than `keep` takes several prompts of an item. Four
    fifths of the sample are of the `nearest` relations, whose facts an edit moves first. What does not suit the model,
    and what asks the same as a row of `barred`, is passed over.

    Errors: EditError when nothing is left of what was given.
    """
    rng, found = np.random.default_rng(seed), dict[tuple[tuple[int, ...], int], Step]()
    taken = {(row.ids, row.answer_position) for row in barred}
    near = [item for item in keep if not isinstance(item, str) and item.relation in nearest]
    for items, wanted in ((near, sample * 4 // 5), (keep, sample)):
        for _ in range(0, wanted, max(1, len(items))):
            for index in rng.permutation(len(items)):
                if len(found) >= wanted:
                    break
                row = _row(model, items[int(index)], rng)
                if row is not None and (row.ids, row.answer_position) not in taken:
                    found.setdefault((row.ids, row.answer_position), row)
    if keep and not found:
        raise EditError(f"none of the {len(keep)} facts and texts to keep suits {model.name}")
    return _preferred(model, list(found.values()), budget)


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
    ids: list[int] = model.tokenizer(text, truncation=True, max_length=model.max_length).input_ids
    special = set(model.tokenizer.all_special_ids)
    places = [place for place, token in enumerate(ids) if token not in special]
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


def _preferred(model: Model, rows: Sequence[Step], budget: int) -> list[Step]:
    """The same rows, each asking for the token that the model prefers."""
    tokens = [row.answer_id for row in rows]
    for batch, logits in all_logits(model, rows, budget):
        for index, token in zip(batch, logits.argmax(1).tolist(), strict=True):
            tokens[index] = int(token)
    return [replace(row, answer_id=token) for row, token in zip(rows, tokens, strict=True)]


def preferred_log_odds(model: Model, rows: Sequence[Step], *, budget: int = BUDGET) -> Float[Tensor, " row"]:
    """Log-odds of what the model prefers at each row's place."""
    found = torch.zeros(len(rows), dtype=torch.float64, device=model.device)
    for batch, logits in all_logits(model, rows, budget):
        found[batch] = log_odds_of(logits, logits.argmax(1).tolist()).double()
    return found
