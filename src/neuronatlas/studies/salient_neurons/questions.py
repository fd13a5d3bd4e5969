"""The questions of a study in the order of its report, and the function that asks them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronatlas.atlas import Atlas
from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.salient_neurons import architectures, fine_tuning, languages, layers, minimal, redundancy
from neuronatlas.studies.salient_neurons.measuring import stages
from neuronatlas.studies.salient_neurons.settings import StudySettings, study_described
from neuronatlas.studies.salient_neurons.study import (
    Question,
    Source,
    Study,
    bar_of,
    build_member,
    digest_of,
    members_of,
)

__all__ = ["QUESTIONS", "salient_study"]

QUESTIONS: tuple[Question, ...] = (
    Question("minimal", "minimal sets", minimal.answered),
    Question("layers", "layers", layers.answered),
    Question("redundancy", "redundancy", redundancy.answered),
    Question("fine-tuning", "fine-tuning", fine_tuning.answered),
    Question("architectures", "architectures", architectures.answered),
    Question("languages", "languages", languages.answered),
)
"""A question is one module with one function that gives its tables; it may find that there is nothing to ask."""


def salient_study(
    sources: Sequence[Source],
    corpora: Sequence[Corpus],
    folder: str | Path,
    settings: StudySettings | None = None,
    *,
    languages: Mapping[str, Sequence[Corpus]] | None = None,
    command: str = "",
    progress: bool = True,
) -> Atlas:
    """Ask all questions of some models on the same labelled sentences, and leave an atlas of the answers in `folder`.

    `corpora` are the same sentences with the labels of one property each. `languages` are sentences of other languages
    with the same properties, by name, for the first model. Each model's own atlas lies in `folder/models`; it is made
    in turn, so that the activations of one model at a time are on the disk. Interrupted at any moment, the same call
    goes on and ends in the same bytes. `questions.QUESTIONS` names the tables.

    Errors: SettingsError for no model, or one that is given twice; ChildError for a child of another base; those of
    `build_salience_atlas`.
    """
    settings, folder = settings or StudySettings(), Path(folder)
    first = sources[0] if sources else None
    told = [
        (Source(f"{first.name} ({name})", first.load, "language", first.name, language=name), list(texts))
        for name, texts in (languages or {}).items()
        if first is not None
    ]
    members = members_of([*((source, corpora) for source in sources), *told], folder)
    about: dict[str, Any] = {"id": ", ".join(source.name for source in sources), "digest": digest_of(members)}
    plain = study_described(settings, corpora, [f"{member.source.role}: {member.name}" for member in members])
    study = Study(settings, members)
    with Atlas.create_or_resume(folder, model=about, settings=plain, command=command, seed=settings.seed) as atlas:
        if atlas.state != "complete":
            for member in bar_of(members, progress):
                fine_tuning.require_base(study, member)
                build_member(member, settings, stages(settings), command=command, progress=progress)
            for question in QUESTIONS:
                if not atlas.has_part(question.name, 0):
                    atlas.write_part(question.name, 0, question.work(study))
            atlas.finish()
    return Atlas.open(folder)
