"""A run of the main job on the model written by hand, shared by the tests that look at it."""

from pathlib import Path

import pytest

import neuronatlas as na
from tests.knowledge.planted import planted_facts, planted_model

SETTINGS = na.LocateSettings(facts_per_part=2, gains=(0.0, 1.0, 2.0))


def two_relations() -> list[na.Fact]:
    """The planted facts as two relations, and a fact that does not suit the model."""
    facts = planted_facts()
    named = [na.Fact("first" if i < 3 else "second", f.subject, f.answer, f.prompts) for i, f in enumerate(facts)]
    return [*named, na.Fact("second", "subject0", "answer0 nowhere", ["subject0 [MASK] word1"])]


@pytest.fixture(scope="session")
def model() -> na.Model:
    """The model written by hand."""
    return planted_model()


@pytest.fixture(scope="session")
def atlas(model: na.Model, tmp_path_factory: pytest.TempPathFactory) -> na.Atlas:
    """Its atlas."""
    folder: Path = tmp_path_factory.mktemp("atlas") / "planted"
    return na.build_atlas(model, two_relations(), folder, SETTINGS, progress=False)
