"""Sentences of the specimen's grammar, with its gold labels, as a corpus to probe."""

from __future__ import annotations

from neuronatlas.probing.corpora import LABELLERS, Corpus, CorpusError, Sentence
from neuronatlas.specimen.grammar import LABEL_KEYS, LANGUAGES, LabelledSentence, generate
from neuronatlas.specimen.grammar.words import spaces_after

__all__ = ["corpus_of_specimen"]

N_SENTENCES = 1000


def corpus_of_specimen(label: str, n_sentences: int = N_SENTENCES, language: str = "en", seed: int = 0) -> Corpus:
    """Sentences that the specimen's grammar writes, all different, with the gold labels of their words.

    label: `upos`, `chunk`, `role`, `number`, `tense`, `suffix` or `semantic` (see `specimen.grammar`; where a label
    does not apply a word has none), or one of LABELLERS.
    language: `en`, `de` or `es`. The first sentences of a longer corpus are those of a shorter one of the same seed.

    Errors: CorpusError for an unknown label or language, and for fewer than one sentence.

    >>> corpus = corpus_of_specimen("upos", n_sentences=50)
    >>> len(corpus), corpus.counts()["PUNCT"] >= 50
    (50, True)
    """
    if label not in LABEL_KEYS and label not in LABELLERS:
        raise CorpusError(f"the specimen's grammar has no label {label!r}: {', '.join(LABEL_KEYS)} expected")
    if language not in LANGUAGES:
        known = f"{', '.join(LANGUAGES[:-1])} or {LANGUAGES[-1]}"
        raise CorpusError(f"the specimen's grammar has no language {language!r}: {known} expected")
    if n_sentences < 1:
        raise CorpusError(f"n_sentences is {n_sentences}: 1 or more expected")
    name = f"specimen {language}, seed {seed}"
    written = generate(language, n_sentences, seed)
    sentences = tuple(
        _sentence(sentence, label, f"{name}, sentence {number}") for number, sentence in enumerate(written, start=1)
    )
    corpus = Corpus(sentences, label, name=name)
    return corpus if label in LABEL_KEYS else corpus.relabelled(label)


def _sentence(sentence: LabelledSentence, label: str, source: str) -> Sentence:
    given = sentence.labels.get(label, ("_",) * len(sentence.words))
    labels = (None if one == "_" else one for one in given)
    return Sentence.of(sentence.words, labels, source, spaces_after(sentence.words))
