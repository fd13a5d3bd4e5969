"""The subject of a fact, recovered from prompts that do not name it apart.

A relation's prompts are templates filled with subjects. A bag of prompts that ask for one fact shares its subject, and
two bags of a relation share their templates: so a run of words is the subject when it stands in every prompt of its bag
and what is left without it stands in other bags too.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+|[^\w\s]")
_ENOUGH_BAGS = 10
"""So many subjects hardly all begin or end with the same word: a word that they share belongs to the templates."""


def recover_subjects(bags: Sequence[Sequence[str]]) -> tuple[str | None, ...]:
    """Name the subject of each bag of prompts of one relation, or None where the bags do not settle it.

    The answer's place must be written alike in all prompts. Each bag needs another one with the same templates; where
    two runs of words explain a bag equally well its subject is left unknown rather than guessed, unless ten bags or
    more agree that what the longer run adds belongs to the templates.

    >>> recover_subjects(
    ...     [
    ...         ["The capital of France is [MASK].", "[MASK] is France's capital."],
    ...         ["The capital of New Zealand is [MASK].", "[MASK] is New Zealand's capital."],
    ...     ]
    ... )
    ('France', 'New Zealand')
    """
    templates = [_templates_by_run(prompts) for prompts in bags]
    shared = Counter(template for bag in templates for template in set().union(*bag.values()))
    return tuple(_subject(bag, shared) for bag in templates)


def _templates_by_run(prompts: Sequence[str]) -> dict[str, frozenset[str]]:
    """Map each run of words that all prompts share, as the text it covers, to what they are without it."""
    marked = [_marked(prompt) for prompt in prompts]
    return {
        text: frozenset(prompt.replace(run, "\0") for prompt in marked)
        for text, run in _runs(min(prompts, key=len), marked)
        if all(text in prompt for prompt in prompts)
    }


def _runs(prompt: str, marked: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the runs of words in a prompt that all marked prompts hold: the text, and the same marked."""
    words = list(_WORD.finditer(prompt))
    for first, opening in enumerate(words):
        run = ""
        for word in words[first:]:
            run += f"\1{word[0]}\2"
            if not all(run in text for text in marked):
                break
            yield prompt[opening.start() : word.end()], run


def _subject(templates: dict[str, frozenset[str]], shared: Counter[str]) -> str | None:
    """Choose the run whose rarest template stands in the most bags, two or more."""
    support = {run: min(shared[template] for template in left) for run, left in templates.items()}
    most = max(support.values(), default=0)
    best = [run for run, count in support.items() if count == most]
    if most >= _ENOUGH_BAGS:
        shortest = min(best, key=len)
        return shortest if all(shortest in run for run in best) else None
    return best[0] if most > 1 and len(best) == 1 else None


def _marked(text: str) -> str:
    """Put marks around every word, so that a search finds whole words only."""
    return "".join(f"\1{word}\2" for word in _WORD.findall(text))
