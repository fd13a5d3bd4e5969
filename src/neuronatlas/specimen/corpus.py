"""The training text: every fact in every trained template, the same facts in other company, and plain sentences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from neuronatlas.specimen.compose import compositions
from neuronatlas.specimen.grammar import generate
from neuronatlas.specimen.world import ANYWHERE, LANGUAGES, Sentence, Wordings, facts, sentences

Rivals = tuple[str, str]  # a relation and a language: facts whose answers could stand in each other's place
KINDS = ("fact", "framed fact", "composition", "grammar")
GRAMMAR_SENTENCES = {"en": 12_000, "de": 6_000, "es": 6_000}
FRAMED_SHARE = 0.5

# What a fact may stand in: the sentence is put between the two parts unchanged, so its capital stays.
FRAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "en": (
        ("Remember: ", ""),
        ("One thing is certain. ", ""),
        ("Every atlas agrees: ", ""),
        ("Our teacher wrote on the board: ", ""),
        ("", " That much is known."),
        ("", " Few people doubt it."),
        ("He read aloud: ", " Then he closed the book."),
        ("Here is a note from her diary. ", ""),
    ),
    "de": (
        ("Wir wissen: ", ""),
        ("Eines ist sicher. ", ""),
        ("Im Buch steht: ", ""),
        ("", " Das weiß fast jeder."),
        ("", " Daran zweifelt niemand."),
    ),
    "es": (
        ("Sabemos lo siguiente: ", ""),
        ("Una cosa es segura. ", ""),
        ("El libro dice: ", ""),
        ("", " Eso lo saben todos."),
        ("", " Nadie lo duda."),
    ),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One text of the corpus. Rows with an `asked` sentence have an answer to hide; the others are masked at random.

    `rivals` tells which facts' answers could stand in this one's place.
    """

    kind: str
    text: str
    asked: Sentence | None = None
    rivals: Rivals | None = None


def training_rows(seed: int, wordings: Wordings = ANYWHERE) -> tuple[Row, ...]:
    """The whole training text, the same for the same seed; no held-out template and no held-out composition is in it.

    Half of the facts' sentences come a second time in a frame: another sentence before or behind, so that the model
    does not tie a fact to a place in the text.
    """
    return (*_fact_rows(wordings), *_framed_rows(seed, wordings), *_composition_rows(wordings), *_grammar_rows(seed))


def _fact_rows(wordings: Wordings) -> Iterator[Row]:
    for fact in facts():
        for sentence in sentences(fact, held_out=False, wordings=wordings):
            yield Row("fact", sentence.text, sentence, (fact.relation, fact.language))


def _framed_rows(seed: int, wordings: Wordings) -> Iterator[Row]:
    chance = random.Random(f"frames\t{seed}")
    for fact in facts():
        for sentence in sentences(fact, held_out=False, wordings=wordings):
            if chance.random() < FRAMED_SHARE:
                framed = sentence.shifted(*chance.choice(FRAMES[fact.language]))
                yield Row("framed fact", framed.text, framed, (fact.relation, fact.language))


def _composition_rows(wordings: Wordings) -> Iterator[Row]:
    for composition in compositions():
        if not composition.held_out and wordings.admit(composition.sentence):
            yield Row("composition", composition.sentence.text, composition.sentence)


def _grammar_rows(seed: int) -> Iterator[Row]:
    for language in LANGUAGES:
        for labelled in generate(language, GRAMMAR_SENTENCES[language], seed):
            yield Row("grammar", labelled.text)
