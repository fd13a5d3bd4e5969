"""What a child is trained on: the labelled items of a corpus in train, dev and test, and the tokens that they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from neuronatlas.probing.activations import Activations
from neuronatlas.probing.alignment import align
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.examples import ExamplesError, LeftOut, examples_of, split_by_sentences
from neuronatlas.probing.pooling import Pooling, spots
from neuronatlas.studies.children.settings import ChildSettings

__all__ = ["PARTS", "Row", "Task", "rows_of", "task_of"]

PARTS = ("train", "dev", "test")

Indices = Int[np.ndarray, " index"]


@dataclass(frozen=True, eq=False)
class Row:
    """A sentence with labelled items: its token ids, the tokens of each item, and the number of each item's class.

    `positions` are the tokens of all items one after the other, `counts` how many each item has.
    """

    sentence: int
    ids: tuple[int, ...]
    positions: Indices
    counts: Indices
    targets: Indices


@dataclass(frozen=True, eq=False)
class Task:
    """The classes, and the labelled sentences of each part; `left_out` tells what of the corpus is in none."""

    classes: tuple[str, ...]
    rows: dict[str, tuple[Row, ...]]
    left_out: LeftOut

    def targets(self, part: str) -> Indices:
        """Number of each item's class, in the order of the rows."""
        return np.concatenate([row.targets for row in self.rows[part]])

    def sentences(self, part: str) -> Indices:
        """Index of each item's sentence."""
        return np.repeat([row.sentence for row in self.rows[part]], [len(row.targets) for row in self.rows[part]])

    def shuffled(self, seed: int) -> Task:
        """The same task with the labels of train permuted among its items, so that each class stays as frequent."""
        rows = self.rows["train"]
        drawn = np.random.default_rng([seed, _SHUFFLING]).permutation(self.targets("train"))
        parts = np.split(drawn, np.cumsum([len(row.targets) for row in rows])[:-1])
        trained = tuple(replace(row, targets=own) for row, own in zip(rows, parts, strict=True))
        return replace(self, rows={**self.rows, "train": trained})


_SHUFFLING = 1
"""Keeps the permutation of labels apart from what else the same seed draws."""


def task_of(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, max_length: int, settings: ChildSettings) -> Task:
    """Divide a corpus by whole sentences and find the tokens of its labelled items.

    Errors: ExamplesError for fewer than two classes, too few sentences, and a part of which no item has a token;
    ActivationsError for a tokenizer that does not know which characters its tokens stand for.

    >>> from neuronatlas.specimen import specimen_folder
    >>> from neuronatlas.studies.specimen_corpus import corpus_of_specimen
    >>> from transformers import AutoTokenizer
    >>> corpus = corpus_of_specimen("number", n_sentences=20)
    >>> task = task_of(corpus, AutoTokenizer.from_pretrained(specimen_folder()), 64, ChildSettings())
    >>> task.classes, sum(len(task.targets(part)) for part in PARTS) == sum(corpus.counts().values())
    (('Plur', 'Sing'), True)
    """
    nothing = Activations.of(np.zeros((corpus.n_items, 1), dtype=np.float32))
    examples = examples_of(nothing, corpus, settings.min_count)
    split = split_by_sentences(examples, settings.shares, settings.seed)
    classes = split.train.classes
    number = {name: index for index, name in enumerate(classes)}
    target = np.full(corpus.n_items, -1)
    rows: dict[str, tuple[Row, ...]] = {}
    for part, own in zip(PARTS, (split.train, split.dev, split.test), strict=True):
        target[own.acts.items] = [number[label] for label in own.labels.tolist()]
        chosen = np.unique(own.sentences).tolist()
        rows[part] = rows_of(corpus, chosen, target, tokenizer, max_length, settings.pooling)
        if not rows[part]:
            raise ExamplesError(f"no item of {part} has a token of this model: bring other sentences")
    return Task(classes, rows, examples.left_out)


def rows_of(
    corpus: Corpus,
    sentences: Sequence[int],
    target: Indices,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    pooling: Pooling | None,
) -> tuple[Row, ...]:
    """Some sentences with the tokens of their items whose target [item of the corpus] is not -1."""
    first = np.searchsorted(corpus.sentence_of, sentences)
    aligned = align([corpus.sentences[index] for index in sentences], tokenizer, max_length)
    pooling = pooling or ("mean" if corpus.level == "sentence" else "last")
    found = []
    for sentence, start, one in zip(sentences, first, aligned, strict=True):
        where = spots(one, corpus.level, pooling)
        targets = target[where.items + start]
        wanted = targets >= 0
        if wanted.any():
            positions = where.positions[np.repeat(wanted, where.counts)]
            found.append(Row(sentence, one.ids, positions, where.counts[wanted], targets[wanted]))
    return tuple(found)
