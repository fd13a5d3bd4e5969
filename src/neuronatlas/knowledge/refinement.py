"""From attribution scores to knowledge neurons: coarse sets, then what a fact's prompts share (Dai et al. 2022, 3.2).

A neuron enters a prompt's coarse set when its score is at least a share (0.2) of the largest one; it stays when it is
in the coarse sets of enough of the fact's prompts, so that what belongs to one wording only falls away.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuronatlas.neurons import Neuron, NeuronScores, NeuronSet

__all__ = [
    "Refined",
    "RefinementError",
    "Shared",
    "Tuned",
    "check_refinement",
    "coarse_set",
    "count_prompts",
    "refine",
    "required_prompts",
    "tune_share",
]

COARSE_THRESHOLDS = {"activation": 0.5}
"""Coarse threshold of the rules that do not use the usual one."""

COARSE_THRESHOLD = 0.2
FIRST_SHARE, STEP, MOST_PASSES = 0.7, 0.05, 6
WANTED = (2.0, 5.0)


class RefinementError(ValueError):
    """A share of prompts or a coarse threshold that makes no sense."""


@dataclass(frozen=True)
class Shared:
    """In how many of a fact's coarse sets each neuron is, and how many prompts there are."""

    counts: Mapping[Neuron, int]
    n_prompts: int


@dataclass(frozen=True)
class Refined:
    """The knowledge neurons of a fact, in address order, and for each the share of prompts whose coarse set holds it.

    `weak` says that the fact has fewer than three prompts, so that little was refined away.
    """

    neurons: tuple[Neuron, ...]
    shares: tuple[float, ...]
    weak: bool


@dataclass(frozen=True)
class Tuned:
    """The outcome of tuning a relation's share of prompts: the share, its passes, whether 2 to 5 was reached."""

    share: float
    passes: int
    mean_neurons: float
    reached: bool


def check_refinement(share: float | str | None, threshold: float | None) -> None:
    """Make sure of a share of prompts in (0, 1], or "tuned", and of a threshold above 0; None stands for the usual one.

    Errors: RefinementError.

    >>> check_refinement(share=0.7, threshold=None)
    >>> check_refinement(share="tuned", threshold=-1.0)
    Traceback (most recent call last):
    neuronatlas.knowledge.refinement.RefinementError: threshold is -1.0: a number above 0 expected (0.2 is usual)
    """
    if share is not None and share != "tuned" and (isinstance(share, str) or not 0 < share <= 1):
        raise RefinementError(f"share is {share!r}: a number above 0 and up to 1 expected, or 'tuned'")
    if threshold is not None and not 0 < threshold < math.inf:
        raise RefinementError(f"threshold is {threshold}: a number above 0 expected ({COARSE_THRESHOLD} is usual)")


def coarse_set(scores: NeuronScores, *, rule: str, threshold: float | None = None) -> NeuronSet:
    """Neurons with at least `threshold` (0.2; 0.5 for the activation baseline) of the largest score of the prompt."""
    return scores.at_least(COARSE_THRESHOLDS.get(rule, COARSE_THRESHOLD) if threshold is None else threshold)


def count_prompts(coarse: Sequence[Iterable[Neuron]]) -> Shared:
    """Count in how many coarse sets, one a prompt, each neuron is."""
    return Shared(Counter(neuron for prompt in coarse for neuron in prompt), len(coarse))


def required_prompts(n_prompts: int, share: float) -> float:
    """In how many of a fact's coarse sets a neuron must be: at least max(share * n, min(3, n)) of n.

    >>> required_prompts(10, 0.7), required_prompts(2, 0.7)
    (7.0, 2)
    """
    # The product of two decimals such as 0.7 * 10 lies a hair above or below its whole number.
    return max(round(share * n_prompts, 9), min(3, n_prompts))


def refine(shared: Shared, share: float) -> Refined:
    """Keep the neurons that enough of the prompts' coarse sets share."""
    needed = required_prompts(shared.n_prompts, share)
    kept = sorted(neuron for neuron, count in shared.counts.items() if count >= needed)
    return Refined(tuple(kept), tuple(shared.counts[n] / shared.n_prompts for n in kept), weak=shared.n_prompts < 3)


def tune_share(relation: Sequence[Shared]) -> Tuned:
    """Choose the share of prompts for one relation as Dai et al. do: so that its facts have 2 to 5 neurons on average.

    Starts at 0.7 and moves by 0.05, down when there are too few neurons and up when there are too many, for at most 6
    passes. Where 2 to 5 is not reached the last share stands and `reached` is false, which results must show.
    """
    share = FIRST_SHARE
    for passes in range(1, MOST_PASSES + 1):
        mean = sum(len(refine(fact, share).neurons) for fact in relation) / max(1, len(relation))
        if WANTED[0] <= mean <= WANTED[1] or passes == MOST_PASSES:
            break
        share = round(share + (STEP if mean > WANTED[1] else -STEP), 2)
    return Tuned(share, passes, mean, reached=WANTED[0] <= mean <= WANTED[1])
