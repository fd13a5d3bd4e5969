"""What properties and measures are called where a reader meets them."""

from __future__ import annotations

from neuronatlas.atlas.charts import shortened

__all__ = ["CLASS_MASS", "MEASURES", "items_of", "measure_name", "property_name", "short_name"]

_PROPERTIES = {
    "upos": "Part of speech",
    "xpos": "Fine part of speech",
    "deprel": "Syntactic role",
    "semtag": "Semantic tag",
    "ccg": "CCG category",
    "chunk": "Chunk",
    "suffix": "Suffix",
    "suffix.en": "English suffix",
    "capitalisation": "Capitalisation",
    "length": "Word length",
    "frequency": "Word frequency",
    "position": "Place in the sentence",
    "number": "Number",
    "tense": "Tense",
    "role": "Syntactic role",
    "semantic": "Semantic class",
}
_LONGEST = 48

CLASS_MASS = "class mass"
MEASURES = {
    CLASS_MASS: "probability of the right class",
    "P(word)": "probability of the word itself",
    "log P(word)": "log-probability of the word itself",
    "top word of the class": "how often the likeliest word is of the right class",
}
"""What an intervention may change, by the name in the table; the property's own measure first."""

_SPELLINGS = {
    "class_mass": CLASS_MASS,
    "p_gold": "P(word)",
    "log_p_gold": "log P(word)",
    "top_in_class": "top word of the class",
}


def property_name(label: str) -> str:
    """A property in words, with the label that was asked for; of any other label, the label.

    >>> property_name("upos"), property_name("feats.Number"), property_name("suffix"), property_name("register")
    ('Part of speech (upos)', 'Number (feats.Number)', 'Suffix', 'register')
    """
    known = _PROPERTIES.get(label) or (label.removeprefix("feats.") if label.startswith("feats.") else "")
    if known.lower() == label:
        return known
    return f"{shortened(known, _LONGEST)} ({shortened(label, _LONGEST)})" if known else shortened(label, _LONGEST)


def short_name(label: str) -> str:
    """A property where there is little room: the label, not too long."""
    return shortened(label)


def measure_name(measure: str) -> str:
    """A measure by the name that `MEASURES` has for it, however the table spells it.

    >>> measure_name("class_mass"), measure_name("P(word)")
    ('class mass', 'P(word)')
    """
    return _SPELLINGS.get(measure, measure)


def items_of(level: str | None) -> str:
    """What carries the labels, in the singular.

    >>> items_of("sentence"), items_of(None)
    ('sentence', 'word')
    """
    return level or "word"
