"""Models for the tests of knowledge neurons."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM, BertTokenizer

import neuronatlas as na
from tests.knowledge.planted import planted_model


@pytest.fixture(scope="session")
def planted() -> na.Model:
    """A BERT written by hand whose fact neurons are known."""
    return planted_model()


@pytest.fixture(scope="session")
def golden_prompts(golden_dir: Path) -> list[tuple[str, str]]:
    """Prompts with their answers."""
    rows = json.loads((golden_dir / "knowledge-neurons" / "prompts.json").read_text(encoding="utf-8"))
    return [(row["prompt"], row["answer"]) for row in rows]


@pytest.fixture(scope="session")
def golden_model(golden_dir: Path) -> na.Model:
    """The small random BERT that the official code was run on, in float64."""
    folder = golden_dir / "knowledge-neurons"
    module = BertForMaskedLM.from_pretrained(folder, dtype=torch.float64)
    return na.load((module, BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)))
