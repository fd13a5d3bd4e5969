"""A sweep of the gain: what lies between suppressing and amplifying, and beyond."""

from __future__ import annotations

from collections.abc import Sequence

from neuronatlas.studies.knowledge_neurons.study import Study, Tables
from neuronatlas.studies.knowledge_neurons.trying import Try, summarised, tried
from neuronatlas.studies.locating import AskedFact

__all__ = ["gains"]


def gains(study: Study) -> Tables:
    """Table `gain_sweep`: effects by gain of the sampled facts' neurons, the activation baseline's, and random ones."""

    def work(facts: Sequence[AskedFact]) -> Tables:
        tries = []
        for fact in facts:
            own = study.of(fact)
            sets = {"located": own, "activation": study.of(fact, rule="activation"), "random": study.random(fact, own)}
            tries += [Try(fact, name, gain, found) for name, found in sets.items() for gain in study.settings.gains]
        return {"gain_trials": tried(study, tries)}

    study.in_parts("gains", study.sampled, work)
    return {"gain_sweep": summarised(study.table("gain_trials"), study.seed)}
