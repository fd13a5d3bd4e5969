"""A set of neurons with its random controls, and how many of these each class of words needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from neuronatlas.models.model import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.matching import matched_controls
from neuronatlas.probing.questions import Questions
from neuronatlas.probing.replacing import Answers, Replacement, flat, run

__all__ = ["LEVEL", "ROUND", "Trial", "in_rounds"]

LEVEL = 0.05
"""A class whose p is above this differs from its random sets in no case, corrected or not."""

ROUND = 20
"""Random sets that are tried before it is asked which classes need more."""


@dataclass(frozen=True)
class Trial:
    """A set and its random controls, what takes their place, and the controls' summed variances over the set's."""

    sets: tuple[NeuronSet, ...]
    values: tuple[Float64[np.ndarray, " neuron"] | float, ...]
    ratios: tuple[float, ...]

    @classmethod
    def of(
        cls,
        neurons: NeuronSet,
        known: tuple[Float64[np.ndarray, " neuron"], Float64[np.ndarray, " neuron"]],
        value: float | None,
        n_controls: int,
        seed: int,
    ) -> Trial:
        """Draw the controls; `known` are means and variances of all neurons, `value` takes their place if given."""
        means, variances = known
        sets = (neurons, *matched_controls(neurons, variances, n_controls, seed=seed))
        values = tuple(means[flat(chosen)] if value is None else value for chosen in sets)
        whole, *others = (float(variances[flat(chosen)].sum()) for chosen in sets)
        return cls(sets, values, tuple(other / whole if whole else math.nan for other in others))

    @property
    def places(self) -> range:
        """0 is the set, the others its controls."""
        return range(len(self.sets))

    def replacement(self, place: int, asked: Bool[np.ndarray, " question"]) -> Replacement:
        """The set or one of its controls, replaced while these questions are asked."""
        return Replacement(self.sets[place], self.values[place], asked)


def in_rounds(
    model: Model, questions: Questions, trials: Sequence[Trial], tried: Answers, *, progress: bool
) -> Answers:
    """Each word as it is, under its class's own set, and under that set's controls; NaN where none was needed.

    `trials` are one a class, `tried` the answers under the classes' sets. Controls are tried `ROUND` at a time. A class
    is settled once so many of them lower its class mass as much that p = (1 + b) / (1 + n) is above `LEVEL` however few
    of the rest do: b only grows. So a p up to `LEVEL`, and which classes a correction at `LEVEL` leaves, are those of
    all n controls; a p above it is (1 + b) / (1 + those tried). Where most classes do not differ, this spares most of
    the work.
    """
    codes, n_controls = questions.class_codes, len(trials[0].ratios)
    words, shape = np.arange(len(codes)), (2 + n_controls, len(codes))
    own = Answers(np.full((*shape, tried.measures.shape[2]), np.nan), np.full(shape, -1), np.full(shape, np.nan))
    for row, runs in enumerate((np.zeros_like(codes), 1 + codes)):
        own.measures[row], own.tops[row] = tried.measures[runs, words], tried.tops[runs, words]
        own.unknown[row] = tried.unknown[runs, words]
    open_ = list(range(len(trials)))
    for start in range(1, 1 + n_controls, ROUND):
        places = range(start, min(start + ROUND, 1 + n_controls))
        left = np.flatnonzero(np.isin(codes, open_))
        asked = replace(questions, asked=tuple(questions.asked[word] for word in left))
        chosen = [(code, place) for code in open_ for place in places]
        answers = run(
            model,
            asked,
            [trials[code].replacement(place, codes[left] == code) for code, place in chosen],
            progress=progress,
        )
        for run_, (code, place) in enumerate(chosen, start=1):
            mine = codes[left] == code
            where = (1 + place, left[mine])
            own.measures[where], own.tops[where] = answers.measures[run_, mine], answers.tops[run_, mine]
            own.unknown[where] = answers.unknown[run_, mine]
        open_ = [code for code in open_ if _can_differ(own.measures[:, codes == code, 0], n_controls)]
        if not open_:
            break
    return own


def _can_differ(masses: Float64[np.ndarray, "run word"], n_controls: int) -> bool:
    """Whether p may still be up to LEVEL, if no control that is left lowers the class mass as much as the set."""
    falls = masses[0].mean() - masses[1:].mean(axis=1)
    as_much = int(np.count_nonzero(falls[1:] >= falls[0]))  # not those to come, which are NaN
    return (1 + as_much) / (1 + n_controls) <= LEVEL
