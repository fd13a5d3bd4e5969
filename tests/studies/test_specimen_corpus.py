"""Promises of the specimen's sentences as a corpus."""

from __future__ import annotations

import pytest

from neuronatlas.probing.corpora import LABELLERS, CorpusError
from neuronatlas.specimen.grammar import LABEL_KEYS, LANGUAGES, generate
from neuronatlas.studies.specimen_corpus import corpus_of_specimen


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("label", LABEL_KEYS)
def test_texts_words_and_gold_labels_are_the_grammars(label: str, language: str) -> None:
    corpus = corpus_of_specimen(label, n_sentences=20, language=language, seed=3)
    gold = list(generate(language, 20, 3))
    assert [sentence.text for sentence in corpus.sentences] == [one.text for one in gold]
    assert [sentence.words for sentence in corpus.sentences] == [one.words for one in gold]
    assert [one or "_" for one in corpus.labels] == [one for sentence in gold for one in sentence.labels[label]]
    assert "_" not in corpus.counts()
    assert len(corpus.counts()) > 1
    for sentence in corpus.sentences:
        assert [sentence.text[start:end] for start, end in sentence.spans] == list(sentence.words)


def test_labels_that_need_no_annotation_are_there_too() -> None:
    corpus = corpus_of_specimen("position", n_sentences=5)
    assert corpus.counts()["1"] == 5
    assert set(LABELLERS) - set(LABEL_KEYS)


def test_the_first_sentences_of_a_longer_corpus_are_those_of_a_shorter_one() -> None:
    assert corpus_of_specimen("upos", n_sentences=9).sentences[:4] == corpus_of_specimen("upos", 4).sentences


def test_what_the_grammar_does_not_have_is_refused() -> None:
    with pytest.raises(CorpusError, match="no label 'deprel': upos, chunk, role, number, tense, suffix, semantic exp"):
        corpus_of_specimen("deprel")
    with pytest.raises(CorpusError, match="n_sentences is 0: 1 or more expected"):
        corpus_of_specimen("upos", n_sentences=0)
