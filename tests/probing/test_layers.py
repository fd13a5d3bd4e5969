"""Promises of probes on single layers and on all layers up to one."""

from __future__ import annotations

import numpy as np
import pytest

from neuronatlas.probing.examples import Examples
from neuronatlas.probing.layers import accuracy_of_layers, accuracy_up_to_layers, lowest_layers
from neuronatlas.probing.scoring import accuracy, refitted
from tests.probing.planted import halves, logistic, planted

WIDTHS = (8, 12, 5, 15)


def parts() -> tuple[Examples, Examples]:
    """One bit in layer 1, another in layer 2: 4 classes."""
    return halves(planted(((10, 22),), widths=WIDTHS))


def test_each_layer_alone_shows_what_lies_in_it() -> None:
    train, test = parts()
    found = accuracy_of_layers(train, test, probe=logistic(), progress=False)
    assert found["layer"].to_list() == [0, 1, 2, 3]
    assert found["n_neurons"].to_list() == list(WIDTHS)
    # 200 rows of 4 classes: no bit known gives a quarter, one bit a half, within four standard errors.
    error = 4 * np.sqrt(0.25 / 200)
    assert found["accuracy"].to_list() == pytest.approx([0.25, 0.5, 0.5, 0.25], abs=error)


def test_layers_together_show_up_to_where_they_are_needed() -> None:
    train, test = parts()
    found = accuracy_up_to_layers(train, test, probe=logistic(), progress=False)
    assert found["n_neurons"].to_list() == np.cumsum(WIDTHS).tolist()
    assert found["accuracy"][2] > 0.98
    assert found["loss"].to_list() == pytest.approx((found["accuracy"][3] - found["accuracy"]).to_list())
    assert (found["loss_low"] <= found["loss"]).all()
    assert (found["loss"] <= found["loss_high"]).all()
    assert lowest_layers(found) == 2
    whole = accuracy(refitted(logistic(), train), test)
    assert found.select("accuracy", "low", "high").row(3) == (whole.estimate, whole.low, whole.high)


def test_layers_that_are_not_held_have_no_row() -> None:
    train, test = (examples.take_columns(np.r_[8:20, 25:40]) for examples in parts())
    assert accuracy_of_layers(train, test, probe=logistic(), progress=False)["layer"].to_list() == [1, 3]


def test_the_lowest_layers_that_do_are_found_to_the_delta() -> None:
    train, test = parts()
    found = accuracy_up_to_layers(train, test, probe=logistic(), progress=False)
    assert [lowest_layers(found, delta) for delta in (0.01, 0.6, 0.8)] == [2, 1, 0]


def test_layers_are_chosen_by_dev_and_told_on_test() -> None:
    train, test = parts()
    noise = test.relabelled(np.random.default_rng(0).permutation(test.labels).tolist())
    found = accuracy_up_to_layers(train, noise, dev=test, probe=logistic(), progress=False)
    assert lowest_layers(found) == 2
    assert found["dev_accuracy"][2] > 0.98
    assert max(found["accuracy"].to_list()) < 0.4  # test, whose labels say nothing here, took no part in the choice
    alone = accuracy_of_layers(train, noise, dev=test, probe=logistic(), progress=False)
    assert alone.sort("dev_accuracy", descending=True)["layer"].head(2).sort().to_list() == [1, 2]
