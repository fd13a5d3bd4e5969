"""Promises of the reader of words in columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.readers import CorpusFileError, read_corpus

CHUNKS = "He PRP B-NP\nreckons VBZ B-VP\n. . O\n\nIt PRP B-NP\nrained VBD B-VP\n"


def written(folder: Path, text: str, name: str = "train.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("label", ["chunk", "3"])
def test_a_label_is_a_column_by_name_or_by_number(label: str, tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, CHUNKS), label=label)
    assert corpus.labels.tolist() == ["B-NP", "B-VP", "O", "B-NP", "B-VP"]
    assert [sentence.text for sentence in corpus.sentences] == ["He reckons .", "It rained"]
    assert [sentence.source for sentence in corpus.sentences] == ["train.txt, line 1", "train.txt, line 5"]


def test_lines_that_mark_documents_and_comments_are_skipped(tmp_path: Path) -> None:
    text = "#begin document x\n-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n-DOCSTART- -X- O O\n\n"
    path = written(tmp_path, text + "Fine JJ B-NP O\n\n#end document\n", "eng.conll")
    corpus = read_corpus(path, label="ner")
    assert (corpus.items.tolist(), corpus.labels.tolist()) == (["EU", "rejects", "Fine"], ["B-ORG", "O", "O"])


def test_a_number_sign_is_a_word_like_others(tmp_path: Path) -> None:
    text = "# # B-NP\n5 CD I-NP\n\na DT B-NP\n# # I-NP\n"
    assert read_corpus(written(tmp_path, text), label="pos").items.tolist() == ["#", "5", "a", "#"]


def test_tabs_separate_where_there_are_some_and_cells_may_hold_spaces(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "New York\tB-LOC\n2\u00a0001\t_\n\n", "ner.bio"), label="tag")
    assert corpus.items.tolist() == ["New York", "2\u00a0001"]
    assert corpus.labels.tolist() == ["B-LOC", None]


def test_a_space_that_breaks_no_line_breaks_no_word(tmp_path: Path) -> None:
    corpus = read_corpus(written(tmp_path, "2\u00a0001  NUM\n\n", "made.conll"), label="tag")
    assert corpus.items.tolist() == ["2\u00a0001"]


def test_lines_of_equally_many_words_with_blank_ones_in_between_are_plain_text(tmp_path: Path) -> None:
    assert read_corpus(written(tmp_path, "Anna sleeps\n\nOtto eats\n"), label="position").n_items == 4


def test_columns_past_the_known_ones_go_by_number(tmp_path: Path) -> None:
    path = written(tmp_path, "a 1 2 3 x\nb 1 2 3 y\n\n", "five.conll")
    assert read_corpus(path, label="5").labels.tolist() == ["x", "y"]
    with pytest.raises(CorpusFileError, match=r"five\.conll: nothing has a label '6': words in columns found, with "):
        read_corpus(path, label="6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CHUNKS + "now RB\n", r"line 7: 2 columns found, 3 expected as in the first word's line$"),
        (CHUNKS + "# RB\n", r"line 7: 2 columns found, 3 expected as in the first word's line$"),
        ("alone\n\n", r"line 1: 1 column found: a word and its labels, separated by tabs or spaces, expected$"),
        ("a\tb\n\tb\n\n", r"line 2: the word is empty$"),
        ("-DOCSTART- O\n\n", r"there are no sentences$"),
    ],
)
def test_a_broken_line_names_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text, "broken.conll")
    with pytest.raises(CorpusFileError, match=rf"broken\.conll(, |: ){message}"):
        read_corpus(path, label="2")


cells = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)
tables = st.integers(2, 6).flatmap(
    lambda width: st.lists(
        st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=4), min_size=1, max_size=4
    )
)


@given(made=tables, separator=st.sampled_from([" ", "\t", "   "]))
def test_any_columns_come_back_as_they_were(
    made: list[list[list[str]]], separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n\n".join("\n".join(separator.join(row) for row in rows) for rows in made)
    path = written(tmp_path_factory.getbasetemp(), text, "any.conll")
    corpus = read_corpus(path, label="1", format="columns")
    assert [sentence.words for sentence in corpus.sentences] == [tuple(row[0] for row in rows) for rows in made]
    width = len(made[0][0])
    labels = [None if row[-1] == "_" else row[-1] for rows in made for row in rows]
    if any(labels):
        assert read_corpus(path, label=str(width), format="columns").labels.tolist() == labels
