"""Runs the code of the pages: README.md and docs/**.md, each page from its top to its end in a folder of its own.

- `python` blocks run; what a `>>>` prints must be what the page says.
- `console` blocks run their `$ neuronatlas ...` lines in this process; what comes out must be what the page says.
- `sh` blocks are read: each `neuronatlas ...` must be a command with options that exist and values that they take.
- `<!-- file: NAME -->` before a block writes the block to that file.
- `<!-- skip: next "reason" -->` leaves out the next block, with the reason.

The folder has what pages call files of yours: a treebank and a file of sentences, written by the specimen's grammar.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import typer
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from typer.testing import CliRunner

from neuronatlas.cli import app
from neuronatlas.studies.specimen_corpus import corpus_of_specimen

ROOT = Path(__file__).resolve().parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FILE = re.compile(r"^<!-- file: (?P<name>\S+) -->\n+```\w+\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = "neuronatlas"
SEPARATORS = {";", "&&", "|", "do", "done"}

collect_ignore = ["docs/conf.py", "docs/extensions"]


def files(document: Document) -> Iterator[Region]:
    """The files that a page writes."""
    for found in FILE.finditer(document.text):
        # The comment alone is the region, so that a block of code may be a file and run as well.
        yield Region(found.start(), found.start() + 1, (found["name"], found["text"]), write_file)


def write_file(example: Example) -> None:
    """Write a file of a page to the page's folder."""
    name, text = example.parsed
    Path(name).write_text(text, encoding="utf-8")


def run_console(example: Example) -> None:
    """Run the commands of a block, and compare what they print with what the page says."""
    for block in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
        line, _, wanted = block.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == PROGRAM, f"a console block runs {PROGRAM} only, not {program}"
        result = CliRunner(env={"COLUMNS": "100"}).invoke(app, arguments)
        assert result.exit_code == 0, result.output
        checker = doctest.OutputChecker()
        if not checker.check_output(wanted, result.stdout, FLAGS):
            raise AssertionError(checker.output_difference(doctest.Example(line, wanted), result.stdout, FLAGS))


def read_commands(example: Example) -> None:
    """Hold every command of a block to the options that the program has."""
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        for arguments in commands_in(line):
            require_command(arguments)


def commands_in(line: str) -> Iterator[list[str]]:
    """The arguments of each call of the program in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, "#"
    command: list[str] = []
    for token in [*lexer, ";"]:
        if token not in SEPARATORS:
            command.append(token)
        elif command:
            if command[0] == PROGRAM:
                yield command[1:]
            command = []


def require_command(arguments: Iterable[str]) -> None:
    """Parse a command without running it; the error is the one that its user would see."""
    rest, command, name = list(arguments), typer.main.get_command(app), PROGRAM
    while rest and rest[0] in getattr(command, "commands", {}):
        name = rest.pop(0)
        command = command.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, rest)


def begin(namespace: dict[str, Any]) -> None:
    """Go to a folder of the page's own, with the files that pages speak of."""
    namespace["_folder"], namespace["_before"] = TemporaryDirectory(), Path.cwd()
    os.chdir(namespace["_folder"].name)
    corpus = corpus_of_specimen("upos", 24)
    Path("en_ewt-ud-dev.conllu").write_text(
        "".join(
            "".join(
                f"{number}\t{word}\t_\t{label}\t_\t_\t_\t_\t_\t_\n"
                for number, (word, label) in enumerate(zip(sentence.words, sentence.labels, strict=True), start=1)
            )
            + "\n"
            for sentence in corpus.sentences
        ),
        encoding="utf-8",
    )
    Path("sentences.txt").write_text("".join(f"{one.text}\n" for one in corpus.sentences), encoding="utf-8")
    pl.Config.set_float_precision(2).set_tbl_hide_dataframe_shape(True).set_tbl_width_chars(100)


def end(namespace: dict[str, Any]) -> None:
    """Leave the page's folder."""
    pl.Config.restore_defaults()
    os.chdir(namespace["_before"])
    namespace["_folder"].cleanup()


pytest_collect_file = Sybil(
    parsers=[
        files,
        PythonCodeBlockParser(doctest_optionflags=FLAGS),
        CodeBlockParser("console", run_console),
        CodeBlockParser("sh", read_commands),
        SkipParser(),
    ],
    path=str(ROOT),
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
    setup=begin,
    teardown=end,
).pytest()
