"""`exact_update`: change answers by the smallest change of value slots that does, with as many neurons as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm.auto import tqdm

from neuronatlas.knowledge.candidates import candidates, grown, mean_squares
from neuronatlas.knowledge.editing import about_fact, answer_queries, fact_with_answer
from neuronatlas.knowledge.edits import Edit, EditError, apply_edit, require_known
from neuronatlas.knowledge.exact import ExactSettings, Solution, Task, margins, solve
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.keeping import divided, kept, preferred_log_odds
from neuronatlas.knowledge.locating import locate
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Step
from neuronatlas.models.slots import SITE, Slots, value_slots
from neuronatlas.neurons import Layout, Neuron, NeuronSet

__all__ = ["exact_update"]

MOST_NEURONS = 128
SAMPLE = 250
SLOPES = 2**31
"""Bytes that the slopes of all prompts may take: the sets of many facts that are edited at once grow no further."""


@dataclass(frozen=True, eq=False)
class _Attempt:
    """What came out with one set of neurons."""

    slots: tuple[Slots, ...]
    neurons: NeuronSet
    solution: Solution


def exact_update(
    model: Model,
    facts: Fact | Sequence[Fact],
    new_answers: str | Sequence[str],
    *,
    keep: Sequence[Fact | str],
    neurons: NeuronSet | Sequence[NeuronSet] | None = None,
    settings: ExactSettings | None = None,
    most_neurons: int = MOST_NEURONS,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: bool = False,
) -> Edit:
    """Change one fact's answer, or many facts' at once, by the smallest change of value slots that does it.

    Smallest in the least-squares sense: every prompt gives the new answer log-odds of `settings.margin` (no more than
    what the model prefers there has now), and on `sample` prompts of `keep`, facts and plain texts that are to stay as
    they are, the lead of what the model prefers over the new answers moves as little as it can, and falls below
    `settings.safe` least of all; four fifths of the sample are of the facts' relations. A quarter of `keep` is not
    fitted but watched. Only value slots of the facts' `neurons` change, by default those that `locate` finds. Where
    these do not suffice, because a prompt cannot be reached or less than `settings.kept_share` of the sample, or of
    what is watched, is safe, each fact's set grows by attribution (see `candidates`), up to `most_neurons` a fact; the
    set that comes out best then stands. Each token of an answer of several is asked for, given those before it. The
    edit's settings tell the sizes that were tried, and what was reached with each.

    Errors: EditError, the model untouched, when a prompt cannot be reached with `most_neurons`, or answers and facts
    do not go together; else as `update`.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> other = na.Fact("capital", "Japan", "Tokyo", ["The capital of Japan is [MASK]."])
    >>> edit = na.exact_update(model, fact, "Rome", keep=[other], neurons=model.layout().set(["L3.U10"]))
    >>> na.attribute(model, fact.prompts[0], "Rome", rule="activation").answered.is_top
    True
    """
    chosen = settings or ExactSettings()
    many = [facts] if isinstance(facts, Fact) else list(facts)
    answers = [new_answers] if isinstance(new_answers, str) else list(new_answers)
    if not many or len(many) != len(answers):
        raise EditError(f"{len(answers)} new answers for {len(many)} facts: one a fact expected, and a fact or more")
    if most_neurons < 1:
        raise EditError(f"{most_neurons} neurons a fact at most: 1 or more expected")
    rows = [_rows(model, fact, answer) for fact, answer in zip(many, answers, strict=True)]
    asked = [row for own in rows for row in own]
    task = _task(model, many, asked, keep, chosen, sample, seed)
    attempts = list[_Attempt]()
    with tqdm(desc="exact edit", unit=" sets", disable=not progress) as bar:
        for sets in _growing(task, many, rows, _sets(model, many, neurons), most_neurons):
            attempts.append(_attempt(task, sets))
            bar.update()
            if attempts[-1].solution.suffices(chosen):
                break
    best = max(attempts, key=lambda attempt: attempt.solution.order)
    if not best.solution.reached:
        lacking = float((task.aims - best.solution.log_odds).max())
        raise EditError(
            f"{len(best.neurons)} neurons do not suffice for {_about(many, answers)}: the log-odds of a prompt "
            f"stay {lacking:.2f} below what is asked for; allow more neurons, or a smaller margin"
        )
    return _applied(task, many, answers, best, attempts, seed)


def _task(
    model: Model,
    facts: Sequence[Fact],
    rows: Sequence[Step],
    keep: Sequence[Fact | str],
    settings: ExactSettings,
    sample: int,
    seed: int,
) -> Task:
    fitted, watched = (
        kept(model, items, sample=count, seed=seed, edited=facts, barred=rows, budget=settings.budget)
        for items, count in zip(divided(keep, facts, seed), (sample, max(1, sample * 2 // 5)), strict=True)
    )
    if keep and not fitted.rows:
        raise EditError(f"none of the {len(keep)} facts and texts to keep suits {model.name}, or all are edited")
    aims = margins(preferred_log_odds(model, rows, budget=settings.budget), settings)
    return Task(model, rows, aims, fitted, watched, settings)


def _applied(
    task: Task, facts: Sequence[Fact], answers: Sequence[str], best: _Attempt, attempts: Sequence[_Attempt], seed: int
) -> Edit:
    start, values = 0, []
    for group in best.slots:
        end = start + len(group.neurons)
        values.append(group.read().double() + best.solution.shift[start:end])
        start = end
    told = {
        "about": _about(facts, answers),
        "edits": [about_fact(fact, answer) for fact, answer in zip(facts, answers, strict=True)],
        **asdict(task.settings),
        "seed": seed,
        "prompts": len(task.rows),
        "kept_prompts": len(task.kept.rows),
        "watched_prompts": len(task.watched.rows),
        "neurons_at_first": len(attempts[0].neurons),
        "attempts": [_told(attempt) for attempt in attempts],
        "chosen": _told(best),
    }
    return apply_edit(task.model, "exact update", told, best.slots, values)


def _told(attempt: _Attempt) -> dict[str, Any]:
    found = attempt.solution
    return {
        "neurons": len(attempt.neurons),
        "reached": found.reached,
        "lowest_log_odds": float(found.log_odds.min()),
        "kept_same": found.kept_same,
        "kept_safe": found.safe,
        "watched_safe": found.watched_safe,
        "size": float(found.shift.norm()),
        "steps": found.steps,
        "binding": found.binding,
    }


def _about(facts: Sequence[Fact], answers: Sequence[str]) -> str:
    first = f"{facts[0].relation} of {facts[0].label}: {facts[0].answer} -> {answers[0].strip()}"
    return first if len(facts) == 1 else f"{first}, and {len(facts) - 1} more"


def _rows(model: Model, fact: Fact, answer: str) -> list[Step]:
    wanted = fact_with_answer(fact, answer)
    old = {asked.steps for asked in answer_queries(model, fact)}
    new = [asked.steps for asked in answer_queries(model, wanted)]
    if old == set(new):
        raise EditError(f"the new answer {answer!r} is the same to this model as the old one, {fact.answer!r}")
    return [row for rows in new for row in rows]


def _sets(model: Model, facts: Sequence[Fact], neurons: NeuronSet | Sequence[NeuronSet] | None) -> list[NeuronSet]:
    if neurons is None:
        return [NeuronSet(found.layout, found.members) for found in (locate(model, fact, site=SITE) for fact in facts)]
    given = [neurons] if isinstance(neurons, NeuronSet) else list(neurons)
    if len(given) != len(facts):
        raise EditError(f"{len(given)} sets of neurons for {len(facts)} facts: one a fact expected")
    return [require_known(model, members) for members in given]


def _growing(
    task: Task, facts: Sequence[Fact], rows: Sequence[Sequence[Step]], sets: list[NeuronSet], most: int
) -> Iterator[list[NeuronSet]]:
    """The facts' own neurons, then ever larger sets, each fact's growing by its candidates."""
    if all(len(members) for members in sets):
        yield sets
    elsewhere = mean_squares(task.model, task.kept.rows) if task.kept.rows else []
    further = [candidates(task.model, fact, own, elsewhere) for fact, own in zip(facts, rows, strict=True)]
    most = min(most, _room(task, sets[0].layout, further))
    while (larger := [grown(*one, most) for one in zip(sets, further, strict=True)]) != sets:
        sets = larger
        yield sets


def _room(task: Task, layout: Layout, further: Sequence[Sequence[Neuron]]) -> int:
    """For how many neurons a fact the slopes of all rows fit into `SLOPES` bytes."""
    width = value_slots(task.model, layout.set(further[0][:1]))[0].width
    return SLOPES // (4 * width * len(further) * (len(task.rows) + len(task.kept.rows)))


def _attempt(task: Task, sets: Sequence[NeuronSet]) -> _Attempt:
    whole = NeuronSet.of(sets[0].layout, (neuron for members in sets for neuron in members))
    slots = value_slots(task.model, whole)
    return _Attempt(slots, whole, solve(task, slots))
