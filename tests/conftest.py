"""What all tests share: one thread, no network, the folders of real data, models and golden numbers, a real model."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import pytest
import torch

from neuronatlas.models import Model, load

ROOT = Path(__file__).resolve().parents[1]

# Workers run side by side, and sums do not depend on the number of threads.
torch.set_num_threads(1)
# The same examples on every run and every machine; how long one takes is no promise.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("steady")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: ParaRel, Universal Dependencies and others."""
    return _folder("NEURONATLAS_DATA", "data")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Real models, a folder each."""
    return _folder("NEURONATLAS_MODELS", "models")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Numbers computed by public implementations, with their inputs."""
    return _folder("NEURONATLAS_GOLDEN", "golden")


@pytest.fixture(scope="module")
def stories(models_dir: Path) -> Model:
    """A small model that was trained on children's stories."""
    folder = models_dir / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no model stories260K in {models_dir}")
    return load(folder)


def _folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set {variable} to one that has it")
    return folder
