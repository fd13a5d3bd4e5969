"""Labelled rows of activations, and their division into train, dev and test by sentences or by word types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int
from numpy.typing import ArrayLike, NDArray

from neuronatlas.probing.activations import Activations, InMemory
from neuronatlas.probing.corpora import Corpus

__all__ = [
    "SHARES",
    "Examples",
    "ExamplesError",
    "LeftOut",
    "Split",
    "examples_of",
    "split_by_sentences",
    "split_by_words",
]

SHARES = (0.7, 0.15, 0.15)
"""Train, dev and test, as shares of the rows."""

Counts = tuple[tuple[str, int], ...]
Groups = Int[np.ndarray, " row"]


class ExamplesError(ValueError):
    """Activations and labels that do not go together, or too few of them."""


@dataclass(frozen=True)
class LeftOut:
    """What of a corpus is in no example: classes too rare, items without a label, labelled items without a row.

    >>> print(LeftOut(classes=(("INTJ", 3),), unlabelled=2))
    too rare: INTJ (3); 2 without a label
    """

    classes: Counts = ()
    unlabelled: int = 0
    without_row: int = 0

    def __str__(self) -> str:
        told = [f"too rare: {_listed(self.classes)}"] if self.classes else []
        told += [f"{self.unlabelled} without a label"] if self.unlabelled else []
        told += [f"{self.without_row} without activations"] if self.without_row else []
        return "; ".join(told) or "nothing"


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of activations with the label, the word and the sentence of each.

    `labels` [row] are strings, `words` [row] the words (the texts where sentences carry the labels), `sentences` [row]
    the index of each row's sentence: intervals resample these. `left_out` tells what of the corpus is not here.

    Errors: ExamplesError when these differ in length, and for a row without a label.

    >>> examples = Examples.of(np.eye(3), ["DET", "NOUN", "DET"], ["the", "cat", "a"], [0, 0, 1])
    >>> examples.classes, examples.take([0, 2]).labels.tolist(), examples.take_columns([1]).array().tolist()
    (('DET', 'NOUN'), ['DET', 'DET'], [[0.0], [1.0], [0.0]])
    """

    acts: Activations
    labels: NDArray[np.str_]
    words: NDArray[np.object_]
    sentences: Int[np.ndarray, " row"]
    left_out: LeftOut = field(default_factory=LeftOut)

    def __post_init__(self) -> None:
        for name, given in (("labels", self.labels), ("words", self.words), ("sentence numbers", self.sentences)):
            if given.shape != (len(self.acts),):
                raise ExamplesError(f"{name} of shape {given.shape} for {len(self.acts)} rows: one a row expected")

    @classmethod
    def of(
        cls,
        acts: Activations | ArrayLike,
        labels: Iterable[str | None],
        words: Iterable[str],
        sentences: Iterable[int],
        left_out: LeftOut | None = None,
    ) -> Examples:
        """Make examples of activations (or an array [row, neuron]) and the label, word and sentence of each row."""
        acts = acts if isinstance(acts, Activations) else Activations.of(acts)
        numbers = np.array(list(sentences), dtype=np.int64)
        return cls(acts, _strings(labels), np.array(list(words), dtype=object), numbers, left_out or LeftOut())

    def __len__(self) -> int:
        return len(self.acts)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that occur, sorted."""
        return tuple(np.unique(self.labels).tolist())

    @property
    def n_neurons(self) -> int:
        """Number of columns."""
        return self.acts.shape[1]

    def counts(self) -> dict[str, int]:
        """How many rows each class has, the most frequent first, ties by name."""
        return dict(_counted(self.labels))

    def types(self) -> list[str]:
        """The word type of each row: its word in lower case."""
        return [word.lower() for word in self.words]

    def take(self, rows: Any) -> Examples:
        """Some of the rows, by place."""
        places = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            acts=self.acts.chosen(rows=places),
            labels=self.labels[places],
            words=self.words[places],
            sentences=self.sentences[places],
        )

    def take_columns(self, columns: Any) -> Examples:
        """The same rows, with some of the columns: a NeuronSet, or places."""
        return replace(self, acts=self.acts.chosen(columns=columns))

    def relabelled(self, labels: Iterable[str | None]) -> Examples:
        """The same rows with other labels, one a row."""
        return replace(self, labels=_strings(labels))

    def array(self) -> Float32[np.ndarray, "row column"]:
        """The activations in memory."""
        return self.acts.array()

    def loaded(self) -> Examples:
        """The same examples with their activations in memory: faster where a probe is fitted many times."""
        acts = replace(self.acts, source=InMemory(self.array()), _rows=None, _taken=None)
        return replace(self, acts=acts)


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of some examples, and the classes of dev and test that train lacks, as (class, count).

    No probe can know a class that it never saw, so rows of such classes are left out of dev and test, and told here.
    """

    train: Examples
    dev: Examples
    test: Examples
    unseen: Counts = ()


def examples_of(acts: Activations, corpus: Corpus, min_count: int = 5) -> Examples:
    """Take the labelled rows of a corpus, without the classes of fewer than `min_count` rows.

    What is left out is told in `left_out`: with the rows it adds up to the items of the corpus.

    Errors: ExamplesError when the activations are of other words than the corpus, and when fewer than two classes
    are left.

    >>> from neuronatlas.probing.corpora import Sentence
    >>> sentence = Sentence.of(["the", "cat", "oh"], ["DET", "NOUN", None], source="line 1")
    >>> examples = examples_of(Activations.of(np.eye(3)), Corpus((sentence,), label="upos"), min_count=1)
    >>> examples.labels.tolist(), str(examples.left_out)
    (['DET', 'NOUN'], '1 without a label')
    """
    _require_same_words(acts, corpus)
    labels = corpus.labels[acts.items]
    counted = _counted(label for label in labels if label is not None)
    kept = {label for label, count in counted if count >= min_count}
    rare = tuple((label, count) for label, count in counted if label not in kept)
    if len(kept) < 2:
        raise ExamplesError(
            f"{corpus.name or 'the corpus'}: {corpus.label!r} has {len(kept)} of the two classes that a probe needs, "
            f"at least {min_count} items each (found: {_listed(counted) or 'no label'}): bring more sentences or lower "
            "min_count"
        )
    rows = np.flatnonzero(np.array([label in kept for label in labels], dtype=bool))
    items = acts.items[rows]
    labelled = sum(label is not None for label in corpus.labels)
    lost = labelled - sum(count for _, count in counted)
    left_out = LeftOut(rare, unlabelled=corpus.n_items - labelled, without_row=lost)
    return Examples.of(acts.chosen(rows=rows), labels[rows], corpus.items[items], corpus.sentence_of[items], left_out)


def split_by_sentences(examples: Examples, shares: tuple[float, float, float] = SHARES, seed: int = 0) -> Split:
    """Divide into train, dev and test by whole sentences; sentences of the same words stay together.

    `shares` are shares of the rows, met as nearly as whole sentences allow.

    Errors: ExamplesError for shares that are not three positive numbers of sum 1, for fewer than three different
    sentences, and where train has fewer than two classes or dev or test none of train's.

    >>> words, sentences = [f"w{row}" for row in range(8)], np.repeat(range(4), 2)
    >>> parts = split_by_sentences(Examples.of(np.eye(8), ["A", "B"] * 4, words, sentences), (0.5, 0.25, 0.25))
    >>> len(parts.train), sorted({*parts.train.sentences.tolist()} & {*parts.test.sentences.tolist()})
    (4, [])
    """
    return _split(examples, _same_sentences(examples), "different sentences", shares, seed)


def split_by_words(examples: Examples, shares: tuple[float, float, float] = SHARES, seed: int = 0) -> Split:
    """Divide by word types (in lower case), so that no word of test or dev is in train: what is memorised fails.

    `shares` and errors are those of `split_by_sentences`. Sentences are divided between the parts. A frequent word
    falls whole on one side (all commas, say), so that scores vary much with the seed, more than an interval over
    sentences tells: look at several seeds, and at `accuracy_by_exposure`.

    >>> words = ["The", "the", "a", "A", "cat", "Cat", "dog", "Dog", "this", "ox"]
    >>> labels = ["DET", "DET", "DET", "DET", "NOUN", "NOUN", "NOUN", "NOUN", "DET", "NOUN"]
    >>> parts = split_by_words(Examples.of(np.eye(10), labels, words, range(10)), (0.6, 0.2, 0.2))
    >>> len(parts.train), sorted({*parts.train.types()} & {*parts.test.types()})
    (6, [])
    """
    groups = np.unique(examples.types(), return_inverse=True)[1]
    return _split(examples, groups, "word types", shares, seed)


def _split(examples: Examples, groups: Groups, kind: str, shares: tuple[float, float, float], seed: int) -> Split:
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ExamplesError(f"shares {shares} of train, dev and test: three positive numbers of sum 1 expected")
    part = _parts(groups, kind, shares, np.random.default_rng(seed))
    train, dev, test = (examples.take(np.flatnonzero(part == index)) for index in range(3))
    if len(train.classes) < 2:
        raise ExamplesError(
            f"train has 1 class ({train.classes[0]!r}) after the split, two are needed: bring more sentences or "
            "another seed"
        )
    known = np.isin(examples.labels, train.classes)
    dev, test = (examples.take(np.flatnonzero((part == index) & known)) for index in (1, 2))
    for name, rows in (("dev", dev), ("test", test)):
        if not len(rows):
            raise ExamplesError(f"{name} has no row of a class that train has: bring more sentences or another seed")
    return Split(train, dev, test, unseen=_counted(examples.labels[~known]))


def _parts(groups: Groups, kind: str, shares: tuple[float, float, float], rng: np.random.Generator) -> Groups:
    """Part of each row, 0 to 2: whole groups in random order, cut where the cumulative share of rows is nearest."""
    sizes = np.bincount(groups)
    if len(sizes) < 3:
        raise ExamplesError(f"{len(sizes)} {kind} cannot be divided into train, dev and test: at least 3 expected")
    order = rng.permutation(len(sizes))
    middles = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(groups)
    first = int(np.clip(np.searchsorted(middles, shares[0]), 1, len(sizes) - 2))
    second = int(np.clip(np.searchsorted(middles, shares[0] + shares[1]), first + 1, len(sizes) - 1))
    part = np.zeros(len(sizes), dtype=np.int64)
    part[order[first:second]] = 1
    part[order[second:]] = 2
    of_rows: Groups = part[groups]
    return of_rows


def _same_sentences(examples: Examples) -> Groups:
    """A number for each row that is equal for rows of one sentence and of sentences with the same words."""
    sentence = np.unique(examples.sentences, return_inverse=True)[1]
    texts: list[list[str]] = [[] for _ in range(int(sentence.max(initial=-1)) + 1)]
    for index, word in zip(sentence, examples.words, strict=True):
        texts[index].append(word)
    # The same sentence on both sides would let a probe that memorises pass for one that knows.
    seen: dict[tuple[str, ...], int] = {}
    alike = np.array([seen.setdefault(tuple(words), len(seen)) for words in texts], dtype=np.int64)
    groups: Groups = alike[sentence]
    return groups


def _require_same_words(acts: Activations, corpus: Corpus) -> None:
    name = corpus.name or "the corpus"
    if acts.n_items != corpus.n_items:
        raise ExamplesError(
            f"activations of {acts.n_items} items for the {corpus.n_items} of {name}: extract from this corpus"
        )
    if acts.words_digest and acts.words_digest != corpus.words_digest:
        raise ExamplesError(
            f"activations of other words (digest {acts.words_digest}) than those of {name} ({corpus.words_digest}): "
            "extract from this corpus"
        )


def _strings(labels: Iterable[str | None]) -> NDArray[np.str_]:
    listed = list(labels)
    if None in listed:
        raise ExamplesError("a row has no label: take the labelled rows alone, as examples_of does")
    return np.array(listed, dtype=np.str_)


def _counted(labels: Iterable[str]) -> Counts:
    """Classes and their counts, the most frequent first, ties by name."""
    counts = Counter(str(label) for label in labels)
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _listed(counts: Counts) -> str:
    """`NOUN (12), VERB (3)`, the first ten, on one line."""
    named = ", ".join(f"{label} ({count})" for label, count in counts[:10])
    return named + (f" and {len(counts) - 10} more" if len(counts) > 10 else "")
