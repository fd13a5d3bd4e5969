"""What the experiments of a study share: the model, its facts, their neurons, and where finished work is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from neuronatlas.addresses import neurons_in
from neuronatlas.atlas import Atlas
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.model import Model
from neuronatlas.neurons import Layout, Neuron, NeuronSet
from neuronatlas.studies.knowledge_neurons.settings import KnowledgeStudySettings
from neuronatlas.studies.locating import AskedFact, ask
from neuronatlas.studies.settings import LocateSettings

__all__ = ["KNOWN", "NotMeasuredError", "Study", "Tables", "all_and_each", "frame"]

KNOWN = 0.5
"""A fact is known when its answer is the first choice on at least this share of its prompts."""

T = TypeVar("T")
Tables = dict[str, pl.DataFrame]


class NotMeasuredError(ValueError):
    """An experiment that these facts or this model give nothing to measure with."""


@dataclass(frozen=True)
class Study:
    """A model and facts under study: `neurons` is the finished atlas of their neurons, `atlas` that of the study.

    `background` are facts beside these, which prompts are composed from and no neurons are located for.
    """

    model: Model
    facts: Sequence[Fact]
    settings: KnowledgeStudySettings
    texts: Path | None
    atlas: Atlas
    neurons: Atlas
    progress: bool
    background: Sequence[Fact] = ()

    @cached_property
    def locate(self) -> LocateSettings:
        """How the neurons were located, with the budgets that were settled then."""
        found = self.neurons.meta["settings"]
        attribution, effects = int(found["attribution_budget"]), int(found["effects_budget"])
        return replace(self.settings.locate, attribution_budget=attribution, effects_budget=effects)

    @property
    def rule(self) -> str:
        """The rule that the neurons were located by."""
        return self.settings.locate.rule

    @property
    def seed(self) -> int:
        """The seed of everything that is drawn."""
        return self.settings.locate.seed

    @cached_property
    def layout(self) -> Layout:
        """The layout that the neurons are counted in."""
        return self.model.layout(self.settings.locate.site)

    @cached_property
    def asked(self) -> dict[int, AskedFact]:
        """The facts that have a prompt which suits the model, by number."""
        settings, corruption = self.settings.locate, self.settings.locate.corruption_of(self.facts)
        found = (ask(self.model, i, f, settings.position, settings.site, corruption) for i, f in enumerate(self.facts))
        return {fact.index: fact for fact in found if fact.queries}

    @cached_property
    def relations(self) -> dict[str, list[AskedFact]]:
        """The facts of each relation, in the order of the file."""
        groups: dict[str, list[AskedFact]] = {}
        for fact in self.asked.values():
            groups.setdefault(fact.fact.relation, []).append(fact)
        return groups

    @cached_property
    def known(self) -> dict[int, bool]:
        """Whether the model's first choice is the answer on at least half of a fact's prompts."""
        facts = self.neurons.table("facts").select("fact", pl.col("top1").fill_null(0) >= KNOWN)
        return {int(number): bool(known) for number, known in facts.iter_rows()}

    @cached_property
    def _sets(self) -> dict[tuple[int, str, str], tuple[Neuron, ...]]:
        table = self.neurons.table("neurons")
        found: dict[tuple[int, str, str], list[Neuron]] = {}
        places = table.select("fact", "rule", "fold").iter_rows()
        for neuron, place in zip(neurons_in(table), places, strict=True):
            found.setdefault(place, []).append(neuron)
        return {place: tuple(neurons) for place, neurons in found.items()}

    def of(self, fact: AskedFact, fold: str = "all", rule: str = "") -> NeuronSet:
        """The neurons of a fact, from all of its prompts or from those of fold `a` or `b`."""
        return NeuronSet(self.layout, self._sets.get((fact.index, rule or self.rule, fold), ()))

    def random(self, fact: AskedFact, neurons: NeuronSet, draw: int = 0) -> NeuronSet:
        """As many random neurons of the same layers; the seed comes from the fact's place in the file."""
        return neurons.random_like(self.drawn(fact.index, draw))

    def drawn(self, *place: int) -> int:
        """A seed for a place in the study."""
        return int(np.random.SeedSequence([self.seed, *place]).generate_state(1)[0])

    def chosen(self, each: int, fits: Callable[[AskedFact], bool] | None = None) -> list[AskedFact]:
        """Up to `each` known facts with neurons of each relation, spread evenly over it; those that fit, if asked."""
        found: list[AskedFact] = []
        for facts in self.relations.values():
            usable = [f for f in facts if self.known[f.index] and len(self.of(f)) and (fits is None or fits(f))]
            count = min(each, len(usable))
            found += [usable[index * len(usable) // count] for index in range(count)]
        return found

    @cached_property
    def sampled(self) -> list[AskedFact]:
        """The facts of the costly experiments."""
        found = self.chosen(self.settings.sampled)
        if not found:
            raise NotMeasuredError("no fact is both known to the model and has neurons")
        return found

    def in_parts(
        self,
        stage: str,
        things: Sequence[T],
        work: Callable[[Sequence[T]], Tables],
        *,
        size: int = 0,
        unit: str = "fact",
    ) -> None:
        """Do the work on the things part by part and keep what is done; parts that are there already are passed over.

        An interruption loses one part at most, and batches never cross one, so that the bytes do not depend on it.
        """
        size = size or self.settings.facts_per_part
        parts = [things[start : start + size] for start in range(0, len(things), size)]
        done = sum(len(part) for index, part in enumerate(parts) if self.atlas.has_part(stage, index))
        label = stage.replace("-", " ")
        with tqdm(total=len(things), initial=done, desc=label, unit=unit, disable=not self.progress) as bar:
            for index, part in enumerate(parts):
                if not self.atlas.has_part(stage, index):
                    self.atlas.write_part(stage, index, work(part))
                    bar.update(len(part))

    def table(self, name: str) -> pl.DataFrame:
        """A table of this study, from its parts."""
        return self.atlas.table(name)


def frame(rows: Iterable[Sequence[object]], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """Rows as a table."""
    return pl.DataFrame([tuple(row) for row in rows], schema=dict(schema), orient="row")


def all_and_each(groups: Mapping[str, T]) -> dict[str, list[T]]:
    """Relations together under `all`, then each by itself.

    >>> all_and_each({"capital": 1, "currency": 2})
    {'all': [1, 2], 'capital': [1], 'currency': [2]}
    """
    return {"all": list(groups.values())} | {name: [group] for name, group in groups.items()}
