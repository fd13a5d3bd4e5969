"""Promises of the reader of data sets of the library `datasets`; all of them made in memory."""

from __future__ import annotations

import sys
from typing import Any

import pytest

datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")

from neuronatlas.readers import CorpusFileError, read_corpus  # noqa: E402

WORDS = {"tokens": [["Anna", "sleeps"], ["Go"]], "tags": [[1, 0], [-1]], "depth": [[1, 0], [0]], "label": [0, 1]}


def word_features(tags: int = 2) -> Any:
    return datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["VERB", "PROPN"][:tags])),
            "depth": datasets.List(datasets.Value("int32")),
            "label": datasets.ClassLabel(names=["calm", "urgent"]),
        }
    )


@pytest.fixture
def words() -> Any:
    return datasets.Dataset.from_dict(WORDS, features=word_features())


def test_numbers_of_classes_get_their_names(words: Any) -> None:
    corpus = read_corpus(words, label="tags", name="made")
    assert (corpus.items.tolist(), corpus.labels.tolist()) == (["Anna", "sleeps", "Go"], ["PROPN", "VERB", None])
    assert corpus.name == "made"
    assert [sentence.source for sentence in corpus.sentences] == ["made, row 0", "made, row 1"]
    assert read_corpus(words, label="depth").numbers().tolist() == [1, 0, 0]


def test_a_label_may_belong_to_the_whole_sentence(words: Any) -> None:
    corpus = read_corpus(words, label="label")
    assert (corpus.level, corpus.labels.tolist()) == ("sentence", ["calm", "urgent"])
    texts = datasets.Dataset.from_dict({"text": ["Anna sleeps.", "Go!"], "label": ["calm", "urgent"]})
    assert read_corpus(texts, label="label").labels.tolist() == ["calm", "urgent"]


def test_a_data_set_may_come_row_by_row(words: Any) -> None:
    corpus = read_corpus(words.to_iterable_dataset(), label="tags", limit=1)
    assert corpus.labels.tolist() == ["PROPN", "VERB"]


def test_labels_that_need_no_annotation_are_there(words: Any) -> None:
    assert read_corpus(words, label="capitalisation").labels.tolist() == ["title", "lower", "title"]


def test_columns_that_are_no_labels_are_not_decoded(words: Any) -> None:
    with_sound = words.add_column("sound", [b"1", b"2"]).cast_column("sound", datasets.Image())
    assert read_corpus(with_sound, label="tags").n_items == 3


def test_a_data_set_that_does_not_suit_is_refused_in_one_line(words: Any) -> None:
    with pytest.raises(CorpusFileError, match=r"data set: a data set of several splits: give one of 'train', 'test'$"):
        read_corpus(datasets.DatasetDict({"train": words, "test": words}), label="tags")
    numbers = words.cast_column("tags", datasets.List(datasets.Value("int64")))
    with pytest.raises(
        CorpusFileError, match=r"^data set, row 0: 'tags' has a class that is none of the 1 named ones$"
    ):
        read_corpus(Renamed(numbers, word_features(tags=1)), label="tags")
    with pytest.raises(CorpusFileError, match=r"^data set: list found: a path, 'hf:NAME' or a datasets\.Dataset exp"):
        read_corpus([1], label="tags")  # type: ignore[arg-type]
    with pytest.raises(CorpusFileError, match=r"^data set: nothing has a label 'pos': a data set found, with tags, "):
        read_corpus(words, label="pos")


class Renamed:
    """Rows of a data set under other features."""

    def __init__(self, rows: Any, features: Any) -> None:
        self.rows, self.features = rows, features

    def __iter__(self) -> Any:
        return iter(self.rows)


@pytest.mark.parametrize(
    ("name", "asked", "split"),
    [
        ("hf:conll2000", ("conll2000",), "train"),
        ("hf:owner/name:test", ("owner/name",), "test"),
        ("hf:glue:sst2:validation", ("glue", "sst2"), "validation"),
    ],
)
def test_a_name_on_the_hub_is_loaded_when_it_is_named(
    name: str, asked: tuple[str, ...], split: str, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def load_dataset(*names: str, split: str) -> Any:
        calls.append((names, split))
        return words

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = read_corpus(name, label="tags")
    assert calls == [(asked, split)]
    assert (corpus.name, corpus.sentences[1].source) == (name, f"{name}, row 1")


def test_what_keeps_a_name_from_loading_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_names: str, split: str) -> Any:
        raise OSError(f"no\nnetwork for {split}")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(CorpusFileError, match=r"^hf:x: cannot be loaded \(no network for train\)$"):
        read_corpus("hf:x", label="tags")
    with pytest.raises(CorpusFileError, match=r"^hf:: hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIGURATION:SPLIT expected"):
        read_corpus("hf:", label="tags")


def test_without_the_library_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusFileError, match=r"^hf:x: this needs the library datasets: pip install datasets$"):
        read_corpus("hf:x", label="tags")
