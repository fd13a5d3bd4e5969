"""What is extracted unless a test has a model or a corpus of its own: the specimen over a few sentences."""

from __future__ import annotations

import pytest

from neuronatlas.models import Model, load
from neuronatlas.probing.corpora import Corpus
from neuronatlas.specimen import specimen_folder
from tests.probing.folders import small_corpus


@pytest.fixture(scope="module")
def model() -> Model:
    return load(specimen_folder())


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return small_corpus()
