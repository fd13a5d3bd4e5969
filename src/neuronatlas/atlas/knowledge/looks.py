"""How the conditions and rules of an atlas of knowledge neurons look in figures, and what gains are called."""

from neuronatlas.atlas.style import BLUE, GREEN, GREY, PURPLE, VERMILION, Look

__all__ = ["ACTIVATION", "CONDITIONS", "LOCATED", "gain_label", "gain_name"]

LOCATED = Look("Knowledge neurons", BLUE, "circle", 10)
ACTIVATION = Look("Activation baseline", VERMILION, "square")
CONDITIONS = {
    "located": LOCATED,
    "held-out": Look("On held-out prompts", BLUE, "circle-open", 9),
    "activation": ACTIVATION,
    "random": Look("Random, same layers", GREY, "diamond"),
    "matched": Look("Random, as active", GREEN, "triangle-up"),
    "other-relation": Look("Of another relation", PURPLE, "triangle-down"),
}


def gain_name(gain: float) -> str:
    """What neurons multiplied by `gain` are called.

    >>> gain_name(0), gain_name(2)
    ('suppressed', 'amplified')
    """
    return {0.0: "suppressed", 2.0: "amplified"}.get(gain) or f"\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{gain:g}"


def gain_label(gain: float) -> str:
    """The same with the factor beside it, for a legend or a heading."""
    factor = f"\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{gain:g}"
    return factor if gain_name(gain) == factor else f"{gain_name(gain)} ({factor})"
