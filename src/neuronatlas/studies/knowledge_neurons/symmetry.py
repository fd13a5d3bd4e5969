"""Whether a fact is the same fact the other way round: the neurons of one on prompts of its inverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from neuronatlas.statistics import mean_of_ratios_of_means
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables, frame
from neuronatlas.studies.knowledge_neurons.trying import Try, summarised, tried
from neuronatlas.studies.locating import AskedFact

__all__ = ["symmetry"]

_GAINS = (0.0, 2.0)
OVERLAPS = {"condition": pl.String, "n_pairs": pl.Int64, "overlap": pl.Float64, "low": pl.Float64, "high": pl.Float64}


@dataclass(frozen=True)
class _Pair:
    """A fact, its inverse (subject and answer exchanged), and another fact of the inverse's relation as the control."""

    fact: AskedFact
    inverse: AskedFact
    control: AskedFact


def symmetry(study: Study) -> Tables:
    """Tables `symmetry_effects` and `symmetry_overlaps`, of facts whose inverse is a fact of the file too.

    On the fact's prompts are scaled its own neurons, those of its inverse, those of another fact of the inverse's
    relation with another answer and subject, and random ones. Each relation gives up to twice as many facts as are
    sampled. A relation counts by the fact whose prompts are asked.
    """
    pairs = _pairs(study)

    def work(part: Sequence[_Pair]) -> Tables:
        tries = []
        for pair in part:
            own = study.of(pair.fact)
            sets = {"own": own, "inverse": study.of(pair.inverse), "control": study.of(pair.control)}
            sets["random"] = study.random(pair.fact, own)
            tries += [Try(pair.fact, name, gain, found) for name, found in sets.items() for gain in _GAINS]
        return {"symmetry_trials": tried(study, tries)}

    study.in_parts("symmetry", pairs, work, unit="pair")
    overlaps = [
        _overlap(study, pairs, "inverse", [pair.inverse for pair in pairs]),
        _overlap(study, pairs, "control", [pair.control for pair in pairs]),
    ]
    effects = summarised(study.table("symmetry_trials"), study.seed)
    return {"symmetry_effects": effects, "symmetry_overlaps": frame(overlaps, OVERLAPS)}


def _pairs(study: Study) -> list[_Pair]:
    said = {(f.fact.subject, f.fact.answer): f for f in study.asked.values() if len(study.of(f))}
    found = list[_Pair]()
    for fact in study.chosen(2 * study.settings.sampled, lambda f: (f.fact.answer, f.fact.subject) in said):
        inverse = said[fact.fact.answer, fact.fact.subject or ""]
        if inverse.index == fact.index:
            continue  # its own inverse, as of a word that means itself
        others = [
            f
            for f in study.relations[inverse.fact.relation]
            if len(study.of(f))
            and f.fact.subject != inverse.fact.subject
            and f.fact.answer != inverse.fact.answer
            and f.index != fact.index
        ]
        if others:
            drawn = np.random.default_rng([study.seed, fact.index])
            found.append(_Pair(fact, inverse, others[int(drawn.integers(len(others)))]))
    if not found:
        raise NotMeasuredError("no known fact stands in the file the other way round as well")
    return found


def _overlap(study: Study, pairs: Sequence[_Pair], name: str, others: Sequence[AskedFact]) -> tuple[object, ...]:
    groups: dict[str, list[tuple[float, float]]] = {}
    for pair, other in zip(pairs, others, strict=True):
        own, theirs = study.of(pair.fact), study.of(other)
        row = (float(len(own & theirs)), (len(own) + len(theirs)) / 2)
        groups.setdefault(pair.fact.fact.relation, []).append(row)
    found = mean_of_ratios_of_means([np.array(group) for group in groups.values()], seed=study.seed)
    return name, len(pairs), found.estimate, found.low, found.high
