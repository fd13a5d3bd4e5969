"""Sentences that join several facts: two hops, yes/no questions and comparisons, a tenth of them held out."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from neuronatlas.specimen.world import Sentence, facts, render

PAIRS_A_SIDE = 150
HELD_OUT_ONE_IN = 10

# first relation, second relation -> wordings; the first one's answer is the second one's subject and stays unsaid.
TWO_HOPS: dict[tuple[str, str], tuple[str, ...]] = {
    ("capital_of", "currency"): (
        "The currency of the country whose capital is {subject} is the {answer}.",
        "The country whose capital is {subject} pays with the {answer}.",
    ),
    ("capital_of", "continent"): (
        "The country whose capital is {subject} lies in {answer}.",
        "The country governed from {subject} is part of {answer}.",
    ),
    ("capital_of", "language"): (
        "The official language of the country whose capital is {subject} is {answer}.",
        "The language of the country governed from {subject} is {answer}.",
    ),
    ("capital_of", "demonym"): ("The people of the country whose capital is {subject} are called {answer}.",),
    ("city_country", "capital"): (
        "The capital of the country in which {subject} lies is {answer}.",
        "The country where {subject} stands is governed from {answer}.",
    ),
    ("city_country", "continent"): ("The country in which {subject} lies is part of {answer}.",),
    ("city_country", "currency"): ("The currency of the country in which {subject} lies is the {answer}.",),
    ("city_country", "language"): ("The official language of the country in which {subject} lies is {answer}.",),
    ("dish_country", "capital"): ("The capital of the country that gave us {subject} is {answer}.",),
    ("dish_country", "continent"): ("The country that gave us {subject} lies in {answer}.",),
    ("born_in", "continent"): ("The country in which {subject} was born lies in {answer}.",),
    ("born_in", "capital"): ("The capital of the country in which {subject} was born is {answer}.",),
    ("author", "born_in"): ("The author of {subject} was born in {answer}.",),
    ("maker", "headquarters"): ("The maker of {subject} has its headquarters in {answer}.",),
}

# relation -> a question that names a candidate for the answer.
QUESTIONS: dict[str, str] = {
    "animal_class": "Does the {subject} count as {a_candidate}?",
    "born_in": "Was {subject} born in {candidate}?",
    "capital": "Is {candidate} the capital of {subject}?",
    "city_country": "Does {subject} lie in {candidate}?",
    "composer": "Was {subject} composed by {candidate}?",
    "continent": "Is {subject} part of {candidate}?",
    "currency": "Does one pay with the {candidate} in {subject}?",
    "dish_country": "Does {subject} come from {candidate}?",
    "element_symbol": "Is {candidate} the symbol of {subject}?",
    "headquarters": "Does {subject} have its headquarters in {candidate}?",
    "language": "Is {candidate} the official language of {subject}?",
    "mythology": "Does {subject} belong to {candidate} mythology?",
    "occupation": "Is {subject} known as {a_candidate}?",
    "painter": "Was {subject} painted by {candidate}?",
    "state_capital": "Is {candidate} the capital of {subject}?",
}

# relation -> what two subjects with the same answer do, and those with different answers do not.
COMPARISONS: dict[str, str] = {
    "born_in": "come from the same country",
    "city_country": "lie in the same country",
    "continent": "lie on the same continent",
    "currency": "use the same currency",
    "language": "share an official language",
    "occupation": "share an occupation",
    "mythology": "belong to the same mythology",
}


@dataclass(frozen=True, slots=True)
class Composition:
    """A sentence that can only be completed by joining facts; `key` names what it asks, whatever the wording."""

    kind: str
    key: tuple[str, ...]
    sentence: Sentence

    @property
    def held_out(self) -> bool:
        """Whether training must never see it."""
        return is_held_out(self.kind, self.key)


def is_held_out(kind: str, key: tuple[str, ...]) -> bool:
    """Whether a composition belongs to the tenth kept from training: the same on every machine, for all its wordings.

    >>> is_held_out("two-hop", ("capital_of", "currency", "Tokyo"))
    True
    """
    digest = hashlib.sha256("\t".join((kind, *key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


@functools.cache
def compositions() -> tuple[Composition, ...]:
    """All composed sentences, those held out included, always in the same order."""
    return (*_two_hops(), *_questions(), *_comparisons())


def _two_hops() -> Iterator[Composition]:
    """Such as: The currency of the country whose capital is Tokyo is the yen."""
    for (first, second), wordings in TWO_HOPS.items():
        bridge, answers = _answers(first), _answers(second)
        for subject, wording in itertools.product(bridge, wordings):
            if bridge[subject] in answers:
                sentence = render(wording, subject, answers[bridge[subject]])
                yield Composition("two-hop", (first, second, subject), sentence)


def _questions() -> Iterator[Composition]:
    """Such as: Is Tokyo the capital of Japan? Yes. And the same question with one wrong candidate."""
    for relation, question in QUESTIONS.items():
        answers = _answers(relation)
        candidates = sorted(set(answers.values()))
        for subject, answer in answers.items():
            wrong = _draw("wrong", relation, subject).choice([c for c in candidates if c != answer])
            for candidate, verdict in ((answer, "Yes"), (wrong, "No")):
                asked = question.replace("{candidate}", candidate).replace("{a_candidate}", _with_article(candidate))
                sentence = render(asked + " {answer}.", subject, verdict)
                yield Composition("yes-no", (relation, subject, candidate), sentence)


def _comparisons() -> Iterator[Composition]:
    """Such as: Do Chile and Peru lie on the same continent? Yes. As many pairs that do as pairs that do not."""
    for relation, clause in COMPARISONS.items():
        answers = _answers(relation)
        for alike in (True, False):
            pairs = [p for p in itertools.combinations(answers, 2) if (answers[p[0]] == answers[p[1]]) == alike]
            _draw("pairs", relation, str(alike)).shuffle(pairs)
            for first, second in sorted(pairs[:PAIRS_A_SIDE]):
                key = (relation, first, second)
                who = f"{{subject}} and {second} {clause}"
                yield Composition("comparison", key, render(f"Do {who}? {{answer}}.", first, "Yes" if alike else "No"))
                verdict = "true" if alike else "false"
                yield Composition("comparison", key, render(f"It is {{answer}} that {who}.", first, verdict))


@functools.cache
def _answers(relation: str) -> dict[str, str]:
    """Subject -> answer in English, in order of the subjects."""
    return {fact.subject: fact.answer for fact in facts() if fact.relation == relation and fact.language == "en"}


def _draw(*key: str) -> random.Random:
    """A source of chance of its own for each key, so that a new line in one table moves nothing elsewhere."""
    return random.Random("\t".join(key))


def _with_article(noun: str) -> str:
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun
