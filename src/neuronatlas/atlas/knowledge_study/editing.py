"""What updating facts and erasing relations does, in a report on a study."""

from __future__ import annotations

from typing import Any

import polars as pl

from neuronatlas.atlas.knowledge.looks import LOCATED
from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.published import PAPER, PUBLISHED
from neuronatlas.atlas.knowledge_study.reading import effect, interval, pick, score
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import BLUE, GREEN, GREY, VERMILION, Look
from neuronatlas.atlas.wording import Score, count, number

__all__ = ["erase_section", "update_section"]

_METHODS = {
    "normalised": Look("Paper's rule, as in its code", BLUE, "circle", 10),
    "printed": Look("Paper's rule, as printed", VERMILION, "square"),
    "random": Look("The first on random neurons", GREY, "diamond"),
    "exact": Look("Exact edit", GREEN, "triangle-up", 10),
}
_SHARES = {
    "change rate": "Change rate",
    "success rate": "Success rate",
    "generalisation, generated": "Success on paraphrases",
    "accuracy, same relation": "Relation stays right",
    "accuracy, other relations": "Others stay right",
}
_GROUPS = {"same relation": "Same relation", "other relations": "Other relations"}
_UPDATE = (
    "Change rate: prompts whose first choice was the old answer and is it no longer. Success rate: prompts to which "
    "the model says the new answer. Paraphrases: the fact's other prompts, which neither locating nor the edit has "
    "seen. Stay right: prompts of other facts answered right, of those that were before. Perplexity: exp of minus the "
    "mean log P of an answer's token on other facts; its rise is relative. Published for BERT: success 34.4 %, random "
    "neurons 0.0 %; perplexity on other relations +7.2, random neurons +4.3."
)
_ERASE = (
    "The value slots of the 20 neurons that most facts of a relation have are set to 0. Accuracy: prompts that the "
    "model answers right. Perplexity as above. Control: 20 random neurons of the same layers. The paper shows four "
    "relations; none of its numbers for them is confirmed, so none is printed."
)


def update_section(tables: Tables) -> Section:
    """The section on updating facts."""
    measures, perplexity, sizes = (tables[f"update_{name}"] for name in ("measures", "perplexity", "sizes"))
    dots = []
    for name, label in _SHARES.items():
        for method, look in _METHODS.items():
            row = pick(measures, method=method, measure=name)
            if row and row["after"] is not None:
                dots.append(Dot(label, look, row["after"], row["low"], row["high"]))
        if name == "success rate":
            dots.append(Dot(label, PAPER, PUBLISHED["success rate", "located"]))
    figure = dot_rows(dots, Axis("After the edit (% of prompts)", form=".1f", zeroline=False))
    ppl = [
        Dot(label, look, row["rise"], row["low"], row["high"])
        for group, label in _GROUPS.items()
        for method, look in _METHODS.items()
        if (row := pick(perplexity, method=method, group=group)) and row["rise"] is not None
    ]
    plots = [
        Plot("study-update", figure, "What edits do, over all edits. Whiskers: 95 % intervals over edits."),
        Plot(
            "study-update-perplexity",
            dot_rows(ppl, Axis("Rise of perplexity (%)")),
            "Rise of perplexity on other facts, relative.",
        ),
    ]
    title = "Can a fact be given another answer in its neurons' value slots, and what else moves?"
    shown = (_updates(measures, perplexity, sizes),)
    return Section("update", "Update", title, _update_finding(measures, perplexity), level(plots), shown, _UPDATE)


def _update_finding(measures: pl.DataFrame, perplexity: pl.DataFrame) -> str:
    texts = []
    for method, what in (("normalised", "The paper's rule"), ("exact", "The exact edit")):
        success, unseen = (
            pick(measures, method=method, measure=name) for name in ("success rate", "generalisation, generated")
        )
        if not success or success["after"] is None:
            continue
        text = f"{what} makes the model say the new answer on {_share(success)} of the prompts"
        text += f" and {_share(unseen)} of unseen paraphrases" if unseen and unseen["after"] is not None else ""
        random = pick(measures, method="random", measure="success rate")
        if method == "normalised":
            text += f", random neurons on {_share(random)}" if random and random["after"] is not None else ""
            text += f" (published: {Score(PUBLISHED['success rate', 'located']).size} and 0.0 %)"
        rise = pick(perplexity, method=method, group="other relations")
        if rise and rise["rise"] is not None:
            text += f"; perplexity on other relations moves by {effect(rise, 'rise', 'low', 'high')}"
        texts.append(f"{text}.")
    return " ".join(texts) or "No edit could be judged."


def _share(row: dict[str, Any]) -> Score:
    return score(row, "after")


def _updates(measures: pl.DataFrame, perplexity: pl.DataFrame, sizes: pl.DataFrame) -> Listing:
    rows = []
    for name in measures["measure"].unique(maintain_order=True):
        mine = {row["method"]: row for row in measures.filter(measure=name).iter_rows(named=True)}
        if any(row["after"] is not None for row in mine.values()):
            before = number(mine["normalised"]["before"], 3)
            rows.append([name, before, *(_cell(mine[method]) for method in _METHODS)])
    for group in _GROUPS:
        found = [pick(perplexity, method=method, group=group) for method in _METHODS]
        cells = [str(effect(row, "rise", "low", "high")) if row and row["rise"] is not None else "" for row in found]
        rows.append([f"rise of perplexity, {group}", "", *cells])
    of = {row["method"]: row for row in sizes.iter_rows(named=True)}
    rows.append(["neurons an edit", "", *(number(of[method]["neurons"], 1) for method in _METHODS)])
    rows.append(["edits refused", "", *(f"{of[m]['refused']:,} of {of[m]['cases']:,}" for m in _METHODS)])
    headings = ["Measure", "Before", *(look.name for look in _METHODS.values())]
    return Listing(headings, [False, *[True] * (len(headings) - 1)], rows)


def _cell(row: dict[str, Any]) -> str:
    return "" if row["after"] is None else interval(row, 3, "after")


def erase_section(tables: Tables) -> Section:
    """The section on erasing relations."""
    found = tables["erase_measures"]
    looks = {"located": LOCATED, "random": Look("Random neurons, same layers", GREY, "diamond")}
    overall = found.filter(relation="all")
    before = Look("Before", GREEN, "line-ns-open", 14)
    accuracy, rise = list[Dot](), list[Dot]()
    for group, label in _GROUPS.items():
        for condition, look in looks.items():
            row = pick(overall, group=group, condition=condition)
            if row:
                ends = (row["accuracy_after"], row["accuracy_low"], row["accuracy_high"])
                accuracy.append(Dot(label, look, *ends))
                rise.append(Dot(label, look, row["rise"], row["low"], row["high"]))
        if row := pick(overall, group=group, condition="located"):
            accuracy.append(Dot(label, before, row["accuracy_before"]))
    caption = "Accuracy after the erasure, mean over relations. Whiskers: 95 % intervals over relations."
    plots = [
        Plot("study-erase", dot_rows(accuracy, Axis("Accuracy (%)", form=".1f", zeroline=False)), caption),
        Plot("study-erase-perplexity", dot_rows(rise, Axis("Rise of perplexity (%)")), "Rise of perplexity, relative."),
    ]
    title = "Can a relation be erased in the value slots of its most frequent neurons?"
    shown = (_erasures(found),)
    return Section("erase", "Erase", title, _erase_finding(overall), level(plots), shown, _ERASE)


def _erase_finding(overall: pl.DataFrame) -> str:
    texts = []
    for group, what in (("same relation", "the erased relation"), ("other relations", "the others")):
        row = pick(overall, group=group, condition="located")
        if row is None:
            continue
        after = score(row, "accuracy_after", "accuracy_low", "accuracy_high")
        before = Score(row["accuracy_before"]).size
        texts.append(f"accuracy on {what} goes from {before} to {after}, its perplexity by {_rise(row)}")
    random = pick(overall, group="same relation", condition="random")
    if random:
        texts.append(f"with random neurons the relation's perplexity moves by {_rise(random)}")
    return f"Without its 20 most frequent neurons {'; '.join(texts)}."


def _rise(row: dict[str, Any]) -> str:
    return str(effect(row, "rise", "low", "high"))


def _erasures(found: pl.DataFrame) -> Listing:
    rows = []
    for relation in found["relation"].unique(maintain_order=True):
        mine = {(row["group"], row["condition"]): row for row in found.filter(relation=relation).iter_rows(named=True)}
        own, other = (mine[group, "located"] for group in _GROUPS)
        control = mine["same relation", "random"]
        rows.append(
            [
                "All relations" if relation == "all" else relation,
                number(own["neurons"], 0),
                f"{Score(own['accuracy_before']).size} → {Score(own['accuracy_after']).size}",
                f"{number(own['before'], 2)} → {number(own['after'], 2)}",
                f"{Score(other['accuracy_before']).size} → {Score(other['accuracy_after']).size}",
                f"{number(other['before'], 2)} → {number(other['after'], 2)}",
                f"{Score(control['accuracy_before']).size} → {Score(control['accuracy_after']).size}",
            ]
        )
    n = len(rows) - 1
    headings = [
        "Relation",
        "Neurons",
        "Accuracy",
        "Perplexity",
        "Others' accuracy",
        "Others' perplexity",
        "Accuracy, random",
    ]
    return Listing(
        headings, [False, *[True] * 6], rows, f"Before and after, {count(n, 'relation')}", "Search: relation …"
    )
