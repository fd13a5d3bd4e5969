"""Chooses noun phrases and prepositional phrases whose words go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from neuronatlas.specimen.grammar.lexicon import Determiner, Lexicon, Noun, Preposition, Pronoun
from neuronatlas.specimen.grammar.plans import NounPhrase, PrepositionalPhrase

T = TypeVar("T")
Head = Noun | Pronoun

_UNOWNED = ("hunter", "insect", "bird", "swimmer", "vehicle", "building", "outdoors", "settlement")
"""Kinds of thing that nobody calls `my`."""


class PhrasePlanner:
    """Draws phrases from one lexicon with one generator."""

    def __init__(self, lexicon: Lexicon, rng: Random) -> None:
        self.lexicon = lexicon
        self.rng = rng

    def noun_phrase(self, kinds: Sequence[str], position: str, avoid: Sequence[Head] = ()) -> NounPhrase:
        """A short noun phrase headed by one of these kinds; `position` is subject, object or oblique."""
        if "person" in kinds and self.chance(0.3):
            if self.chance(0.45):
                return NounPhrase(self.pick(_others(self.lexicon.pronouns, avoid)))
            return NounPhrase(self.pick(_others(self.lexicon.names, avoid)))
        noun = self._noun(kinds, avoid)
        phrase = self.determined(noun, position)
        return self._with_adjective(phrase, noun) if self.chance(0.28) else phrase

    def determined(self, noun: Noun, position: str) -> NounPhrase:
        """The noun in some number, with a determiner that suits both."""
        setting = noun.semantic == "time" or (noun.semantic == "place" and position == "oblique")
        plural = bool(noun.plural) and not setting and self.chance(0.1 if noun.semantic == "place" else 0.33)
        number = "Plur" if plural else "Sing" if noun.plural else "Mass"
        fitting = [item for item in self.lexicon.determiners if _suits(item, number, position)]
        if setting:
            fitting = [item for item in fitting if item.kind == "definite"]
        if noun.semantic == "quality":
            fitting = [item for item in fitting if item.kind in ("definite", "possessive")]
        if noun.kind in _UNOWNED:
            fitting = [item for item in fitting if item.kind != "possessive"]
        weights = [item.weight for item in fitting]
        return NounPhrase(noun, plural=plural, determiner=self.rng.choices(fitting, weights)[0])

    def modifier(self, noun: Noun) -> PrepositionalPhrase | None:
        """A phrase that says more about a noun (`the book on the table`), if any suits it."""
        uses = [item for item in self.lexicon.prepositions if item.kind == "modifier" and noun.kind in item.heads]
        return self.prepositional(self.pick(uses), avoid=(noun,)) if uses else None

    def prepositional(
        self, preposition: Preposition, kinds: Sequence[str] = (), avoid: Sequence[Head] = ()
    ) -> PrepositionalPhrase:
        """A preposition with a noun it takes; a noun's own preposition of time fixes the determiner too."""
        form, kinds = preposition.form, kinds or preposition.nouns
        if form != "@":
            return PrepositionalPhrase(form, self.noun_phrase(kinds, "oblique", avoid), preposition.kind)
        noun = self._noun(kinds, avoid)
        form, _, article = noun.at.partition("+")
        if preposition.kind != "time":
            return PrepositionalPhrase(form, self.determined(noun, "oblique"), preposition.kind)
        determiner = self.lexicon.determiner("definite") if article else None
        return PrepositionalPhrase(form, NounPhrase(noun, determiner=determiner), preposition.kind)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, all equally likely."""
        return self.rng.choice(choices)

    def _noun(self, kinds: Sequence[str], avoid: Sequence[Head]) -> Noun:
        """A noun, the kinds being equally likely whatever their size."""
        others = [left for kind in kinds if (left := _others(self.lexicon.nouns[kind], avoid))]
        return self.pick(self.pick(others))

    def _with_adjective(self, phrase: NounPhrase, noun: Noun) -> NounPhrase:
        fitting = [adjective for adjective in self.lexicon.adjectives if noun.kind in adjective.kinds]
        if not fitting or noun.semantic == "time":
            return phrase
        adjective = self.pick(fitting)
        positions = adjective.forms.get("position", "before").split("|")
        return replace(phrase, adjective=adjective, adjective_first=self.pick(positions) == "before")


def _others(choices: Sequence[T], avoid: Sequence[Head]) -> list[T]:
    """The choices that have not been named yet."""
    return [choice for choice in choices if all(choice is not head for head in avoid)]


def _suits(determiner: Determiner, number: str, position: str) -> bool:
    if number == "Mass" and determiner.kind == "demonstrative":
        return False
    return bool(determiner.weight) and number in determiner.numbers and determiner.position in ("any", position)
