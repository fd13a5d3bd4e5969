"""What an edit did: every prompt before and after, and the measures of the field with their intervals.

Each case is judged by itself: the model is asked, edited, asked again, and given its old slots back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from neuronatlas.knowledge.asked_answers import NO_CHOICE, Said, ask_queries, encoded
from neuronatlas.knowledge.attribution import AttributionError, PromptWarning
from neuronatlas.knowledge.edit_cases import EditCase, other_facts
from neuronatlas.knowledge.edits import Edit, EditError
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.models.direct import DirectError
from neuronatlas.models.model import Model
from neuronatlas.models.output_rows import OutputRowError
from neuronatlas.models.quantised import GradientError
from neuronatlas.models.queries import QueryError
from neuronatlas.models.slots import SlotError

__all__ = ["Asked", "judge_edits", "judge_erasure", "judge_together"]

Editor = Callable[[Model, EditCase], Edit]
"""Makes the edit of a case and leaves it standing; EditError, or what `update` raises, where it cannot."""

OTHERS = 100
_OLD = ", old"
_NEW = ("edited", "paraphrase", "portability")


@dataclass(frozen=True)
class Asked:
    """One prompt that judges: its case, what it is for, and the answer that it is asked for.

    Groups: `edited` and `edited, old` (the fact's prompts, asked for the new and the old answer), `paraphrase` and
    `paraphrase, old`, `locality`, `portability`, and `same relation` and `other relations`, which are other facts.
    """

    case: int
    group: str
    prompt: str
    answer: str

    @property
    def is_old(self) -> bool:
        """Whether the answer is the one that was right before the edit."""
        return self.group not in _NEW

    @property
    def key(self) -> tuple[int, str, str]:
        """The same whether the new answer or the old one is asked for."""
        return self.case, self.group.removesuffix(_OLD), self.prompt


def judge_edits(
    model: Model,
    cases: Sequence[EditCase],
    edit: Editor,
    *,
    others: Sequence[Fact] = (),
    sample: int = OTHERS,
    seed: int = 0,
    progress: bool = False,
) -> pl.DataFrame:
    """Judge edits one by one: each is made, asked about and undone; a row a prompt, as it was before and after.

    `edit` makes the edit of a case: `lambda model, case: update(model, case.fact, case.new_answer)`. Of `others` (facts
    with prompts, such as the rest of the file) up to `sample` of the case's relation and as many of others are
    asked, a prompt each, drawn by the seed. An edit that is refused leaves everything as it was, which
    counts as what it did; `refused` has the reason. A case of which no prompt suits the model is left out, as is any
    other prompt that does not: a PromptWarning says how many.

    Columns: case, group (see `Asked`), prompt, answer, log_p_before, log_p_after, tokens, rank_before, rank_after,
    right_before, right_after (share of the answer's tokens that are the first choice, teacher-forced),
    generated_before, generated_after, knew (the model gave the prompt its old answer before), same_choice (the first
    choices are what they were), refused.

    Errors: EditError without cases, or when no prompt of any case suits the model.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> neurons = model.layout().set(["L3.U10"])
    >>> table = na.judge_edits(
    ...     model,
    ...     [na.EditCase(fact, "Rome")],
    ...     lambda model, case: na.update(model, case.fact, case.new_answer, neurons=neurons),
    ... )
    >>> table["group"].to_list()
    ['edited', 'edited, old']
    """
    rows, left, unsuited = list[dict[str, object]](), _LeftOut(), list[str]()
    with tqdm(cases, desc="edits", disable=not progress) as bar:
        for number, case in enumerate(bar):
            rng = np.random.default_rng([seed, number])
            asked = list(_prompts(number, case, other_facts(others, [case]), sample, rng))
            try:
                rows += _judged(model, asked, _maker(edit, case), left)
            except _UnsuitedError as error:
                unsuited.append(str(error))
    if unsuited and not rows:
        raise EditError(unsuited[0])
    if unsuited:
        text = f"{len(unsuited)} of {len(cases)} cases left out, of which nothing was judged: {unsuited[0]}"
        warnings.warn(text, PromptWarning, stacklevel=2)
    return _table(rows, left)


def judge_together(
    model: Model,
    cases: Sequence[EditCase],
    edit: Callable[[Model, Sequence[EditCase]], Edit],
    *,
    others: Sequence[Fact] = (),
    sample: int = OTHERS,
    seed: int = 0,
) -> pl.DataFrame:
    """Judge a batch of edits that stand at the same time: one edit of all cases, then every case's prompts.

    Arguments and columns as for `judge_edits`. Other facts are drawn once for each case, and never those of the batch.

    Errors: as `judge_edits`.
    """
    apart, left = other_facts(others, cases), _LeftOut()
    asked = [
        prompt
        for number, case in enumerate(cases)
        for prompt in _prompts(number, case, apart, sample, np.random.default_rng([seed, number]))
    ]
    return _table(_judged(model, asked, lambda given: edit(given, cases), left), left)


def judge_erasure(
    model: Model,
    relation: Sequence[Fact],
    others: Sequence[Fact],
    edit: Callable[[Model], Edit],
    *,
    sample: int = OTHERS,
    seed: int = 0,
) -> pl.DataFrame:
    """Judge the erasure of a relation: what becomes of its facts and of others, up to `sample` of each.

    Columns as for `judge_edits`, a case being a fact. Errors: EditError when no prompt suits the model.
    """
    rng = np.random.default_rng(seed)
    asked = list[Asked]()
    for group, facts in (("same relation", relation), ("other relations", others)):
        for index in sorted(rng.permutation(len(facts))[:sample].tolist()):
            fact = facts[index]
            prompt = fact.prompts[int(rng.integers(len(fact.prompts)))]
            asked.append(Asked(len(asked), group, prompt, fact.answer))
    left = _LeftOut()
    return _table(_judged(model, asked, edit, left, group="same relation"), left)


def _maker(edit: Editor, case: EditCase) -> Callable[[Model], Edit]:
    return lambda model: edit(model, case)


class _UnsuitedError(EditError):
    """A case of which no prompt suits the model."""


@dataclass
class _LeftOut:
    """How many prompts there were to judge by, and why some were left out: one warning for all of them."""

    asked: int = 0
    reasons: list[str] = field(default_factory=list)


_REFUSALS = (EditError, FactError, QueryError, SlotError, OutputRowError, AttributionError, GradientError, DirectError)
"""What an edit is refused with. Other errors are faults of what was called, not of a case."""


def _judged(
    model: Model, asked: Sequence[Asked], make: Callable[[Model], Edit], left: _LeftOut, group: str = "edited"
) -> list[dict[str, object]]:
    queries, skipped = encoded(model, [(one.prompt, one.answer) for one in asked])
    if not any(asked[index].group == group for index in queries):
        reason = next(iter(skipped.values()), "there are none")
        raise _UnsuitedError(f"no prompt to judge the edit by suits {model.name}: {reason}")
    left.asked += len(asked)
    left.reasons += skipped.values()
    before, refused = ask_queries(model, list(queries.values())), ""
    try:
        done = make(model)
    except _REFUSALS as error:
        after, refused = before, str(error)
    else:
        try:
            after = ask_queries(model, list(queries.values()))
        finally:
            done.undo()
    said = list(zip((asked[index] for index in queries), before, after, strict=True))
    knew = {one.key: was.generated for one, was, _ in said if one.is_old}
    return [_row(one, was, now) | {"knew": knew.get(one.key, False), "refused": refused} for one, was, now in said]


def _row(asked: Asked, was: Said, now: Said) -> dict[str, object]:
    found: dict[str, object] = {"case": asked.case, "group": asked.group, "prompt": asked.prompt}
    found |= {"answer": asked.answer, "tokens": was.tokens, "same_choice": _kept(was, now)}
    for when, said in (("before", was), ("after", now)):
        found |= {f"log_p_{when}": said.log_probability, f"rank_{when}": said.rank}
        found |= {f"right_{when}": said.right, f"generated_{when}": said.generated}
    return found


def _kept(was: Said, now: Said) -> bool:
    return was.choices == now.choices and NO_CHOICE not in now.choices


def _prompts(
    number: int, case: EditCase, others: Sequence[Fact], sample: int, rng: np.random.Generator
) -> Iterator[Asked]:
    for group, prompts in (("edited", case.fact.prompts), ("paraphrase", case.paraphrases)):
        for prompt in prompts:
            yield Asked(number, group, prompt, case.new_answer)
            yield Asked(number, group + _OLD, prompt, case.fact.answer)
    for prompt, answer in case.locality:
        yield Asked(number, "locality", prompt, answer)
    for prompt, answer in case.portability:
        yield Asked(number, "portability", prompt, answer)
    for group, same in (("same relation", True), ("other relations", False)):
        left = [fact for fact in others if (fact.relation == case.fact.relation) == same]
        for index in sorted(rng.permutation(len(left))[:sample].tolist()):
            fact = left[index]
            yield Asked(number, group, fact.prompts[int(rng.integers(len(fact.prompts)))], fact.answer)


def _table(rows: Sequence[dict[str, object]], left: _LeftOut) -> pl.DataFrame:
    if not rows:
        raise EditError("no edits to judge: one case or more expected")
    if left.reasons:
        text = f"{len(left.reasons)} of {left.asked} prompts to judge by left out: {left.reasons[0]}"
        warnings.warn(text, PromptWarning, stacklevel=3)
    return pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "case": pl.Int64,
    "group": pl.String,
    "prompt": pl.String,
    "answer": pl.String,
    "log_p_before": pl.Float64,
    "log_p_after": pl.Float64,
    "tokens": pl.Int64,
    "rank_before": pl.Int64,
    "rank_after": pl.Int64,
    "right_before": pl.Float64,
    "right_after": pl.Float64,
    "generated_before": pl.Boolean,
    "generated_after": pl.Boolean,
    "knew": pl.Boolean,
    "same_choice": pl.Boolean,
    "refused": pl.String,
}
