"""The one ordered list of the experiments of a study of knowledge neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neuronatlas.studies.knowledge_neurons.places import places
from neuronatlas.studies.knowledge_neurons.study import Study, Tables
from neuronatlas.studies.knowledge_neurons.suppression import suppression

__all__ = ["EXPERIMENTS", "Experiment"]


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name, the question that it answers, the tables that it ends in, and what runs it.

    `run` keeps finished parts in the study's atlas and returns the tables; NotMeasuredError where there is nothing to
    measure with.
    """

    name: str
    question: str
    tables: tuple[str, ...]
    run: Callable[[Study], Tables]


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "places",
            "How many neurons has a fact, where do they lie, and how many do two facts share?",
            ("neuron_counts", "layer_shares", "sharing_means"),
            places,
        ),
        Experiment(
            "suppression",
            "What does suppressing or amplifying a fact's neurons do to its answer?",
            ("summary", "random_draws"),
            suppression,
        ),
    )
}
"""By name, in the order in which they run and stand in the report."""
