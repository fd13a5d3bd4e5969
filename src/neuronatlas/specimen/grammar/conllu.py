"""Labelled sentences as CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterable

from neuronatlas.specimen.grammar.words import LabelledSentence, spaces_after


def to_conllu(sentences: Iterable[LabelledSentence]) -> str:
    """The sentences as CoNLL-U text.

    Number and tense stand in FEATS, the role in DEPREL, chunk, semantic class and suffix in MISC. The grammar gives
    no lemmas and no heads: those columns hold `_`, as do labels that do not apply.

    >>> from neuronatlas.specimen.grammar import generate
    >>> to_conllu(generate("en", 1, seed=1)).splitlines()[0]
    '# sent_id = en-1'
    """
    return "".join(_block(sentence, number) for number, sentence in enumerate(sentences, start=1))


def _block(sentence: LabelledSentence, number: int) -> str:
    lines = [f"# sent_id = {sentence.language}-{number}", f"# text = {sentence.text}"]
    labels = sentence.labels
    for place, (word, space) in enumerate(zip(sentence.words, spaces_after(sentence.words), strict=True)):
        features = _pairs({"Number": labels["number"][place], "Tense": labels["tense"][place]})
        extra = {
            "Chunk": labels["chunk"][place],
            "Semantic": labels["semantic"][place],
            "SpaceAfter": "_" if space or place == len(sentence.words) - 1 else "No",
            "Suffix": labels["suffix"][place],
        }
        columns = [str(place + 1), word, "_", labels["upos"][place], "_", features, "_", labels["role"][place], "_"]
        lines.append("\t".join([*columns, _pairs(extra)]))
    return "\n".join(lines) + "\n\n"


def _pairs(values: dict[str, str]) -> str:
    """`Key=Value|...` of the values that apply, or `_`."""
    return "|".join(f"{key}={value}" for key, value in values.items() if value != "_") or "_"
