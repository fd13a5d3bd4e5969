"""Which facts of a file a study is made of."""

from __future__ import annotations

from collections.abc import Sequence

from neuronatlas.knowledge.facts import Fact

__all__ = ["spread_facts"]


def spread_facts(facts: Sequence[Fact], limit: int) -> list[Fact]:
    """Up to `limit` facts of each relation, spread evenly over it; those whose inverse has been taken come first.

    The inverse of a fact has its subject as the answer and its answer as the subject. Without it, a few facts of each
    relation would hardly hold one that stands in the file the other way round as well. Nothing hangs on any model.

    >>> capitals = [Fact("capital", f"land{n}", f"city{n}", [f"land{n} [MASK]"]) for n in range(9)]
    >>> back = [Fact("capital of", f"city{n}", f"land{n}", [f"city{n} [MASK]"]) for n in range(9)]
    >>> [fact.subject for fact in spread_facts([*capitals, *back], 3)]
    ['land0', 'land3', 'land6', 'city0', 'city3', 'city6']
    """
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.relation, []).append(fact)
    taken, chosen = set[tuple[str | None, str]](), list[Fact]()
    for group in groups.values():
        first = [fact for fact in group if (fact.answer, fact.subject) in taken][:limit]
        rest = [fact for fact in group if (fact.answer, fact.subject) not in taken]
        count = min(limit - len(first), len(rest))
        some = {id(fact) for fact in (*first, *(rest[index * len(rest) // count] for index in range(count)))}
        mine = [fact for fact in group if id(fact) in some]
        taken |= {(fact.subject, fact.answer) for fact in mine}
        chosen += mine
    return chosen
