"""English: do-support, progressives, `a` and `an`, restrictive relative clauses without commas."""

from __future__ import annotations

from neuronatlas.specimen.grammar.lexicon import Determiner, Verb
from neuronatlas.specimen.grammar.plans import Case, Clause, NounPhrase
from neuronatlas.specimen.grammar.realiser import Realiser, Shape
from neuronatlas.specimen.grammar.words import Word, chunked, punctuation

_MODALS = ("can", "must")


class EnglishRealiser(Realiser):
    """Puts plans into English."""

    def question(self, clause: Clause) -> list[Word]:
        """A question such as `Does the dog sleep?`."""
        return [*self.clause(clause, Shape("root", "question")), punctuation("?")]

    def clause(self, clause: Clause, shape: Shape) -> list[Word]:
        """Subject, verbs, object, manner, place, time; a question puts its first auxiliary before the subject."""
        auxiliaries, main = self._verbs(clause, shape)
        negation = [Word(self.lexicon.function("not"), "PART", "advmod")] if clause.negated else []
        frequency = self.adverbs(clause, "frequency")
        subject = self.subject(clause, shape)
        if shape.order == "question":
            rest = [*negation, *frequency, *auxiliaries[1:], *main]
            verbs = [*chunked("VP", auxiliaries[:1]), *subject, *self._verb_chunk(rest)]
        else:
            verbs = [*subject, *self._verb_chunk([*auxiliaries[:1], *negation, *frequency, *auxiliaries[1:], *main])]
        front = self.fronted(clause)
        return [*front, *([punctuation(",")] if front else []), *verbs, *self._tail(clause, shape)]

    def _verb_chunk(self, words: list[Word]) -> list[Word]:
        """Verbs and what stands between them are one chunk; an adverb before them all is its own."""
        leading = next((place for place, word in enumerate(words) if word.upos != "ADV"), len(words))
        return chunked("ADVP", words[:leading]) + chunked("VP", words[leading:])

    def _tail(self, clause: Clause, shape: Shape) -> list[Word]:
        """Everything after the verbs."""
        thing = clause.direct_object
        adjective = clause.predicate
        return [
            *(self.predicate(clause, adjective.forms["form"], shape.role, "_", adjective.suffix) if adjective else []),
            *(self.noun_phrase(thing, "accusative", "obj") if thing and clause.gap != "object" else []),
            *self._agent(clause),
            *self.adjuncts(clause, "oblique", "direction"),
            *self.adverbs(clause, "manner", "place"),
            *self.adjuncts(clause, "company", "location", "time"),
            *self.adverbs(clause, "time"),
            *self.complement(clause),
        ]

    def _agent(self, clause: Clause) -> list[Word]:
        if clause.agent is None:
            return []
        return self.preposed(self.lexicon.function("by"), self.noun_phrase(clause.agent, "accusative", "obl:agent"))

    def _verbs(self, clause: Clause, shape: Shape) -> tuple[list[Word], list[Word]]:
        """The auxiliaries, and the main verb (none after a copula)."""
        if clause.verb is None:
            return self._be(clause, "cop"), []
        if clause.passive:
            return self._be(clause, "aux:pass"), [self._main(clause, clause.verb, "participle", shape.role)]
        if clause.aspect == "compound":
            return self._be(clause, "aux"), [self._main(clause, clause.verb, "gerund", shape.role)]
        if clause.aspect == "modal":
            return [self._auxiliary(clause, _MODALS[clause.modal])], [
                self._main(clause, clause.verb, "base", shape.role)
            ]
        if clause.tense == "Fut":
            return [self._auxiliary(clause, "be")], [self._main(clause, clause.verb, "base", shape.role)]
        if clause.negated or shape.order == "question":
            return [self._auxiliary(clause, "do")], [self._main(clause, clause.verb, "base", shape.role)]
        slot = "past" if clause.tense == "Past" else "third" if clause.subject.agreement == "Sing" else "base"
        return [], [self._main(clause, clause.verb, slot, shape.role, finite=True)]

    def _be(self, clause: Clause, role: str) -> list[Word]:
        """`is`, `were`, `will be`."""
        if clause.tense != "Fut":
            return [self._auxiliary(clause, "be", role)]
        infinitive = Word(self.lexicon.function("be_infinitive"), "AUX", role, tense=clause.tense)
        return [self._auxiliary(clause, "be"), infinitive]

    def _auxiliary(self, clause: Clause, lemma: str, role: str = "aux") -> Word:
        number = clause.subject.agreement
        form = self.lexicon.function(lemma, clause.tense, number)
        return Word(form, "AUX", role, number=number, tense=clause.tense)

    def _main(self, clause: Clause, verb: Verb, slot: str, role: str, finite: bool = False) -> Word:
        form = verb.forms[slot]
        suffix = self.lexicon.ending(slot, form, verb.forms["base"])
        number = clause.subject.agreement if finite else "_"
        return Word(form, "VERB", role, number=number, tense=clause.tense, suffix=suffix, semantic=verb.semantic)

    def determiner_form(self, determiner: Determiner, phrase: NounPhrase, case: Case) -> str:
        """`this`, `these`."""
        return determiner.forms["plural" if phrase.plural else "singular"]

    def before(self, determiner: str, following: str) -> str:
        """`an` before a vowel; the lexicon has no word whose first letter misleads."""
        return "an" if determiner == "a" and following[0].lower() in "aeiou" else determiner

    def determiner_varies(self, determiner: Determiner) -> bool:
        """`the` and `my` do not tell the number."""
        return determiner.forms["singular"] != determiner.forms["plural"]

    def adjective_word(self, phrase: NounPhrase, case: Case) -> Word:
        """English adjectives do not agree."""
        adjective = phrase.adjective
        assert adjective is not None
        return Word(adjective.forms["form"], "ADJ", "amod", suffix=adjective.suffix, semantic=adjective.semantic)

    def relative_pronoun(self, clause: Clause) -> Word:
        """`who` for a person who acts, else `that`."""
        antecedent = clause.subject if clause.gap == "subject" else clause.direct_object
        assert antecedent is not None
        person = antecedent.semantic == "person" and clause.gap == "subject"
        role = "nsubj" if clause.gap == "subject" else "obj"
        return Word(self.lexicon.function("who" if person else "that"), "PRON", role, number=antecedent.number)
