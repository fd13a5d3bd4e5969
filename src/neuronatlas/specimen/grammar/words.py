"""Words with their gold labels, and sentences made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

LABEL_KEYS = ("upos", "chunk", "role", "number", "tense", "suffix", "semantic")
"""The labels every word carries; `_` means that the label does not apply."""

_CLINGS_LEFT = frozenset(".,?!;:")
_CLINGS_RIGHT = frozenset("¿¡")


@dataclass(frozen=True, slots=True)
class Word:
    """One word in a sentence, with one label of each kind in `LABEL_KEYS`."""

    form: str
    upos: str
    role: str
    chunk: str = "O"
    number: str = "_"
    tense: str = "_"
    suffix: str = "_"
    semantic: str = "_"


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence's words and, for each label, one value a word.

    >>> sentence = LabelledSentence("es", ("¿", "Duerme", "Ana", "?"), {})
    >>> sentence.text
    '¿Duerme Ana?'
    """

    language: str
    words: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]] = field(hash=False)

    @property
    def text(self) -> str:
        """The sentence as it is written, with spaces only where the language puts them."""
        return "".join(
            word + (" " if space else "") for word, space in zip(self.words, spaces_after(self.words), strict=True)
        )


def spaces_after(words: Sequence[str]) -> list[bool]:
    """Whether a space follows each word; none follows the last.

    >>> spaces_after(["Anna", "sleeps", "."])
    [True, False, False]
    """
    inner = [left not in _CLINGS_RIGHT and right not in _CLINGS_LEFT for left, right in pairwise(words)]
    return inner + [False] * bool(words)


def chunked(kind: str, words: Iterable[Word]) -> list[Word]:
    """The words as one chunk of this kind, in IOB2.

    >>> [word.chunk for word in chunked("NP", [Word("the", "DET", "det"), Word("dog", "NOUN", "nsubj")])]
    ['B-NP', 'I-NP']
    """
    return [replace(word, chunk=f"{'I' if position else 'B'}-{kind}") for position, word in enumerate(words)]


def punctuation(mark: str) -> Word:
    """A punctuation mark as a word."""
    return Word(mark, "PUNCT", "punct")


def labelled(language: str, words: Sequence[Word]) -> LabelledSentence:
    """A sentence from finished words: superfluous commas dropped, the first word capitalised."""
    kept = [word for word, after in zip(words, [*words[1:], None], strict=True) if not _superfluous(word, after)]
    start = next(place for place, word in enumerate(kept) if word.upos != "PUNCT")
    kept[start] = replace(kept[start], form=kept[start].form[0].upper() + kept[start].form[1:])
    return LabelledSentence(
        language=language,
        words=tuple(word.form for word in kept),
        labels={key: tuple(getattr(word, key) for word in kept) for key in LABEL_KEYS},
    )


def _superfluous(word: Word, after: Word | None) -> bool:
    """A comma that closes a clause is swallowed by the mark that follows it."""
    return word.form == "," and (after is None or after.upos == "PUNCT")
