"""Random sets for each class in rounds: what a class needs no more of is spared, and no decision hangs on it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.probing import trials
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.interventions import ClassEffects, class_effects
from neuronatlas.probing.trials import LEVEL, ROUND
from neuronatlas.specimen import specimen_folder
from neuronatlas.studies.specimen_corpus import corpus_of_specimen

N_CONTROLS = 100


@pytest.fixture(scope="module")
def specimen() -> tuple[na.Model, Corpus, Activations]:
    model, corpus = na.load(specimen_folder()), corpus_of_specimen("upos", 60)
    return model, corpus, extract(model, corpus, "ffn", progress=False)


def found(specimen: tuple[na.Model, Corpus, Activations]) -> ClassEffects:
    """Neurons that fire for each of five classes, replaced."""
    model, corpus, acts = specimen
    values, labels = acts.align(corpus.labels)
    array, layout, sets = values.array(), model.layout("ffn"), {}
    for name in ("ADP", "AUX", "DET", "NOUN", "VERB"):
        apart = array[labels == name].mean(axis=0) - array[labels != name].mean(axis=0)
        sets[name] = layout.set(layout.neuron(int(index)) for index in np.argsort(-apart)[:12])
    return class_effects(
        model, corpus, acts, sets, n_controls=N_CONTROLS, per_class=4, min_words=4, seed=3, progress=False
    )


def test_rounds_leave_every_class_that_differs_with_the_p_of_all_random_sets(
    specimen: tuple[na.Model, Corpus, Activations], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = found(specimen)
    monkeypatch.setattr(trials, "ROUND", N_CONTROLS)
    everything = found(specimen)
    mass = pl.col("measure") == "class_mass"
    pairs = zip(
        some.classes.filter(mass).rows(named=True), everything.classes.filter(mass).rows(named=True), strict=True
    )
    spared = 0
    for one, full in pairs:
        assert full["n_controls"] == N_CONTROLS
        assert (one["change"], one["low"]) == (pytest.approx(full["change"]), pytest.approx(full["low"]))
        assert (one["p_adjusted"] <= LEVEL) == (full["p_adjusted"] <= LEVEL)
        if min(one["p"], full["p"]) <= LEVEL:
            assert (one["p"], one["n_controls"]) == (full["p"], N_CONTROLS)
        spared += N_CONTROLS - one["n_controls"]
        assert one["n_controls"] % ROUND == 0
        drawn = some.controls.filter(mass, pl.col("class") == one["class"])["control"].to_list()
        assert drawn == list(range(one["n_controls"]))
    assert spared > 0
    assert {full["p"] <= LEVEL for full in everything.classes.filter(mass).rows(named=True)} == {True, False}


def test_the_mean_over_the_classes_is_compared_with_the_sets_that_all_classes_have(
    specimen: tuple[na.Model, Corpus, Activations],
) -> None:
    some = found(specimen)
    for measure in ("class_mass", "p_gold"):
        fewest = some.classes.filter(measure=measure)["n_controls"].min()
        overall = some.overall.filter(measure=measure).row(0, named=True)
        assert overall["n_controls"] == fewest == ROUND
        drawn = some.controls.filter(pl.col("control") < ROUND, measure=measure)
        means = drawn.group_by("control").agg(pl.mean("change"))["change"]
        assert overall["control_low"] == pytest.approx(means.min())
        assert overall["p"] == (1 + (means <= overall["change"]).sum()) / (1 + ROUND)


@pytest.mark.parametrize(("as_much", "goes_on"), [(0, True), (4, True), (5, False), (20, False)])
def test_a_class_is_settled_when_its_p_can_no_longer_be_up_to_the_level(as_much: int, goes_on: bool) -> None:
    # Of 100 sets, 5 that lower it as much make p at least 6 / 101.
    masses = np.full((2 + N_CONTROLS, 1), np.nan)
    masses[0], masses[1], masses[2 : 2 + ROUND] = 0.5, 0.3, 0.4
    masses[2 : 2 + as_much] = 0.3
    assert trials._can_differ(masses, N_CONTROLS) is goes_on
