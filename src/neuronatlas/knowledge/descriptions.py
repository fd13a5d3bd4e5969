"""Descriptions: phrases that stand for what a fact's answer is, found in the fact's own prompts.

A prompt that says, in English, that its answer *is* something has a phrase that names the answer without saying it:
"[MASK] is the country whose capital is Tokyo." has "the country whose capital is Tokyo".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from neuronatlas.knowledge.facts import PLACES, Fact, FactError, split_prompt

__all__ = ["CLOSING", "descriptions", "put_description", "says"]

CLOSING = " \t\n.,;:!?\"'»”’)]}。"
"""What may stand behind an answer that ends its sentence."""

_BE = r"(?:is|was|are|were)"
_BEHIND = re.compile(rf"\s*(?:{_BE}\s+|,\s*)(the\s.+?)\s*[.!]?\s*")
_BEFORE = re.compile(rf"\s*(.+?)\s+{_BE}(?:\s+(?:called|named|known\s+as))?(?:\s+the)?\s*")
_JOINTS = r"[,;:.?!]|\b(?:is|was|are|were)\s+that\b"
# Words between "the" and the subject that make the phrase one about something else than the subject itself.
_TURNS = frozenset(re.findall(r"\w+", "of in from for to by with behind on at who whom whose which that where when"))
# Words before which a noun phrase can be put; "the city Paris" has a noun there, "in Paris" has not.
_LEADING = frozenset(
    re.findall(
        r"\w+",
        "about above across after against among and as at before behind beside between beyond by during for from in "
        "inside into is near of off on onto or out outside over past since than that through throughout to toward "
        "towards under until upon was when where which while with within without",
    )
)


def descriptions(fact: Fact, places: Sequence[str] = PLACES) -> tuple[str, ...]:
    """Phrases for a fact's answer, in the order of the prompts they are from; none where no prompt has one.

    Taken is what follows "[MASK] is" (or was, are, were) or "[MASK]," to the end of the sentence, if it begins with
    "the"; and what stands before "is [MASK]" (or: is called, named, known as; is the), if it begins with "The" or with
    the subject's possessive. The phrase holds the subject once, has no clause of its own behind a comma, and is not
    about the subject itself: a preposition or relative pronoun stands between "the" and the subject.

    >>> prompts = ["[MASK] is the author of Hamlet.", "The man who wrote Hamlet was [MASK].", "Hamlet is by [MASK]."]
    >>> descriptions(Fact("author", "Hamlet", "Shakespeare", prompts))
    ('the author of Hamlet', 'the man who wrote Hamlet')
    """
    found = []
    for prompt in fact.prompts:
        try:
            left, right = split_prompt(prompt, places)
        except FactError:
            continue
        phrase = _phrase(left, right, fact.subject or "")
        if phrase and not says(phrase, fact.answer):
            found.append(phrase)
    return tuple(dict.fromkeys(found))


def put_description(prompt: str, subject: str, description: str, *, strict: bool = True) -> str | None:
    """A prompt with a description in place of its subject, or None where it does not fit.

    It fits where the subject stands once and is not a possessive; if `strict`, the subject must open the sentence, or
    follow a comma, a preposition or another word that a noun phrase can follow.

    >>> put_description("The currency of Japan is the [MASK].", "Japan", "the country whose capital is Tokyo")
    'The currency of the country whose capital is Tokyo is the [MASK].'
    >>> put_description("Japan's currency is the [MASK].", "Japan", "the country whose capital is Tokyo") is None
    True
    """
    matches = list(_whole(subject).finditer(prompt)) if subject else []
    if len(matches) != 1:
        return None
    before, after = prompt[: matches[0].start()], prompt[matches[0].end() :]
    if re.match(r"['’]s?\b|['’]s|-", after):
        return None
    if description.startswith("the ") and (article := re.search(r"\b[Tt]he\s+$", before)):
        before = before[: article.start()]
    if strict and not _leads(before):
        return None
    opens = not before.strip() or before.rstrip().endswith((".", "!", "?"))
    return before + (description[:1].upper() + description[1:] if opens else description) + after


def says(text: str, name: str) -> bool:
    """Whether a text holds a name as whole words, in capitals or not.

    >>> says("The capital of Mexico is far.", "Mexico"), says("Mexican food", "Mexico")
    (True, False)
    """
    # Most texts do not hold it at all, which is told faster without a pattern.
    return name.lower() in text.lower() and bool(_whole(name).search(text))


def _phrase(left: str, right: str, subject: str) -> str | None:
    if not left.strip():
        match = _BEHIND.fullmatch(right)
    elif not right.strip(CLOSING):
        match = _BEFORE.fullmatch(left)
    else:
        return None
    if match is None or not subject:
        return None
    phrase = match[1]
    matches = list(_whole(subject).finditer(phrase))
    if len(matches) != 1:
        return None
    before, after = phrase[: matches[0].start()], phrase[matches[0].end() :]
    if re.search(_JOINTS, before + after):
        return None
    if not before:
        return phrase if re.match(r"['’]s\s+\w", after) else None
    words = before.split()
    if words[0].lower() != "the" or not _TURNS & {word.lower() for word in words[1:]}:
        return None
    return "the" + phrase[3:]


def _leads(before: str) -> bool:
    """Whether a noun phrase can follow these words."""
    stripped = before.rstrip()
    if not stripped or stripped[-1] in ',;:.!?([“"':
        return True
    return stripped.split()[-1].lower() in _LEADING


def _whole(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
