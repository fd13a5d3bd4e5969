"""The settings of a study of knowledge neurons: all that its tables depend on beside the model, facts and texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.model import Model
from neuronatlas.models.reading import POOLINGS
from neuronatlas.readers.texts import read_texts
from neuronatlas.studies.settings import LocateSettings, SettingsError, described, facts_digest

__all__ = ["KnowledgeStudySettings", "described_study"]


@dataclass(frozen=True)
class KnowledgeStudySettings:
    """How a study is made. `locate` is how neurons are located and tested, the basis of all experiments.

    `sampled` facts of each relation, spread evenly over it, go into the experiments that are too costly for all;
    `edits` facts are updated, `judged` facts of the same relation and as many of others tell what an edit did to them.
    `draws` are how often random neurons are drawn. `thresholds` are the coarse thresholds and `gains` the factors that
    are swept. `facts_per_part` sampled facts are worked on and kept together. `pooling` is that of activations over a
    text's tokens.

    Errors: SettingsError.

    >>> KnowledgeStudySettings(edits=100, gains=(0.0, 2.0)).sampled
    4
    """

    locate: LocateSettings = field(default_factory=LocateSettings)
    sampled: int = 4
    edits: int = 40
    judged: int = 50
    draws: int = 5
    thresholds: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5)
    gains: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.25, 1.5, 2.0, 2.5, 3.0)
    facts_per_part: int = 4
    pooling: str = "max"

    def __post_init__(self) -> None:
        for name in ("sampled", "edits", "judged", "draws", "facts_per_part"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} {getattr(self, name)}: 1 or more expected")
        for name, values in (("thresholds", self.thresholds), ("gains", self.gains)):
            if not values or list(values) != sorted(set(values)):
                raise SettingsError(f"{name} {values}: different numbers in rising order expected")
        if not all(0 < threshold <= 1 for threshold in self.thresholds):
            raise SettingsError(f"thresholds {self.thresholds}: numbers above 0 and up to 1 expected")
        if self.pooling not in POOLINGS:
            raise SettingsError(f"pooling {self.pooling!r}: expected one of {', '.join(POOLINGS)}")
        if 0.0 not in self.locate.gains or 2.0 not in self.locate.gains:
            raise SettingsError(f"gains of locating {self.locate.gains}: 0 and 2 expected, which the study compares")


def described_study(
    settings: KnowledgeStudySettings,
    model: Model,
    facts: Sequence[Fact],
    texts: Path | None,
    background: Sequence[Fact] = (),
) -> dict[str, Any]:
    """The settings as plain JSON, with digests of the facts and of the texts."""
    own = {name: value for name, value in asdict(settings).items() if name != "locate"}
    located = described(settings.locate, facts, kinks=has_kinks(model), routed=model.has_experts)
    digests = {"texts_digest": None if texts is None else _digest(texts), "background_digest": facts_digest(background)}
    return own | digests | {"locate": located}


def _digest(texts: Path) -> str:
    digest = hashlib.sha256()
    for line in read_texts(texts):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]
