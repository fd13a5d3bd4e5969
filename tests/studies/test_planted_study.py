"""Every index of a study of salient neurons, on activations in which the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neuronatlas.studies.salient_neurons import architectures, layers, minimal, redundancy
from neuronatlas.studies.salient_neurons.architectures import histogram_overlap
from neuronatlas.studies.salient_neurons.reading import members_in
from neuronatlas.studies.salient_neurons.settings import StudySettings, moderate
from neuronatlas.studies.salient_neurons.study import Study
from tests.studies.planted_study import Planted, member

SETTINGS = StudySettings(moderate(most_classes=4, ablated=(0.1,), most_sets=4), top=0.1, draws=300)
WHERE = ("probe", "controls", "rank", "select", "shuffle")
"""The stages that say where neurons lie, and whether a probe reads them at all."""

WIDTH = 20
SPREAD = [[WIDTH * layer + unit] for layer in range(5) for unit in (0, 1)]
MANY = [[2, 3, 4], [22, 23, 24], [42, 43, 44]]
LOCAL = [[unit] for unit in range(62, 72)]
LOWER = [[unit] for unit in range(5, 15)]

MODELS = {
    # Five layers: a property in all of them, one in layer 3 alone, one of three bits three times over in layers 0 to 2,
    # and one of which nothing can be read.
    "first": Planted((WIDTH,) * 5, {"spread": SPREAD, "local": LOCAL, "many": MANY, "random": ()}),
    # Nine layers, and the property that is in one layer at the same depth, three quarters up.
    "deeper": Planted(
        (12,) * 9,
        {
            "spread": [[12 * layer + 11] for layer in range(9)],
            "local": [[unit] for unit in range(72, 82)],
            "random": (),
        },
        seed=11,
    ),
    # As the first, with that property in layer 0.
    "lower": Planted((WIDTH,) * 5, {"spread": SPREAD, "local": LOWER, "random": ()}, seed=21),
}
TWINS = Planted((WIDTH,) * 5, {"local": LOCAL, "local~2": (), "spread": SPREAD})
"""A property by two names."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder: Path = tmp_path_factory.mktemp("study")
    lighter = StudySettings(moderate(most_sets=1), top=SETTINGS.top, draws=SETTINGS.draws)
    members = [
        member(planted, i, folder, lighter if i else SETTINGS, name, WHERE if i else ())
        for i, (name, planted) in enumerate(MODELS.items())
    ]
    return Study(SETTINGS, tuple(members))


@pytest.fixture(scope="module")
def tables(study: Study) -> dict[str, pl.DataFrame]:
    """Where neurons lie in all models, the rest of the first."""
    first = Study(SETTINGS, study.members[:1])
    asked = ((minimal, first), (layers, study), (redundancy, first), (architectures, study))
    return {name: table for question, whose in asked for name, table in question.answered(whose).items()}


def row(tables: dict[str, pl.DataFrame], table: str, **wanted: str) -> dict[str, Any]:
    found = tables[table]
    for column, value in wanted.items():
        found = found.filter(pl.col(column) == value)
    return found.row(0, named=True)


def found_in(study: Study, label: str, of: str) -> set[int]:
    """The flat indices of the neurons of a set in the first model."""
    neurons = members_in(study.members[0], label, of, SETTINGS.top)
    return {WIDTH * layer + unit for layer, unit in neurons.select("layer", "unit").iter_rows()}


@pytest.mark.parametrize(("label", "planted"), [("spread", SPREAD), ("local", LOCAL)])
def test_the_top_neurons_are_the_planted_ones(study: Study, label: str, planted: list[list[int]]) -> None:
    wanted = {unit for copy in planted for unit in copy}
    right = len(found_in(study, label, "top") & wanted)
    assert right / len(wanted) >= 0.95
    assert right / len(found_in(study, label, "top")) >= 0.95


def test_a_minimal_set_is_one_neuron_for_each_bit_and_reads_what_all_read(
    study: Study, tables: dict[str, pl.DataFrame]
) -> None:
    members = found_in(study, "many", "set")
    assert [sum(copy[bit] in members for copy in MANY) for bit in range(3)] == [1, 1, 1]
    assert len(members) == 3
    own = row(tables, "minimal_sets", model="first", label="many")
    assert own["n_classes"] == 8
    assert own["reached"] is True
    assert own["accuracy"] >= 0.98
    assert own["set_accuracy"] >= 0.98
    assert own["selectivity_low"] > 0.6  # words say nothing, so the control task is at chance


def test_the_set_of_a_class_is_what_tells_it_from_the_others(study: Study, tables: dict[str, pl.DataFrame]) -> None:
    own = tables["class_sets"].filter(label="many")
    assert min(own["set_accuracy"]) >= 0.95
    planted = {unit: bit for copy in MANY for bit, unit in enumerate(copy)}
    chosen = study.members[0].table("class_set_neurons").filter(label="many")
    for name in own["class"]:
        rows = chosen.filter(pl.col("class") == name).select("layer", "unit").iter_rows()
        members = [WIDTH * layer + unit for layer, unit in rows]
        right = [planted[unit] for unit in members if unit in planted]
        assert len(right) / len(members) >= 0.95
        assert set(right) == {0, 1, 2}  # a class is one value of all three bits
    assert tables["class_sets"].filter(label="local")["set_size"].to_list() == [1, 1]


def test_a_property_in_one_layer_is_localised_and_one_in_all_is_not(tables: dict[str, pl.DataFrame]) -> None:
    local = row(tables, "localisation", model="first", label="local", of="top")
    assert local["index"] == pytest.approx(1.0)
    assert local["excess"] == pytest.approx(1.0)
    assert local["p_adjusted"] <= 0.05
    assert local["mean_depth"] == pytest.approx(0.75)
    assert local["shuffled_p"] <= 0.05
    spread = row(tables, "localisation", model="first", label="spread", of="top")
    assert spread["index"] == pytest.approx(0.0, abs=1e-9)
    assert spread["p_adjusted"] > 0.5
    assert spread["excess"] <= 0
    assert spread["mean_depth"] == pytest.approx(0.5)
    shares = tables["layer_shares"].filter(model="first", label="local", of="top").sort("layer")
    assert shares["share"].to_list() == [0, 0, 0, 1, 0]
    assert shares["depth"].to_list() == [0, 0.25, 0.5, 0.75, 1]


def test_the_number_of_copies_is_right_however_it_is_counted(tables: dict[str, pl.DataFrame]) -> None:
    many = row(tables, "redundancy", model="first", label="many")
    assert many["n_disjoint"] == 3
    assert many["disjoint_bound"] is False
    assert many["set_clusters"] == 3
    assert many["copies"] == pytest.approx(3.0)
    assert many["share_in_sets"] == pytest.approx(0.09)
    local = row(tables, "redundancy", model="first", label="local")
    assert local["copies"] == pytest.approx(10.0)
    assert local["n_disjoint"] == SETTINGS.salience.most_sets
    assert local["disjoint_bound"] is True


def test_layers_above_those_that_suffice_can_go(tables: dict[str, pl.DataFrame]) -> None:
    many, local = (row(tables, "redundancy", model="first", label=label) for label in ("many", "local"))
    assert (many["lowest_enough"], many["n_can_go"]) == (0, 4)
    assert (local["lowest_enough"], local["n_can_go"]) == (3, 1)
    assert local["best_layer"] == 3
    assert local["best_layer_accuracy"] >= 0.98
    assert local["enough_accuracy"] >= local["all_layers_accuracy"] - 0.03


def test_what_is_chosen_on_dev_is_told_on_test(study: Study, tables: dict[str, pl.DataFrame]) -> None:
    probes = study.members[0].table("layer_probes")
    for own in tables["redundancy"].iter_rows(named=True):
        mine = probes.filter(label=own["label"])
        best = mine.filter(~pl.col("upto")).sort("dev_accuracy", "layer", descending=[True, False]).row(0, named=True)
        assert (own["best_layer"], own["best_layer_accuracy"]) == (best["layer"], best["accuracy"])
        enough = mine.filter(pl.col("upto"), layer=own["lowest_enough"]).row(0, named=True)
        assert (own["enough_accuracy"], own["enough_accuracy_high"]) == (enough["accuracy"], enough["high"])


def test_a_property_by_another_name_shares_all_neurons_and_others_share_none(tmp_path: Path) -> None:
    own = Study(SETTINGS, (member(TWINS, 0, tmp_path, StudySettings(moderate(most_sets=1)), "twins", WHERE),))
    found = layers.answered(own)
    same = row(found, "property_pairs", label="local", other="local~2", of="top")
    assert (same["n_shared"], same["jaccard"], same["distance"]) == (10, 1, 0)
    assert same["p_adjusted"] < 1e-6
    apart = row(found, "property_pairs", label="local", other="spread", of="top")
    assert apart["n_shared"] == 0
    assert apart["p"] > 0.3


def test_models_of_different_depth_that_keep_it_at_the_same_depth_are_not_told_apart(
    tables: dict[str, pl.DataFrame],
) -> None:
    same = row(tables, "model_pairs", label="local", of="top", model="first", other="deeper")
    assert same["distance"] < 0.1
    assert same["p_adjusted"] > 0.05
    even = row(tables, "model_pairs", label="spread", of="top", model="first", other="deeper")
    assert even["overlap"] > 0.8
    assert even["p"] > 0.2


def test_models_that_keep_it_at_other_depths_are_told_apart_with_the_sign(tables: dict[str, pl.DataFrame]) -> None:
    moved = row(tables, "model_pairs", label="local", of="top", model="first", other="lower")
    assert moved["distance"] == pytest.approx(0.75)
    assert moved["moved"] == pytest.approx(-0.75)
    assert moved["overlap"] == 0
    assert moved["p_adjusted"] <= 0.05
    assert moved["moved_high"] < -0.5
    assert moved["excess_difference"] == pytest.approx(0.0, abs=1e-9)


def test_random_labels_give_chance_in_every_figure(tables: dict[str, pl.DataFrame]) -> None:
    own = row(tables, "minimal_sets", label="random")
    assert own["accuracy_low"] <= own["majority"]  # one-sided: that it is read is what nobody may claim
    assert own["accuracy"] == pytest.approx(0.5, abs=0.12)
    assert own["selectivity_low"] <= 0
    for model in MODELS:  # an interval over ten neurons misses chance more often than its level says; p does not
        place = row(tables, "localisation", model=model, label="random", of="top")
        assert place["p_adjusted"] > 0.05
        assert place["shuffled_p"] > 0.05
    for other in ("deeper", "lower"):
        pair = row(tables, "model_pairs", model="first", other=other, label="random", of="top")
        assert pair["p"] > 0.05
    classes = tables["class_sets"].filter(label="random")
    assert classes.height == 2
    assert max(classes["accuracy_low"]) <= 0.5
    pairs = tables["property_pairs"].filter((pl.col("label") == "random") | (pl.col("other") == "random"))
    assert pairs.filter(pl.col("p_adjusted") <= 0.05).is_empty()


def test_random_labels_lie_in_layers_as_random_neurons_do_where_none_copies_another(tmp_path: Path) -> None:
    noise = Planted((WIDTH,) * 5, {"random": (), "chance": ()}, seed=31)
    own = member(noise, 0, tmp_path, StudySettings(moderate(most_sets=1)), "noise", WHERE)
    places = layers.answered(Study(SETTINGS, (own,)))["localisation"].filter(of="top")
    assert places.height == 2
    assert places.filter(pl.col("p_adjusted") <= 0.05).is_empty()


def test_shuffled_labels_and_activations_of_no_training_give_chance(tables: dict[str, pl.DataFrame]) -> None:
    for own in tables["minimal_sets"].filter(pl.col("label") == "many").iter_rows(named=True):
        assert own["shuffled"] < 0.25
        assert own["random_weights"] < 0.25
    shuffled = tables["localisation"].filter(of="shuffled")
    assert shuffled.height == sum(len(planted.copies) for planted in MODELS.values())
    assert shuffled.filter(pl.col("p_adjusted") <= 0.05).is_empty()


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ([5, 0, 0], [5, 0, 0], 1.0),
        ([1, 0], [0, 1], 0.0),
        ([1, 1], [1, 1, 1, 1], 1.0),
        ([9, 0, 0], [3, 0, 0, 0, 0, 0], 1.0),
    ],
)
def test_histograms_of_any_numbers_of_layers_compare(first: list[int], second: list[int], common: float) -> None:
    assert histogram_overlap(first, second) == pytest.approx(common)
    assert histogram_overlap(second, first) == pytest.approx(common)
