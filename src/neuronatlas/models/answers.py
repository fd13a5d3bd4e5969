"""Where a prompt asks for its answer and how likely the model finds it.

In a masked model the answer's place becomes the mask token; in a causal model the prompt ends there. The answer's
tokens are those that the filled prompt has in that place, so a leading space or a word's case counts as it does in real
text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.models.model import Model

__all__ = ["Answered", "Query", "QueryError", "by_length", "log_odds", "place_tokens", "query", "read_answers"]

_CLOSING = " \t\n.,;:!?\"'»”’)]}。"


class QueryError(ValueError):
    """A prompt or an answer that does not suit the model."""


@dataclass(frozen=True)
class Query:
    """A prompt as the model gets it: token ids, the answer's id, where it is read, and where neurons are attributed."""

    text: str
    answer: str
    ids: tuple[int, ...]
    answer_id: int
    answer_position: int
    position: int


@dataclass(frozen=True)
class Answered:
    """What a model makes of a query: P(answer), its log-odds log(P / (1 - P)), and the token it prefers."""

    probability: float
    log_odds: float
    top_token: str
    is_top: bool


def place_tokens(model: Model) -> tuple[str, ...]:
    """Spellings of the answer's place that this model accepts."""
    own = model.tokenizer.mask_token
    return tuple(dict.fromkeys(["[MASK]", "{answer}", *([own] if isinstance(own, str) else [])]))


def query(
    model: Model, left: str, right: str, answer: str, *, position: str | int = "answer", subject: str | None = None
) -> Query:
    """Encode a prompt that is split at its answer's place.

    `position` says where neurons are looked at: `"answer"`, `"subject"` (the last token of `subject`) or a token index.

    Errors: QueryError when the answer is not one token, text follows the place in a causal prompt, the prompt is longer
    than the model takes, or the position does not exist.
    """
    text = f"{left}[…]{right}"
    if not answer.strip():
        raise QueryError(f'the answer to "{text}" is empty')
    encode = _masked if model.kind == "masked" else _causal
    ids, answer_ids, place, encoded = encode(model, left, right, answer.strip())
    if len(answer_ids) != 1:
        tokens = model.tokenizer.convert_ids_to_tokens(answer_ids)
        raise QueryError(
            f"answer {answer!r} is {len(answer_ids)} tokens for this model ({' '.join(tokens)}), 1 expected"
        )
    unknown = model.tokenizer.unk_token_id
    if answer_ids[0] == unknown:
        raise QueryError(f"answer {answer!r} is not in this model's vocabulary")
    if len(ids) > model.max_length:
        raise QueryError(f'the prompt "{text}" has {len(ids)} tokens, this model takes {model.max_length}')
    where = _position(model, encoded, ids, place, position, subject)
    return Query(text, answer, tuple(ids), answer_ids[0], place, where)


Encoded = tuple[list[int], list[int], int, str]
"""Token ids, those of the answer, the index of its place, and the text that was encoded."""


def _masked(model: Model, left: str, right: str, answer: str) -> Encoded:
    tokenizer = model.tokenizer
    mask = tokenizer.mask_token_id
    if not isinstance(tokenizer.mask_token, str) or not isinstance(mask, int):
        raise QueryError(f"{model.name} is a masked model whose tokenizer has no mask token")
    text = f"{left}{tokenizer.mask_token}{right}"
    ids: list[int] = tokenizer(text).input_ids
    if ids.count(mask) != 1:
        raise QueryError(f'{ids.count(mask)} mask tokens in "{left}[…]{right}", 1 expected')
    place = ids.index(mask)
    filled: list[int] = tokenizer(f"{left}{answer}{right}").input_ids
    tail = len(ids) - place - 1
    if filled[:place] != ids[:place] and left != left.rstrip():
        # A mask that leaves the space before it alone, where the answer's token carries it.
        text = f"{left.rstrip()}{tokenizer.mask_token}{right}"
        ids = tokenizer(text).input_ids
        place = ids.index(mask)
    answer_ids = filled[place : len(filled) - tail]
    if filled[:place] != ids[:place] or filled[len(filled) - tail :] != ids[place + 1 :]:
        raise QueryError(f'answer {answer!r} melts into the words beside it in "{left}[…]{right}"')
    return ids, answer_ids, place, text


def _causal(model: Model, left: str, right: str, answer: str) -> Encoded:
    if right.strip(_CLOSING):
        raise QueryError(
            f'text follows the answer\'s place in "{left}[…]{right}": a causal model needs the place at the end'
        )
    prompt = left.rstrip()
    if not prompt:
        raise QueryError("nothing stands before the answer's place: a causal model needs a prompt")
    ids, filled = _open_ended(model, prompt), _open_ended(model, left + answer)
    if filled[: len(ids)] != ids:
        raise QueryError(f'answer {answer!r} melts into the words before it in "{left}[…]"')
    return ids, filled[len(ids) :], len(ids) - 1, prompt


def _open_ended(model: Model, text: str) -> list[int]:
    """Token ids without a closing special token, which a causal model would read as the end."""
    ids: list[int] = model.tokenizer(text).input_ids
    closing = {model.tokenizer.eos_token_id, model.tokenizer.sep_token_id} - {None}
    while len(ids) > 1 and ids[-1] in closing:
        ids.pop()
    return ids


def _position(model: Model, text: str, ids: Sequence[int], place: int, position: str | int, subject: str | None) -> int:
    if position == "answer":
        return place
    if position == "subject":
        return _subject_position(model, text, subject)
    if not isinstance(position, int):
        raise QueryError(f"no position {position!r}: expected 'answer', 'subject' or a token index")
    where = position + len(ids) if position < 0 else position
    if not 0 <= where < len(ids) or (model.kind == "causal" and where > place):
        raise QueryError(f"position {position} is outside the prompt of {len(ids)} tokens")
    return where


def _subject_position(model: Model, text: str, subject: str | None) -> int:
    """Index of the subject's last token, by the tokenizer's offsets."""
    if subject is None or not subject.strip():
        raise QueryError("position 'subject' needs a fact that names its subject")
    found = re.search(rf"(?<!\w){re.escape(subject.strip())}(?!\w)", text, re.IGNORECASE)
    if found is None:
        raise QueryError(f'subject {subject!r} is not in the prompt "{text}"')
    if not model.tokenizer.is_fast:
        raise QueryError("position 'subject' needs a fast tokenizer, which knows where each token stands")
    offsets = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    start, end = found.span()
    inside = [index for index, (first, last) in enumerate(offsets) if first < end and last > start and last > first]
    return inside[-1]


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group items of equal length into batches of at most `budget` tokens (at least one item), in a fixed order.

    >>> by_length([3, 5, 3, 3], budget=6)
    [[0, 2], [3], [1]]
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    batches = []
    for length in sorted(groups):
        size = max(1, budget // length)
        batches += [groups[length][start : start + size] for start in range(0, len(groups[length]), size)]
    return batches


def log_odds(
    logits: Float[Tensor, "row token"], answers: Sequence[int]
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """P(answer) and log(P / (1 - P)) of each row, in float64, without losing either end of the scale."""
    exact = logits.double()
    rows, columns = torch.arange(len(answers)), torch.as_tensor(answers)
    chosen = exact[rows, columns]
    others = exact.clone()
    others[rows, columns] = -torch.inf
    odds = chosen - torch.logsumexp(others, dim=1)
    return torch.sigmoid(odds), odds


def read_answers(model: Model, queries: Sequence[Query], logits: Float[Tensor, "row token"]) -> list[Answered]:
    """Turn the logits at the answers' places into what the model makes of each query."""
    probabilities, odds = log_odds(logits, [q.answer_id for q in queries])
    top = logits.argmax(dim=1).tolist()
    tokens = model.tokenizer.convert_ids_to_tokens(top)
    return [
        Answered(float(p), float(o), token, index == q.answer_id)
        for q, p, o, index, token in zip(queries, probabilities, odds, top, tokens, strict=True)
    ]
