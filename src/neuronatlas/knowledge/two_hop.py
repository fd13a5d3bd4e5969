"""Two-hop prompts: a fact asked through another one, whose answer is its subject and stays unsaid.

"The currency of the country whose capital is Tokyo is the [MASK]." is the prompt "The currency of Japan is the [MASK]."
of one fact, in which a description stands for Japan. The description comes from a prompt of the other fact, (capital
of, Tokyo, Japan), that has its mask beside a form of to be (see `descriptions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from neuronatlas.knowledge.descriptions import CLOSING, descriptions, put_description, says
from neuronatlas.knowledge.facts import PLACES, Fact, FactError, split_prompt

__all__ = ["Bridges", "Templates", "TwoHop", "follow_up_prompts", "two_hop"]

Bridges = Mapping[str, Sequence[str]]
"""By relation, phrases that describe a fact's answer, with `{subject}` in them."""

Templates = Mapping[tuple[str, str], Sequence[str]]
"""By the relations of both facts, whole prompts with `{subject}`, the first fact's, and the answer's place."""

LEAST_LINKS = 2


@dataclass(frozen=True)
class TwoHop:
    """A prompt that needs two facts: the second one's, with a description by the first in place of its subject.

    `description` names what the first fact's answer is, without saying it; `answer` is the second fact's.
    """

    first: Fact
    second: Fact
    description: str
    prompt: str

    @property
    def answer(self) -> str:
        """The answer that the prompt asks for."""
        return self.second.answer

    @property
    def relations(self) -> tuple[str, str]:
        """Relation of the first and of the second fact."""
        return self.first.relation, self.second.relation


def two_hop(
    facts: Sequence[Fact],
    *,
    bridges: Bridges | None = None,
    templates: Templates | None = None,
    each: int = 2,
    least: float = 0.1,
    answer_last: bool = False,
    places: Sequence[str] = PLACES,
) -> tuple[TwoHop, ...]:
    """Compose two-hop prompts from all pairs of relations in which one's answers are the other's subjects.

    A pair of relations is taken when at least a share `least` of the first one's different answers, and no fewer than
    two, are subjects of the second: fewer are chance, such as a state that has the name of a country. Not taken is a
    pair that mostly leads back to where it began, as from a country to its capital to that capital's country. A subject
    that has several answers in a relation takes no part. No prompt says the answer that it asks for, nor the one left
    out. Up to `each` prompts are made of a pair of facts. `answer_last` keeps to what a causal model can be asked;
    `places` are the spellings of the answer's place (`place_tokens` of a model, which adds its own mask token).

    Descriptions are found in English prompts (`descriptions`). For other wordings and languages `bridges` gives phrases
    for a relation, ("the country whose capital is {subject}"), which go into any prompt of the second fact that names
    its subject once; `templates` whole prompts for a pair of relations, with `{subject}` and the answer's place.

    Errors: FactError for a phrase or template without its places, and `each` below 1.

    >>> first = [Fact("capital of", "Tokyo", "Japan", ["[MASK] is the country whose capital is Tokyo."])]
    >>> first += [Fact("capital of", "Lima", "Peru", ["[MASK] is the country whose capital is Lima."])]
    >>> second = [Fact("currency", "Japan", "yen", ["The currency of Japan is the [MASK]."])]
    >>> second += [Fact("currency", "Peru", "sol", ["The currency of Peru is the [MASK]."])]
    >>> for hop in two_hop(first + second):
    ...     print(hop.prompt, hop.answer)
    The currency of the country whose capital is Tokyo is the [MASK]. yen
    The currency of the country whose capital is Lima is the [MASK]. sol
    """
    _check_each(each)
    wordings = _Wordings(bridges or {}, templates or {}, answer_last, tuple(places))
    single = _single(facts)
    found: list[TwoHop] = []
    for first, second in _linked(single.values(), wordings, least):
        for one in single.values():
            other = single.get((second, _key(one.answer))) if one.relation == first else None
            if other is not None and other != one:
                found += list(_composed(one, other, wordings))[:each]
    return tuple(found)


def follow_up_prompts(
    fact: Fact,
    new_answer: str,
    facts: Sequence[Fact],
    *,
    bridges: Bridges | None = None,
    templates: Templates | None = None,
    each: int = 2,
    least: float = 0.1,
    answer_last: bool = False,
    places: Sequence[str] = PLACES,
) -> tuple[TwoHop, ...]:
    """Two-hop prompts whose answer follows from a fact's new answer, as the portability of an edit is asked for.

    Where the edited fact is the first hop, the answer is what the file says of the new one: if Tokyo were the capital
    of Peru, the currency of the country whose capital is Tokyo would be the sol. Where it is the second hop, the answer
    is the new one, asked by a description of the subject. Prompts whose answer the edit leaves as it was tell nothing
    and are left out. Arguments and errors as for `two_hop`, `facts` being the whole file.

    `EditCase(fact, new, portability=tuple((hop.prompt, hop.answer) for hop in follow_up_prompts(fact, new, facts)))`

    >>> wording = "[MASK] is the country whose capital is {}."
    >>> first = [Fact("capital of", s, a, [wording.format(s)]) for s, a in (("Tokyo", "Japan"), ("Lima", "Peru"))]
    >>> wording = "The currency of {} is the [MASK]."
    >>> second = [Fact("currency", s, a, [wording.format(s)]) for s, a in (("Japan", "yen"), ("Peru", "sol"))]
    >>> [(hop.prompt, hop.answer) for hop in follow_up_prompts(first[0], "Peru", first + second)]
    [('The currency of the country whose capital is Tokyo is the [MASK].', 'sol')]
    >>> [(hop.prompt, hop.answer) for hop in follow_up_prompts(second[0], "euro", first + second)]
    [('The currency of the country whose capital is Tokyo is the [MASK].', 'euro')]
    """
    _check_each(each)
    if fact.subject is None:
        return ()
    edited, mine = replace(fact, answer=new_answer), (fact.relation, _key(fact.subject))
    wordings = _Wordings(bridges or {}, templates or {}, answer_last, tuple(places))
    # The old file tells which relations are linked: one new answer does not change that.
    before = _single(facts) | {mine: fact}
    found: list[TwoHop] = []
    for first, second in _linked(before.values(), wordings, least):
        if first == fact.relation:
            was, now = (before.get((second, _key(answer))) for answer in (fact.answer, new_answer))
            if now is not None and (was is None or was.answer != now.answer):
                found += list(_composed(edited, now, wordings))[:each]
        if second == fact.relation and fact.answer != new_answer:
            for one in before.values():
                if one.relation == first and _key(one.answer) == mine[1]:
                    found += list(_composed(one, edited, wordings))[:each]
    return tuple(found)


def _check_each(each: int) -> None:
    if each < 1:
        raise FactError(f"{each} prompts of each pair of facts: 1 or more expected")


@dataclass(frozen=True)
class _Wordings:
    """How prompts are composed; see `two_hop`."""

    bridges: Bridges
    templates: Templates
    answer_last: bool
    places: tuple[str, ...]

    def __post_init__(self) -> None:
        for relation, phrases in self.bridges.items():
            for phrase in phrases:
                if phrase.count("{subject}") != 1:
                    raise FactError(f"phrase {phrase!r} for {relation!r}: exactly one {{subject}} expected")
        for pair, prompts in self.templates.items():
            for prompt in prompts:
                split_prompt(prompt, self.places)
                if prompt.count("{subject}") != 1:
                    raise FactError(f"template {prompt!r} for {' and '.join(pair)}: exactly one {{subject}} expected")

    def phrases(self, fact: Fact) -> tuple[str, ...]:
        """Descriptions of a fact's answer: those that were given, else those found in its prompts."""
        given = self.bridges.get(fact.relation)
        if given is None:
            return descriptions(fact, self.places)
        return tuple(phrase.replace("{subject}", fact.subject or "") for phrase in given)

    def suits(self, prompt: str) -> bool:
        """Whether the answer's place is there, and last where it has to be."""
        try:
            _, right = split_prompt(prompt, self.places)
        except FactError:
            return False
        return not self.answer_last or not right.strip(CLOSING)


def _composed(first: Fact, second: Fact, wordings: _Wordings) -> Iterator[TwoHop]:
    """All prompts of a pair of facts, descriptions taking turns, less those that say too much."""
    written = [
        TwoHop(first, second, "", template.replace("{subject}", first.subject or ""))
        for template in wordings.templates.get((first.relation, second.relation), ())
    ]
    phrases = wordings.phrases(first)
    # Phrases that were given may be of any language, which has its own rules of what may stand before them.
    strict = first.relation not in wordings.bridges
    if phrases and not written:
        for turn, prompt in enumerate(p for p in second.prompts if wordings.suits(p)):
            phrase = phrases[turn % len(phrases)]
            text = put_description(prompt, second.subject or "", phrase, strict=strict)
            if text is not None:
                written.append(TwoHop(first, second, phrase, text))
    for hop in written:
        if wordings.suits(hop.prompt) and not says(hop.prompt, first.answer) and not says(hop.prompt, second.answer):
            yield hop


def _single(facts: Iterable[Fact]) -> dict[tuple[str, str], Fact]:
    """Facts by relation and subject, less subjects that have several answers in a relation."""
    found: dict[tuple[str, str], Fact] = {}
    several = set()
    for fact in facts:
        if fact.subject is not None:
            key = (fact.relation, _key(fact.subject))
            if found.setdefault(key, fact).answer != fact.answer:
                several.add(key)
    return {key: fact for key, fact in found.items() if key not in several}


def _linked(facts: Iterable[Fact], wordings: _Wordings, least: float) -> list[tuple[str, str]]:
    """Pairs of relations of which the first one's answers are the second one's subjects, in the order of the facts."""
    by_relation: dict[str, dict[str, Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, {})[_key(fact.subject or "")] = fact
    found = []
    for first, ours in by_relation.items():
        answers = {_key(fact.answer) for fact in ours.values()}
        for second, theirs in by_relation.items():
            links = len(answers & theirs.keys())
            chains = [(one, theirs[_key(one.answer)]) for one in ours.values() if _key(one.answer) in theirs]
            back = sum(_key(other.answer) == _key(one.subject or "") for one, other in chains)
            linked = links >= LEAST_LINKS and links >= least * len(answers) and 2 * back < len(chains)
            if linked or (first, second) in wordings.templates:
                found.append((first, second))
    return found


def _key(name: str) -> str:
    """A name as it is compared: "the Netherlands" is "Netherlands", but "turkey" is not "Turkey"."""
    plain = " ".join(name.split())
    return plain[4:] if plain[:4] in ("the ", "The ") and len(plain) > 4 else plain
