"""The one ordered list of the experiments of a study of knowledge neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neuronatlas.studies.knowledge_neurons.comparing import comparing
from neuronatlas.studies.knowledge_neurons.erasing import erasing
from neuronatlas.studies.knowledge_neurons.frequency import frequency
from neuronatlas.studies.knowledge_neurons.gains import gains
from neuronatlas.studies.knowledge_neurons.halves import halves
from neuronatlas.studies.knowledge_neurons.implying import implying
from neuronatlas.studies.knowledge_neurons.interacting import interacting
from neuronatlas.studies.knowledge_neurons.places import places
from neuronatlas.studies.knowledge_neurons.study import Study, Tables
from neuronatlas.studies.knowledge_neurons.suppression import suppression
from neuronatlas.studies.knowledge_neurons.symmetry import symmetry
from neuronatlas.studies.knowledge_neurons.thresholds import thresholds
from neuronatlas.studies.knowledge_neurons.triggering import triggering
from neuronatlas.studies.knowledge_neurons.updating import updating

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
        Experiment(
            "triggers", "Which texts activate a fact's neurons?", ("trigger_means", "trigger_precision"), triggering
        ),
        Experiment(
            "update",
            "Can a fact be given another answer in its neurons' value slots, and what else moves?",
            ("update_measures", "update_perplexity", "update_sizes"),
            updating,
        ),
        Experiment(
            "erase",
            "Can a relation be erased in the value slots of its most frequent neurons?",
            ("erase_measures",),
            erasing,
        ),
        Experiment(
            "gains",
            "What lies between suppressing and amplifying, and beyond?",
            ("gain_sweep",),
            gains,
        ),
        Experiment(
            "thresholds",
            "How much hangs on the coarse threshold?",
            ("threshold_sweep",),
            thresholds,
        ),
        Experiment(
            "halves",
            "Do other wordings find the same neurons?",
            ("half_overlaps", "half_effects"),
            halves,
        ),
        Experiment(
            "symmetry",
            "Does a fact share its neurons with itself the other way round?",
            ("symmetry_effects", "symmetry_overlaps"),
            symmetry,
        ),
        Experiment(
            "frequency",
            "Is it the fact, or the answer's token, and how frequent that is?",
            ("answer_effects", "frequency_correlations"),
            frequency,
        ),
        Experiment(
            "rules",
            "Which rule of attribution finds the neurons that matter?",
            ("rule_effects", "rule_overlaps", "rule_refusals"),
            comparing,
        ),
        Experiment(
            "interactions",
            "Do a fact's neurons add up?",
            ("interaction_totals", "interaction_kinds"),
            interacting,
        ),
        Experiment(
            "implicit",
            "Do a fact's neurons move answers that need the fact without stating it?",
            ("implicit_summary", "implicit_counts"),
            implying,
        ),
    )
}
"""By name, in the order in which they run and stand in the report."""
