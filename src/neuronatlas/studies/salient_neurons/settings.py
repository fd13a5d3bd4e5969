"""The settings of a study of salient neurons: all that its tables depend on beside models and corpora."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.salience.settings import SalienceSettings, corpora_digest, described
from neuronatlas.studies.settings import SettingsError

__all__ = ["StudySettings", "moderate", "study_described"]


def moderate(**changes: Any) -> SalienceSettings:
    """The settings of each model's atlas in a study, moderate in what costs most, with changes by name.

    One ranking, few cuts of the ablation curves, eight classes a property.

    >>> moderate(seed=3).methods, moderate(seed=3).seed
    (('lca',), 3)
    """
    usual: dict[str, Any] = {"methods": ("lca",), "ablated": (0.02, 0.1, 0.3), "most_classes": 8}
    return SalienceSettings(**(usual | changes))


@dataclass(frozen=True)
class StudySettings:
    """How a study is made.

    `salience` are the settings of each model's atlas: site, probe, splits, what a minimal set may lose, how many
    disjoint sets are sought. Its `most_classes` most frequent classes of each property get a minimal set of their own.
    `top` is the share of all neurons, the first of the ranking, whose layers are compared: equally many of each
    property. `draws` of the bootstrap and of random sets make intervals and chance levels.

    Errors: SettingsError for a share that is not above 0 and at most 1, and for fewer than 100 draws.
    """

    salience: SalienceSettings = field(default_factory=moderate)
    top: float = 0.05
    draws: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.top <= 1:
            raise SettingsError(f"top {self.top}: a share of the neurons above 0 and at most 1 expected")
        if self.draws < 100:
            raise SettingsError(f"draws {self.draws}: at least 100 expected for an interval of 95 %")

    @property
    def seed(self) -> int:
        """Seed of splits, controls and the bootstrap."""
        return self.salience.seed


def study_described(
    settings: StudySettings, corpora: Sequence[Corpus], members: Mapping[str, Sequence[Corpus]]
) -> dict[str, Any]:
    """The settings as plain JSON, with each member's name and a digest of what it reads: all words and labels.

    >>> from neuronatlas.probing.corpora import Sentence
    >>> corpus = Corpus((Sentence.of(["Anna"], ["PROPN"], source="line 1"),), label="upos")
    >>> list(study_described(StudySettings(), [corpus], {"model: specimen": [corpus]})["models"])
    ['model: specimen']
    """
    read = {name: corpora_digest(texts) for name, texts in members.items()}
    about = {"models": read, "top": settings.top, "draws": settings.draws}
    return about | described(settings.salience, corpora)
