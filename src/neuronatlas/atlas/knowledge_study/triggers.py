"""Which texts activate a fact's neurons, in a report on a study."""

from __future__ import annotations

import polars as pl

from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.reading import interval, score
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import BLUE, GREEN, GREY, Look
from neuronatlas.atlas.wording import count, number, percent

__all__ = ["section"]

_FACTS, _BEST, _BASE = (
    Look("Precision", BLUE, "circle", 10),
    Look("Best possible", GREEN, "line-ns-open", 14),
    Look("Of all texts", GREY, "diamond"),
)
_ENDS = 2
_MEANING = (
    "A text's activation: of each neuron the highest over its tokens, mean over the neurons. A text expresses a fact "
    "when it holds subject and answer. Precision at k: the share of the k texts which activate the neurons most that "
    "express the fact, or of a relation's 20 most frequent neurons one of its facts. Without a file of texts the "
    "texts are the facts' own prompts with their answers, and neurons and texts come from different halves of the "
    "prompts. The numbers of Dai et al. (2022) are of sentences from the web; none is confirmed, so none is printed."
)


def section(tables: Tables) -> Section:
    """The section on activating texts."""
    means, hits = tables["trigger_means"], tables["trigger_precision"]
    look = Look("Mean activation", BLUE, "circle", 10)
    activations = [
        Dot(row["kind"].capitalize(), look, row["mean"], row["low"], row["high"])
        for row in means.filter(pl.col("n_facts") > 0).iter_rows(named=True)
    ]
    caption = "Mean activation of a fact's neurons on texts by what they hold of the fact. Whiskers: 95 % intervals."
    plots = [
        Plot("study-activations", dot_rows(activations, Axis("Mean activation", 1, ".3f")), caption),
        Plot("study-precision", _precision(hits), "Precision at 2 and at 10, beside the share among all texts."),
    ]
    title = "Which texts activate a fact's neurons?"
    shown = (_means(means), _sentences(tables["trigger_sentences"]))
    return Section("triggers", "Texts", title, _finding(means, hits), level(plots), shown, _MEANING)


def _precision(hits: pl.DataFrame) -> object:
    dots = []
    for row in hits.filter(pl.col("n") > 0).iter_rows(named=True):
        place = f"{row['of'].capitalize()}, at {row['k']}"
        dots += [
            Dot(place, _FACTS, row["precision"], row["low"], row["high"]),
            Dot(place, _BEST, row["best"]),
            Dot(place, _BASE, row["base"]),
        ]
    return dot_rows(dots, Axis("Share that expresses it (%)", form=".1f", zeroline=False), row=52)


def _finding(means: pl.DataFrame, hits: pl.DataFrame) -> str:
    rows = {row["kind"]: row for row in means.iter_rows(named=True) if row["n_facts"]}
    full = rows.get("subject and answer")
    if full is None:
        return "No text holds the subject and the answer of a fact."
    text = f"The neurons of a fact fire at {interval(full, 3)} on texts with its subject and answer"
    others = [(kind, rows[kind]) for kind in ("subject only", "neither") if kind in rows]
    text += "".join(f", at {interval(row, 3)} on those with {_kind(kind)}" for kind, row in others) + "."
    for row in hits.filter((pl.col("of") == "relations") & (pl.col("n") > 0)).iter_rows(named=True):
        found = score(row, "precision")
        text += f" Of the top {row['k']} texts of a relation {found} express it"
        text += f", against {percent(row['base'], 1)} of all texts."
    return text


def _kind(kind: str) -> str:
    return "the subject only" if kind == "subject only" else kind


def _means(means: pl.DataFrame) -> Listing:
    rows = [
        [
            row["kind"],
            f"{row['n_facts']:,}",
            f"{row['n_texts']:,}",
            interval(row, 3),
            "" if row["kind"] == "subject and answer" else interval(row, 3, "less", "less_low", "less_high"),
            f"{row['n_paired']:,}",
        ]
        for row in means.filter(pl.col("n_facts") > 0).iter_rows(named=True)
    ]
    headings = ["Texts with", "Facts", "Texts", "Mean activation", "Less subject and answer", "Facts with both"]
    return Listing(headings, [False, True, True, True, True, True], rows)


def _sentences(found: pl.DataFrame) -> Listing:
    """The two texts at each end of every relation, as the paper shows them."""
    ends = found.filter(pl.col("rank") <= _ENDS)
    rows = [
        [relation, direction, number(value, 3), kind, text]
        for relation, direction, value, kind, text in ends.select(
            "relation", "direction", "activation", "kind", "text"
        ).iter_rows()
    ]
    n = ends["relation"].n_unique()
    caption = f"The {_ENDS} texts that activate the neurons of a relation most, and least ({count(n, 'relation')})"
    headings = ["Relation", "End", "Activation", "Holds", "Text"]
    return Listing(headings, [False, False, True, False, False], rows, caption, "Search: relation, word …")
