"""The search for l1 and l2 finds what it is asked to prefer."""

from __future__ import annotations

import numpy as np
import pytest

from neuronatlas.probing.activations import Activations
from neuronatlas.probing.examples import Examples
from neuronatlas.probing.probe import ElasticNetProbe, ProbeError
from neuronatlas.probing.search import search


def examples(seed: int, rows: int = 300) -> Examples:
    """Two of forty neurons carry the label, with noise on top."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, 40))
    labels = np.where(values[:, 3] + values[:, 17] + rng.standard_normal(rows) > 0, "yes", "no")
    return Examples.of(Activations.of(values), labels, ["w"] * rows, range(rows))


def test_the_search_by_dev_takes_the_fit_of_the_highest_accuracy_on_dev() -> None:
    found = search(ElasticNetProbe(), examples(0), examples(1), l1s=(0.3, 0.03, 1e-4), l2s=(1e-3,), progress=False)
    best = found.tried.filter(l1=found.probe.l1, l2=found.probe.l2)
    assert best["accuracy"].item() == found.tried["accuracy"].max()
    assert found.probe.l1 == 0.03


def test_the_search_by_ablation_prefers_rankings_that_part_top_from_bottom() -> None:
    found = search(
        ElasticNetProbe(), examples(0), examples(1), by="ablation", l1s=(0.3, 0.03, 1e-4), l2s=(1e-3,), progress=False
    )
    row = found.tried.filter(l1=found.probe.l1)
    expected = (row["top"] - row["bottom"]) / 2 - (found.tried["accuracy"].max() - row["accuracy"]) / 2
    assert row["score"].item() == pytest.approx(expected.item())
    assert row["score"].item() == found.tried["score"].max()
    assert row["top"].item() > row["bottom"].item() + 0.2


def test_an_unknown_score_and_an_empty_grid_are_refused() -> None:
    with pytest.raises(ProbeError, match="no score 'luck'"):
        search(ElasticNetProbe(), examples(0), examples(1), by="luck")
    with pytest.raises(ProbeError, match="the grid is empty"):
        search(ElasticNetProbe(), examples(0), examples(1), l1s=())
