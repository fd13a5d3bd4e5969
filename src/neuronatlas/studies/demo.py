"""The specimen's facts as facts to locate, and the few of every relation that the demonstration uses."""

from __future__ import annotations

from collections.abc import Iterable

from neuronatlas import specimen
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.models.model import Model
from neuronatlas.readers.files import RelationFilter

__all__ = ["FACTS_PER_RELATION", "demo_facts", "facts_of_specimen"]

FACTS_PER_RELATION = 8


def facts_of_specimen(*, relations: Iterable[str] | None = None, limit: int | None = None) -> list[Fact]:
    """The specimen's English facts whose answer is one word, with the prompts it was trained on.

    `relations` and `limit` select as those of `read_facts` do.

    Errors: FactError for a relation that there is not.
    """
    wanted = RelationFilter(None if relations is None else tuple(relations))
    records = [record for record in specimen.specimen_facts(language="en", one_word=True) if wanted(record.relation)]
    if unknown := wanted.unknown():
        raise FactError(f"no relation {' or '.join(map(repr, unknown))}: the specimen has {', '.join(wanted.seen)}")
    facts = [Fact(record.relation, record.subject, record.answer, record.prompts) for record in records]
    return [fact for group in _by_relation(facts) for fact in group[:limit]]


def demo_facts(model: Model, per_relation: int = FACTS_PER_RELATION) -> list[Fact]:
    """Choose equally many of the specimen's facts of each relation, spread evenly over its list; always the same ones.

    `model` is the specimen: only answers that are one token of it are taken. A relation with too few gives all it has.
    """
    single = [fact for fact in facts_of_specimen() if len(model.tokenizer.tokenize(fact.answer)) == 1]
    return [fact for group in _by_relation(single) for fact in _spread(group, per_relation)]


def _by_relation(facts: Iterable[Fact]) -> list[list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.relation, []).append(fact)
    return list(groups.values())


def _spread(facts: list[Fact], count: int) -> list[Fact]:
    count = min(count, len(facts))
    return [facts[index * len(facts) // count] for index in range(count)]
