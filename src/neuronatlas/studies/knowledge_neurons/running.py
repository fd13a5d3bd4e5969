"""Runs a study of knowledge neurons, and takes it up again where it was interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from neuronatlas.atlas import Atlas, AtlasError
from neuronatlas.knowledge.edits import EditError
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.direct import DirectError
from neuronatlas.models.hooks import InterventionError
from neuronatlas.models.model import Model
from neuronatlas.models.output_rows import OutputRowError
from neuronatlas.models.reading import TextError
from neuronatlas.models.slots import SlotError
from neuronatlas.neurons import NeuronError
from neuronatlas.studies.knowledge_atlas import build_atlas
from neuronatlas.studies.knowledge_neurons.experiments import EXPERIMENTS, Experiment
from neuronatlas.studies.knowledge_neurons.settings import KnowledgeStudySettings, described_study
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study
from neuronatlas.studies.settings import SettingsError

__all__ = ["NEURONS", "study_knowledge_neurons"]

NEURONS = "neurons"
"""The folder in that of the study which holds the atlas of the neurons."""

_REFUSALS = (
    NotMeasuredError,
    DirectError,
    EditError,
    InterventionError,
    NeuronError,
    OutputRowError,
    SlotError,
    TextError,
)
"""What a model or facts can refuse an experiment for, and no other one."""

UNMEASURED = {"experiment": pl.String, "reason": pl.String}


def study_knowledge_neurons(
    model: Model,
    facts: Sequence[Fact],
    folder: str | Path,
    settings: KnowledgeStudySettings | None = None,
    *,
    background: Sequence[Fact] = (),
    texts: Path | None = None,
    only: Iterable[str] | None = None,
    command: str = "",
    progress: bool = True,
) -> Atlas:
    """Run the experiments of Dai et al. (2022) and those beside them, and leave a study in `folder`.

    The folder is an atlas of the experiments' tables; in it, `neurons` is the atlas that `build_atlas` makes. `texts`
    is a file of sentences for the experiment `triggers`, `background` are further facts for prompts of two hops. `only`
    names experiments to run now, others can follow by another call: the atlas is complete when all have run.
    Interrupted at any moment, the same call takes up where it was and ends in the same bytes. Table `experiments` says
    what was run; one that the model or the facts give nothing to measure with is told there with the reason.

    Errors: SettingsError for an experiment that there is not; those of `build_atlas`; AtlasError for the folder.
    """
    settings = settings or KnowledgeStudySettings()
    chosen = _chosen(only)
    about = {"id": model.name, "revision": model.revision, "digest": model.digest, "kind": model.kind}
    with Atlas.create_or_resume(
        folder,
        model=about,
        settings=described_study(settings, model, facts, texts, background),
        command=command,
        seed=settings.locate.seed,
    ) as atlas:
        _refuse_missing(atlas, chosen)
        if atlas.state != "complete":
            neurons = build_atlas(
                model, facts, Path(folder) / NEURONS, settings.locate, command=command, progress=progress
            )
            study = Study(model, facts, settings, texts, atlas, neurons, progress, background)
            _tell(atlas)
            for experiment in chosen:
                if not atlas.has_part(_stage(experiment), 0):
                    _run(study, experiment)
                    _tell(atlas)
            if all(atlas.has_part(_stage(experiment), 0) for experiment in EXPERIMENTS.values()):
                atlas.finish()
    return Atlas.open(folder)


def _chosen(only: Iterable[str] | None) -> list[Experiment]:
    wanted = set(EXPERIMENTS if only is None else only)
    if unknown := sorted(wanted - set(EXPERIMENTS)):
        raise SettingsError(f"no experiment {unknown[0]!r}: expected one of {', '.join(EXPERIMENTS)}")
    return [experiment for name, experiment in EXPERIMENTS.items() if name in wanted]


def _refuse_missing(atlas: Atlas, chosen: Sequence[Experiment]) -> None:
    """Refuse a finished study that was made when there were fewer experiments."""
    if atlas.state == "complete":
        there = set(atlas.table("experiments")["experiment"])
        if missing := [experiment.name for experiment in chosen if experiment.name not in there]:
            raise AtlasError(f"{atlas.folder} is complete and has no experiment {missing[0]!r}: choose another folder")


def _stage(experiment: Experiment) -> str:
    """Where an experiment's end is kept: written at once, so it is there when the experiment is finished."""
    return f"{experiment.name}-end"


def _run(study: Study, experiment: Experiment) -> None:
    try:
        tables = experiment.run(study)
    except _REFUSALS as refusal:
        tables = {"unmeasured": pl.DataFrame([(experiment.name, str(refusal))], schema=UNMEASURED, orient="row")}
    study.atlas.write_part(_stage(experiment), 0, tables)


def _tell(atlas: Atlas) -> None:
    """Write which experiments have run."""
    found = atlas.table("unmeasured") if "unmeasured" in atlas.tables else pl.DataFrame(schema=UNMEASURED)
    reasons = dict(found.iter_rows())
    rows = [
        (one.name, one.question, reasons.get(one.name), atlas.has_part(_stage(one), 0)) for one in EXPERIMENTS.values()
    ]
    names = {"experiment": pl.String, "question": pl.String, "refused": pl.String, "done": pl.Boolean}
    atlas.write_table("experiments", pl.DataFrame(rows, schema=names, orient="row"))
