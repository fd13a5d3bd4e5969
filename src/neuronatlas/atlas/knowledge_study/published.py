"""The numbers of Dai et al. (2022) that are confirmed, to stand beside a study's own. No others are printed."""

from neuronatlas.atlas.style import PURPLE, Look

__all__ = ["PAPER", "PUBLISHED", "RISES"]

PAPER = Look("Dai et al. (2022), BERT", PURPLE, "star", 13)

PUBLISHED: dict[tuple[str, ...], float] = {
    ("change", "located", "suppressed"): -0.2903,
    ("change", "activation", "suppressed"): -0.0147,
    ("change", "located", "amplified"): 0.3117,
    ("change", "activation", "amplified"): -0.0127,
    ("success rate", "located"): 0.344,
    ("success rate", "random"): 0.0,
}
"""Fractions of 1 by what was measured, of which neurons, and how they were changed."""

RISES: dict[str, float] = {"normalised": 7.2, "random": 4.3}
"""Rise of the perplexity of other relations by an update of the fact's neurons and of random ones, as printed; what it
rose from is not, so that the relative rise of a study cannot be held against it."""
