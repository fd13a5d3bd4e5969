"""One model, several languages: planted probes carry over or do not, planted facts are shared or are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import neuronatlas as na
from neuronatlas.atlas.salient_study.languages import section
from neuronatlas.knowledge.facts import FactError
from neuronatlas.probing.examples import Split
from neuronatlas.studies.salient_neurons.parallel import ParallelFact, parallel_facts_of_specimen, spoken
from neuronatlas.studies.salient_neurons.shared_facts import (
    ParallelNeurons,
    fact_overlaps,
    locate_parallel,
    parallel_effects,
    parallel_overlaps,
)
from neuronatlas.studies.salient_neurons.tables import table
from neuronatlas.studies.salient_neurons.transfer import Readings, halves, in_halves, transferred
from tests.knowledge.planted import planted_facts, planted_model, planted_neurons

LAYOUT = na.Layout("hidden", (10, 10))


def part(units: range, language: str, seed: int, rows: int = 200) -> na.Examples:
    """Words of a language whose class these units tell; its words are its own but for one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=rows)
    values = rng.normal(size=(rows, LAYOUT.n_neurons)).astype(np.float32)
    for unit in units:
        values[:, unit] += 4.0 * labels - 2
    words = ["," if row % 4 == 0 else f"{language}{row % 20}" for row in range(rows)]
    names = np.array(["noun", "verb"])[labels]
    return na.Examples.of(na.Activations.of(values, LAYOUT), names, words, np.arange(rows) // 5)


def split(units: range, language: str) -> Split:
    seed = sum(map(ord, language))
    train, dev, test = (part(units, language, seed + place) for place in range(3))
    return Split(train, dev, test)


@pytest.fixture(scope="module")
def readings() -> Readings:
    """Two languages whose class lies in the same units, and one whose class lies elsewhere."""
    parts = {"en": split(range(3), "en"), "de": split(range(3), "de"), "es": split(range(10, 13), "es")}
    probes = {
        name: na.ElasticNetProbe(1e-3, 1e-2, tol=1e-2).fit(p.train.acts, p.train.labels) for name, p in parts.items()
    }
    return Readings(parts, probes)


def test_probes_carry_over_where_the_neurons_are_the_same_and_are_at_chance_where_not(readings: Readings) -> None:
    found = {(row["trained"], row["tested"]): row for row in transferred(readings, seed=0)}
    assert len(found) == 9
    assert found["en", "de"]["accuracy"] > 0.95
    assert found["en", "en"]["accuracy"] > 0.95
    apart = found["en", "es"]
    assert apart["accuracy_low"] < 0.5 < apart["accuracy_high"]
    assert abs(apart["majority"] - 0.5) < 0.1


def test_words_that_train_has_are_told_from_those_that_are_new(readings: Readings) -> None:
    found = {(row["trained"], row["tested"]): row for row in transferred(readings, seed=0)}
    assert found["en", "en"]["n_new"] == 0
    assert np.isnan(found["en", "en"]["new_accuracy"])
    assert found["en", "de"]["n_new"] == 150  # all but the comma
    assert found["en", "de"]["new_accuracy"] > 0.95


def test_classes_that_train_lacks_are_left_out_and_counted(readings: Readings) -> None:
    test = readings.parts["de"].test
    other = test.relabelled(["other" if row < 30 else str(label) for row, label in enumerate(test.labels)])
    parts = {**readings.parts, "de": Split(readings.parts["de"].train, readings.parts["de"].dev, other)}
    found = {(row["trained"], row["tested"]): row for row in transferred(Readings(parts, readings.probes), seed=0)}
    assert (found["en", "de"]["n_test"], found["en", "de"]["n_unknown"]) == (170, 30)


def test_two_halves_of_one_language_have_the_planted_neurons_in_common(readings: Readings) -> None:
    train = readings.parts["en"].train
    first, second = halves(train, readings.probes["en"], 3, seed=0)
    assert [neuron.unit for neuron in first & second] == [0, 1, 2]
    assert {neuron.layer for neuron in first | second} == {0}


def test_halves_have_the_same_classes_and_what_cannot_be_in_both_is_left_out() -> None:
    train = part(range(3), "en", 0)
    labels = train.labels.tolist()
    labels[7] = "once"  # of one sentence: in one half alone
    labels[0] = labels[199] = "twice"  # of two sentences, which every other order puts into one half
    rare = train.relabelled(labels)
    for seed in range(8):
        first, second, left_out = in_halves(rare, seed=seed)
        assert first.classes == second.classes == ("noun", "twice", "verb")
        assert left_out == ("once",)
        assert not set(first.sentences) & set(second.sentences)
    with pytest.raises(na.ExamplesError, match="1 of 2 classes in both halves of 40 sentences"):
        in_halves(train.relabelled(["rare" if row == 3 else "other" for row in range(200)]), seed=0)


@pytest.fixture(scope="module")
def model() -> na.Model:
    return planted_model()


@pytest.fixture(scope="module")
def parallel() -> list[ParallelFact]:
    """The planted facts in two wordings that stand for languages."""
    return [
        ParallelFact(
            {name: na.Fact("planted", f.subject, f.answer, f.prompts[at : at + 2]) for name, at in (("a", 0), ("b", 2))}
        )
        for f in planted_facts()
    ]


@pytest.fixture(scope="module")
def located(model: na.Model, parallel: list[ParallelFact]) -> ParallelNeurons:
    return locate_parallel(model, parallel, progress=False, share=0.7)


def test_language_independent_neurons_are_recovered(model: na.Model, located: ParallelNeurons) -> None:
    assert [one.members for one in located.common()] == [planted_neurons(model.layout(), n).members for n in range(5)]
    found = fact_overlaps(located)
    assert found["jaccard"].to_list() == [1.0] * 5
    assert found["other_facts"].to_list() == [0.0] * 5
    assert found["n_common"].to_list() == [2] * 5
    summary = parallel_overlaps(located, seed=0).filter(facts="all")
    assert summary.select("n_facts", "jaccard", "with_common").row(0) == (5, 1.0, 1.0)
    assert summary["p"][0] < 0.03  # 5! orders, so that chance is right by one in 120


def test_neurons_of_other_facts_in_the_other_language_are_at_chance(located: ParallelNeurons) -> None:
    turned = [*located.sets["b"][1:], located.sets["b"][0]]
    moved = ParallelNeurons(located.facts, {"a": located.sets["a"], "b": turned})
    summary = parallel_overlaps(moved, seed=0).filter(facts="all")
    assert summary["jaccard"][0] == 0
    assert summary["p"][0] == 1


def test_suppressing_what_one_language_found_moves_the_other_and_controls_do_not(
    model: na.Model, located: ParallelNeurons
) -> None:
    effects = parallel_effects(model, located, progress=False).filter(facts="all")
    assert effects.select("located", "asked").unique().height == 4
    across = effects.filter(located="a", asked="b")
    effect = dict(across.select("kind", "change").rows())
    assert effect["own"] < -0.3
    assert effect["common"] == pytest.approx(effect["own"])
    assert abs(effect["random"]) < 0.02
    assert abs(effect["other fact"]) < 0.02
    assert across.filter(kind="own")["log_odds_change_high"][0] < 0


def test_an_empty_set_takes_no_part(model: na.Model, located: ParallelNeurons) -> None:
    nothing = na.NeuronSet(model.layout(), ())
    holes = ParallelNeurons(located.facts, {"a": [nothing, *located.sets["a"][1:]], "b": located.sets["b"]})
    assert fact_overlaps(holes)["jaccard"][0] is None
    effects = parallel_effects(model, holes, progress=False).filter(located="a", asked="b", facts="all")
    assert effects["n_facts"].to_list() == [4, 4, 4, 4]


def test_the_specimens_facts_are_the_same_in_three_languages() -> None:
    model = na.load(na.specimen_folder())
    found = parallel_facts_of_specimen(model, relations=["capital"])
    france = next(one for one in found if one.name.startswith("France"))
    assert {name: fact.answer for name, fact in france.facts.items()} == {"en": "Paris", "de": "Paris", "es": "París"}
    assert spoken(found) == ["en", "de", "es"]
    with pytest.raises(FactError, match="no such facts"):
        parallel_facts_of_specimen(model, relations=["author"])


def test_facts_that_are_not_parallel_are_refused_in_one_line() -> None:
    fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    with pytest.raises(FactError, match="two languages expected"):
        ParallelFact({"en": fact})
    with pytest.raises(FactError, match="one relation expected"):
        ParallelFact({"en": fact, "de": na.Fact("sport", "Pelé", "Fußball", ["Pelé spielt [MASK]."])})
    with pytest.raises(FactError, match="two or more expected"):
        spoken([])


def test_the_report_says_what_languages_share_and_which_probes_carry_over(readings: Readings) -> None:
    rows = [{"label": "upos"} | row | {"random_weights_high": 0.5} for row in transferred(readings, seed=0)]
    pair: dict[str, Any] = {
        "label": "upos",
        "of": "top",
        "language": "en",
        "other": "de",
        "jaccard": 0.5,
        "expected_jaccard": 0.1,
    }
    pair["n_shared"] = 3
    tables = {
        "language_pairs": table("language_pairs", [pair | {"p_in_layers_adjusted": 0.01, "p_distance_adjusted": 0.6}]),
        "language_halves": table("language_halves", [{"label": "upos", "language": "en", "jaccard": 0.9}]),
        "transfer": table("transfer", rows),
        "minimal_sets": table("minimal_sets", [{"label": "upos"}]),
    }
    found = section(tables)
    assert found is not None
    assert found.finding.startswith("In 1 of 1 comparison two languages share more top neurons")
    assert "2 of 6 probes tested on a language that it was not trained on do better" in found.finding
    assert [plot.name for plot in found.plots] == ["language-overlaps", "transfer-0"]
    blind = pair | {"label": "tense", "read": False, "p_in_layers_adjusted": 0.01, "p_distance": 0.001}
    tables["language_pairs"] = table("language_pairs", [pair | {"p_in_layers": 0.001, "p_distance": 0.001}, blind])
    tables["transfer"] = table("transfer", [row | {"read": row["tested"] != "es"} for row in rows])
    found = section(tables)
    assert found is not None
    text = found.finding
    assert text.startswith("In 0 of 1 comparison")  # p that are not adjusted, and blind pairs, are no finding
    assert "in 0 their layers are further apart than chance" in text
    assert "2 of 4 probes" in text
    assert "1 comparison left out, where a probe reads tense no better than chance on one of both sides" in text
    assert "2 probes left out" in text
    assert section({"language_pairs": table("language_pairs", [])}) is None
