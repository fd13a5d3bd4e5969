"""What the three languages share in putting a plan into words; each language adds its own forms and order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

from neuronatlas.specimen.grammar.lexicon import Adverb, Determiner, Lexicon, Noun, Pronoun
from neuronatlas.specimen.grammar.plans import Case, Clause, NounPhrase, PrepositionalPhrase, SentencePlan
from neuronatlas.specimen.grammar.words import LabelledSentence, Word, chunked, labelled, punctuation


@dataclass(frozen=True, slots=True)
class Shape:
    """How a clause is used: the role of its head word, its word order, and whether its subject is left out."""

    role: str
    order: str = "main"
    subjectless: bool = False


class Realiser(ABC):
    """Puts plans into the words of one language."""

    subordinating_comma = False

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon

    @abstractmethod
    def clause(self, clause: Clause, shape: Shape) -> list[Word]:
        """The clause's words, without final punctuation."""

    @abstractmethod
    def determiner_form(self, determiner: Determiner, phrase: NounPhrase, case: Case) -> str:
        """The determiner as it agrees with its phrase."""

    @abstractmethod
    def adjective_word(self, phrase: NounPhrase, case: Case) -> Word:
        """The attributive adjective as it agrees with its phrase."""

    @abstractmethod
    def relative_pronoun(self, clause: Clause) -> Word:
        """The pronoun that opens a relative clause."""

    @abstractmethod
    def question(self, clause: Clause) -> list[Word]:
        """The clause asked, with its punctuation."""

    def sentence(self, plan: SentencePlan) -> LabelledSentence:
        """The whole sentence with its labels."""
        if plan.question:
            return labelled(self.lexicon.language, self.question(plan.main))
        words = self.clause(plan.main, Shape("root"))
        if plan.second is not None and plan.link is not None:
            words += self._linked(plan.link, plan.second, plan.shared_subject)
        return labelled(self.lexicon.language, [*words, punctuation(".")])

    def _linked(self, link: str, clause: Clause, shared: bool) -> list[Word]:
        if link == "because":
            words = self.clause(clause, Shape("advcl", "subordinate"))
            comma = [punctuation(",")] if self.subordinating_comma else []
            return [*comma, *chunked("SBAR", [Word(self.lexicon.function(link), "SCONJ", "mark")]), *words]
        words = self.clause(clause, Shape("conj", subjectless=shared))
        comma = [punctuation(",")] if link == "but" else []
        return [*comma, self.conjunction(link, words), *words]

    def conjunction(self, link: str, following: list[Word]) -> Word:
        """The coordinating conjunction before these words."""
        return Word(self.lexicon.function(link), "CCONJ", "cc")

    # --- phrases --------------------------------------------------------------------------------------------------

    def noun_phrase(self, phrase: NounPhrase, case: Case, role: str) -> list[Word]:
        """A noun phrase with its modifier, relative clause and conjunct."""
        words = chunked("NP", self._core(phrase, case, role))
        if phrase.modifier:
            words += self.prepositional(phrase.modifier, "nmod")
        if phrase.relative:
            words += self._relative(phrase.relative)
        if phrase.conjunct:
            other = self.noun_phrase(phrase.conjunct, case, "conj")
            words += [self.conjunction("and", other), *other]
        return words

    def prepositional(self, phrase: PrepositionalPhrase, role: str = "obl") -> list[Word]:
        """A preposition and its noun phrase, run together where the language does so (`im`, `del`)."""
        return self.preposed(phrase.preposition, self.noun_phrase(phrase.noun_phrase, "dative", role))

    def preposed(self, preposition: str, words: list[Word]) -> list[Word]:
        """These words of a noun phrase with a preposition before them."""
        contraction = self.lexicon.contractions.get((preposition, words[0].form))
        if contraction:
            first = replace(words[1], chunk="B-NP")
            words = [first, *words[2:]]
        return chunked("PP", [Word(contraction or preposition, "ADP", "case")]) + words

    def adverb(self, adverb: Adverb) -> list[Word]:
        """An adverb as a phrase of its own."""
        return chunked("ADVP", [self.adverb_word(adverb)])

    def adverb_word(self, adverb: Adverb) -> Word:
        """An adverb as a word."""
        return Word(adverb.form, "ADV", "advmod", suffix=adverb.suffix, semantic=adverb.kind)

    def adverbs(self, clause: Clause, *kinds: str) -> list[Word]:
        """The clause's adverbs of these kinds, in their order."""
        return [word for kind in kinds for item in clause.adverbs if item.kind == kind for word in self.adverb(item)]

    def adjuncts(self, clause: Clause, *kinds: str) -> list[Word]:
        """The clause's prepositional phrases of these kinds, in their order."""
        found = [item for kind in kinds for item in clause.adjuncts if item.kind == kind]
        return [word for item in found for word in self.prepositional(item)]

    def fronted(self, clause: Clause) -> list[Word]:
        """What stands before the subject, if anything."""
        if clause.fronted is None:
            return []
        return self.adverb(clause.fronted) if isinstance(clause.fronted, Adverb) else self.prepositional(clause.fronted)

    def subject(self, clause: Clause, shape: Shape) -> list[Word]:
        """The subject's words; none where it is left out or is the relative pronoun."""
        if shape.subjectless or clause.gap == "subject":
            return []
        return self.noun_phrase(clause.subject, "nominative", "nsubj:pass" if clause.passive else "nsubj")

    def predicate(self, clause: Clause, form: str, role: str, number: str, suffix: str) -> list[Word]:
        """The predicate adjective with its adverb of degree."""
        if clause.predicate is None:
            return []
        degree = [self.adverb_word(clause.degree)] if clause.degree else []
        adjective = Word(form, "ADJ", role, number=number, suffix=suffix, semantic=clause.predicate.semantic)
        return chunked("ADJP", [*degree, adjective])

    def complement(self, clause: Clause) -> list[Word]:
        """The clause that says what is said or thought."""
        if clause.complement is None:
            return []
        comma = [punctuation(",")] if self.subordinating_comma else []
        mark = chunked("SBAR", [Word(self.lexicon.function("that"), "SCONJ", "mark")])
        return [*comma, *mark, *self.clause(clause.complement, Shape("ccomp", "subordinate")), *comma]

    def _relative(self, clause: Clause) -> list[Word]:
        comma = [punctuation(",")] if self.subordinating_comma else []
        opening = chunked("NP", [self.relative_pronoun(clause)])
        return [*comma, *opening, *self.clause(clause, Shape("acl:relcl", "subordinate")), *comma]

    def _core(self, phrase: NounPhrase, case: Case, role: str) -> Iterable[Word]:
        """Determiner, adjective and noun, or a pronoun."""
        if isinstance(phrase.head, Pronoun):
            return [Word(phrase.head.forms[case], "PRON", role, number=phrase.number)]
        words = [self.noun_word(phrase.head, phrase, case, role)]
        if phrase.adjective:
            adjective = self.adjective_word(phrase, case)
            words = [adjective, *words] if phrase.adjective_first else [*words, adjective]
        determiner = phrase.determiner
        if determiner is None or determiner.kind == "bare":
            return words
        return [self._determiner(determiner, phrase, case, words[0].form), *words]

    def _determiner(self, determiner: Determiner, phrase: NounPhrase, case: Case, following: str) -> Word:
        form = self.before(self.determiner_form(determiner, phrase, case), following)
        number = phrase.number if self.determiner_varies(determiner) else "_"
        return Word(form, determiner.upos, determiner.role, number=number)

    def before(self, determiner: str, following: str) -> str:
        """The determiner as the sound of the next word changes it."""
        return determiner

    def determiner_varies(self, determiner: Determiner) -> bool:
        """Whether the determiner's form tells the number."""
        return True

    def noun_word(self, noun: Noun, phrase: NounPhrase, case: Case, role: str) -> Word:
        """The noun in its number and case."""
        form = self.noun_form(noun, phrase, case)
        suffix = noun.suffix
        if form != noun.singular:
            suffix = self.lexicon.ending("noun", form, noun.singular)
        upos = "PROPN" if noun.proper else "NOUN"
        return Word(form, upos, role, number=phrase.number, suffix=suffix, semantic=noun.semantic)

    def noun_form(self, noun: Noun, phrase: NounPhrase, case: Case) -> str:
        """The noun's form, for a language whose nouns have no case."""
        return noun.plural if phrase.plural else noun.singular
