"""Promises of the reader of labelled tables: one word a row, or one sentence a row."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.readers import CorpusFileError, read_corpus


def written(folder: Path, text: str, name: str = "made.tsv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_blank_rows_part_sentences(tmp_path: Path) -> None:
    path = written(tmp_path, 'Word\tNER\n"\tO\nAnna\tPER\n\t\nsleeps\t\n')
    corpus = read_corpus(path, label="NER")
    assert [sentence.words for sentence in corpus.sentences] == [('"', "Anna"), ("sleeps",)]
    assert corpus.labels.tolist() == ["O", "PER", None]
    assert [sentence.source for sentence in corpus.sentences] == ["made.tsv, line 2", "made.tsv, line 5"]
    assert read_corpus(path, label="2").labels.tolist() == ["O", "PER", None]


@pytest.mark.parametrize("name", ["sentence", "sentence_id", "Sent_ID", "Sentence #"])
def test_a_column_parts_sentences_and_an_empty_cell_goes_on(name: str, tmp_path: Path) -> None:
    text = f"{name},token,pos\n1,a,X\n1,b,Y\n,c,Z\n2,d,X\n1,e,Y\n"
    corpus = read_corpus(written(tmp_path, text, "made.csv"), label="pos")
    assert [sentence.words for sentence in corpus.sentences] == [("a", "b", "c"), ("d",), ("e",)]


@pytest.mark.parametrize("text", ["text,label", "sentence,label", "label,id,Text"])
def test_a_row_may_be_a_sentence(text: str, tmp_path: Path) -> None:
    cells = {"text": '"Fine, ""so"" to say"', "sentence": '"Fine, ""so"" to say"', "label": "good", "id": "7"}
    row = ",".join(cells[name] for name in text.lower().split(","))
    corpus = read_corpus(written(tmp_path, f"{text}\n{row}\n", "made.csv"), label="label")
    assert (corpus.level, corpus.n_items, corpus.labels.tolist()) == ("sentence", 1, ["good"])
    (sentence,) = corpus.sentences
    assert sentence.text == 'Fine, "so" to say'
    assert sentence.words == ("Fine,", '"so"', "to", "say")


def test_a_sentence_without_a_label_has_none(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "text\tlabel\na b\t\nc\t1.5\n"), label="label")
    assert corpus.labels.tolist() == [None, "1.5"]


def test_words_of_labelled_sentences_can_have_labels_that_need_no_annotation(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "text\tlabel\nAnna is in\tgood\n"), label="capitalisation")
    assert (corpus.level, corpus.labels.tolist()) == ("word", ["title", "lower", "lower"])


def test_a_column_of_the_file_goes_before_a_label_of_the_same_name(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "word\tlength\nAnna\tfour\n"), label="length")
    assert corpus.labels.tolist() == ["four"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.tsv", "word\tpos\na\tX\nb\n", "line 3: 1 cells where the header has 2: one is missing$"),
        ("m.csv", "text,label\na, b,X\n", "line 2: 3 cells where the header has 2: is a cell that holds the delimiter"),
        ("m.tsv", "\n\nAnna\tPER\n", "line 3: the columns are 'Anna', 'PER': one called word or token or form or text"),
        ("m.tsv", "word\tpos\tpos\na\tX\tY\n", "line 1: column 'pos' stands twice$"),
        ("m.tsv", "word\tpos\n\tX\n", "line 2: the word is empty$"),
        ("m.tsv", "text\tlabel\n \tX\n", "line 2: the text is empty$"),
        ("m.csv", 'text,label\n"a,b\n', "line 2: the line is broken"),
        ("m.csv", "text,label\n", "there are no sentences$"),
        ("m.csv", "text,label\na,b\n", "nothing has a label 'pos': a table .* found, with label; suffix, "),
    ],
)
def test_a_broken_row_names_file_and_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusFileError, match=rf"{name.replace('.', '[.]')}(, |: ){message}"):
        read_corpus(written(tmp_path, text, name), label="pos")


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)
pairs = st.lists(st.lists(st.tuples(words, words), min_size=1, max_size=4), min_size=1, max_size=4)


@given(made=pairs)
@pytest.mark.parametrize("name", ["any.csv", "any.tsv"])
def test_any_words_and_labels_come_back_as_they_were(
    made: list[list[tuple[str, str]]], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if name == "any.csv":
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerow(["word", "tag"])
        for number, rows in enumerate(made):
            writer.writerows([[], *rows] if number else rows)
        text = stream.getvalue()
    else:
        text = "word\ttag\n" + "\n\n".join("\n".join("\t".join(row) for row in rows) for rows in made)
    path = written(tmp_path_factory.getbasetemp(), text, name)
    corpus = read_corpus(path, label="word")
    assert [sentence.words for sentence in corpus.sentences] == [tuple(word for word, _ in rows) for rows in made]
    labels = [None if tag == "_" else tag for rows in made for _, tag in rows]
    if any(labels):
        assert read_corpus(path, label="tag").labels.tolist() == labels
