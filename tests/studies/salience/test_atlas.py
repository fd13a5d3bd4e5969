"""From labelled sentences to an atlas of salient neurons: what the tables say is true, and nothing is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.atlas.salience.tables import COLUMNS
from neuronatlas.probing.examples import examples_of, split_by_sentences
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.rankings import rank
from neuronatlas.probing.scoring import accuracy
from neuronatlas.studies.salience.building import build_salience_atlas
from neuronatlas.studies.salience.tables import SCHEMAS
from tests.probing.planted_property import CLASSES, TWINS
from tests.studies.salience.labelled_text import FAST, of_sentences, two_properties, without_sense


def row(atlas: na.Atlas, label: str = "planted") -> dict[str, Any]:
    return atlas.table("properties").filter(label=label).row(0, named=True)


def without_experts(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of a model that has none."""
    return {name: kind for name, kind in columns.items() if name != "expert"}


def test_every_table_has_the_columns_that_are_written_down(atlas: na.Atlas) -> None:
    assert atlas.tables == sorted([*SCHEMAS, "properties"])
    for name, schema in SCHEMAS.items():
        assert dict(atlas.table(name).schema) == without_experts(schema), name
    for name, columns in COLUMNS.items():
        found = atlas.table(name).schema
        assert {column: found[column] for column in without_experts(columns)} == without_experts(columns), name


def test_planted_neurons_are_found_and_suffice(atlas: na.Atlas) -> None:
    found = row(atlas)
    assert (found["accuracy"], found["minimal_accuracy"], found["n_classes"]) == (1.0, 1.0, CLASSES)
    minimal = atlas.table("sets").filter(label="planted", set=0)
    assert 0 < minimal.height == found["minimal_size"] <= CLASSES * TWINS
    assert set(minimal.select("layer").to_series()) == {1}
    assert max(minimal["unit"]) < CLASSES * TWINS


def test_replacing_the_neurons_that_are_used_takes_the_class_away_and_random_ones_do_not(atlas: na.Atlas) -> None:
    together = atlas.table("interventions").filter(pl.col("class").is_null(), label="planted", measure="class mass")
    effect = together.row(0, named=True)
    assert effect["change"] < -0.2
    assert effect["control_low"] > effect["high"]
    assert effect["p"] == pytest.approx(1 / 20)


def test_random_labels_give_chance(model: na.Model, tmp_path: Path) -> None:
    corpus = without_sense(two_properties(200)[0])
    found = row(build_salience_atlas(model, [corpus], tmp_path / "random", FAST, progress=False), "random")
    assert found["accuracy_low"] < 1 / CLASSES < found["accuracy_high"]
    assert found["n_test"] > 80


def test_the_numbers_are_those_of_the_library(atlas: na.Atlas, model: na.Model) -> None:
    corpus = two_properties()[0]
    acts = extract(model, corpus, "ffn", progress=False)
    parts = split_by_sentences(examples_of(acts, corpus, FAST.min_count), FAST.shares, FAST.seed)
    probe = ElasticNetProbe(FAST.l1, FAST.l2, tol=FAST.tol).fit(parts.train.acts, parts.train.labels)
    found = row(atlas)
    expected = accuracy(probe, parts.test, seed=FAST.seed)
    assert (found["accuracy"], found["accuracy_low"]) == (expected.estimate, expected.low)
    assert (found["n_train"], found["n_test"], found["gap"]) == (len(parts.train), len(parts.test), probe.gap_)
    np.testing.assert_array_equal(ElasticNetProbe.load(atlas.folder / "probe-0.safetensors").coef_, probe.coef_)
    for method in FAST.methods:
        neurons = rank(parts.train.acts, parts.train.labels, method=method, probe=probe, progress=False).neurons()
        listed = atlas.table("rankings").filter(label="planted", method=method).sort("rank")
        assert [na.Neuron(*address) for address in listed.select("layer", "unit").iter_rows()] == neurons


def test_items_add_up(atlas: na.Atlas) -> None:
    for found in atlas.table("properties").iter_rows(named=True):
        dropped = atlas.table("dropped_classes").filter(label=found["label"])["n"].sum()
        used_items = sum(found[f"n_{part}"] for part in ("train", "dev", "test", "unlabelled", "vanished", "truncated"))
        assert used_items + dropped == found["n_items"]


def test_disjoint_sets_share_no_neuron_and_the_first_is_the_minimal_set(atlas: na.Atlas) -> None:
    for label in ("planted", "kind"):
        sets = atlas.table("sets").filter(label=label)
        assert sets.select("layer", "unit").n_unique() == sets.height
        disjoint = atlas.table("disjoint").filter(label=label, reached=True)
        assert disjoint["n_neurons"].to_list() == sets.group_by("set").len().sort("set")["len"].to_list()
        assert disjoint["n_neurons"][0] == row(atlas, label)["minimal_size"]


def test_layers_count_the_minimal_set_and_the_top_neurons_of_each_class(atlas: na.Atlas) -> None:
    layers = atlas.table("layers").filter(label="planted")
    whole = layers.filter(pl.col("class").is_null())
    assert whole["n"].sum() == row(atlas)["minimal_size"]
    assert whole["width"].to_list() == [40, 40]
    tops = dict(atlas.table("classes").filter(label="planted").select("class", "n_top").iter_rows())
    counted = layers.filter(pl.col("class").is_not_null()).group_by("class").agg(pl.sum("n"))
    assert dict(counted.iter_rows()) == tops


def test_ablation_has_every_method_way_and_share(atlas: na.Atlas) -> None:
    table = atlas.table("ablation").filter(label="planted")
    assert set(table["method"]) == set(FAST.methods)
    kept = table.filter(method="lca", mode="keep", retrained=False)
    assert kept.group_by("which").len()["len"].to_list() == [2, 2, 2]
    top, bottom = (kept.filter(which=which, share=0.1)["accuracy"][0] for which in ("top", "bottom"))
    assert top > bottom


def test_top_neurons_are_described_by_words_and_contexts(atlas: na.Atlas) -> None:
    neurons = atlas.table("neurons").filter(label="planted")
    assert neurons["rank"].to_list() == [0, 1, 2]
    first = neurons.row(0, named=True)
    assert first["auc"] in {0.0, 1.0}
    end = "words_up" if first["direction"] > 0 else "words_down"
    assert first[end][0].startswith(("cue", "word"))
    contexts = atlas.table("contexts").filter(label="planted", layer=first["layer"], unit=first["unit"], direction=1)
    assert contexts["place"].to_list() == [0, 1]
    assert contexts["value"].is_sorted(descending=True)
    assert all(source.startswith("planted ") for source in contexts["source"])


def test_properties_of_one_text_are_compared(atlas: na.Atlas) -> None:
    pair = atlas.table("overlaps").row(0, named=True)
    sets = {label: set(atlas.table("sets").filter(label=label, set=0)["unit"]) for label in ("planted", "kind")}
    assert (pair["label"], pair["other"]) == ("planted", "kind")
    assert pair["n_shared"] <= min(map(len, sets.values()))


def test_labels_of_sentences_are_probed_and_nothing_is_asked_of_the_model(model: na.Model, tmp_path: Path) -> None:
    found = build_salience_atlas(model, [of_sentences()], tmp_path / "sentences", FAST, progress=False)
    assert row(found, "sentiment")["accuracy"] == 1.0
    assert row(found, "sentiment")["level"] == "sentence"
    assert found.table("interventions").is_empty()
    notes = found.table("notes").filter(stage="interventions")["note"].to_list()
    assert "of whole sentences" in notes[0]
    assert na.write_report(found.folder).stat().st_size > 1_000


def test_some_layers_alone_are_looked_at(model: na.Model, tmp_path: Path) -> None:
    settings = replace(FAST, layers=(1,))
    found = build_salience_atlas(model, two_properties()[:1], tmp_path / "upper", settings, progress=False)
    assert set(found.table("rankings")["layer"]) == {1}
    assert found.table("layer_probes").filter(upto=False)["layer"].to_list() == [1]
    assert found.table("layers").filter(pl.col("class").is_null()).select("layer", "width").rows() == [(1, 40)]


def test_activations_are_removed_unless_they_are_wanted(atlas: na.Atlas, model: na.Model, tmp_path: Path) -> None:
    assert not [path for path in atlas.folder.iterdir() if path.is_dir()]
    target = tmp_path / "kept"
    build_salience_atlas(model, two_properties()[:1], target, FAST, keep_activations=True, progress=False)
    assert [path.name for path in target.iterdir() if path.is_dir()] == ["activations"]
