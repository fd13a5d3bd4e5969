"""Small studies of salient neurons: a model in which a property was planted, and settings that take seconds."""

from dataclasses import replace

import numpy as np

from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.salience.settings import SalienceSettings
from tests.probing.planted_property import planted_corpus

FAST = SalienceSettings(
    site="ffn",
    methods=("lca", "probeless"),
    ablated=(0.1, 0.5),
    most_sets=2,
    min_count=5,
    n_controls=19,
    words_per_class=20,
    replaced=0.1,
    described=3,
    contexts=2,
)


def two_properties(n: int = 60) -> list[Corpus]:
    """The planted classes, and which of the words of its class each word is."""
    corpus = planted_corpus(n)
    kinds = corpus.relabelled("kind", lambda s: [word[-1] if word.startswith("word") else None for word in s.words])
    return [corpus, kinds]


def without_sense(corpus: Corpus, seed: int = 0) -> Corpus:
    """The corpus with labels drawn at random, equally many of each as before."""
    rng = np.random.default_rng(seed)
    shuffled = iter(rng.permutation([label for label in corpus.labels if label is not None]).tolist())
    sentences = tuple(
        replace(s, labels=tuple(None if label is None else next(shuffled) for label in s.labels))
        for s in corpus.sentences
    )
    return replace(corpus, sentences=sentences, label="random")


def of_sentences(n: int = 60) -> Corpus:
    """Whole sentences labelled with the class of their words."""
    corpus = planted_corpus(n)
    sentences = tuple(replace(s, labels=(f"class{s.words[0][-1]}",)) for s in corpus.sentences)
    return Corpus(sentences, "sentiment", level="sentence", name="sentences")
