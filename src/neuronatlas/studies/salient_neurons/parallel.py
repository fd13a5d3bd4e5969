"""The same facts in several languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.models import Model
from neuronatlas.specimen import specimen_facts
from neuronatlas.specimen.world import LANGUAGES, parallel_facts

__all__ = ["ParallelFact", "parallel_facts_of", "parallel_facts_of_specimen", "spoken"]


@dataclass(frozen=True)
class ParallelFact:
    """A fact with its wording in several languages, by name; the relation is called the same in all of them.

    Errors: FactError for fewer than two languages, or facts of different relations.
    """

    facts: Mapping[str, Fact]

    def __post_init__(self) -> None:
        if len(self.facts) < 2:
            raise FactError(f"a parallel fact in {', '.join(self.facts) or 'no language'}: two languages expected")
        relations = {fact.relation for fact in self.facts.values()}
        if len(relations) > 1:
            raise FactError(f"a parallel fact of relations {', '.join(sorted(relations))}: one relation expected")

    @property
    def relation(self) -> str:
        """Name of its relation."""
        return next(iter(self.facts.values())).relation

    @property
    def name(self) -> str:
        """What it is called: its subject in the first language."""
        return next(iter(self.facts.values())).label


def parallel_facts_of_specimen(
    model: Model, *, relations: Iterable[str] | None = None, limit: int | None = None
) -> list[ParallelFact]:
    """The facts that a specimen was trained on in English, German and Spanish, where each answer is one token.

    `model` is a specimen, masked or causal. `relations` selects some by name; at most `limit` of each are taken, spread
    evenly over its list.

    Errors: FactError where nothing is left.

    >>> import neuronatlas as na
    >>> found = parallel_facts_of_specimen(na.load(na.specimen_folder()), relations=["capital"], limit=3)
    >>> [sorted(one.facts) for one in found]
    [['de', 'en', 'es'], ['de', 'en', 'es'], ['de', 'en', 'es']]
    """
    prompts = {
        (record.relation, record.language, record.subject): record.prompts
        for language in LANGUAGES
        for record in specimen_facts(model=model.kind, language=language)
    }
    wanted = None if relations is None else set(relations)
    groups: dict[str, list[ParallelFact]] = {}
    for row in parallel_facts():
        keys = {language: (fact.relation, language, fact.subject) for language, fact in row.items()}
        one_token = all(len(model.tokenizer.tokenize(fact.answer)) == 1 for fact in row.values())
        if len(row) < len(LANGUAGES) or not one_token or any(key not in prompts for key in keys.values()):
            continue
        relation = row[LANGUAGES[0]].relation
        if wanted is None or relation in wanted:
            facts = {name: Fact(relation, fact.subject, fact.answer, prompts[keys[name]]) for name, fact in row.items()}
            groups.setdefault(relation, []).append(ParallelFact(facts))
    if not groups:
        raise FactError("the specimen has no such facts in three languages: other relations expected")
    return [fact for group in groups.values() for fact in _spread(group, limit)]


def parallel_facts_of(languages: Mapping[str, Sequence[Fact]]) -> list[ParallelFact]:
    """The facts of several languages, by name, put together: the n-th fact of a relation is the same in each of them.

    Subjects and answers have other words in every language, so that nothing but their order can say which belong
    together; relations are called the same in all of them.

    Errors: FactError for fewer than two languages, relations that one of them lacks, and relations of other numbers of
    facts.

    >>> ask = lambda subject, answer: Fact("capital", subject, answer, [f"{subject}: [MASK]"])
    >>> found = parallel_facts_of({"en": [ask("Italy", "Rome")], "de": [ask("Italien", "Rom")]})
    >>> found[0].name, found[0].facts["de"].answer
    ('Italy', 'Rom')
    """
    if len(languages) < 2:
        raise FactError(f"facts of {', '.join(languages) or 'no language'}: two languages or more expected")
    groups: dict[str, dict[str, list[Fact]]] = {name: {} for name in languages}
    for name, facts in languages.items():
        for fact in facts:
            groups[name].setdefault(fact.relation, []).append(fact)
    first, *others = groups
    for other in others:
        for relation in groups[first] | groups[other]:
            sizes = [len(groups[name].get(relation, ())) for name in (first, other)]
            if sizes[0] != sizes[1]:
                raise FactError(
                    f"relation {relation!r} has {sizes[0]} facts in {first} and {sizes[1]} in {other}: the same facts "
                    "in the same order expected"
                )
    return [
        ParallelFact({name: groups[name][relation][place] for name in groups})
        for relation, own in groups[first].items()
        for place in range(len(own))
    ]


def spoken(facts: Sequence[ParallelFact]) -> list[str]:
    """The languages that all of some facts have, in the order of the first one's.

    Errors: FactError where these are fewer than two.
    """
    names = [name for name in facts[0].facts if all(name in fact.facts for fact in facts)] if facts else []
    if len(names) < 2:
        raise FactError(f"{len(facts)} facts have {len(names)} languages in common: two or more expected")
    return names


def _spread(facts: list[ParallelFact], limit: int | None) -> list[ParallelFact]:
    count = len(facts) if limit is None else min(limit, len(facts))
    return [facts[index * len(facts) // count] for index in range(count)]
