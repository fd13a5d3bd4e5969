"""Implicit knowledge: whether a fact's neurons, found where it is asked for, move answers that only need the fact.

A prompt that needs a fact without stating it (two hops, yes or no, a comparison) is answered with the fact's neurons
scaled at the place of its answer, and with others in their stead. Only prompts count that the model answers right
when it is left alone: where it does not know the answer, there is nothing to lose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from neuronatlas.knowledge.asked_answers import encoded
from neuronatlas.knowledge.attribution import suiting_queries
from neuronatlas.knowledge.effects import DEFAULT_BUDGET, Trial, run_trials
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.knowledge.implicit_summary import EFFECTS, counts_table, summary_table
from neuronatlas.knowledge.two_hop import TwoHop
from neuronatlas.models.answers import Answered
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query
from neuronatlas.neurons import NeuronError, NeuronSet

__all__ = ["IMPLICIT_CONDITIONS", "ImplicitEffects", "ImplicitPrompt", "Need", "hop_prompts", "implicit_effects"]

IMPLICIT_CONDITIONS = ("own", "random", "same-relation", "unrelated")
"""What is scaled: the neurons of a fact that the prompt needs; equally many random ones of the same layers; those of
another fact of its relation; those of a fact of another relation. The last two have other answers, and the prompt needs
neither of them."""

_TRIALS_AT_ONCE = 4096


@dataclass(frozen=True)
class Need:
    """A fact that a prompt needs, by relation and subject, and the part that it plays: first, second, or only."""

    relation: str
    subject: str
    part: str = "only"


@dataclass(frozen=True)
class ImplicitPrompt:
    """A prompt that needs facts without stating them, its answer, and the facts; `kind` is what it is counted under."""

    kind: str
    prompt: str
    answer: str
    needs: tuple[Need, ...]


@dataclass(frozen=True, eq=False)
class ImplicitEffects:
    """What suppressing the neurons of needed facts does to answers.

    `effects` has a row for each prompt answered right, needed fact and condition; `counts` says of each kind how many
    prompts there were, suited the model and were answered right; `summary` has, by kind, part and condition, the
    changes with 95 % bootstrap intervals over facts (see `implicit_effects`).
    """

    gain: float
    effects: pl.DataFrame
    summary: pl.DataFrame
    counts: pl.DataFrame
    skipped: dict[int, str] = field(default_factory=dict)


def hop_prompts(hops: Iterable[TwoHop], kind: str = "two-hop") -> tuple[ImplicitPrompt, ...]:
    """Two-hop prompts as prompts that need their first and their second fact."""
    return tuple(
        ImplicitPrompt(
            kind,
            hop.prompt,
            hop.answer,
            (
                Need(hop.first.relation, hop.first.subject or "", "first"),
                Need(hop.second.relation, hop.second.subject or "", "second"),
            ),
        )
        for hop in hops
    )


def implicit_effects(
    model: Model,
    facts: Sequence[Fact],
    neurons: Sequence[NeuronSet],
    prompts: Sequence[ImplicitPrompt],
    *,
    gain: float = 0.0,
    seed: int = 0,
    budget: int = DEFAULT_BUDGET,
    progress: bool = False,
) -> ImplicitEffects:
    """Scale each needed fact's neurons while the model answers, and others in their stead (`IMPLICIT_CONDITIONS`).

    `neurons` has a set for each of the facts, found from their own prompts, as by `locate`; needs that are none of
    the facts are passed over. Beside the kinds of the prompts stands `cloze`, the own prompts of the facts that were
    tested, for comparison. Neurons are scaled at the answer's place alone.

    Columns of `effects`: prompt (its index; in cloze the index among the fact's own), kind, part, text, answer, fact
    (index), relation, condition, n_neurons, p_before, p_after, log_odds_before, log_odds_after, right_after. Of
    `summary`: kind, part, condition, n_facts, n_prompts, n_neurons (mean), and for change (sum of P after less before,
    over that of P before), log_odds (mean change), lost (share of the answers that are no longer the first choice)
    and excess (mean change of log-odds under `own` less that under this control, prompt by prompt) each the estimate,
    low and high. Of `counts`: kind, n_prompts, n_suited, n_right, n_tested (right, with a needed fact among the facts),
    n_facts. A fact without neurons counts, with no change; controls that cannot be drawn are left out.

    Errors: FactError when there are no facts or prompts, or sets of another number; LayoutMismatchError.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> facts = [na.Fact("capital_of", "Tokyo", "Japan", ["[MASK] is the country whose capital is Tokyo."])]
    >>> text = "The currency of the country whose capital is Tokyo is the [MASK]."
    >>> asked = [na.ImplicitPrompt("two-hop", text, "yen", (na.Need("capital_of", "Tokyo", "first"),))]
    >>> found = na.implicit_effects(model, facts, [model.layout().set(["L3.U5"])], asked)
    >>> found.counts["kind"].to_list()
    ['two-hop']
    """
    if not facts or not prompts or len(facts) != len(neurons):
        raise FactError(f"{len(facts)} facts, {len(neurons)} sets of neurons, {len(prompts)} prompts: one set a fact")
    layout = neurons[0].layout
    for each in neurons:
        model.layout(layout.site).require(each.layout)
    queries, skipped = encoded(model, [(one.prompt, one.answer) for one in prompts], stack=layout.stack)
    clean = NeuronSet(layout, ())
    answers = _answers(model, [Trial(asked, clean, 1.0) for asked in queries.values()], budget, progress, "asking")
    before = dict(zip(queries, answers, strict=True))
    places = {(fact.relation, fact.subject): index for index, fact in enumerate(facts)}
    cast = _Cast(facts, neurons, seed)
    plans: list[_Plan] = []
    for index, said in before.items():
        if said.is_top:
            plans += _plans(index, prompts[index], queries[index], said, places, cast)
    plans += _cloze(model, sorted({plan.fact for plan in plans}), cast, layout.site, budget, progress)
    changed = [plan for plan in plans if len(plan.neurons)]
    trials = [Trial(plan.query, plan.neurons, gain) for plan in changed]
    after = dict(zip(map(id, changed), _answers(model, trials, budget, progress, "intervening"), strict=True))
    rows = [plan.row(facts, after.get(id(plan), plan.before)) for plan in plans]
    effects = pl.DataFrame(rows, schema=EFFECTS, orient="row")
    counts = counts_table([one.kind for one in prompts], queries, {i for i, s in before.items() if s.is_top}, effects)
    return ImplicitEffects(gain, effects, summary_table(effects, seed), counts, skipped)


@dataclass(frozen=True, eq=False)
class _Plan:
    """A prompt answered right, with the neurons that one condition has for one of the facts that it needs."""

    prompt: int
    kind: str
    part: str
    answer: str
    fact: int
    condition: str
    query: Query
    neurons: NeuronSet
    before: Answered

    def row(self, facts: Sequence[Fact], after: Answered) -> tuple[object, ...]:
        """A row of `effects`."""
        asked = (self.prompt, self.kind, self.part, self.query.text, self.answer)
        scaled = (self.fact, facts[self.fact].relation, self.condition, len(self.neurons))
        moved = (self.before.probability, after.probability, self.before.log_odds, after.log_odds, after.is_top)
        return (*asked, *scaled, *moved)


class _Cast:
    """Which neurons play a fact's under each condition: drawn once a fact, so that its prompts share them."""

    def __init__(self, facts: Sequence[Fact], neurons: Sequence[NeuronSet], seed: int) -> None:
        self.facts, self.neurons = facts, neurons
        self._seed = seed
        self._drawn: dict[int, tuple[NeuronSet | None, list[int]]] = {}

    def sets(self, index: int, answer: str, needed: Sequence[int]) -> Iterator[tuple[str, NeuronSet]]:
        """The set of each condition, for a prompt with this answer that needs these facts."""
        if index not in self._drawn:
            self._drawn[index] = self._draw(index)
        random, order = self._drawn[index]
        yield "own", self.neurons[index]
        if random is not None:
            yield "random", random
        own = self.facts[index]
        taken = {own.answer, answer, *(self.facts[other].answer for other in needed)}
        for condition, same in (("same-relation", True), ("unrelated", False)):
            for other in order:
                fact = self.facts[other]
                alike = fact.relation == own.relation if same else fact.relation not in self._relations(needed)
                if alike and fact.answer not in taken and other not in needed and len(self.neurons[other]):
                    yield condition, self.neurons[other]
                    break

    def _relations(self, needed: Sequence[int]) -> set[str]:
        return {self.facts[other].relation for other in needed}

    def _draw(self, index: int) -> tuple[NeuronSet | None, list[int]]:
        rng = np.random.default_rng([self._seed, index])
        order: list[int] = rng.permutation(len(self.facts)).tolist()
        try:
            return self.neurons[index].random_like(int(rng.integers(2**32))), order
        except NeuronError:
            return None, order


def _plans(
    index: int,
    asked: ImplicitPrompt,
    made: Query,
    said: Answered,
    places: dict[tuple[str, str | None], int],
    cast: _Cast,
) -> Iterator[_Plan]:
    found = [(need.part, places.get((need.relation, need.subject))) for need in asked.needs]
    needed = [fact for _, fact in found if fact is not None]
    for part, fact in found:
        if fact is not None:
            for condition, chosen in cast.sets(fact, asked.answer, needed):
                yield _Plan(index, asked.kind, part, asked.answer, fact, condition, made, chosen, said)


def _cloze(model: Model, tested: Sequence[int], cast: _Cast, site: str, budget: int, progress: bool) -> Iterator[_Plan]:
    """The same for the facts' own prompts."""
    asked = [(i, p, q) for i in tested for p, q in suiting_queries(model, cast.facts[i], site=site)[0].items()]
    clean = NeuronSet(cast.neurons[0].layout, ())
    answers = _answers(model, [Trial(q, clean, 1.0) for _, _, q in asked], budget, progress, "asking the facts")
    for (fact, prompt, made), said in zip(asked, answers, strict=True):
        if said.is_top:
            for condition, chosen in cast.sets(fact, cast.facts[fact].answer, [fact]):
                yield _Plan(prompt, "cloze", "only", cast.facts[fact].answer, fact, condition, made, chosen, said)


def _answers(model: Model, trials: Sequence[Trial], budget: int, progress: bool, what: str) -> list[Answered]:
    found: list[Answered] = []
    with tqdm(total=len(trials), desc=what, unit="prompt", disable=not progress) as bar:
        for start in range(0, len(trials), _TRIALS_AT_ONCE):
            found += run_trials(model, trials[start : start + _TRIALS_AT_ONCE], budget=budget)
            bar.update(len(found) - bar.n)
    return found
