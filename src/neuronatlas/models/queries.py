"""Where a prompt asks for its answer: prompts as token ids, one step for each token of the answer.

In a masked model the answer's place becomes one mask token for each of its tokens, which are filled from left to right:
the step of a token has those before it in place and masks for itself and the rest. In a causal model the prompt ends at
the place and a token's step has those before it appended. A sequence-to-sequence model reads the prompt in its encoder
and is asked in its decoder (see `_decoder_steps`). The answer's tokens are those that the filled prompt has in
that place, so a leading space or a word's case counts as it does in real text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from neuronatlas.models.model import Model

__all__ = [
    "AHEAD",
    "Query",
    "QueryError",
    "Step",
    "Unit",
    "Wording",
    "by_length",
    "by_shape",
    "place_tokens",
    "query",
    "spread",
    "subject_places",
    "with_subject",
]

_CLOSING = " \t\n.,;:!?\"'»”’)]}。"
_SENTINEL, _NEXT_SENTINEL = "<extra_id_0>", "<extra_id_1>"


Unit = Literal["P", "log P"]
Item = TypeVar("Item")


AHEAD = (
    "listed as a causal model, but what follows a token moves its logits, so it cannot be asked for what comes next: "
    "load it as its configuration makes it causal (is_decoder=True where it has that)"
)


class QueryError(ValueError):
    """A prompt or an answer that does not suit the model."""


@dataclass(frozen=True)
class Step:
    """One token of an answer: the ids that ask for it, its own id, where it is read, and where neurons are looked at.

    A sequence-to-sequence model reads `ids` in its encoder and `decoder_ids` in its decoder, where `answer_position`
    counts; `position` counts in the stack that the neurons are of.
    """

    ids: tuple[int, ...]
    answer_id: int
    answer_position: int
    position: int
    decoder_ids: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Lengths of both sequences: steps of one shape can share a pass."""
        return len(self.ids), len(self.decoder_ids)


@dataclass(frozen=True)
class Wording:
    """What a query is made of; see `query`."""

    left: str
    right: str
    answer: str
    position: str | int
    subject: str | None
    stack: str


@dataclass(frozen=True)
class Query:
    """A prompt as the model gets it, with one step for each token of its answer.

    `unit` is what neurons are scored by: P(answer) as in the paper, or log P, which adds up over tokens.
    """

    text: str
    answer: str
    steps: tuple[Step, ...]
    unit: Unit = "P"
    wording: Wording | None = None

    @property
    def first(self) -> Step:
        """The step of the answer's first token, which is all of it where it has one."""
        return self.steps[0]


@dataclass(frozen=True)
class _Encoded:
    """A prompt as ids, the answer's ids, the index of its place, and the text that the prompt's ids are of."""

    ids: list[int]
    answer_ids: list[int]
    place: int
    text: str


def place_tokens(model: Model) -> tuple[str, ...]:
    """Spellings of the answer's place that this model accepts."""
    own = [model.tokenizer.mask_token, _SENTINEL if _sentinels(model) else None]
    return tuple(dict.fromkeys(["[MASK]", "{answer}", *(token for token in own if isinstance(token, str))]))


def query(
    model: Model,
    left: str,
    right: str,
    answer: str,
    *,
    position: str | int = "answer",
    subject: str | None = None,
    stack: str = "decoder",
) -> Query:
    """Encode a prompt that is split at its answer's place.

    `position` says where neurons are looked at: `"answer"` (each token's own place), `"subject"` (the last token of
    `subject`) or a token index of the prompt. In a sequence-to-sequence model `stack` says whose neurons those are: the
    answer's place is the mask or sentinel in its encoder, and the place where the token is read in its decoder.

    Errors: QueryError when the answer has a token that the model does not know, text follows the place in a causal
    prompt, the prompt is longer than the model takes, or the position does not exist.
    """
    text = f"{left}[…]{right}"
    if not answer.strip():
        raise QueryError(f'the answer to "{text}" is empty')
    wording = Wording(left, right, answer.strip(), position, subject, stack)
    steps = tuple(_STEPS[model.kind](model, wording))
    if not steps:
        raise QueryError(f"answer {answer!r} has no tokens for this model")
    if model.tokenizer.unk_token_id in [step.answer_id for step in steps]:
        raise QueryError(f"answer {answer!r} is not in this model's vocabulary")
    longest = max(max(step.shape) for step in steps)
    if longest > model.max_length:
        raise QueryError(f'the prompt "{text}" has {longest} tokens, this model takes {model.max_length}')
    return Query(text, answer, steps, "P" if len(steps) == 1 else "log P", wording)


def with_subject(model: Model, asked: Query, subject: str) -> Query:
    """The same prompt about another subject, asking for the same answer in as many steps.

    Errors: QueryError when the query does not hold its subject, or the new one does not suit (see `query`).
    """
    old = _about_subject(asked)
    own = _subject_pattern(old.subject)
    left, right = (own.sub(lambda match: _as_cased(subject, match[0]), text) for text in (old.left, old.right))
    if (left, right) == (old.left, old.right) and not own.search(left + right):
        raise QueryError(f'subject {old.subject!r} is not in the prompt "{asked.text}"')
    new = query(model, left, right, old.answer, position=old.position, subject=subject, stack=old.stack)
    if len(new.steps) != len(asked.steps):
        raise QueryError(f'answer {asked.answer!r} has another number of tokens in "{new.text}"')
    return new


def subject_places(model: Model, asked: Query) -> tuple[int, ...]:
    """Indices of the tokens of the query's subject, in each of its steps.

    Errors: QueryError when the query does not hold its subject, and for a sequence-to-sequence model.
    """
    wording = _about_subject(asked)
    if model.kind == "seq2seq":
        raise QueryError("the places of a subject are not looked for in a sequence-to-sequence model: take another way")
    found = _ENCODED[model.kind](model, wording)
    longer = len(asked.first.ids) - len(found.ids)
    places = _subject_tokens(model, found.text, wording.subject)
    return tuple(where + (longer if where > found.place else 0) for where in places)


def _about_subject(asked: Query) -> Wording:
    if asked.wording is None or not (asked.wording.subject or "").strip():
        raise QueryError(f'the subject of "{asked.text}" is not known: give it, or a fact that names it')
    return asked.wording


def _as_cased(subject: str, like: str) -> str:
    """A subject that begins a sentence begins as the one before it did."""
    return subject[:1].upper() + subject[1:] if like[:1].isupper() else subject


def _masked_steps(model: Model, prompt: Wording) -> Iterator[Step]:
    found = _masked(model, prompt)
    place, answer, behind = found.place, found.answer_ids, found.ids[found.place + 1 :]
    where = _position(model, found, len(found.ids) + len(answer) - 1, prompt)
    for done, token in enumerate(answer):
        masks = [found.ids[place]] * (len(answer) - done)
        ids = (*found.ids[:place], *answer[:done], *masks, *behind)
        at = place + done
        yield Step(ids, token, at, at if where is None else where)


def _causal_steps(model: Model, prompt: Wording) -> Iterator[Step]:
    found = _causal(model, prompt)
    where = _position(model, found, len(found.ids), prompt)
    for done, token in enumerate(found.answer_ids):
        at = found.place + done
        yield Step((*found.ids, *found.answer_ids[:done]), token, at, at if where is None else where)


def _decoder_steps(model: Model, prompt: Wording) -> Iterator[Step]:
    """Steps of a model that has an encoder and a decoder.

    What the decoder has before the answer depends on how such models fill a place. With sentinels (T5) it is the
    sentinel; with a mask token (BART) it is the text before the place, which the decoder writes again; with neither,
    the encoder reads the text up to the place and the decoder begins with the answer.
    """
    found, before = _asked_of_encoder(model, prompt)
    where = _position(model, found, len(found.ids), prompt)
    if prompt.stack == "decoder" and where is not None:
        raise QueryError(
            f"position {prompt.position!r} is one of the encoder's text: look at the neurons of an encoder site"
        )
    inside = found.place if where is None else where
    for done, token in enumerate(found.answer_ids):
        decoder = (*before, *found.answer_ids[:done])
        read = len(decoder) - 1
        yield Step(tuple(found.ids), token, read, read if prompt.stack == "decoder" else inside, decoder)


_STEPS: dict[str, Callable[[Model, Wording], Iterator[Step]]] = {
    "masked": _masked_steps,
    "causal": _causal_steps,
    "seq2seq": _decoder_steps,
}


def _masked(model: Model, prompt: Wording) -> _Encoded:
    tokenizer, left, right, answer = model.tokenizer, prompt.left, prompt.right, prompt.answer
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
    return _Encoded(ids, answer_ids, place, text)


def _causal(model: Model, prompt: Wording) -> _Encoded:
    if model.sees_ahead:
        raise QueryError(f"{model.name} is {AHEAD}")
    text = _up_to_the_place(prompt.left, prompt.right, "causal")
    ids, filled = _open_ended(model, text), _open_ended(model, prompt.left + prompt.answer)
    if filled[: len(ids)] != ids:
        raise QueryError(f'answer {prompt.answer!r} melts into the words before it in "{prompt.left}[…]"')
    return _Encoded(ids, filled[len(ids) :], len(ids) - 1, text)


_ENCODED: dict[str, Callable[[Model, Wording], _Encoded]] = {"masked": _masked, "causal": _causal}


def _up_to_the_place(left: str, right: str, kind: str) -> str:
    if right.strip(_CLOSING):
        raise QueryError(
            f'text follows the answer\'s place in "{left}[…]{right}": a {kind} model needs the place at the end'
        )
    prompt = left.rstrip()
    if not prompt:
        raise QueryError(f"nothing stands before the answer's place: a {kind} model needs a prompt")
    return prompt


def _open_ended(model: Model, text: str) -> list[int]:
    """Token ids without a closing special token, which a causal model would read as the end."""
    ids: list[int] = model.tokenizer(text).input_ids
    closing = {model.tokenizer.eos_token_id, model.tokenizer.sep_token_id} - {None}
    while len(ids) > 1 and ids[-1] in closing:
        ids.pop()
    return ids


def _sentinels(model: Model) -> list[int]:
    """Ids of the tokens that stand for a first and for a second gap in the text; empty where the model has none."""
    if model.kind != "seq2seq":
        return []
    ids = [model.tokenizer.convert_tokens_to_ids(token) for token in (_SENTINEL, _NEXT_SENTINEL)]
    found = [index for index in ids if isinstance(index, int) and index != model.tokenizer.unk_token_id]
    return found if len(found) == len(ids) else []


def _asked_of_encoder(model: Model, prompt: Wording) -> tuple[_Encoded, list[int]]:
    """The encoder's prompt with the answer's ids, and what the decoder has before the answer."""
    tokenizer, start = model.tokenizer, model.decoder_start
    if start is None:
        raise QueryError(f"{model.name} does not say with which token its decoder starts")
    if sentinels := _sentinels(model):
        text = f"{prompt.left}{_SENTINEL}{prompt.right}"
        ids = tokenizer(text).input_ids
        target = tokenizer(f"{_SENTINEL} {prompt.answer} {_NEXT_SENTINEL}", add_special_tokens=False).input_ids
        first, second = (target.index(sentinel) for sentinel in sentinels)
        return _Encoded(ids, target[first + 1 : second], ids.index(sentinels[0]), text), [start, sentinels[0]]
    if tokenizer.mask_token_id is not None:
        found = _masked(model, prompt)
        return found, [start, *found.ids[: found.place]]
    text = _up_to_the_place(prompt.left, prompt.right, "sequence-to-sequence")
    ids = tokenizer(text).input_ids
    target = tokenizer(text_target=prompt.answer, add_special_tokens=False).input_ids
    forced = getattr(model.module.generation_config, "forced_bos_token_id", None)
    last = len(_open_ended(model, text)) - 1
    return _Encoded(ids, target, last, text), [start, *([forced] if isinstance(forced, int) else [])]


def _position(model: Model, found: _Encoded, length: int, prompt: Wording) -> int | None:
    """Where neurons are looked at in a prompt of `length` tokens, its answer filled in; None for the answer's place."""
    position = prompt.position
    if position == "answer":
        return None
    if position == "subject":
        where = _subject_tokens(model, found.text, prompt.subject)[-1]
        return where + (length - len(found.ids) if where > found.place else 0)
    if not isinstance(position, int):
        raise QueryError(f"no position {position!r}: expected 'answer', 'subject' or a token index")
    where = position + length if position < 0 else position
    if not 0 <= where < length or (model.kind == "causal" and where > found.place):
        raise QueryError(f"position {position} is outside the prompt of {length} tokens")
    return where


def _subject_pattern(subject: str | None) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape((subject or '').strip())}(?!\w)", re.IGNORECASE)


def _subject_tokens(model: Model, text: str, subject: str | None) -> list[int]:
    """Indices of the subject's tokens, by the tokenizer's offsets."""
    if subject is None or not subject.strip():
        raise QueryError("position 'subject' needs a fact that names its subject")
    found = _subject_pattern(subject).search(text)
    if found is None:
        raise QueryError(f'subject {subject!r} is not in the prompt "{text}"')
    if not model.tokenizer.is_fast:
        raise QueryError("position 'subject' needs a fast tokenizer, which knows where each token stands")
    offsets = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    start, end = found.span()
    return [index for index, (first, last) in enumerate(offsets) if first < end and last > start and last > first]


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group items of equal length into batches of at most `budget` tokens (at least one item), in a fixed order.

    >>> by_length([3, 5, 3, 3], budget=6)
    [[0, 2], [3], [1]]
    """
    return by_shape([(length,) for length in lengths], budget)


def by_shape(shapes: Sequence[tuple[int, ...]], budget: int) -> list[list[int]]:
    """Group items of equal shape, whose sum is their tokens, as `by_length` does.

    >>> by_shape([(3, 1), (3, 2), (3, 1)], budget=8)
    [[0, 2], [1]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    batches = []
    for shape in sorted(groups):
        size = max(1, budget // sum(shape))
        batches += [groups[shape][start : start + size] for start in range(0, len(groups[shape]), size)]
    return batches


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of the items, evenly spread.

    >>> spread("abcdef", 3)
    ['a', 'c', 'e']
    """
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
