from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from neuronatlas.atlas.knowledge import findings
from neuronatlas.atlas.knowledge.caveats import caveats
from neuronatlas.atlas.knowledge.listings import fact_listing, relation_listing, top_neurons

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]


def plain(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")


def summary(*rows: tuple[str, str, float, float, float, float]) -> pl.DataFrame:
    columns = ["relation", "condition", "gain", "change", "change_low", "change_high"]
    return pl.DataFrame(list(rows), schema=columns, orient="row")


LOCATED = ("all", "located", 0.0, -0.31, -0.352, -0.274)


def test_the_headline_gives_both_effects_with_their_intervals_and_the_control() -> None:
    amplified = ("all", "located", 2.0, 0.305, 0.2, 1.4)
    found = findings.headline(summary(LOCATED, amplified, ("all", "random", 0.0, -0.002, -0.011, 0.003)))
    assert plain(found.statement) == (
        "Suppressing the neurons of a fact moves P(answer) by -31 % [-35, -27]; "
        "amplifying them moves it by +30 % [+20, +140]."
    )
    assert plain(found.verdict).startswith(
        "Suppressing as many random neurons of the same layers moves P(answer) by -0.2 % [-1.1, +0.3]: the effect is"
    )


@pytest.mark.parametrize(
    ("located", "random", "verdict"),
    [
        (LOCATED, (-0.2, -0.3, -0.1), "the intervals are not apart"),
        (("all", "located", 0.0, 0.3, 0.2, 0.4), (0.0, -0.1, 0.1), "the intervals are not apart"),
        (("all", "located", 0.0, -0.3, -0.3, -0.3), (0.0, 0.0, 0.0), "too few facts for an interval"),
        (LOCATED, None, "no control"),
        (("all", "located", 3.0, 0.3, 0.2, 0.4), (0.0, -0.1, 0.1), "the effect is that of the located neurons"),
    ],
    ids=["overlap", "wrong way", "one fact", "no control", "other gain"],
)
def test_the_verdict_claims_no_more_than_the_intervals_show(
    located: tuple[str, str, float, float, float, float], random: tuple[float, float, float] | None, verdict: str
) -> None:
    control = [("all", "random", located[2], *random)] if random else []
    assert verdict in findings.headline(summary(located, *control)).verdict


def test_a_headline_without_effects_says_so() -> None:
    assert "was not measured" in findings.headline(summary().clear()).statement


def test_other_gains_read_as_english() -> None:
    rows = [("all", "located", 0.5, -0.1, -0.2, -0.05), ("all", "located", 4.0, 0.1, 0.05, 0.2)]
    statement = findings.headline(summary(*rows)).statement
    assert statement.startswith("Scaling the neurons of a fact by 0.5 moves P(answer) by")
    assert "; scaling them by 4 moves it by" in statement


def test_sentences_tell_what_the_tables_hold() -> None:
    rows = [("ig", "a", 7, 3), ("ig", "b", 2, 1), ("activation", "a", 6, 1), ("activation", "a", 0, 3)]
    layers = pl.DataFrame(rows, schema=["rule", "relation", "layer", "n"], orient="row")
    assert plain(findings.layers_sentence(layers)) == (
        "Layer 7 holds the most knowledge neurons, 75 % of all; 75 % lie in layers 6 to 7, the top quarter, "
        "against 25 % of those that the activation baseline picks."
    )
    shallow = layers.filter(layer=7).with_columns(layer=pl.lit(3))
    assert plain(findings.layers_sentence(shallow)) == "Layer 3 holds the most knowledge neurons, 100 % of all."
    assert plain(findings.neurons_sentence(pl.DataFrame({"n_neurons": [0, 2, 4, 5]}))) == (
        "A fact has 2.8 knowledge neurons on average (median 3, at most 5); 25 % of the facts have none."
    )
    pairs = pl.DataFrame(
        {"relation_a": ["a", "a"], "relation_b": ["a", "b"], "n_pairs": [1, 4], "mean_shared": [1.5, 0.25]}
    )
    assert findings.sharing_sentence(pairs) == (
        "Two facts of one relation share 1.50 neurons on average, two facts of different relations share 0.25."
    )
    assert findings.sharing_sentence(pairs.clear()) == "There are no two facts to compare."


@pytest.fixture
def sound(make_tables: MakeTables) -> Tables:
    """Tables with nothing to be careful about."""
    tables = make_tables(relations=3)
    facts = tables["facts"].with_columns(weak=pl.lit(False), top1=pl.lit(1.0), n_neurons=pl.lit(3))
    prompts = tables["prompts"].with_columns(p=pl.lit(0.6), gap=pl.lit(0.001))
    relations = tables["relations"].with_columns(tuned=pl.lit("reached 2-5"), mean_neurons=pl.lit(3.0))
    return tables | {"facts": facts, "prompts": prompts, "relations": relations}


def test_sound_results_need_no_caveat(sound: Tables) -> None:
    assert caveats(sound) == []


@pytest.mark.parametrize(
    ("table", "column", "value", "caveat"),
    [
        (
            "relations",
            "tuned",
            "not reached",
            "In 3 of 3 relations (capital, continent and currency) no share threshold",
        ),
        ("prompts", "p", 0.97, "P(answer) is above 0.9 on 100 % of the prompts"),
        ("facts", "top1", 0.4, "The model does not know 60 of 60 facts (100 %)"),
        ("prompts", "gap", -0.2, "the scores miss the change of P"),
        ("facts", "weak", True, "60 facts have fewer than three prompts"),
        ("facts", "n_neurons", 0, "60 facts have no neuron"),
        (
            "relations",
            "mean_neurons",
            0.5,
            "Fewer than one neuron per fact on average: capital, continent and currency",
        ),
        ("relations", "n_facts", 4, "Fewer than 10 facts, too few for a trustworthy interval: capital"),
        ("summary", "change_low", -9.0, None),
        ("summary", "change_high", 9.0, "Suppressing is not clearly beyond random neurons in 3 of 3 relations"),
    ],
)
def test_each_weakness_of_the_data_is_named(
    sound: Tables, table: str, column: str, value: Any, caveat: str | None
) -> None:
    condition = pl.col("condition") == "located" if table == "summary" else pl.lit(True)
    changed = sound[table].with_columns(pl.when(condition).then(pl.lit(value)).otherwise(column).alias(column))
    found = [plain(text) for text in caveats(sound | {table: changed})]
    if caveat is None:
        assert all("Suppressing" not in text for text in found)
    else:
        assert len(found) == 1
        assert caveat in found[0]


def test_prompts_left_out_are_counted(sound: Tables) -> None:
    skipped = pl.DataFrame({"fact": [0, 1], "prompt": [0, 0], "reason": ["two tokens", "text after the place"]})
    total = sound["prompts"].height + 2
    assert caveats(sound | {"skipped": skipped}) == [
        f"2 of {total} prompts did not suit the model and were left out; skipped.parquet says why."
    ]


def test_a_few_large_gaps_are_no_caveat(sound: Tables) -> None:
    one = pl.int_range(pl.len()) == 0
    prompts = sound["prompts"].with_columns(gap=pl.when(one).then(0.5).otherwise("gap"))
    assert caveats(sound | {"prompts": prompts}) == []


def test_top_neurons_are_ordered_by_facts_and_then_by_address() -> None:
    rows = [(0, "a", 1, 5), (1, "a", 1, 5), (2, "b", 1, 5), (0, "a", 0, 9), (1, "a", 0, 3)]
    neurons = pl.DataFrame(rows, schema=["fact", "relation", "layer", "unit"], orient="row").with_columns(
        rule=pl.lit("ig"), fold=pl.lit("all"), share=pl.lit(0.5), score=pl.lit(0.1)
    )
    other = neurons.with_columns(rule=pl.lit("activation"), unit=pl.lit(77, pl.Int64))
    facts = pl.DataFrame({"fact": [0, 1, 2], "subject": ["s0", "s1", "s2"], "answer": ["x", "y", "z"]})
    top = top_neurons(pl.concat([neurons, other, neurons.with_columns(fold=pl.lit("a"))]), facts)
    assert top["neuron"].to_list() == ["L1.U5", "L0.U3", "L0.U9"]
    assert top["n_facts"].to_list() == [3, 1, 1]
    assert top["relations"][0] == "a (2), b (1)"
    assert plain(top["examples"][0]) == "s0 → x; s1 → y; s2 → z"


def test_the_facts_tell_what_suppression_did_to_each(make_tables: MakeTables) -> None:
    tables = make_tables(relations=1, facts=3)
    listing = fact_listing(tables, most=2)
    assert len(listing.rows) == 2
    assert all(len(row) == len(listing.headings) == len(listing.numeric) for row in listing.rows)
    first = dict(zip(listing.headings, listing.rows[0], strict=True))
    effects = tables["effects"].filter(fact=0, condition="located", gain=0.0)
    column = next(heading for heading in listing.headings if "suppressed" in heading)
    assert float(first[column]) == pytest.approx(effects["p_after"].to_numpy().mean(), abs=5e-4)
    assert first["Addresses"].count("L") == int(first["Neurons"])


def test_a_fact_without_a_subject_is_shown_by_a_prompt(make_tables: MakeTables) -> None:
    tables = make_tables(relations=1, facts=3)
    tables["facts"] = tables["facts"].with_columns(subject=pl.lit(None, pl.String))
    assert fact_listing(tables, most=3).rows[2][1] == tables["prompts"].filter(fact=2, prompt=0)["text"][0]
    assert all(
        examples and "None" not in examples for examples in top_neurons(tables["neurons"], tables["facts"])["examples"]
    )


def test_a_relation_whose_tuning_failed_is_marked(make_tables: MakeTables) -> None:
    tables = make_tables(relations=2)
    tables["relations"] = tables["relations"].with_columns(tuned=pl.Series(["not reached", "fixed"]))
    threshold = [row[5] for row in relation_listing(tables).rows]
    assert threshold == ["0.70\N{DAGGER}", "0.70"]
