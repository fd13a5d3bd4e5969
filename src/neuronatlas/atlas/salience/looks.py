"""How baselines, ablations and properties look in the figures of an atlas of salient neurons."""

from __future__ import annotations

from html import escape

from neuronatlas.atlas.style import BLUE, GREEN, GREY, PURPLE, VERMILION, Look

__all__ = [
    "ABLATED",
    "ALONE",
    "BASELINES",
    "ELSEWHERE",
    "EXPOSURES",
    "MATCHED",
    "OWN",
    "SALIENT",
    "UP_TO",
    "property_look",
]

BASELINES = {
    "accuracy": Look("All neurons", BLUE, "circle", 10),
    "minimal_accuracy": Look("Minimal set", BLUE, "circle-open", 9),
    "random_weights": Look("Random weights", GREEN, "triangle-up", 9),
    "word_majority": Look("Most frequent, by word", PURPLE, "triangle-down", 9),
    "control_accuracy": Look("Control task", VERMILION, "square"),
    "majority": Look("Most frequent class", GREY, "diamond"),
}
EXPOSURES = {
    "seen_accuracy": Look("Words seen in training", BLUE, "circle", 10),
    "unseen_accuracy": Look("Words not seen", BLUE, "circle-open", 9),
    "by_type_accuracy": Look("No word type shared", VERMILION, "square"),
}
ABLATED = {
    "top": Look("Top", BLUE, "circle", 7),
    "random": Look("Random", GREY, "diamond", 7),
    "bottom": Look("Bottom", VERMILION, "square", 6),
}
ALONE, UP_TO = Look("This layer alone", BLUE, "circle", 7), Look("This layer and all below", VERMILION, "square", 7)
SALIENT, MATCHED = Look("Salient neurons", BLUE, "circle", 9), Look("Random, matched", GREY, "diamond", 8)
OWN, ELSEWHERE = Look("Its own neurons", BLUE, "circle", 9), Look("In other classes", BLUE, "circle-open", 7)

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
_SYMBOLS = ("circle", "square", "triangle-up", "diamond")


def property_look(place: int, name: str) -> Look:
    """How the property at a place in the atlas looks: four colours filled, the same four open, then from the first.

    Plotly reads a name as HTML, so that is what the look's name is.

    >>> property_look(0, "upos").symbol, property_look(4, "ccg").symbol, property_look(8, "x").symbol
    ('circle', 'circle-open', 'circle')
    """
    hollow = "-open" if place // 4 % 2 else ""
    return Look(escape(name, quote=False), _COLOURS[place % 4], _SYMBOLS[place % 4] + hollow, 7)
