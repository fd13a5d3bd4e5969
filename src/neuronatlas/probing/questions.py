"""Words of a labelled corpus as questions to a model: which word stands here, and is it one of the right class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64, Int
from tqdm.auto import tqdm

from neuronatlas.models.hooks import InterventionError
from neuronatlas.models.model import Model
from neuronatlas.probing.alignment import align
from neuronatlas.probing.corpora import Corpus

__all__ = ["Question", "Questions", "ask"]

ALIGNED_AT_ONCE = 256
"""Sentences encoded in one call of the tokenizer."""


@dataclass(frozen=True)
class Question:
    """One word of the corpus that the model is asked for.

    `ids` are what the model gets, `place` the position whose logits are read, `token` the word's own.
    """

    item: int
    sentence: int
    label: str
    ids: tuple[int, ...]
    place: int
    token: int


@dataclass(frozen=True)
class Questions:
    """Questions in the order of the corpus, and the class of every token that words of the corpus are.

    `token_classes[token]` is the class that a word type's occurrences have most often, None where most have no label;
    a token that is not in it is unknown. `coverage` tells how many words of each class could not be asked for and why.
    """

    asked: tuple[Question, ...]
    classes: tuple[str, ...]
    token_classes: dict[int, str | None]
    coverage: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def class_codes(self) -> Int[np.ndarray, " question"]:
        """Index of each question's class in `classes`."""
        index = {name: code for code, name in enumerate(self.classes)}
        return np.array([index[question.label] for question in self.asked])

    @property
    def sentences(self) -> Int[np.ndarray, " question"]:
        """Index of each question's sentence."""
        return np.array([question.sentence for question in self.asked])

    def membership(self, n_tokens: int) -> Float64[np.ndarray, "token column"]:
        """1 where a token is of a class; a last column for tokens that are unknown."""
        table = np.zeros((n_tokens, len(self.classes) + 1))
        table[:, -1] = 1.0
        index = {name: code for code, name in enumerate(self.classes)}
        for token, name in self.token_classes.items():
            table[token, -1] = 0.0
            if name in index:
                table[token, index[name]] = 1.0
        return table


def ask(
    model: Model,
    corpus: Corpus,
    *,
    per_class: int,
    min_words: int,
    seed: int,
    progress: bool = True,
    only: Collection[str] | None = None,
) -> Questions:
    """Choose words to ask a model for: of each class at most `per_class`, at random, in the order of the corpus.

    A masked model is asked for a word in whose place the mask token stands, the rest of the sentence as it is: the word
    must be one token, and no other word's. A causal model is asked for a word's first token after what stands before
    it. Classes with fewer than `min_words` such words are left out, and so are those that are not in `only`, if given.

    Errors: InterventionError when sentences carry the labels, when a masked model's tokenizer has no mask token, and
    when no class has enough words.
    """
    if corpus.level != "word":
        raise InterventionError(
            f"the labels of {corpus.name or 'the corpus'} are of whole sentences: a property of words is needed to "
            "see what a model predicts"
        )
    mask = model.tokenizer.mask_token_id
    if model.kind == "masked" and not isinstance(mask, int):
        raise InterventionError(f"{model.name} is a masked model whose tokenizer has no mask token")
    words = _words(model, corpus, progress)
    items_of: dict[str, list[int]] = {name: [] for name in (corpus.counts() if only is None else only)}
    for item, word in enumerate(words):
        if word.token is not None and corpus.labels[item] in items_of:
            items_of[corpus.labels[item]].append(item)
    enough = tuple(sorted(name for name, items in items_of.items() if len(items) >= max(1, min_words)))
    if not enough:
        raise InterventionError(
            f"no class of {corpus.label!r} has {min_words} words that {model.name} can be asked for: "
            "give more sentences, or a lower min_words"
        )
    chosen = sorted(item for name in enough for item in _sample(items_of[name], per_class, name, seed))
    asked = tuple(_question(model, corpus, item, words[item]) for item in chosen)
    token_classes = _token_classes(corpus, words)
    coverage = _coverage(corpus, words, Counter(question.label for question in asked), token_classes)
    return Questions(
        asked,
        enough,
        token_classes,
        coverage,
        _notes(model, coverage, min_words, sorted(items_of.keys() - set(enough))),
    )


def _sample(items: Sequence[int], size: int, name: str, seed: int) -> list[int]:
    """Some of a class's items; which ones does not depend on the other classes."""
    rng = np.random.default_rng([seed, *name.encode()])
    sample: list[int] = rng.permutation(items)[:size].tolist()
    return sample


@dataclass(frozen=True)
class _Word:
    """The token that a word can be asked by and its position; none where it cannot, `several` if it is many tokens."""

    place: int = 0
    token: int | None = None
    several: bool = False


def _words(model: Model, corpus: Corpus, progress: bool) -> list[_Word]:
    """Every word of a corpus, in order."""
    found: list[_Word] = []
    with tqdm(total=len(corpus), desc="Reading", unit="sentence", disable=not progress) as bar:
        for start in range(0, len(corpus), ALIGNED_AT_ONCE):
            some = corpus.sentences[start : start + ALIGNED_AT_ONCE]
            for aligned in align(some, model.tokenizer, model.max_length):
                used = Counter(place for places in aligned.words for place in places)
                found += [_word(model, aligned.ids, places, used) for places in aligned.words]
            bar.update(len(some))
    return found


def _word(model: Model, ids: Sequence[int], places: Sequence[int], used: Counter[int]) -> _Word:
    if not places or used[places[0]] > 1:
        return _Word()
    if model.kind == "masked":
        return _Word(places[0], ids[places[0]]) if len(places) == 1 else _Word(several=True)
    # At the first position a causal model has nothing to go by.
    return _Word(places[0], ids[places[0]]) if places[0] > 0 else _Word()


def _question(model: Model, corpus: Corpus, item: int, word: _Word) -> Question:
    sentence, place, token = int(corpus.sentence_of[item]), word.place, word.token
    assert token is not None
    # Encoded once more, so that a large corpus need not be held as tokens.
    ids = align([corpus.sentences[sentence]], model.tokenizer, model.max_length)[0].ids
    label = corpus.labels[item]
    if model.kind == "causal":
        return Question(item, sentence, label, ids, place - 1, token)
    masked = (*ids[:place], model.tokenizer.mask_token_id, *ids[place + 1 :])
    return Question(item, sentence, label, masked, place, token)


def _token_classes(corpus: Corpus, words: Sequence[_Word]) -> dict[int, str | None]:
    """The most frequent label of each token's words; ties go to the label that is first by name, no label last."""
    counts: dict[int, Counter[str | None]] = {}
    for word, label in zip(words, corpus.labels, strict=True):
        if word.token is not None:
            counts.setdefault(word.token, Counter())[label] += 1
    return {
        token: min(found, key=lambda name: (-found[name], name is None, name or "")) for token, found in counts.items()
    }


def _coverage(
    corpus: Corpus, words: Sequence[_Word], asked: Counter[str], token_classes: dict[int, str | None]
) -> pl.DataFrame:
    """Of each class: words in the corpus, words asked for, those that could not be, by reason, and tokens."""
    several = Counter(label for word, label in zip(words, corpus.labels, strict=True) if word.several)
    lost = Counter(
        label for word, label in zip(words, corpus.labels, strict=True) if word.token is None and not word.several
    )
    tokens = Counter(token_classes.values())
    columns = ("n_words", "n_asked", "several_tokens", "no_place", "n_tokens")
    return pl.DataFrame(
        [(name, n, asked[name], several[name], lost[name], tokens[name]) for name, n in corpus.counts().items()],
        {"class": pl.String, **dict.fromkeys(columns, pl.Int64)},
        orient="row",
    )


def _notes(model: Model, coverage: pl.DataFrame, min_words: int, rare: Sequence[str]) -> tuple[str, ...]:
    total, several, lost = (int(coverage[name].sum()) for name in ("n_words", "several_tokens", "no_place"))
    notes = []
    if several:
        notes.append(f"{several} of {total} labelled words are several tokens for {model.name} and were left out")
    if lost:
        notes.append(f"{lost} of {total} labelled words have no place of their own in what {model.name} reads")
    if rare:
        notes.append(f"classes with fewer than {min_words} words to ask for were left out: {', '.join(rare)}")
    return tuple(notes)
