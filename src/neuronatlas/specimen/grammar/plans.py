"""What a sentence says, before any language has put it into words: frozen trees of lexicon entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neuronatlas.specimen.grammar.lexicon import Adjective, Adverb, Determiner, Noun, Pronoun, Verb

Case = Literal["nominative", "accusative", "dative"]
Tense = Literal["Pres", "Past", "Fut"]
Aspect = Literal["simple", "compound", "modal"]
"""`compound` is the progressive in English and Spanish and the perfect in German."""
Gap = Literal["none", "subject", "object"]
Link = Literal["and", "but", "because"]


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun, name or pronoun with what belongs to it."""

    head: Noun | Pronoun
    plural: bool = False
    determiner: Determiner | None = None
    adjective: Adjective | None = None
    adjective_first: bool = True
    modifier: PrepositionalPhrase | None = None
    relative: Clause | None = None
    conjunct: NounPhrase | None = None

    @property
    def number(self) -> str:
        """`Sing` or `Plur`, of the head alone."""
        if isinstance(self.head, Pronoun):
            return self.head.number
        return "Plur" if self.plural else "Sing"

    @property
    def agreement(self) -> str:
        """The number that a verb takes: two things joined are many."""
        return "Plur" if self.conjunct else self.number

    @property
    def feminine(self) -> bool:
        """Whether all that is named is feminine, as Spanish agreement asks."""
        return self.head.gender == "Fem" and (self.conjunct is None or self.conjunct.feminine)

    @property
    def semantic(self) -> str:
        """The semantic class of the head; pronouns stand for persons."""
        return "person" if isinstance(self.head, Pronoun) else self.head.semantic


@dataclass(frozen=True, slots=True)
class PrepositionalPhrase:
    """A preposition and its noun phrase; `kind` is that of the preposition's table, or `oblique`."""

    preposition: str
    noun_phrase: NounPhrase
    kind: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One verb, or one copula with its predicate, and all that depends on it."""

    subject: NounPhrase
    verb: Verb | None
    tense: Tense
    aspect: Aspect = "simple"
    modal: int = 0
    negated: bool = False
    passive: bool = False
    gap: Gap = "none"
    direct_object: NounPhrase | None = None
    agent: NounPhrase | None = None
    complement: Clause | None = None
    predicate: Adjective | None = None
    degree: Adverb | None = None
    adverbs: tuple[Adverb, ...] = ()
    adjuncts: tuple[PrepositionalPhrase, ...] = ()
    fronted: Adverb | PrepositionalPhrase | None = None


@dataclass(frozen=True, slots=True)
class SentencePlan:
    """A main clause, perhaps asked, perhaps joined to a second clause."""

    main: Clause
    question: bool = False
    link: Link | None = None
    second: Clause | None = None
    shared_subject: bool = False
