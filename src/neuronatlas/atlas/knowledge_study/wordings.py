"""Other wordings, the fact the other way round, and the answer's token, in a report on a study."""

from __future__ import annotations

from typing import Any

import polars as pl

from neuronatlas.atlas.knowledge.looks import LOCATED, gain_label, gain_name
from neuronatlas.atlas.knowledge_study.dots import Axis, Dot, dot_rows
from neuronatlas.atlas.knowledge_study.reading import change_of, effect, interval, pick, score
from neuronatlas.atlas.knowledge_study.suppression import CHANGE, ENDS
from neuronatlas.atlas.page import Listing, Plot, Section, Tables, level
from neuronatlas.atlas.style import BLUE, GREY, VERMILION, Look
from neuronatlas.atlas.wording import number, sentence

__all__ = ["frequency_section", "halves_section", "symmetry_section"]

_OVERLAP = Axis("Overlap of the sets (%)", form=".1f", zeroline=False)
SHARED = "own, answer shared"
_SAME, _CONTROL = Look("Same fact", BLUE, "circle", 10), Look("Control", GREY, "diamond")
_SYMMETRY = {
    "own": "Its own neurons",
    "inverse": "Those of its inverse",
    "control": "Another fact, that relation",
    "random": "Random, same layers",
}
_AGAINST = {
    "another fact of the relation": "another fact of the relation",
    "a fact of another relation": "one of another relation",
    "random, same layers": "random neurons of the same layers",
}
_ANSWERS = {
    "own": "Own",
    SHARED: "Own, answer shared",
    "same answer, same relation": "Same answer, same relation",
    "same answer, other relation": "Same answer, other relation",
    "other answer, same relation": "Other answer, same relation",
    "other answer, other relation": "Other answer, other relation",
}
_HALVES = (
    "Overlap: neurons that two sets share, over the mean of their sizes; a ratio of means over facts, relations "
    "unweighted. Random: what as many neurons in each layer would share by chance, on average. Effects: neurons found "
    "on one half of the prompts, scaled on the same prompts or on the other half."
)
_SYMMETRIES = (
    "The inverse of a fact has its subject as the answer and its answer as the subject, and stands in the file. "
    "Scaled on the fact's own prompts. If neurons held the fact itself, those of its inverse would move it; if they "
    "only promote a token, they would not: the inverse promotes another one."
)
_ARTICLES = {
    "same answer": "the same answer",
    "other answer": "another answer",
    "same relation": "the same relation",
    "other relation": "another relation",
}
_OUTCOMES = {
    "number of neurons": "Number of neurons",
    "P(answer)": "P(answer)",
    "change of log-odds, suppressed": "Log-odds, suppressed",
}
_FREQUENCY = (
    "On a fact's prompts are scaled the neurons of other facts, drawn by whether they have the same answer and the "
    "same relation. If the neurons are the fact's, those of another fact with the same answer do nothing; if they are "
    "the answer's, these do as much. Answer shared: the own neurons of those facts alone whose answer another located "
    "fact has. Correlations are Spearman's over all facts, with intervals over facts."
)


def _effects(found: pl.DataFrame, names: dict[str, str], own: str, name: str) -> list[Plot]:
    plots = []
    for gain in ENDS:
        dots = []
        for condition, label in names.items():
            row = pick(found, relation="all", condition=condition, gain=gain)
            if row:
                look = _SAME if condition in (own, SHARED) else _CONTROL
                dots.append(Dot(label, look, row["change"], row["change_low"], row["change_high"]))
        figure = dot_rows(dots, CHANGE)
        figure.update_layout(showlegend=False)
        caption = f"Change of P(answer), neurons {gain_label(gain)}. Whiskers: 95 % intervals over facts."
        plots.append(Plot(f"{name}-{gain:g}", figure, caption))
    return plots


def halves_section(tables: Tables) -> Section:
    """The section on other wordings."""
    found, effects = tables["half_overlaps"], tables["half_effects"]
    first = "other half of the same fact"
    dots = [
        Dot(row["condition"].capitalize(), _SAME if row["condition"] == first else _CONTROL, *_ends(row))
        for row in found.filter(pl.col("n_facts") > 0).iter_rows(named=True)
    ]
    names = {"located": "Own prompts", "held-out": "Other half", "random": "Random"}
    moved = [
        Dot(f"{label}, {gain_name(gain)}", LOCATED if condition != "random" else _CONTROL, *_change(row))
        for gain in ENDS
        for condition, label in names.items()
        if (row := pick(effects, relation="all", condition=condition, gain=gain))
    ]
    one, two = dot_rows(dots, _OVERLAP), dot_rows(moved, CHANGE)
    for figure in (one, two):
        figure.update_layout(showlegend=False)
    plots = [
        Plot("study-halves", one, "Overlap of the neurons of one half of the prompts with others."),
        Plot("study-halves-effects", two, "What they do on the prompts that located them, and on the others."),
    ]
    own, held = pick(found, condition=first), change_of(effects, "held-out", 0.0)
    text = "No fact has neurons from both halves of its prompts."
    if own and own["n_facts"]:
        text = f"Two halves of a fact's prompts find sets that overlap by {score(own, 'overlap')}"
        others = [(name, pick(found, condition=name)) for name in found["condition"] if name != first]
        told = [f"{_AGAINST[name]} {score(r, 'overlap').size}" for name, r in others if r and r["n_facts"]]
        text += f", against {', '.join(told)}." if told else "."
        text += f" Suppressed on prompts that did not locate them they move P(answer) by {held}." if held else ""
    rows = [
        [row["condition"], f"{row['n_facts']:,}", str(score(row, "overlap")) if row["n_facts"] else ""]
        for row in found.iter_rows(named=True)
    ]
    shown = Listing(["Neurons of half a against", "Facts", "Overlap"], [False, True, True], rows)
    title = "Do other wordings find the same neurons?"
    return Section("halves", "Wordings", title, text, level(plots), (shown,), _HALVES)


def symmetry_section(tables: Tables) -> Section:
    """The section on facts the other way round."""
    found, overlaps = tables["symmetry_effects"], tables["symmetry_overlaps"]
    plots = _effects(found, _SYMMETRY, "own", "study-symmetry")
    own, inverse, control = (change_of(found, name, 0.0) for name in ("own", "inverse", "control"))
    shared, other = (pick(overlaps, condition=name) for name in ("inverse", "control"))
    text = f"Suppressing a fact's own neurons moves P(answer) by {own}, those of its inverse by {inverse}"
    text += f", those of another fact of the inverse's relation by {control}."
    if shared and other:
        text += f" A fact and its inverse share {score(shared, 'overlap')} of their neurons"
        text += f", the control {score(other, 'overlap').size}."
    title = "Does a fact share its neurons with itself the other way round?"
    shown = (_effect_listing(found, _SYMMETRY),)
    return Section("symmetry", "Symmetry", title, text, level(plots), shown, _SYMMETRIES)


def frequency_section(tables: Tables) -> Section:
    """The section on the answer's token."""
    found, correlations = tables["answer_effects"], tables["frequency_correlations"]
    names = {name: label for name, label in _ANSWERS.items() if name in found["condition"]}
    plots = _effects(found, names, "own", "study-frequency")
    if correlations.height:
        look = {"facts with the answer": BLUE, "answer in the texts": VERMILION}
        dots = [
            Dot(
                _OUTCOMES[row["outcome"]],
                Look(sentence(row["frequency"]), look[row["frequency"]], "circle", 10),
                *_rho(row),
            )
            for row in correlations.iter_rows(named=True)
        ]
        axis = Axis("Spearman's correlation with the frequency of the answer", 1, "+.2f")
        plots.append(Plot("study-correlations", dot_rows(dots, axis), "Over all facts. Whiskers: 95 % intervals."))
    parts = [
        f"{' and '.join(_ARTICLES[part] for part in name.split(', '))} by {change}"
        for name in names
        if name not in ("own", SHARED) and (change := change_of(found, name, 0.0))
    ]
    text = f"Suppressing a fact's own neurons moves P(answer) by {change_of(found, 'own', 0.0)}"
    text += f"; those of a fact with {'; with '.join(parts)}." if parts else "."
    rank = pick(correlations, frequency="facts with the answer", outcome="change of log-odds, suppressed")
    if rank:
        text += f" The change of log-odds goes with the answer's frequency by rho {interval(rank, 2, 'rho')}."
    shown = (_effect_listing(found, names),)
    title = "Is it the fact, or the answer's token, and how frequent that is?"
    return Section("frequency", "Answer or fact", title, text, level(plots[:2]) + tuple(plots[2:]), shown, _FREQUENCY)


def _effect_listing(found: pl.DataFrame, names: dict[str, str]) -> Listing:
    rows = []
    for condition, label in names.items():
        at = [pick(found, relation="all", condition=condition, gain=gain) for gain in ENDS]
        if at[0]:
            odds = [number(row["log_odds_change"], 2) if row else "" for row in at]
            rows.append([label, f"{at[0]['n_facts']:,}", *(str(effect(row)) if row else "" for row in at), *odds])
    headings = ["Neurons", "Facts", "Suppressed", "Amplified", "Log-odds, suppressed", "Log-odds, amplified"]
    return Listing(headings, [False, *[True] * 5], rows)


def _ends(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["overlap"], row["low"], row["high"]


def _change(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["change"], row["change_low"], row["change_high"]


def _rho(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["rho"], row["low"], row["high"]
