"""The section of a report on what knowledge neurons read and write."""

from collections.abc import Callable

import polars as pl

from neuronatlas.atlas.knowledge.memory import memory_section, memory_sentence

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]


def with_memory(tables: Tables, rank: int = 1) -> Tables:
    """Tables in which every neuron promotes one token, demotes another and fires on one prompt."""
    own = tables["neurons"].filter(rule="gauss-legendre", fold="all")
    named = own.select("fact", "relation", pl.format("L{}.U{}", "layer", "unit").alias("neuron"))
    names = named["neuron"].unique(maintain_order=True).to_list()
    tokens = [(n, d, 1, f"{d} of {n}", 7, 0.5) for n in names for d in ("up", "down")]
    ranks = [
        (*row, condition, r, 1_000) for row in named.rows() for condition, r in (("located", rank), ("random", 500))
    ]
    prompts = [(name, 1, 2.25, 0, f"Prompt of {name} is […].") for name in names]
    columns = "neuron", "direction", "rank", "token", "token_id", "rise"
    return tables | {
        "value_tokens": pl.DataFrame(tokens, schema=columns, orient="row"),
        "answer_ranks": pl.DataFrame(
            ranks, schema=("fact", "relation", "neuron", "condition", "rank", "n_tokens"), orient="row"
        ),
        "key_prompts": pl.DataFrame(prompts, schema=("neuron", "rank", "activation", "fact", "text"), orient="row"),
        "unread": pl.DataFrame(schema={"table": pl.String, "reason": pl.String}),
    }


def test_each_neuron_stands_beside_its_tokens_and_its_prompts(make_tables: MakeTables) -> None:
    section = memory_section(with_memory(make_tables(relations=2, facts=5)))
    assert section is not None
    for neuron, _, _, promotes, demotes, fires in section.listings[0].rows:
        assert (promotes, demotes) == (f"up of {neuron}", f"down of {neuron}")
        assert fires == f"Prompt of {neuron} is […]. (2.25)"


def test_the_sentence_compares_with_random_neurons(make_tables: MakeTables) -> None:
    said = memory_sentence(with_memory(make_tables(relations=2, facts=5), rank=3)).replace("\N{NO-BREAK SPACE}", " ")
    assert "promotes most in 100 % of cases, against 0 % with random neurons" in said
    assert "median rank is 3 of 1,000 tokens, against 500" in said


def test_an_atlas_without_these_tables_has_no_such_section(make_tables: MakeTables) -> None:
    assert memory_section(make_tables(relations=1, facts=2)) is None


def test_what_was_not_read_is_told_with_the_reason(make_tables: MakeTables) -> None:
    tables = with_memory(make_tables(relations=1, facts=3))
    reasons = pl.DataFrame({"table": ["value_tokens"], "reason": ["it has no head"]})
    assert memory_sentence(tables | {"unread": reasons}) == "What the neurons write was not read: it has no head."
