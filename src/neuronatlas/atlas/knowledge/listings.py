"""The lists of a report on knowledge neurons: single neurons, facts, relations; as rows of text ready to print."""

from collections import Counter

import polars as pl

from neuronatlas.addresses import address_columns, address_names
from neuronatlas.atlas.knowledge.findings import KNOWN, effect, ends
from neuronatlas.atlas.knowledge.looks import gain_label, gain_name
from neuronatlas.atlas.knowledge.plots import main_rule
from neuronatlas.atlas.page import Listing, Tables
from neuronatlas.atlas.wording import Effect, number, percent

__all__ = ["fact_listing", "neuron_listing", "relation_listing", "top_neurons"]

_MOST_ADDRESSES = 6
_MOST_EXAMPLES = 3


def top_neurons(neurons: pl.DataFrame, facts: pl.DataFrame, most: int = 20) -> pl.DataFrame:
    """The neurons that belong to the most facts: address, facts, relations with counts, mean share and score, examples.

    Columns `neuron, n_facts, n_relations, relations, share, score, examples`; ties go by address.
    """
    own = neurons.filter(pl.col("rule") == main_rule(neurons), pl.col("fold") == "all")
    own = own.join(facts.select("fact", "subject", "answer"), on="fact", maintain_order="left").sort("fact")
    with_subject = pl.format("{}\N{NO-BREAK SPACE}→ {}", "subject", "answer")
    address = address_columns(own)
    grouped = own.group_by(address).agg(
        n_facts=pl.len(),
        n_relations=pl.col("relation").n_unique(),
        relations=pl.col("relation"),
        share=pl.mean("share"),
        score=pl.mean("score"),
        examples=pl.coalesce(with_subject, "answer").unique(maintain_order=True).head(_MOST_EXAMPLES),
    )
    ordered = grouped.sort("n_facts", *address, descending=[True, *[False] * len(address)]).head(most)
    return ordered.select(
        address_names(ordered),
        "n_facts",
        "n_relations",
        pl.col("relations").map_elements(_counted, return_dtype=pl.String),
        "share",
        "score",
        pl.col("examples").list.join("; "),
    )


def _counted(names: pl.Series) -> str:
    counts = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    rest = len(counts) - _MOST_EXAMPLES
    shown = ", ".join(f"{name} ({n})" for name, n in counts[:_MOST_EXAMPLES])
    return f"{shown} and {rest} more" if rest > 0 else shown


def neuron_listing(tables: Tables) -> Listing:
    """The single neurons with the most facts."""
    n_facts = max(tables["facts"].height, 1)
    return Listing(
        ["Neuron", "Facts", "% of facts", "Relations", "Mean share of prompts", "Mean score", "Such as"],
        [False, True, True, False, True, True, False],
        [
            [neuron, f"{n:,}", number(n / n_facts * 100, 1), relations, percent(share), number(score, 4), examples]
            for neuron, n, _, relations, share, score, examples in top_neurons(
                tables["neurons"], tables["facts"]
            ).iter_rows()
        ],
    )


def fact_listing(tables: Tables, most: int) -> Listing:
    """The first facts of the file: whether the model knows them, their neurons, and what suppressing these does."""
    facts = tables["facts"].sort("fact").head(most)
    gains = ends(tables["summary"])[:1]
    changes = _changes(tables["effects"], gains)
    addresses = _addresses(tables["neurons"])
    asked = dict(tables["prompts"].sort("fact", "prompt").unique("fact", keep="first")["fact", "text"].iter_rows())
    heading = [f"P(answer) {gain_label(gain)}" for gain in gains]
    return Listing(
        ["Relation", "Subject", "Answer", "Prompts", "Known", "P(answer)", *heading, "Neurons", "Addresses"],
        [False, False, False, True, False, True, *[True for _ in gains], True, False],
        [
            [
                fact["relation"],
                fact["subject"] or asked.get(fact["fact"], ""),
                fact["answer"],
                f"{fact['n_prompts']:,}" + ("*" if fact["weak"] else ""),
                "yes" if fact["top1"] >= KNOWN else "no",
                number(fact["p_mean"], 3),
                *[number(changes.get((fact["fact"], gain)), 3) for gain in gains],
                f"{fact['n_neurons']:,}",
                addresses.get(fact["fact"], ""),
            ]
            for fact in facts.iter_rows(named=True)
        ],
        search="Search: relation, subject, answer, neuron …",
    )


def _changes(effects: pl.DataFrame, gains: list[float]) -> dict[tuple[int, float], float]:
    rows = effects.filter(pl.col("condition") == "located", pl.col("gain").is_in(gains))
    means = rows.group_by("fact", "gain").agg(pl.mean("p_after"))
    return {(fact, gain): mean for fact, gain, mean in means.iter_rows()}


def _addresses(neurons: pl.DataFrame) -> dict[int, str]:
    own = neurons.filter(pl.col("rule") == main_rule(neurons), pl.col("fold") == "all")
    address = address_columns(own)
    own = own.sort("fact", "score", *address, descending=[False, True, *[False] * len(address)])
    named = own.group_by("fact").agg(address_names(own))
    return {fact: _first(names) for fact, names in named.iter_rows()}


def _first(names: list[str]) -> str:
    rest = len(names) - _MOST_ADDRESSES
    return " ".join(names[:_MOST_ADDRESSES]) + (f" +{rest}" if rest > 0 else "")


def relation_listing(tables: Tables) -> Listing:
    """One row a relation: what went in, how refining went, and the effects with their intervals."""
    summary, gains = tables["summary"], ends(tables["summary"])
    known = tables["facts"].group_by("relation").agg((pl.col("top1") >= KNOWN).mean())
    share_known = dict(known.iter_rows())
    shown = [(condition, gain) for gain in gains for condition in ("located", "held-out", "random")]
    shown = [(condition, gain) for condition, gain in shown if condition in summary["condition"]]
    rows = [
        [
            row["relation"],
            f"{row['n_facts']:,} / {row['n_prompts']:,}",
            percent(share_known.get(row["relation"])),
            number(row["p_mean"], 2),
            number(row["mean_neurons"], 1),
            number(row["share_threshold"], 2) + ("\N{DAGGER}" if row["tuned"] == "not reached" else ""),
            *[_change(effect(summary, condition, gain, row["relation"])) for condition, gain in shown],
        ]
        for row in tables["relations"].sort("relation").iter_rows(named=True)
    ]
    headings = ["Relation", "Facts / prompts", "Known", "P(answer)", "Neurons", "Share threshold"]
    headings += [_heading(condition, gain) for condition, gain in shown]
    return Listing(headings, [False, *[True] * (len(headings) - 1)], rows)


def _change(found: Effect | None) -> str:
    return str(found).replace("\N{NO-BREAK SPACE}%", "") if found else ""


def _heading(condition: str, gain: float) -> str:
    text = {"located": gain_name(gain).capitalize(), "held-out": "held-out", "random": "random"}
    return f"{text[condition]}, %"
