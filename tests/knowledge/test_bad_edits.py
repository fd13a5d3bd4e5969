"""Edits that are asked for wrongly: one clear line each, whatever the way of editing, and the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import neuronatlas as na
from neuronatlas.knowledge.edits import require_known
from neuronatlas.models import model as model_module
from neuronatlas.neurons import LayoutMismatchError
from tests.knowledge.planted import planted_facts, planted_model, planted_neurons
from tests.knowledge.test_edits import bits

Way = Callable[[na.Model, str, na.NeuronSet], na.Edit]


def updated(model: na.Model, answer: str, neurons: na.NeuronSet) -> na.Edit:
    return na.update(model, planted_facts()[1], answer, neurons=neurons)


def exactly(model: na.Model, answer: str, neurons: na.NeuronSet) -> na.Edit:
    return na.exact_update(model, planted_facts()[1], answer, keep=planted_facts()[2:], neurons=neurons)


def tuned(model: na.Model, answer: str, neurons: na.NeuronSet) -> na.Edit:
    return na.fine_tune(model, planted_facts()[1], answer, neurons=neurons)


every_way = pytest.mark.parametrize("way", [updated, exactly, tuned])


@pytest.fixture
def model() -> na.Model:
    return planted_model()


def refused(model: na.Model, kind: type[ValueError], message: str, act: Callable[[], object]) -> None:
    before, live = bits(model), na.live_edits(model)
    with pytest.raises(kind, match=message) as raised:
        act()
    assert "\n" not in str(raised.value)
    assert bits(model) == before
    assert na.live_edits(model) == live


@every_way
def test_the_old_answer(model: na.Model, way: Way) -> None:
    neurons = planted_neurons(model.layout(), 1)
    message = "the new answer of fact 'subject1' is the old one: 'answer1'"
    refused(model, na.EditError, message, lambda: way(model, " answer1 ", neurons))


@every_way
def test_an_answer_that_the_model_cannot_say(model: na.Model, way: Way) -> None:
    neurons = planted_neurons(model.layout(), 1)
    refused(model, na.QueryError, "'elsewhere'", lambda: way(model, "elsewhere", neurons))


@every_way
def test_a_neuron_that_does_not_exist(model: na.Model, way: Way) -> None:
    for address, message in (("L0.U400", r"no unit 400 for L0\.U400"), ("L9.U1", r"no layer 9 for L9\.U1")):
        refused(
            model,
            na.NeuronError,
            message,
            lambda address=address: way(model, "answer2", model.layout().set([address])),  # type: ignore[misc]
        )


@every_way
def test_a_model_that_changed_since_its_neurons_were_found(model: na.Model, way: Way) -> None:
    neurons = planted_neurons(model.layout(), 1)
    with torch.no_grad():
        next(model.module.parameters())[5, 5] += 1.0
    refused(model, LayoutMismatchError, "digest", lambda: way(model, "answer2", neurons))


@every_way
def test_neurons_of_another_model(model: na.Model, way: Way) -> None:
    other = replace(model.layout(), digest="another").set(["L0.U2"])
    refused(model, LayoutMismatchError, "digest", lambda: way(model, "answer2", other))


@every_way
def test_an_edit_undone_twice_and_a_folder_that_exists(model: na.Model, way: Way, tmp_path: Path) -> None:
    edit = way(model, "answer2", planted_neurons(model.layout(), 1))
    refused(model, na.EditError, "exists: give a folder that does not", lambda: edit.save(tmp_path))
    assert list(tmp_path.iterdir()) == []
    edit.undo()
    refused(model, na.EditError, "was undone already", edit.undo)


@pytest.mark.parametrize("step", ["make", "undo", "redo"])
def test_an_edit_that_is_interrupted_leaves_model_and_record_as_they_were(
    model: na.Model, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all weights for the digest takes long; whatever stops it, the next try finds what the first one found."""
    neurons, first = planted_neurons(model.layout(), 1), updated(model, "answer2", planted_neurons(model.layout(), 1))
    if step == "redo":
        first.undo()

    others = planted_neurons(model.layout(), 3)
    act = {"make": lambda: na.erase(model, others), "undo": first.undo, "redo": first.redo}[step]
    known, digest, before, standing = model.history.known(model.digest), model.digest, bits(model), na.live_edits(model)

    def interrupted(_module: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model_module, "digest_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            act()
    assert bits(model) == before
    assert na.live_edits(model) == standing
    assert (model.digest, model.history.known(digest)) == (digest, known)
    require_known(model, neurons)
    act()
    assert bits(model) != before


def test_no_neurons_or_neurons_beside_a_layer_are_refused_by_fine_tuning(model: na.Model) -> None:
    fact, neurons = planted_facts()[1], planted_neurons(model.layout(), 1)
    empty = model.layout().set([])
    refused(model, na.EditError, "no neurons to train", lambda: na.fine_tune(model, fact, "answer2", neurons=empty))
    refused(
        model,
        na.EditError,
        "both neurons and layer 0 were given",
        lambda: na.fine_tune(model, fact, "answer2", neurons=neurons, layer=0),
    )


def test_a_relation_of_neurons_of_another_model_is_refused(model: na.Model) -> None:
    own = planted_neurons(model.layout(), 1)
    stale = na.Layout("ffn", model.site("ffn").widths, "encoder", digest="another").set(own)
    refused(
        model,
        LayoutMismatchError,
        "digest",
        lambda: na.update(model, planted_facts()[1], "answer2", neurons=own, relation=[own, stale]),
    )


def test_an_update_takes_neurons_that_have_value_slots_whatever_the_default_site(model: na.Model) -> None:
    model.default_site = "attention"
    edit = na.update(model, planted_facts()[1], "answer2")
    assert set(edit.neurons) == set(planted_neurons(model.layout("ffn"), 1))
