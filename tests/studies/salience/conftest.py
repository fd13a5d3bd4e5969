"""A study of two planted properties on the model written by hand, shared by the tests that look at it."""

from __future__ import annotations

import pytest

import neuronatlas as na
from neuronatlas.studies.salience.building import build_salience_atlas
from tests.probing.planted_property import planted_model
from tests.studies.salience.labelled_text import FAST, two_properties


@pytest.fixture(scope="session")
def model() -> na.Model:
    """The model in which a property was planted."""
    return planted_model(blur=0.1)


@pytest.fixture(scope="session")
def atlas(model: na.Model, tmp_path_factory: pytest.TempPathFactory) -> na.Atlas:
    """Its atlas; no test writes into it."""
    folder = tmp_path_factory.mktemp("salience") / "planted"
    return build_salience_atlas(model, two_properties(), folder, FAST, progress=False)
