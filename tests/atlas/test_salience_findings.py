from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from neuronatlas.atlas.salience import findings, listings
from neuronatlas.atlas.salience.caveats import caveats
from neuronatlas.atlas.salience.reading import main_interventions, n_neurons, shown_agreement
from neuronatlas.atlas.salience.tables import COLUMNS, completed
from neuronatlas.atlas.salience.tiles import tiles

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

SMALL: dict[str, Any] = {"labels": ("upos",), "layers": 4, "width": 50}


def plain(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def sound(make_salience: MakeTables) -> Tables:
    """Complete tables of one property with nothing to be careful about."""
    tables = make_salience(**SMALL)
    properties = tables["properties"].with_columns(word_majority=pl.lit(0.7), random_weights_high=pl.lit(0.7))
    properties = properties.with_columns(random_weights=pl.lit(0.69), random_weights_low=pl.lit(0.68))
    return completed(tables | {"properties": properties, "dropped_classes": tables["dropped_classes"].clear()})


def changed(tables: Tables, table: str, **values: Any) -> Tables:
    kinds = COLUMNS[table]
    return tables | {
        table: tables[table].with_columns(pl.lit(value, kinds[name]).alias(name) for name, value in values.items())
    }


def test_the_fixture_has_the_columns_that_a_report_reads(make_salience: MakeTables) -> None:
    made = make_salience(**SMALL | {"labels": ("upos", "suffix")})
    assert {name: set(frame.columns) for name, frame in made.items()} == {
        name: set(columns) - {"expert"} for name, columns in COLUMNS.items()
    }


def test_the_headline_of_one_property_gives_accuracy_set_and_controls(sound: Tables) -> None:
    found = findings.headline(sound)
    assert plain(found.statement) == (
        "Part of speech (upos) is read from 200 neurons with 95.0 % [94.2, 95.8] accuracy; 2 neurons (1.0 %) suffice."
    )
    assert plain(found.verdict).startswith(
        "Always saying the most frequent class gives 17.0 %, each word's most frequent class gives 70.0 % and "
        "the same probe on the model with random weights gives 69.0 %. In the running model, replacing the top "
        "2 neurons by their mean changes the probability of the right class by -"
    )


def test_the_headline_of_several_properties_gives_the_range(make_salience: MakeTables) -> None:
    found = findings.headline(completed(make_salience(**SMALL | {"labels": ("upos", "suffix", "deprel")})))
    assert plain(found.statement) == (
        "3 properties are read from 200 neurons with 87.0 to 95.0 % accuracy; "
        "2 to 10 neurons (1.0 to 5.0 %) suffice for each."
    )
    assert found.verdict == (
        "The probe is better than the same probe on random weights in 3 of 3 properties and than the most frequent "
        "class of each word in 3 of 3 properties, intervals apart."
    )


def test_a_set_that_was_not_reached_is_not_said_to_suffice(sound: Tables) -> None:
    tables = changed(sound, "properties", minimal_reached=False, minimal_size=200)
    assert findings.headline(tables).statement.endswith("accuracy; no smaller set does as well.")
    assert findings.minimal_sentence(tables) == "No set smaller than all neurons did as well as all."
    assert [tile.note for tile in tiles(tables)][1] == "no smaller set does as well"
    several = pl.concat([tables["properties"], sound["properties"]])
    assert "suffice for 1 of them" in findings.headline(tables | {"properties": several}).statement


def test_a_headline_without_an_accuracy_says_so(sound: Tables) -> None:
    assert "was not measured" in findings.headline(changed(sound, "properties", accuracy=None)).statement


def test_neurons_are_counted_from_whatever_table_tells_of_them(sound: Tables) -> None:
    tables = sound
    for emptied in ((), ("rankings",), ("layers",)):
        tables = tables | {name: tables[name].clear() for name in emptied}
        assert n_neurons(tables, "upos") == 200
    assert n_neurons(changed(tables, "properties", minimal_share=None), "upos") is None


def test_sentences_tell_what_the_tables_hold(make_salience: MakeTables) -> None:
    tables = completed(make_salience(**SMALL | {"labels": ("upos", "suffix")}))
    assert plain(findings.accuracy_sentence(tables)) == (
        "Selectivity, by how much it learns the property better than labels drawn at random, is +21.0 points. "
        "Words that training did not have are read with 86.0 to 90.0 %, those that it had with 92.0 to 96.0 %."
    )
    assert plain(findings.minimal_sentence(tables)).startswith("To read 2 properties, 1.0 % to 3.0 % of the neurons")
    assert findings.disjoint_sentence(tables) == "4 sets without a common neuron do so for each."
    alone = tables | {"properties": tables["properties"].with_columns(n_disjoint=pl.lit(1, pl.Int64))}
    assert findings.disjoint_sentence(alone) == "1 set without a common neuron does so for each."
    assert plain(findings.corpus_sentence(tables)) == "From 2,001 sentences with 25,147 words of en_ewt-ud-dev.conllu."
    assert findings.layers_sentence(tables).startswith("From low to high, by the mean layer of their minimal sets: ")
    kept = plain(findings.ablation_sentence(tables))
    assert kept.startswith("With only the top 1 % of the neurons a probe trained anew on them reaches 9")
    assert kept.endswith("with bottom ones, mean over the properties.")
    assert plain(findings.exactness_sentence(tables)).endswith(
        "left is 8.3e-07 nats. Penalties: l1 = 0.001, l2 = 0.001."
    )


def test_where_one_property_lies_is_compared_with_an_even_spread(sound: Tables) -> None:
    rows = [("upos", None, layer, n, n / 10, 5) for layer, n in enumerate((1, 6, 3))]
    layers = pl.DataFrame(rows, schema=["label", "class", "layer", "n", "share", "width"], orient="row")
    tables = completed(sound | {"layers": layers})
    assert plain(findings.layers_sentence(tables)) == (
        "Layer 1 holds the most, 60 % of the minimal set where an even spread would put 33 %; the mean layer is 1.2."
    )


def test_a_sound_study_needs_no_caveat(sound: Tables) -> None:
    assert caveats(sound) == []


@pytest.mark.parametrize(
    ("table", "values", "caveat"),
    [
        (
            "properties",
            {"majority": 0.945},
            "no better than always saying the most frequent class (95.0 % [94.2, 95.8]",
        ),
        ("properties", {"word_majority": 0.95}, "Each word's most frequent class does as well as the probe"),
        ("properties", {"random_weights_high": 0.943}, "nearly as well on the model with random weights"),
        ("properties", {"random_weights": 0.9}, "nearly as well on the model with random weights"),
        (
            "properties",
            {"selectivity": 0.04},
            "Selectivity is low: the probe has the room to learn words by heart (+4.0",
        ),
        ("properties", {"unseen_accuracy": 0.7}, "not occur in training are read much worse (70.0 % against 96.0 %)."),
        (
            "properties",
            {"by_type_accuracy": 0.6},
            "With no word type in both training and test the accuracy is much lower",
        ),
        (
            "properties",
            {"minimal_reached": False},
            "No set smaller than all neurons did as well as all (allowed to lose 1 point).",
        ),
        ("properties", {"disjoint_bound": True}, "ended by its bound, there may be more (4 found)."),
        ("properties", {"gap": 2e-5}, "stopped before its duality gap fell to 1e-06 (2.0e-05)."),
        ("properties", {"n_vanished": 3}, "(3 words that the tokenizer drops, less than 0.1 % of all)."),
        ("properties", {"n_truncated": 1000}, "(1,000 words beyond the model's longest input, 4.0 % of all)."),
        (
            "properties",
            {"n_test": 30},
            "The test is small, so intervals are wide and little can be told apart (30 words).",
        ),
        (
            "interventions",
            {"p_adjusted": 0.3},
            "do more than replacing matched random ones (lowest adjusted p of 17 cla",
        ),
        ("interventions", {"n_controls": 20}, "With 20 random sets to compare with, no p-value can be below 0.048"),
        ("class_interventions", {"n_controls": 40}, "unless many fall without their own neurons (40 sets, 9 of 17)."),
        (
            "class_interventions",
            {"variance_ratio": 0.5, "p_adjusted": 0.01},
            "own neurons the random ones vary less, which may be a part of it (",
        ),
        ("interventions", {"change": None}, "What the model does without these neurons was not measured"),
    ],
)
def test_each_weakness_of_the_study_is_named(sound: Tables, table: str, values: dict[str, Any], caveat: str) -> None:
    (found,) = caveats(changed(sound, table, **values))
    assert caveat in plain(found)


def test_a_probe_is_held_to_the_exactness_that_was_asked_for(sound: Tables) -> None:
    tables = changed(sound, "properties", gap=9e-4)
    assert caveats(tables, tol=1e-3) == []
    assert caveats(tables, tol=1e-4) == ["The probe was stopped before its duality gap fell to 0.0001 (9.0e-04)."]


def test_classes_left_out_are_counted_and_named(sound: Tables) -> None:
    dropped = pl.DataFrame({"label": ["upos"] * 2, "class": ["X", "SYM"], "n": [3, 2]})
    assert caveats(sound | {"dropped_classes": dropped}) == [
        "Classes with too few examples were left out: 2 classes with 5 examples in all (X and SYM)."
    ]


def test_a_caveat_names_the_properties_that_it_is_about(sound: Tables) -> None:
    other = sound["properties"].with_columns(label=pl.lit("suffix"), gap=pl.lit(2e-5))
    asked = sound["interventions"].with_columns(label=pl.lit("suffix"))
    both = sound | {"properties": pl.concat([sound["properties"], other])}
    both["interventions"] = pl.concat([sound["interventions"], asked])
    assert caveats(both) == ["The probe was stopped before its duality gap fell to 1e-06: suffix (2.0e-05)."]


def test_the_intervention_told_first_is_the_propertys_own(sound: Tables) -> None:
    found = main_interventions(sound, "upos")
    assert found.select("measure", "replacement", "set_size").unique().row(0) == ("class mass", "mean", 2)
    spelt = sound["interventions"].with_columns(measure=pl.col("measure").replace({"class mass": "class_mass"}))
    assert main_interventions(sound | {"interventions": spelt}, "upos").height == found.height


def test_agreement_is_told_at_the_size_of_the_minimal_set(sound: Tables) -> None:
    assert shown_agreement(sound)["k"].unique().to_list() == [2]
    assert plain(findings.agreement_sentence(sound)).endswith("by chance it would be 1 %.")


def test_every_list_has_a_cell_for_every_heading(make_salience: MakeTables) -> None:
    for labels in (("upos",), ("upos", "suffix")):
        tables = completed(make_salience(**SMALL | {"labels": labels}))
        for make in (
            listings.score_listing,
            listings.set_listing,
            listings.side_by_side,
            listings.effect_listing,
            listings.class_effect_listing,
            listings.own_effect_listing,
            listings.neuron_listing,
            listings.class_listing,
            listings.note_listing,
        ):
            listing = make(tables)
            assert listing.rows
            assert len(listing.headings) == len(listing.numeric)
            assert {len(row) for row in listing.rows} == {len(listing.headings)}
            assert listing.examples == () or len(listing.examples) == len(listing.rows)


def test_side_by_side_the_dropped_neurons_are_about_as_many_as_the_replaced(sound: Tables) -> None:
    row = dict(zip(listings.side_by_side(sound).headings, listings.side_by_side(sound).rows[0], strict=True))
    assert row["Replaced"] == "2"
    assert row["Probe: without the top"].startswith("2: ")
    effect = main_interventions(sound, "upos").filter(pl.col("class").is_null())
    before, after = (100 * effect[name][0] for name in ("before", "after"))
    assert row["Model: P before → after, %"] == f"{before:.1f} → {after:.1f}"


def test_a_neuron_is_told_with_its_class_words_and_contexts(sound: Tables) -> None:
    neurons = sound["neurons"].head(1).with_columns(direction=pl.lit(-1), auc=pl.lit(0.03))
    listing = listings.neuron_listing(sound | {"neurons": neurons})
    (row,) = (dict(zip(listing.headings, row, strict=True)) for row in listing.rows)
    assert (row["Rank"], row["Class"], row["AUC"]) == ("1", "↓ NOUN", "0.03")
    up, down = row["Words and contexts"].split("\n")
    assert up == "↑ " + ", ".join(neurons["words_up"][0])
    assert down == "↓ " + ", ".join(neurons["words_down"][0])
    assert [plain(example.value) for example in listing.examples[0]] == [
        "6.00",
        "5.00",
        "4.00",
        "-6.00",
        "-5.00",
        "-4.00",
    ]


def test_long_contexts_are_cut_about_the_word(sound: Tables) -> None:
    contexts = sound["contexts"].with_columns(before=pl.lit("b" * 500), after=pl.lit("a" * 500), word=pl.lit("w" * 500))
    example = listings.neuron_listing(sound | {"contexts": contexts}).examples[0][0]
    assert (example.before[0], example.after[-1], example.word[-1]) == ("…", "…", "…")
    assert max(map(len, (example.before, example.after, example.word))) < 200
