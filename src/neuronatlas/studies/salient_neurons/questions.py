"""The questions of a study in the order of its report, and the function that asks them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronatlas.atlas import Atlas
from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.salience.building import require_probeable
from neuronatlas.studies.salient_neurons import architectures, fine_tuning, languages, layers, minimal, redundancy
from neuronatlas.studies.salient_neurons.languages import read_languages
from neuronatlas.studies.salient_neurons.measuring import stages
from neuronatlas.studies.salient_neurons.settings import StudySettings, study_described
from neuronatlas.studies.salient_neurons.study import (
    Member,
    Question,
    Source,
    Study,
    bar_of,
    build_member,
    digest_of,
    members_of,
)
from neuronatlas.studies.settings import SettingsError

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
    language: str = "base",
    command: str = "",
    progress: bool = True,
) -> Atlas:
    """Ask all questions of some models on the same labelled sentences, and leave an atlas of the answers in `folder`.

    `corpora` are the same sentences with the labels of one property each; sentences that a child among the models was
    trained on take no part. `languages` are sentences of other languages with the same properties in the same order, by
    name, for the first model; `language` is what that of `corpora` is called beside them. Each model's own atlas lies
    in `folder/models`; it is made in turn, so that the activations of one model at a time are on the disk. Interrupted
    at any moment, the same call goes on and ends in the same bytes; of a finished study it only checks that models and
    sentences are the same. `questions.QUESTIONS` names the tables.

    Errors: SettingsError for no model, or one that is given twice, and for languages of other properties or of one
    name; ChildError for a child of another base, of other weights than its record tells, or that was trained on all
    sentences; AtlasError for a folder of other models or sentences; those of `build_salience_atlas`.
    """
    settings, folder = settings or StudySettings(), Path(folder)
    corpora = fine_tuning.unseen([source.child for source in sources if source.child is not None], corpora)
    members = _members(sources, corpora, folder, languages or {}, language)
    for texts in (corpora, *(languages or {}).values()):
        require_probeable(texts, settings.salience)
    about: dict[str, Any] = {"id": ", ".join(source.name for source in sources), "digest": digest_of(members)}
    plain = study_described(settings, corpora, {f"{one.source.role}: {one.name}": one.corpora for one in members})
    if languages:
        plain["language"] = language
    study = Study(settings, members)
    with Atlas.create_or_resume(folder, model=about, settings=plain, command=command, seed=settings.seed) as atlas:
        for member in bar_of(members, progress):
            model = member.source.load()
            fine_tuning.require_base(study, member, model)
            build_member(member, model, settings, stages(settings), command=command, progress=progress)
        if atlas.state != "complete":
            for question in QUESTIONS:
                if not atlas.has_part(question.name, 0):
                    atlas.write_part(question.name, 0, question.work(study))
            read_languages(study, atlas, progress=progress)
            atlas.finish()
    return Atlas.open(folder)


def _members(
    sources: Sequence[Source],
    corpora: Sequence[Corpus],
    folder: Path,
    languages: Mapping[str, Sequence[Corpus]],
    language: str,
) -> tuple[Member, ...]:
    """The sources on the corpora, and after them the first one again for each of the other languages."""
    wanted = [corpus.label for corpus in corpora]
    for name, texts in languages.items():
        if name == language:
            raise SettingsError(f"two languages are called {name!r}: give the first one another name (--language-name)")
        if (labels := [corpus.label for corpus in texts]) != wanted:
            raise SettingsError(
                f"language {name!r} has the properties {', '.join(labels)}: {', '.join(wanted)} expected, in this order"
            )
    given = [(source, corpora) for source in sources]
    if languages and sources:
        first = replace(sources[0], language=language)
        given[0] = first, corpora
        given += [
            (Source(f"{first.name} ({name})", first.load, "language", first.name, language=name), list(texts))
            for name, texts in languages.items()
        ]
    return members_of(given, folder)
