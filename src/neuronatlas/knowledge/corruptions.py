"""Corruptions: what neurons are when a prompt no longer tells what it asks about, for attribution patching."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.calls import hooks
from neuronatlas.models.hooks import capture
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, QueryError, Step, spread, subject_places, with_subject
from neuronatlas.models.ways import Prompts

__all__ = ["CORRUPTIONS", "Corruption", "OtherSubjects", "SubjectNoise"]

MOST_SUBJECTS = 4


class Corruption(Protocol):
    """Gives the neurons of a corrupted query at the places where its own are looked at, one row a step.

    What it gives depends on the query alone, not on those asked beside it.
    """

    def require(self, model: Model, asked: Query) -> None:
        """Raise QueryError unless the query can be corrupted in this way."""

    def neurons(self, model: Model, asked: Query, site: str) -> Float[Tensor, "step neuron"]:
        """Neurons of all layers, side by side."""


@dataclass(frozen=True)
class SubjectNoise:
    """Gaussian noise on the input embeddings of the subject's tokens, the mean over `draws` (Meng et al. 2022, 2.1).

    Its standard deviation is `scale` times that of the numbers in the embedding table (3 in that paper). Each prompt
    draws from its own tokens and `seed`, whatever stands beside it.
    """

    scale: float = 3.0
    draws: int = 8
    seed: int = 0

    def require(self, model: Model, asked: Query) -> None:
        """QueryError when the prompt does not hold its subject."""
        subject_places(model, asked)

    def neurons(self, model: Model, asked: Query, site: str) -> Float[Tensor, "step neuron"]:
        """Neurons under noise; QueryError when the prompt does not hold its subject."""
        places = torch.tensor(subject_places(model, asked), device=model.device)
        table: Any = model.module.get_input_embeddings()
        size = self.scale * float(table.weight.detach().float().std())
        rows = []
        for step in asked.steps:
            rng = np.random.default_rng([self.seed, *step.ids])
            prompts = Prompts.of([step] * self.draws, model.device)
            with _noise(model, places, size, rng):
                rows.append(_neurons(model, prompts, site).mean(0))
        return torch.stack(rows)


@dataclass(frozen=True)
class OtherSubjects:
    """The same prompt about other subjects, the mean over those that suit it: at most `most`, evenly spread.

    `names` are the subjects to take for a fact, by its subject and answer; `everywhere` those for any other one.
    """

    names: Mapping[tuple[str, str], tuple[str, ...]]
    everywhere: tuple[str, ...] = ()
    most: int = MOST_SUBJECTS

    @classmethod
    def named(cls, *names: str) -> OtherSubjects:
        """These subjects for every prompt."""
        return cls({}, names)

    @classmethod
    def of(cls, facts: Sequence[Fact], *, most: int = MOST_SUBJECTS) -> OtherSubjects:
        """For each fact the subjects of the same relation whose answer is another one.

        >>> asked = [("France", "Paris"), ("Japan", "Tokyo"), ("Gaul", "Paris")]
        >>> facts = [Fact("capital", s, a, [f"The capital of {s} is [MASK]."]) for s, a in asked]
        >>> OtherSubjects.of(facts).names["France", "Paris"]
        ('Japan',)
        """
        names: dict[tuple[str, str], list[str]] = {}
        for fact in facts:
            others = [o.subject for o in facts if o.relation == fact.relation and o.answer != fact.answer and o.subject]
            if fact.subject is not None:
                names.setdefault((fact.subject, fact.answer), []).extend(others)
        return cls({key: tuple(dict.fromkeys(others)) for key, others in names.items()}, most=most)

    def neurons(self, model: Model, asked: Query, site: str) -> Float[Tensor, "step neuron"]:
        """Neurons of the prompt about others; QueryError when it does not hold its subject, or no other suits."""
        found = [_of_query(model, new, site) for new in self._suiting(model, asked)]
        return torch.stack(found).mean(0)

    def require(self, model: Model, asked: Query) -> None:
        """QueryError when the prompt does not hold its subject, or no other suits."""
        self._suiting(model, asked)

    def _suiting(self, model: Model, asked: Query) -> list[Query]:
        subject = asked.wording.subject if asked.wording is not None else None
        names = [n for n in self.names.get((subject or "", asked.answer), self.everywhere) if n != subject]
        suiting, reason = [], "there is none"
        # Twice as many as wanted are tried, since not every name suits.
        for name in spread(names, 2 * self.most):
            try:
                suiting.append(with_subject(model, asked, name))
            except QueryError as error:
                reason = str(error)
        if not suiting:
            raise QueryError(f'no other subject suits "{asked.text}" ({reason}): give some, or corrupt it by noise')
        return spread(suiting, self.most)


def _of_query(model: Model, asked: Query, site: str) -> Float[Tensor, "step neuron"]:
    def row(step: Step) -> Tensor:
        return _neurons(model, Prompts.of([step], model.device), site)[0]

    return torch.stack([row(step) for step in asked.steps])


def _neurons(model: Model, prompts: Prompts, site: str) -> Float[Tensor, "prompt neuron"]:
    rows = torch.arange(len(prompts), device=prompts.positions.device)
    with torch.no_grad(), capture(model, site) as seen:
        prompts.logits(model)
    found = [values[rows.to(values.device), prompts.positions.to(values.device)] for _, values in sorted(seen.items())]
    return torch.cat([values.to(found[0]) for values in found], dim=-1)


@contextmanager
def _noise(model: Model, places: Tensor, size: float, rng: np.random.Generator) -> Iterator[None]:
    """Add noise to the input embeddings at some positions of every row."""

    def add(_module: Any, _args: Any, given: Tensor) -> Tensor:
        drawn = torch.from_numpy(rng.standard_normal((len(given), len(places), given.shape[-1])) * size)
        changed = given.clone()
        changed[:, places] += drawn.to(given)
        return changed

    with hooks([model.module.get_input_embeddings().register_forward_hook(add)]):
        yield


CORRUPTIONS: dict[str, Callable[[Sequence[Fact]], Corruption]] = {
    "noise": lambda _facts: SubjectNoise(),
    "other-subject": OtherSubjects.of,
}
"""Ways of corrupting the prompts of some facts, by name."""
