"""Spanish: object pronouns before the verb, the personal `a`, adjectives that mostly follow their noun."""

from __future__ import annotations

from neuronatlas.specimen.grammar.lexicon import Adjective, Determiner, Pronoun, Verb
from neuronatlas.specimen.grammar.plans import Case, Clause, NounPhrase
from neuronatlas.specimen.grammar.realiser import Realiser, Shape
from neuronatlas.specimen.grammar.words import Word, chunked, punctuation

_MODALS = ("poder", "deber")
_SLOTS = {"Pres": ("present", "present_plural"), "Past": ("past", "past_plural"), "Fut": ("future", "future_plural")}


class SpanishRealiser(Realiser):
    """Puts plans into Spanish."""

    def question(self, clause: Clause) -> list[Word]:
        """A question such as `¿Duerme el perro?`."""
        return [punctuation("¿"), *self.clause(clause, Shape("root", "question")), punctuation("?")]

    def clause(self, clause: Clause, shape: Shape) -> list[Word]:
        """Subject, negation, object pronoun, verbs, the rest; a question puts the subject after the verbs."""
        subject = self.subject(clause, shape)
        frequency = self.adverbs(clause, "frequency")
        group = chunked("VP", [*self._before_verb(clause), *self._verbs(clause, shape)])
        if shape.order == "question":
            words = [*frequency, *group, *self._predicative(clause, shape), *subject]
        else:
            words = [*self.fronted(clause), *subject, *frequency, *group, *self._predicative(clause, shape)]
        return [
            *words,
            *self._object(clause),
            *self._agent(clause),
            *self.adverbs(clause, "manner", "place"),
            *self.adjuncts(clause, "oblique", "direction", "company", "location", "time"),
            *self.adverbs(clause, "time"),
            *self.complement(clause),
        ]

    def _before_verb(self, clause: Clause) -> list[Word]:
        """`no`, and an object pronoun."""
        words = [Word(self.lexicon.function("not"), "ADV", "advmod")] if clause.negated else []
        thing = clause.direct_object
        if thing is not None and isinstance(thing.head, Pronoun) and clause.gap != "object":
            words.append(Word(thing.head.forms["accusative"], "PRON", "obj", number=thing.number))
        return words

    def _object(self, clause: Clause) -> list[Word]:
        """The object after the verb; persons take `a`, each of two joined ones its own."""
        thing = clause.direct_object
        if thing is None or isinstance(thing.head, Pronoun) or clause.gap == "object":
            return []
        words = self.noun_phrase(thing, "accusative", "obj")
        if thing.semantic != "person":
            return words
        personal = self.lexicon.function("personal")
        if thing.conjunct is None:
            return self.preposed(personal, words)
        length = len(self.noun_phrase(thing.conjunct, "accusative", "conj"))
        first, joining, other = words[: -length - 1], words[-length - 1], words[-length:]
        return [*self.preposed(personal, first), joining, *self.preposed(personal, other)]

    def _agent(self, clause: Clause) -> list[Word]:
        if clause.agent is None:
            return []
        return self.preposed(self.lexicon.function("by"), self.noun_phrase(clause.agent, "dative", "obl:agent"))

    def _predicative(self, clause: Clause, shape: Shape) -> list[Word]:
        adjective = clause.predicate
        if adjective is None:
            return []
        number = clause.subject.agreement
        form = _adjective_form(adjective, clause.subject.feminine, number == "Plur")
        return self.predicate(clause, form, shape.role, number, self._suffix(adjective, number))

    def conjunction(self, link: str, following: list[Word]) -> Word:
        """`y` becomes `e` before the sound of i."""
        sound = following[0].form.lower()
        before_i = sound.startswith(("i", "í", "hi")) and not sound.startswith(("hie", "ia", "io"))
        return super().conjunction("and_before_i" if link == "and" and before_i else link, following)

    def _verbs(self, clause: Clause, shape: Shape) -> list[Word]:
        """The finite verb and what follows it at once: gerund, infinitive or participle."""
        verb, role = clause.verb, shape.role
        if verb is None:
            assert clause.predicate is not None
            return [self._auxiliary(clause, clause.predicate.forms["copula"], "cop")]
        if clause.passive:
            return [self._auxiliary(clause, "passive", "aux:pass"), self._participle(clause, verb, role)]
        if clause.aspect == "compound":
            return [self._auxiliary(clause, "estar"), self._main(clause, verb, "gerund", role)]
        if clause.aspect == "modal":
            return [self._auxiliary(clause, _MODALS[clause.modal]), self._main(clause, verb, "infinitive", role)]
        number = clause.subject.agreement
        slot = _SLOTS[clause.tense][number == "Plur"]
        return [
            Word(
                _finite_form(verb, slot),
                "VERB",
                role,
                number=number,
                tense=clause.tense,
                suffix=self.lexicon.ending(slot, _finite_form(verb, slot)),
                semantic=verb.semantic,
            )
        ]

    def _auxiliary(self, clause: Clause, lemma: str, role: str = "aux") -> Word:
        number = clause.subject.agreement
        form = self.lexicon.function(lemma, clause.tense, number)
        return Word(form, "AUX", role, number=number, tense=clause.tense)

    def _main(self, clause: Clause, verb: Verb, slot: str, role: str) -> Word:
        form = verb.forms[slot]
        suffix = self.lexicon.ending(slot, form)
        return Word(form, "VERB", role, tense=clause.tense, suffix=suffix, semantic=verb.semantic)

    def _participle(self, clause: Clause, verb: Verb, role: str) -> Word:
        """The passive participle, which agrees like an adjective."""
        base, number = verb.forms["participle"], clause.subject.agreement
        form = base[:-1] + ("a" if clause.subject.feminine else "o") + ("s" if number == "Plur" else "")
        suffix = self.lexicon.ending("participle", base)
        return Word(form, "VERB", role, number=number, tense=clause.tense, suffix=suffix, semantic=verb.semantic)

    def determiner_form(self, determiner: Determiner, phrase: NounPhrase, case: Case) -> str:
        """`el`, `la`, `los`, `las`."""
        return determiner.forms[f"{phrase.head.gender.lower()}_{'plur' if phrase.plural else 'sing'}"]

    def adjective_word(self, phrase: NounPhrase, case: Case) -> Word:
        """Agrees in gender and number."""
        adjective = phrase.adjective
        assert adjective is not None
        form = _adjective_form(adjective, phrase.head.gender == "Fem", phrase.plural)
        suffix = self._suffix(adjective, phrase.number)
        return Word(form, "ADJ", "amod", number=phrase.number, suffix=suffix, semantic=adjective.semantic)

    def _suffix(self, adjective: Adjective, number: str) -> str:
        """The plural ending where there is one, else the suffix of the word itself in its masculine form."""
        if number == "Sing":
            return adjective.suffix
        return self.lexicon.ending("noun", adjective.forms["masculine_plural"], adjective.forms["masculine"])

    def relative_pronoun(self, clause: Clause) -> Word:
        """`que`, whatever the antecedent."""
        antecedent = clause.subject if clause.gap == "subject" else clause.direct_object
        assert antecedent is not None
        role = "nsubj" if clause.gap == "subject" else "obj"
        return Word(self.lexicon.function("that"), "PRON", role, number=antecedent.number)


def _finite_form(verb: Verb, slot: str) -> str:
    """The plurals of present and future are built on the singular."""
    if slot == "present_plural":
        return verb.forms["present"] + "n"
    if slot == "future_plural":
        return verb.forms["future"][:-1] + "án"
    return verb.forms[slot]


def _adjective_form(adjective: Adjective, feminine: bool, plural: bool) -> str:
    return adjective.forms[("feminine" if feminine else "masculine") + ("_plural" if plural else "")]
