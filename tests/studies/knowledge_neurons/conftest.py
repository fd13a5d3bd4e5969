"""A study of the model written by hand, shared by the tests that look at it."""

from pathlib import Path

import pytest

import neuronatlas as na
from neuronatlas.atlas import Atlas
from neuronatlas.studies.knowledge_neurons.running import NEURONS, study_knowledge_neurons
from neuronatlas.studies.knowledge_neurons.settings import KnowledgeStudySettings
from neuronatlas.studies.knowledge_neurons.study import Study
from tests.knowledge.planted import planted_facts, planted_model

SETTINGS = KnowledgeStudySettings(sampled=2, edits=3, judged=4, draws=2, gains=(0.0, 2.0, 3.0), facts_per_part=1)


def planted_relations() -> list[na.Fact]:
    """The planted facts as two relations, and a third relation in which an answer comes back for another subject."""
    facts = planted_facts()
    named = [na.Fact("first" if i < 3 else "second", f.subject, f.answer, f.prompts) for i, f in enumerate(facts)]
    return [*named, na.Fact("again", "subject0", "answer0", ["word0 subject0 word2 [MASK]", "[MASK] word1 subject0"])]


@pytest.fixture(scope="session")
def model() -> na.Model:
    """The model written by hand."""
    return planted_model()


@pytest.fixture(scope="session")
def finished(model: na.Model, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """Its study."""
    folder: Path = tmp_path_factory.mktemp("study") / "planted"
    return study_knowledge_neurons(model, planted_relations(), folder, SETTINGS, progress=False)


@pytest.fixture(scope="session")
def study(model: na.Model, finished: Atlas) -> Study:
    """What its experiments see."""
    neurons = Atlas.open(finished.folder / NEURONS)
    return Study(model, planted_relations(), SETTINGS, None, finished, neurons, progress=False)
