"""Chooses what a sentence says, so that its words go together: who can do what, to what, where and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuronatlas.specimen.grammar.lexicon import Adjective, Adverb, Noun, Preposition, Pronoun, Verb
from neuronatlas.specimen.grammar.phrases import Head, PhrasePlanner
from neuronatlas.specimen.grammar.plans import (
    Aspect,
    Clause,
    Gap,
    Link,
    NounPhrase,
    PrepositionalPhrase,
    SentencePlan,
    Tense,
)

_TENSES: tuple[Tense, ...] = ("Pres", "Past", "Fut")
_TENSE_WEIGHTS = (5, 4, 2)
_LINKS: tuple[Link, ...] = ("and", "but")
_PASSIVE_TENSES: dict[str, tuple[Tense, ...]] = {"en": ("Pres", "Past"), "de": ("Pres", "Past"), "es": ("Past",)}
_PASSING = ("emotion", "sensation", "condition", "temperature", "taste")
"""What an adjective says for a while only: such things happen today, tomorrow, or for a reason."""
_UNGRADED = ("colour", "condition", "material")
_ADVERB_CHANCES = {"stance": 0.05, "frequency": 0.12, "manner": 0.2, "time": 0.2, "place": 0.06}


class Planner(PhrasePlanner):
    """Draws whole sentences from one lexicon with one generator."""

    def sentence(self) -> SentencePlan:
        """A plan for one sentence."""
        draw = self.rng.random()
        if draw < 0.68:
            return SentencePlan(self.clause(self._tense()))
        if draw < 0.77:
            return SentencePlan(self.clause(self._tense(), plain=True), question=True)
        if draw < 0.84:
            return self._shared_subject()
        return self._reasoned() if draw < 0.9 else self._contrasted()

    def clause(self, tense: Tense, plain: bool = False) -> Clause:
        """A clause of its own; `plain` keeps it short, with nothing moved to its front."""
        draw = self.rng.random()
        if draw < 0.15:
            return self._copular(tense, plain)
        if draw < 0.23 and tense in _PASSIVE_TENSES[self.lexicon.language]:
            return self._passive(tense)
        verb = self.pick([verb for verb in self.lexicon.verbs if not (verb.clausal and plain)])
        subject = self.noun_phrase(verb.subjects, "subject")
        return self._verbal(verb, subject if plain else self._extended(subject, "subject"), tense, plain)

    # --- longer noun phrases --------------------------------------------------------------------------------------

    def _extended(self, phrase: NounPhrase, position: str) -> NounPhrase:
        """Now and then the phrase with a modifier, a relative clause, or a second one joined to it."""
        head, determiner = phrase.head, phrase.determiner
        if isinstance(head, Pronoun):
            return phrase
        draw = self.rng.random()
        if head.proper:
            others = [name for name in self.lexicon.names if name is not head]
            return replace(phrase, conjunct=NounPhrase(self.pick(others))) if draw < 0.2 else phrase
        if determiner is None or determiner.kind == "bare":
            return phrase
        if draw < 0.08:
            return replace(phrase, modifier=self.modifier(head))
        if draw < 0.17:
            return replace(phrase, relative=self._relative(phrase, head))
        others = [noun for noun in self.lexicon.nouns[head.kind] if noun is not head and noun.plural and head.plural]
        if draw < 0.24 and others and determiner.position == "any":
            return replace(phrase, conjunct=self.determined(self.pick(others), position))
        return phrase

    def _relative(self, antecedent: NounPhrase, noun: Noun) -> Clause | None:
        """A relative clause in which the antecedent is subject or object."""
        gap: Gap = "subject" if self.chance(0.6) else "object"
        verbs = [
            verb
            for verb in self.lexicon.verbs
            if verb.semantic != "change" and noun.kind in (verb.subjects if gap == "subject" else verb.objects)
        ]
        if not verbs:
            return None
        verb = self.pick(verbs)
        tense: Tense = "Past" if self.chance(0.4) else "Pres"
        if gap == "subject":
            return replace(self._verbal(verb, antecedent, tense, plain=True), gap=gap, aspect="simple")
        subject = self.noun_phrase(verb.subjects, "subject", avoid=(noun,))
        return Clause(subject, verb, tense, gap=gap, direct_object=antecedent)

    # --- clauses --------------------------------------------------------------------------------------------------

    def _verbal(self, verb: Verb, subject: NounPhrase, tense: Tense, plain: bool) -> Clause:
        clause = Clause(subject, verb, tense)
        if verb.clausal:
            return replace(clause, complement=self.clause("Past" if tense == "Past" else self._tense(), plain=True))
        aspect = self._aspect(verb, tense)
        clause = replace(clause, aspect=aspect, modal=self.rng.randrange(2), negated=self.chance(0.13))
        said = list(_heads(subject))
        if verb.objects and not (verb.object_optional and self.chance(0.5)):
            thing = self.noun_phrase(verb.objects, "object", said)
            clause = replace(clause, direct_object=thing if plain else self._extended(thing, "object"))
            said.append(thing.head)
        adjuncts = self._adjuncts(verb, plain, said)
        clause = replace(clause, adjuncts=tuple(adjuncts), adverbs=tuple(self._adverbs(clause, verb, adjuncts, plain)))
        return clause if plain else self._fronted(clause)

    def _copular(self, tense: Tense, plain: bool) -> Clause:
        adjectives = self.lexicon.adjectives
        adjective = self.pick([item for item in adjectives if tense != "Fut" or item.semantic in _PASSING])
        subject = replace(self.noun_phrase(adjective.kinds, "subject"), adjective=None)
        clause = replace(self._being(subject, adjective, tense), negated=self.chance(0.13))
        times = [adverb for adverb in self._adverbs_of("time") if _in_tense(adverb, tense)]
        if adjective.semantic in _PASSING and self.chance(0.2):
            clause = replace(clause, adverbs=(self.pick(times),))
        return clause if plain else self._fronted(clause)

    def _being(self, subject: NounPhrase, adjective: Adjective, tense: Tense) -> Clause:
        graded = adjective.semantic not in _UNGRADED and self.chance(0.3)
        degree = self.pick(self._adverbs_of("degree")) if graded else None
        return Clause(subject, None, tense, predicate=adjective, degree=degree)

    def _passive(self, tense: Tense) -> Clause:
        barred = {"nopassive", "noplace"}
        verbs = [verb for verb in self.lexicon.verbs if verb.objects and not verb.object_optional]
        verb = self.pick([verb for verb in verbs if not barred.intersection(verb.traits)])
        subject = self.noun_phrase(verb.objects, "subject")
        agent = self.noun_phrase(verb.subjects, "oblique", _heads(subject)) if self.chance(0.6) else None
        return Clause(subject, verb, tense, passive=True, agent=agent, negated=self.chance(0.1))

    def _shared_subject(self) -> SentencePlan:
        """One person who does two things."""
        first, second = self.rng.sample(self._dynamic_verbs(), 2)
        subject, tense = self.noun_phrase(("person",), "subject"), self._tense()
        main, other = (
            replace(self._verbal(verb, subject, tense, plain=True), aspect="simple", negated=False)
            for verb in (first, second)
        )
        untimed = replace(other, adverbs=tuple(item for item in other.adverbs if item.kind != "time"))
        return SentencePlan(main, link="and", second=untimed, shared_subject=True)

    def _reasoned(self) -> SentencePlan:
        """Someone does something because of how they feel."""
        tense = self._tense()
        main = self._person_acts(tense, self.pick(self._dynamic_verbs()))
        adjectives = [item for item in self.lexicon.adjectives if "person" in item.kinds and item.semantic in _PASSING]
        subject = self._again(main.subject) or self.noun_phrase(("person",), "subject")
        reason = self._being(replace(subject, adjective=None), self.pick(adjectives), tense)
        return SentencePlan(main, link="because", second=reason)

    def _contrasted(self) -> SentencePlan:
        """Two persons who do things of one sort; after `but`, one of them does not."""
        tense, link = self._tense(), self.pick(_LINKS)
        first = self.pick(self._dynamic_verbs())
        second = self.pick([verb for verb in self._dynamic_verbs() if verb.semantic == first.semantic])
        main, other = self._person_acts(tense, first), self._person_acts(tense, second)
        but = link == "but"
        return SentencePlan(replace(main, negated=False), link=link, second=replace(other, negated=but))

    def _person_acts(self, tense: Tense, verb: Verb) -> Clause:
        """A short clause with a person as its subject."""
        clause = self._verbal(verb, self.noun_phrase(("person",), "subject"), tense, plain=True)
        return replace(clause, adverbs=tuple(item for item in clause.adverbs if item.kind != "frequency"))

    def _dynamic_verbs(self) -> list[Verb]:
        """What a person may do, as against be, have or know."""
        verbs = [verb for verb in self.lexicon.verbs if "person" in verb.subjects and not verb.clausal]
        return [verb for verb in verbs if "stative" not in verb.traits]

    def _again(self, phrase: NounPhrase) -> NounPhrase | None:
        """The pronoun that refers to a person just named, where the language has one that fits."""
        if isinstance(phrase.head, Pronoun):
            return phrase
        gender, number = phrase.head.gender, phrase.number
        for pronoun in self.lexicon.pronouns:
            if pronoun.number == number and (pronoun.gender == gender or (number == "Plur" and not pronoun.gender)):
                return NounPhrase(pronoun)
        return None

    # --- what a clause takes besides its verb and objects -----------------------------------------------------------

    def _adjuncts(self, verb: Verb, plain: bool, said: Sequence[Head]) -> list[PrepositionalPhrase]:
        """The verb's own phrase, and at most one of place, direction or company, and one of time."""
        found = []
        if verb.obliques:
            form, kinds = self.pick(verb.obliques)
            found.append(PrepositionalPhrase(form, self.noun_phrase(kinds, "oblique", said), "oblique"))
        if "stative" in verb.traits:
            return found
        inplace = "inplace" in verb.traits
        # Nobody simply goes or lives: they go somewhere, and live somewhere.
        needed = inplace or "direction" in verb.traits
        places = self._uses(verb, _place_kinds(verb))
        if inplace:
            places = [preposition for preposition in places if preposition.form == "@"]
        if places and (needed or self.chance(0.15 if plain else 0.35)):
            preposition = self.pick(places)
            found.append(self.prepositional(preposition, _settings(verb, preposition), said))
        times = self._uses(verb, ("time",))
        if times and not (plain or inplace) and self.chance(0.14):
            found.append(self.prepositional(self.pick(times), avoid=said))
        return found

    def _uses(self, verb: Verb, kinds: Sequence[str]) -> list[Preposition]:
        return [item for item in self.lexicon.prepositions if item.kind in kinds and verb.semantic in item.verbs]

    def _adverbs(
        self, clause: Clause, verb: Verb, adjuncts: Sequence[PrepositionalPhrase], plain: bool
    ) -> list[Adverb]:
        """Adverbs that suit the clause, of different kinds, at most two."""
        barred = _barred_adverbs(clause, verb, [adjunct.kind for adjunct in adjuncts])
        found: list[Adverb] = []
        for kind, chance in _ADVERB_CHANCES.items():
            if kind in barred or (plain and kind == "stance") or len(found) == 2 or not self.chance(chance):
                continue
            fitting = [adverb for adverb in self._adverbs_of(kind) if _suits(adverb, clause, verb)]
            # A habit is tied to no one day and no one manner.
            if fitting and (kind == "stance" or not any(adverb.kind == "frequency" for adverb in found)):
                found.append(self.pick(fitting))
        return found

    def _fronted(self, clause: Clause) -> Clause:
        """A stance adverb always, an adverb or phrase of time now and then, moved to the front."""
        items: list[Adverb | PrepositionalPhrase] = [*clause.adverbs, *clause.adjuncts]
        stance = [item for item in items if item.kind == "stance"]
        movable = stance or [item for item in items if item.kind == "time" and self.chance(0.4)]
        if not movable:
            return clause
        fronted = movable[0]
        return replace(
            clause,
            fronted=fronted,
            adverbs=tuple(item for item in clause.adverbs if item is not fronted),
            adjuncts=tuple(item for item in clause.adjuncts if item is not fronted),
        )

    def _tense(self) -> Tense:
        return self.rng.choices(_TENSES, _TENSE_WEIGHTS)[0]

    def _aspect(self, verb: Verb, tense: Tense) -> Aspect:
        """The German perfect is already a past; elsewhere a state is not in progress."""
        lasting = "stative" in verb.traits or "inplace" in verb.traits
        compound = tense == "Pres" if self.lexicon.language == "de" else tense != "Fut" and not lasting
        modal = tense == "Pres" and not lasting
        draw = self.rng.random()
        if draw < 0.2:
            return "compound" if compound else "simple"
        return "modal" if draw < 0.32 and modal else "simple"

    def _adverbs_of(self, kind: str) -> list[Adverb]:
        return [adverb for adverb in self.lexicon.adverbs if adverb.kind == kind]


def _heads(phrase: NounPhrase) -> tuple[Head, ...]:
    return (phrase.head, *(_heads(phrase.conjunct) if phrase.conjunct else ()))


def _in_tense(adverb: Adverb, tense: Tense) -> bool:
    return not adverb.tenses or tense in adverb.tenses


def _suits(adverb: Adverb, clause: Clause, verb: Verb) -> bool:
    """Whether an adverb goes with the clause's tense, verb and subject."""
    head = clause.subject.head
    who = (clause.subject.semantic, head.kind if isinstance(head, Noun) else "person")
    return (
        _in_tense(adverb, clause.tense)
        and (not adverb.verbs or verb.semantic in adverb.verbs)
        and (not adverb.subjects or any(name in adverb.subjects for name in who))
    )


def _barred_adverbs(clause: Clause, verb: Verb, taken: Sequence[str]) -> set[str]:
    """The kinds of adverb that would clash with the verb, its tense and aspect, or a phrase already there."""
    traits = set(verb.traits)
    barred = set()
    if traits & {"stative", "nomanner", "inplace"}:
        barred |= {"manner"}
    if traits & {"stative", "inplace"} or clause.aspect != "simple" or clause.negated or clause.tense == "Fut":
        barred |= {"frequency"}
    if "time" in taken or "inplace" in traits or ("stative" in traits and verb.semantic != "perception"):
        barred |= {"time"}
    if taken or clause.negated or traits & {"stative", "nomanner", "inplace", "outside", "direction"}:
        barred |= {"place"}
    return barred


def _settings(verb: Verb, preposition: Preposition) -> tuple[str, ...]:
    """The kinds of place that a verb asks for; none if any will do."""
    if "inplace" in verb.traits:
        return ("home", "settlement")
    return ("outdoors",) if "outside" in verb.traits and preposition.kind == "location" else ()


def _place_kinds(verb: Verb) -> tuple[str, ...]:
    """The kinds of phrase, other than time, that a verb goes with."""
    if "noplace" in verb.traits:
        return ()
    if "direction" in verb.traits:
        return ("direction",)
    if "inplace" in verb.traits or "nodirection" in verb.traits or verb.obliques:
        return ("location",)
    return ("direction", "location", "company") if verb.subjects == ("person",) else ("direction", "location")
