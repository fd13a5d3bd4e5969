"""German: four-fold agreement, the verb second in a main clause and last in a subordinate one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuronatlas.specimen.grammar.lexicon import Determiner, Noun, Pronoun, Verb
from neuronatlas.specimen.grammar.plans import Case, Clause, NounPhrase
from neuronatlas.specimen.grammar.realiser import Realiser, Shape
from neuronatlas.specimen.grammar.words import Word, chunked, punctuation

_MODALS = ("können", "müssen")
_CASES = {"nominative": "nom", "accusative": "acc", "dative": "dat"}


@dataclass(frozen=True, slots=True)
class _Verbs:
    """The finite verb, and what closes the clause: participle, infinitive or separated particle."""

    finite: Word
    closing: tuple[Word, ...] = ()


class GermanRealiser(Realiser):
    """Puts plans into German."""

    subordinating_comma = True

    def question(self, clause: Clause) -> list[Word]:
        """A question such as `Schläft der Hund?`."""
        return [*self.clause(clause, Shape("root", "question")), punctuation("?")]

    def clause(self, clause: Clause, shape: Shape) -> list[Word]:
        """The finite verb second, first in a question, last in a subordinate clause."""
        verbs = self._verbs(clause, shape)
        subject = self.subject(clause, shape)
        middle = self._middle(clause, shape)
        if shape.order == "subordinate":
            return [*subject, *middle, *chunked("VP", [*verbs.closing, verbs.finite]), *self.complement(clause)]
        finite, closing = chunked("VP", [verbs.finite]), self._closing(verbs)
        front = self.fronted(clause)
        first, inner = (front, subject) if front or shape.order == "question" else (subject, [])
        return [*first, *finite, *inner, *middle, *closing, *self.complement(clause)]

    @staticmethod
    def _closing(verbs: _Verbs) -> list[Word]:
        kind = "PRT" if verbs.closing and verbs.closing[0].upos == "ADP" else "VP"
        return chunked(kind, verbs.closing)

    def _middle(self, clause: Clause, shape: Shape) -> list[Word]:
        """What stands between the two parts of the verb; `kein` takes the place of `nicht` before an indefinite."""
        thing = clause.direct_object if clause.gap != "object" else None
        indefinite = thing is not None and _is_indefinite(thing)
        negated_by_article = clause.negated and indefinite
        if thing is not None and negated_by_article:
            thing = replace(thing, determiner=self.lexicon.determiner("negative"))
        words = self.noun_phrase(thing, "accusative", "obj") if thing else []
        pronominal = thing is not None and isinstance(thing.head, Pronoun)
        manner = self.adverbs(clause, "manner")
        negation = [Word(self.lexicon.function("not"), "PART", "advmod")]
        return [
            *(words if pronominal else []),
            *self.adverbs(clause, "time"),
            *self.adjuncts(clause, "time"),
            *self.adverbs(clause, "frequency"),
            *(manner if indefinite and not negated_by_article else []),
            *([] if pronominal else words),
            *(negation if clause.negated and not negated_by_article else []),
            *([] if indefinite and not negated_by_article else manner),
            *self.adverbs(clause, "place"),
            *self.adjuncts(clause, "company", "location", "oblique", "direction"),
            *self._agent(clause),
            *self._predicative(clause, shape),
        ]

    def _predicative(self, clause: Clause, shape: Shape) -> list[Word]:
        adjective = clause.predicate
        return self.predicate(clause, adjective.forms["form"], shape.role, "_", adjective.suffix) if adjective else []

    def _agent(self, clause: Clause) -> list[Word]:
        if clause.agent is None:
            return []
        return self.preposed(self.lexicon.function("by"), self.noun_phrase(clause.agent, "dative", "obl:agent"))

    def _verbs(self, clause: Clause, shape: Shape) -> _Verbs:
        role = shape.role
        if clause.verb is None:
            if clause.tense == "Fut":
                infinitive = Word(self.lexicon.function("sein_infinitive"), "AUX", "cop", tense="Fut")
                return _Verbs(self._auxiliary(clause, "werden", "Pres"), (infinitive,))
            return _Verbs(self._auxiliary(clause, "sein", clause.tense, "cop"))
        if clause.passive:
            finite = self._auxiliary(clause, "werden", clause.tense, "aux:pass")
            return _Verbs(finite, (self._main(clause, clause.verb, "participle", role),))
        if clause.aspect == "compound":
            # The perfect says of the past what English says with one word.
            past = replace(clause, tense="Past")
            finite = self._auxiliary(past, clause.verb.forms["auxiliary"], "Pres")
            return _Verbs(finite, (self._main(past, clause.verb, "participle", role),))
        if clause.aspect == "modal" or clause.tense == "Fut":
            lemma = "werden" if clause.tense == "Fut" else _MODALS[clause.modal]
            return _Verbs(
                self._auxiliary(clause, lemma, "Pres"), (self._main(clause, clause.verb, "infinitive", role),)
            )
        return self._simple(clause, clause.verb, shape)

    def _simple(self, clause: Clause, verb: Verb, shape: Shape) -> _Verbs:
        """A single verb, its particle torn off in a main clause."""
        form, suffix = self._finite_form(clause, verb)
        particle = verb.forms["particle"]
        finite = Word(
            particle + form if shape.order == "subordinate" else form,
            "VERB",
            shape.role,
            number=clause.subject.agreement,
            tense=clause.tense,
            suffix=suffix,
            semantic=verb.semantic,
        )
        if not particle or shape.order == "subordinate":
            return _Verbs(finite)
        return _Verbs(finite, (Word(particle, "ADP", "compound:prt"),))

    def _finite_form(self, clause: Clause, verb: Verb) -> tuple[str, str]:
        """The form without its particle, and its suffix: a weak past adds -te, a strong one changes its vowel."""
        plural = clause.subject.agreement == "Plur"
        if clause.tense == "Pres" and not plural:
            return verb.forms["third"], self.lexicon.ending("third", verb.forms["third"])
        if clause.tense == "Pres":
            form = verb.forms["infinitive"].removeprefix(verb.forms["particle"])
            return form, self.lexicon.ending("infinitive", form)
        past = verb.forms["past"]
        weak = self.lexicon.ending("past", past)
        if not plural:
            return past, weak
        form = past + ("n" if past.endswith("e") else "en")
        return form, "-ten" if weak == "-te" else "-en"

    def _auxiliary(self, clause: Clause, lemma: str, tense: str, role: str = "aux") -> Word:
        number = clause.subject.agreement
        return Word(self.lexicon.function(lemma, tense, number), "AUX", role, number=number, tense=clause.tense)

    def _main(self, clause: Clause, verb: Verb, slot: str, role: str) -> Word:
        form = verb.forms[slot]
        suffix = self.lexicon.ending(slot, form)
        return Word(form, "VERB", role, tense=clause.tense, suffix=suffix, semantic=verb.semantic)

    def determiner_form(self, determiner: Determiner, phrase: NounPhrase, case: Case) -> str:
        """`der`, `den`, `dem`."""
        return determiner.forms[_cell(phrase, case)]

    def adjective_word(self, phrase: NounPhrase, case: Case) -> Word:
        """Stem and ending, by the determiner's declension."""
        adjective = phrase.adjective
        assert adjective is not None
        declension = phrase.determiner.forms["declension"] if phrase.determiner else "strong"
        ending = self.lexicon.declensions[declension][_cell(phrase, case)]
        form = adjective.forms["stem"] + ending
        semantic = adjective.semantic
        return Word(form, "ADJ", "amod", number=phrase.number, suffix=f"-{ending}", semantic=semantic)

    def noun_form(self, noun: Noun, phrase: NounPhrase, case: Case) -> str:
        """Weak nouns add -n or -en outside the nominative; the dative plural ends in -n."""
        if not phrase.plural:
            return noun.oblique if noun.oblique and case != "nominative" else noun.singular
        return noun.plural if case != "dative" or noun.plural[-1] in "ns" else noun.plural + "n"

    def relative_pronoun(self, clause: Clause) -> Word:
        """`der`, `die`, `das`, in the antecedent's gender and the clause's case."""
        antecedent = clause.subject if clause.gap == "subject" else clause.direct_object
        assert antecedent is not None
        case: Case = "nominative" if clause.gap == "subject" else "accusative"
        role = "nsubj" if clause.gap == "subject" else "obj"
        form = self.lexicon.determiner("relative").forms[_cell(antecedent, case)]
        return Word(form, "PRON", role, number=antecedent.number)


def _cell(phrase: NounPhrase, case: Case) -> str:
    """The column of the tables for a phrase's gender (or the plural) in a case."""
    return f"{'plur' if phrase.plural else phrase.head.gender.lower()}_{_CASES[case]}"


def _is_indefinite(phrase: NounPhrase) -> bool:
    determiner = phrase.determiner
    return determiner is not None and determiner.kind in ("indefinite", "bare") and phrase.conjunct is None
