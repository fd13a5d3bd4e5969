"""Toy mixtures of experts that know a few facts, trained once for all tests that ask them."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import neuronatlas as na

# The scripts find each other in their own folder, as they do when they are run.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import trained_experts

world = trained_experts.world
FACTS = world()[10:14]
"""Two facts of each relation."""


@cache
def knowing(style: str) -> na.Model:
    """A model of one of `trained_experts.STYLES` that was trained on all facts."""
    return trained_experts.trained(style)
