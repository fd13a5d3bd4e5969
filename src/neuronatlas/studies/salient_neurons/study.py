"""Several models, the same labelled sentences: an atlas for each, and one that answers the questions. Resumable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl
from tqdm.auto import tqdm

from neuronatlas.atlas import Atlas
from neuronatlas.models.model import Model
from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.children.record import Child
from neuronatlas.studies.salience.building import Stage, build_salience_atlas
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.settings import SettingsError

__all__ = ["MEMBERS", "Member", "Question", "Role", "Source", "Study", "build_member", "members_of"]

MEMBERS = "models"
"""The folder inside the study's that holds an atlas for each model."""

Role = Literal["model", "child", "shuffled child", "language"]


@dataclass(frozen=True)
class Source:
    """A model of a study: its name, and how it is loaded when its turn comes, so that one at a time is in memory.

    `role` is what it is there for: a model to be compared with the others; a child, fine-tuned from the model called
    `base`; a child trained on shuffled labels; or the model `base` on the sentences of another language. A child comes
    with its record, and a model that reads several languages has the name of each one's.

    >>> Source.of("specimen", load=lambda: None).role
    'model'
    """

    name: str
    load: Callable[[], Model]
    role: Role = "model"
    base: str = ""
    child: Child | None = None
    language: str = ""

    @classmethod
    def of_child(cls, child: Child, base: str, load: Callable[[], Model]) -> Source:
        """A fine-tuned child of the model called `base`, by the role that its training labels give it."""
        return cls(str(child.folder), load, "shuffled child" if child.shuffled else "child", base, child)

    @classmethod
    def of(cls, model: Model | str, load: Callable[[], Model] | None = None) -> Source:
        """A model in memory, or a name and how to load it."""
        if isinstance(model, str):
            if load is None:
                raise SettingsError(f"no way to load {model!r}: give a model, or a name and a function that loads it")
            return cls(model, load)
        return cls(model.name, lambda: model)


@dataclass(frozen=True)
class Member:
    """A source in its study: its place, the folder of its atlas, and the sentences that it reads."""

    index: int
    source: Source
    folder: Path
    corpora: tuple[Corpus, ...]

    @property
    def name(self) -> str:
        """The model's name in all tables."""
        return self.source.name

    @cached_property
    def atlas(self) -> Atlas:
        """Its finished atlas."""
        return Atlas.open(self.folder)

    def table(self, name: str) -> pl.DataFrame:
        """A table of its atlas; one without rows where it has none of that name."""
        return self.atlas.table(name) if name in self.atlas.tables else pl.DataFrame()


@dataclass(frozen=True)
class Study:
    """All that a question looks at: the settings, and the models with their finished atlases."""

    settings: StudySettings
    members: tuple[Member, ...]

    def of_role(self, *roles: Role) -> tuple[Member, ...]:
        """The members with one of these roles, in order."""
        return tuple(member for member in self.members if member.source.role in roles)

    def named(self, name: str) -> Member:
        """The member of a name; every child's and every language's base is there."""
        return next(member for member in self.members if member.name == name)

    @property
    def models(self) -> tuple[Member, ...]:
        """The models to be compared with each other."""
        return self.of_role("model")


@dataclass(frozen=True)
class Question:
    """A question of the study: its name in the folder, in words, and what gives the tables that answer it."""

    name: str
    doing: str
    work: Callable[[Study], dict[str, pl.DataFrame]]


def members_of(sources: Iterable[tuple[Source, Sequence[Corpus]]], folder: Path) -> tuple[Member, ...]:
    """Number the sources and give each a folder.

    Errors: SettingsError without a source, for two of the same name, and for a base that does not stand before.
    """
    listed = list(sources)
    names = [source.name for source, _ in listed]
    if not names:
        raise SettingsError("no model to study: at least one expected")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"the model {twice!r} was given twice: once is enough")
    for place, (source, _) in enumerate(listed):
        if source.role != "model" and source.base not in names[:place]:
            where = "stands after it: give it before" if source.base in names else "is not in the study"
            raise SettingsError(f"{source.name!r} is a {source.role} of {source.base!r}, which {where}")
    return tuple(
        Member(index, source, folder / MEMBERS / f"{index}-{_slug(source.name)}", tuple(corpora))
        for index, (source, corpora) in enumerate(listed)
    )


def _slug(name: str) -> str:
    """A name as part of a folder's: `/home/anna/My model` gives `my-model`."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"[^a-z0-9.]+", "-", last).strip("-.")[:40] or "model"


def build_member(
    member: Member,
    model: Model,
    settings: StudySettings,
    stages: Sequence[Stage],
    *,
    command: str = "",
    progress: bool = True,
) -> None:
    """Make the atlas of a model, or take it up again; a finished one is only checked to be of these weights and texts.

    A model with an encoder and a decoder is read at the same site of its encoder, which sees the text.
    """
    chosen, site = settings.salience, settings.salience.site
    if model.kind == "seq2seq" and f"encoder.{site}" in model.sites:
        chosen = replace(chosen, site=f"encoder.{site}")
    build_salience_atlas(
        model,
        member.corpora,
        member.folder,
        chosen,
        stages=stages,
        name=member.name,
        command=command,
        progress=progress,
    )


def digest_of(members: Sequence[Member]) -> str:
    """A digest of which models the study is of; each one's atlas has that of its weights."""
    text = "\n".join(f"{member.source.role} {member.name} {member.source.base}" for member in members)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bar_of(members: Sequence[Member], progress: bool) -> tqdm[Member]:
    """A bar over the models."""
    return tqdm(members, desc="models", unit="model", disable=not progress or len(members) < 2)
