"""What suppressing and amplifying a fact's neurons does to its answer, against the controls of the paper and others."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from neuronatlas.neurons import NeuronError
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables
from neuronatlas.studies.knowledge_neurons.trying import Try, summarised, tried
from neuronatlas.studies.locating import AskedFact

__all__ = ["suppression"]

_GAINS = (0.0, 2.0)


def suppression(study: Study) -> Tables:
    """Table `summary`, as it stands in the atlas of the neurons, and `random_draws`: random neurons, drawn again.

    The latter is empty where no fact is sampled, or one takes so much of a layer that there is nothing to draw from.
    """
    try:
        draws = _draws(study)
    except (NotMeasuredError, NeuronError):
        draws = pl.DataFrame(schema={"gain": pl.Float64, "change": pl.Float64, "draw": pl.Int64})
    return {"summary": study.neurons.table("summary"), "random_draws": draws}


def _draws(study: Study) -> pl.DataFrame:
    def work(facts: Sequence[AskedFact]) -> Tables:
        tries = [
            Try(fact, f"draw {draw}", gain, study.random(fact, study.of(fact), draw))
            for fact in facts
            for draw in range(study.settings.draws)
            for gain in _GAINS
        ]
        return {"random_trials": tried(study, tries)}

    study.in_parts("random-draws", study.sampled, work)
    found = summarised(study.table("random_trials"), study.seed).filter(relation="all").drop("relation")
    draws = found.with_columns(pl.col("condition").str.strip_prefix("draw ").cast(pl.Int64).alias("draw"))
    return draws.drop("condition")
