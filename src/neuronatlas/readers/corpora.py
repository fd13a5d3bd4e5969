"""Labelled text: the formats that are known and the one call that reads any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tqdm.auto import tqdm

from neuronatlas.probing.corpora import LABELLERS, Corpus, CorpusError, Level, Sentence
from neuronatlas.readers.blocks import Block
from neuronatlas.readers.columns import looks_like_columns, read_columns
from neuronatlas.readers.conllu import looks_like_conllu, read_conllu
from neuronatlas.readers.files import CorpusFileError, TextFile, open_text
from neuronatlas.readers.hub import HUB, Rows, load_from_hub, read_rows
from neuronatlas.readers.plain import read_plain_text
from neuronatlas.readers.pmb import looks_like_pmb, read_pmb
from neuronatlas.readers.records import looks_like_records, read_records
from neuronatlas.readers.tables import looks_like_labelled_table, read_labelled_table

__all__ = ["CORPUS_FORMATS", "CorpusFormat", "read_corpus"]


@dataclass(frozen=True)
class CorpusFormat:
    """A file format for labelled text: what it is, how its files are called, how its text is told, and its reader."""

    name: str
    description: str
    suffixes: tuple[str, ...]
    looks_right: Callable[[str], bool]
    read: Callable[[TextFile], Iterator[Block]]


CORPUS_FORMATS = (
    CorpusFormat("conllu", "CoNLL-U", (".conllu", ".conllup", ".conll", ".txt"), looks_like_conllu, read_conllu),
    CorpusFormat("pmb", "layers of the Parallel Meaning Bank", (".conll", ".txt"), looks_like_pmb, read_pmb),
    CorpusFormat("jsonl", "JSON lines", (".jsonl", ".ndjson", ".json"), looks_like_records, read_records),
    CorpusFormat("table", "a table (CSV, TSV)", (".csv", ".tsv"), looks_like_labelled_table, read_labelled_table),
    CorpusFormat("columns", "words in columns", (".conll", ".bio", ".iob", ".txt"), looks_like_columns, read_columns),
    CorpusFormat("text", "plain text, a sentence a line", (".txt",), lambda _text: False, read_plain_text),
)
"""All formats that `read_corpus` knows; a new one needs a module with a reader and a line here."""


def read_corpus(
    source: str | os.PathLike[str] | Rows,
    *,
    label: str,
    format: str | None = None,  # noqa: A002 - what users call it
    limit: int | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Corpus:
    r"""Read sentences whose words, or which themselves, carry labels.

    source: a file, gzipped or not, of one of CORPUS_FORMATS; a `datasets.Dataset`; or `hf:NAME`, `hf:NAME:SPLIT` or
    `hf:NAME:CONFIGURATION:SPLIT` for a data set on the hub, which is loaded.
    label: a column by name or by number, counted from 1; in CoNLL-U `feats.Number` and `misc.Chunk` as well; of the
    Parallel Meaning Bank `semtag` and `ccg`. Where the source has no such label, one of LABELLERS, which need no
    annotation: `suffix`, `capitalisation`, `length`, `frequency`, `position` and others.
    format: a name in CORPUS_FORMATS; by default the file's suffix and content tell.
    limit: at most so many sentences, the first ones.
    name: what the corpus is called; by default the file or the data set.

    Errors: CorpusFileError, which names the file and the line, for a file that is missing, empty, no UTF-8 text or of
    no known format, a broken line, and a label that nothing has, with those there are.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "note.tsv")
    ...     _ = path.write_text("word\tupos\nAnna\tPROPN\nsleeps\tVERB\n")
    ...     corpus = read_corpus(path, label="upos")
    >>> corpus.labels.tolist(), corpus.sentences[0].source
    (['PROPN', 'VERB'], 'note.tsv, line 2')
    """
    if limit is not None and limit < 1:
        raise CorpusError(f"limit is {limit}: 1 sentence or more expected")
    opened = _open(source, format, name)
    try:
        return _corpus(opened, label, limit, progress)
    except CorpusFileError:
        raise
    except CorpusError as fault:
        raise CorpusFileError(str(fault)) from None


@dataclass(frozen=True)
class _Opened:
    """The sentences of a source, what kind it is of, how faults name it, and how its corpus is called."""

    blocks: Iterable[Block]
    kind: str
    where: str
    called: str


def _corpus(opened: _Opened, label: str, limit: int | None, progress: bool) -> Corpus:
    reading = _Reading(label)
    blocks = islice(opened.blocks, limit)
    for block in tqdm(blocks, desc=f"read {opened.called}", unit="sentence", delay=2, disable=not progress):
        reading.add(block)
    if not reading.sentences:
        raise CorpusFileError(f"{opened.where}: there are no sentences")
    corpus = reading.corpus(opened.called)
    if corpus is None:
        among = "" if limit is None else f" in the first {len(reading.sentences)} sentences"
        there = ", ".join(reading.names) or "no labels"
        raise CorpusFileError(
            f"{opened.where}: nothing has a label {label!r}{among}: {opened.kind} found, with {there}; "
            f"{', '.join(LABELLERS)} need no annotation"
        )
    return corpus


def _open(source: str | os.PathLike[str] | Rows, form: str | None, name: str | None) -> _Opened:
    if isinstance(source, str) and source.startswith(HUB):
        return _Opened(read_rows(load_from_hub(source), source), "a data set", source, name or source)
    if isinstance(source, str | os.PathLike):
        file = open_text(Path(source), CorpusFileError)
        chosen = _format_of(file, form)
        return _Opened(chosen.read(file), chosen.description, str(file.path), name or file.path.name)
    called = name or "data set"
    return _Opened(read_rows(source, called), "a data set", called, called)


def _format_of(file: TextFile, form: str | None) -> CorpusFormat:
    """Choose by name, else by content among the formats with this suffix (the last where none fits), or among all."""
    if form is not None:
        for known in CORPUS_FORMATS:
            if known.name == form:
                return known
        raise file.error(f"no format {form!r}: {', '.join(known.name for known in CORPUS_FORMATS)} expected")
    named = [known for known in CORPUS_FORMATS if file.suffix in known.suffixes]
    if len(named) == 1:
        return named[0]
    for known in named or CORPUS_FORMATS:
        if known.looks_right(file.text):
            return known
    if named:
        return named[-1]
    expected = ", ".join(f"{known.name} ({known.description})" for known in CORPUS_FORMATS)
    raise file.error(f"the format is not known: give one with format=, of {expected}")


class _Reading:
    """Sentences read so far, the names of all labels seen, and what carries the one that is wanted."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.sentences: list[Sentence] = []
        self.names: dict[str, None] = {}
        self.level: Level | None = None

    def add(self, block: Block) -> None:
        """Take a sentence in, with its labels where it has any."""
        self.names.update(dict.fromkeys(block.names()))
        level, labels = block.find(self.label) or ("word", (None,) * len(block.words))
        if any(one is not None for one in labels):
            if self.level not in {None, level}:
                raise CorpusError(f"{block.source}: {self.label!r} labels a {level} here, a {self.level} before")
            self.level = level
        if level == "word" and len(labels) != len(block.words):
            raise CorpusError(f"{block.source}: {len(block.words)} words, but {len(labels)} labels {self.label!r}")
        self.sentences.append(block.labelled(labels))

    def corpus(self, name: str) -> Corpus | None:
        """The corpus; None where nothing has the label and no labeller gives it."""
        level = self.level or "word"
        # A sentence without any label does not tell whether its words or itself lack one.
        sentences = tuple(
            one if any(one.labels) else replace(one, labels=(None,) * (len(one.words) if level == "word" else 1))
            for one in self.sentences
        )
        corpus = Corpus(sentences, self.label, level, name)
        if self.level is None:
            return corpus.relabelled(self.label) if self.label in LABELLERS else None
        return corpus
