"""Promises of the reader of labelled text in JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuronatlas.readers import CorpusFileError, read_corpus


def lines(folder: Path, *records: Any) -> Path:
    path = folder / "made.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("field", ["text", "sentence"])
def test_texts_with_labels_are_labelled_sentences(field: str, tmp_path: Path) -> None:
    path = lines(tmp_path, {field: "Anna  sleeps.", "label": 1}, "", {field: "No", "label": None, "id": 2})
    corpus = read_corpus(path, label="label")
    assert (corpus.level, corpus.labels.tolist()) == ("sentence", ["1", None])
    assert corpus.sentences[0].spans == ((0, 4), (6, 13))
    assert corpus.sentences[1].source == "made.jsonl, line 3"


@pytest.mark.parametrize("field", ["tokens", "words"])
def test_tokens_with_lists_of_labels_are_labelled_words(field: str, tmp_path: Path) -> None:
    record = {field: ["Anna", "sleeps", "."], "upos": ["PROPN", "VERB", None], "depth": [1, 0, 1], "mood": "calm"}
    path = lines(tmp_path, {**record, "text": "Anna sleeps."}, record)
    corpus = read_corpus(path, label="upos")
    assert [sentence.text for sentence in corpus.sentences] == ["Anna sleeps.", "Anna sleeps ."]
    assert corpus.labels.tolist() == ["PROPN", "VERB", None] * 2
    assert read_corpus(path, label="depth").numbers().tolist() == [1, 0, 1] * 2
    assert read_corpus(path, label="mood").labels.tolist() == ["calm", "calm"]


def test_a_record_without_the_label_has_none_at_the_level_of_the_others(tmp_path: Path) -> None:
    words = {"tokens": ["a", "b"]}
    assert read_corpus(lines(tmp_path, words, {**words, "t": ["X", "Y"]}), label="t").labels.tolist() == [
        *(None, None, "X", "Y")
    ]
    assert read_corpus(lines(tmp_path, words, {**words, "t": "X"}), label="t").labels.tolist() == [None, "X"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", ', r"line 2: the line is no JSON object \(column"),
        ("[1]", r"line 2: the line holds list \[1\]: an object expected$"),
        ({"label": "x"}, "line 2: the record has 'label': tokens or words or text or sentence expected$"),
        ({"text": 5}, "line 2: 'text' is 5: a text expected$"),
        ({"text": " "}, "line 2: the text is empty$"),
        ({"tokens": "a b"}, "line 2: 'tokens' is 'a b': a list of texts expected$"),
        ({"tokens": []}, "line 2: the sentence has no words$"),
        ({"tokens": ["a", ""]}, "line 2: word 2 is empty$"),
        ({"tokens": ["a", "b"], "t": ["X"]}, "line 2: 2 words, but 1 labels 't'$"),
        ({"tokens": ["a"], "t": "X"}, "line 2: 't' labels a sentence here, a word before$"),
    ],
)
def test_a_broken_line_names_file_and_line(line: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusFileError, match=rf"made\.jsonl, {message}"):
        read_corpus(lines(tmp_path, {"tokens": ["a", "b"], "t": ["X", "Y"]}, line), label="t")
