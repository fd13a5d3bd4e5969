"""Promises of `read_corpus` that hold for every format."""

from __future__ import annotations

import gzip
import re
import time
from pathlib import Path

import pytest

from neuronatlas.probing.corpora import LABELLERS, CorpusError
from neuronatlas.readers import CORPUS_FORMATS, CorpusFileError, CorpusFormat, read_corpus

CONLLU = "1\tAnna\t_\tPROPN\t_\t_\t_\t_\t_\t_\n2\tsleeps\t_\tVERB\t_\t_\t_\t_\t_\t_\n\n" * 2
PMB = "# raw sent = Anna sleeps\nAnna\tAnna\tanna\tPER\tn\tO\t[]\nsleeps\tsleeps\tsleep\tENS\ts\tO\t[]\n\n" * 2
JSON = '{"tokens": ["Anna", "sleeps"], "pos": ["PROPN", "VERB"]}\n' * 2
TABLE = "sentence\tword\tpos\n1\tAnna\tPROPN\n1\tsleeps\tVERB\n2\tAnna\tPROPN\n2\tsleeps\tVERB\n"
COLUMNS = "Anna PROPN\nsleeps VERB\n\n" * 2
TEXT = "Anna sleeps\n\nAnna sleeps\n"

FILES = {
    "conllu": (CONLLU, "upos", ["made.conllu", "made.conll", "made.txt", "made", "made.old"]),
    "pmb": (PMB, "semtag", ["made.conll", "made.txt", "made"]),
    "jsonl": (JSON, "pos", ["made.jsonl", "made.ndjson", "made.json", "made"]),
    "table": (TABLE, "pos", ["made.tsv", "made.csv", "made"]),
    "columns": (COLUMNS, "tag", ["made.conll", "made.bio", "made.txt", "made"]),
    "text": (TEXT, "position", ["made.txt"]),
}
NAMED = [(form, name) for form, (_, _, names) in FILES.items() for name in names]


def written(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_every_format_is_tried_here() -> None:
    assert [form.name for form in CORPUS_FORMATS] == list(FILES)


@pytest.mark.parametrize(("form", "name"), NAMED)
def test_suffix_and_content_tell_the_format_and_a_gzipped_file_reads_alike(
    form: str, name: str, tmp_path: Path
) -> None:
    text, label, _ = FILES[form]
    corpus = read_corpus(written(tmp_path, text, name), label=label)
    assert [sentence.words for sentence in corpus.sentences] == [("Anna", "sleeps")] * 2
    assert len(corpus.counts()) == 2
    assert (corpus.label, corpus.name, corpus.level) == (label, name, "word")
    packed = read_corpus(written(tmp_path, text, f"{name}.gz"), label=label)
    assert packed.digest == corpus.digest


@pytest.mark.parametrize("form", FILES)
def test_a_format_can_be_named(form: str, tmp_path: Path) -> None:
    text, label, _ = FILES[form]
    assert len(read_corpus(written(tmp_path, text, "made.xyz"), label=label, format=form)) == 2


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("label", LABELLERS)
def test_labels_that_need_no_annotation_are_there_in_every_format(form: str, label: str, tmp_path: Path) -> None:
    text, _, names = FILES[form]
    corpus = read_corpus(written(tmp_path, text, names[0]), label=label)
    assert (corpus.level, corpus.n_items, corpus.label) == ("word", 4, label)
    fitted = LABELLERS[label].fit(corpus.sentences)
    assert corpus.labels.tolist() == [one for sentence in corpus.sentences for one in fitted(sentence)]


@pytest.mark.parametrize("form", FILES)
def test_a_limit_counts_sentences(form: str, tmp_path: Path) -> None:
    text, label, names = FILES[form]
    path = written(tmp_path, text, names[0])
    assert len(read_corpus(path, label=label, limit=1, name="mine")) == 1
    assert read_corpus(path, label=label, name="mine").name == "mine"
    with pytest.raises(CorpusError, match="limit is 0: 1 sentence or more expected"):
        read_corpus(path, label=label, limit=0)


def test_a_label_past_the_limit_is_not_said_to_be_nowhere(tmp_path: Path) -> None:
    path = written(tmp_path, CONLLU + "1\tb\t_\t_\t_\tA=1\t_\t_\t_\t_\n", "made.conllu")
    assert read_corpus(path, label="feats.A").counts() == {"1": 1}
    with pytest.raises(CorpusFileError, match=r"nothing has a label 'feats\.A' in the first 2 sentences: CoNLL-U "):
        read_corpus(path, label="feats.A", limit=2)


@pytest.mark.parametrize("form", CORPUS_FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file_is_refused(form: CorpusFormat, text: str, tmp_path: Path) -> None:
    for suffix in form.suffixes:
        with pytest.raises(CorpusFileError, match=r"the file is empty$"):
            read_corpus(written(tmp_path, text, f"made{suffix}"), label="upos")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusFileError, match=r"none\.conllu: no such file$"):
        read_corpus(tmp_path / "none.conllu", label="upos")
    with pytest.raises(CorpusFileError, match=r"cannot be read \(Is a directory\)$"):
        read_corpus(tmp_path, label="upos")
    (tmp_path / "latin.conllu").write_bytes(CONLLU.encode() + "1\tÖl".encode("latin-1"))
    with pytest.raises(CorpusFileError, match=r"latin\.conllu, line 7: byte 0xd6 is not UTF-8 text$"):
        read_corpus(tmp_path / "latin.conllu", label="upos")


def test_a_file_of_no_known_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = written(tmp_path, "Anna sleeps.\n", "made.xyz")
    names = ".*".join(re.escape(form.name) for form in CORPUS_FORMATS)
    with pytest.raises(CorpusFileError, match=rf"the format is not known: give one with format=, of .*{names}"):
        read_corpus(path, label="upos")
    with pytest.raises(CorpusFileError, match=rf"made\.xyz: no format 'yaml': {names.replace('.*', ', ')} expected$"):
        read_corpus(path, label="upos", format="yaml")


def test_plain_text_has_no_labels_of_its_own(tmp_path: Path) -> None:
    message = r"made\.txt: nothing has a label 'upos': plain text, a sentence a line found, with no labels; suffix, "
    with pytest.raises(CorpusFileError, match=message):
        read_corpus(written(tmp_path, "Anna sleeps.\n", "made.txt"), label="upos")


@pytest.mark.parametrize(
    ("file", "label"), [("UD_English-EWT/en_ewt-ud-dev.conllu", "upos"), ("pmb/train.conll", "semtag")]
)
def test_a_corpus_of_thousands_of_sentences_is_read_in_seconds(file: str, label: str, data_dir: Path) -> None:
    began = time.process_time()
    read_corpus(data_dir / file, label=label)
    assert time.process_time() - began < 3
