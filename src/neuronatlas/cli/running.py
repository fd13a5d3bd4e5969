"""What every command shares: where it writes, and how errors become exit codes."""

from __future__ import annotations

import errno
import json
import logging
import math
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import transformers
import typer
from huggingface_hub.utils.tqdm import enable_progress_bars
from rich.console import Console
from rich.text import Text

from neuronatlas.atlas import AtlasError
from neuronatlas.durable import is_disk_full
from neuronatlas.knowledge.attribution import AttributionError
from neuronatlas.knowledge.edits import EditError
from neuronatlas.knowledge.facts import FactError
from neuronatlas.knowledge.locating import TuningWarning
from neuronatlas.knowledge.quadrature import RuleError
from neuronatlas.knowledge.refinement import RefinementError
from neuronatlas.models import InterventionError, ModelError, SiteError
from neuronatlas.models.direct import DirectError
from neuronatlas.models.memory import MemoryLimitError
from neuronatlas.models.output_rows import OutputRowError
from neuronatlas.models.quantised import GradientError
from neuronatlas.models.queries import QueryError
from neuronatlas.models.reading import TextError
from neuronatlas.models.slots import SlotError
from neuronatlas.neurons import NeuronError
from neuronatlas.probing.activations import ActivationsError
from neuronatlas.probing.corpora import CorpusError
from neuronatlas.probing.examples import ExamplesError
from neuronatlas.probing.probe import ProbeError
from neuronatlas.probing.ranking import RankingError
from neuronatlas.probing.redundancy import RedundancyError
from neuronatlas.probing.selection import SelectionError
from neuronatlas.readers import FactFileWarning
from neuronatlas.statistics import StatisticsError
from neuronatlas.studies.children.settings import ChildError
from neuronatlas.studies.settings import SettingsError

__all__ = [
    "Exit",
    "command_line",
    "console",
    "note",
    "print_json",
    "require_place",
    "resumable",
    "run_safely",
    "shows_progress",
]

P = ParamSpec("P")

_INPUT_ERRORS = (
    ActivationsError,
    AtlasError,
    AttributionError,
    ChildError,
    CorpusError,
    EditError,
    DirectError,
    ExamplesError,
    FactError,
    GradientError,
    InterventionError,
    MemoryLimitError,
    ModelError,
    NeuronError,
    OutputRowError,
    ProbeError,
    QueryError,
    RankingError,
    RedundancyError,
    RefinementError,
    RuleError,
    SelectionError,
    SettingsError,
    SiteError,
    SlotError,
    StatisticsError,
    TextError,
)
_PATH_ERRORS = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_PATH_KINDS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Errors about paths that are known by their class alone: polars raises them without a number."""


class Exit(IntEnum):
    """What the exit code of a command says."""

    DONE = 0
    INPUT = 1
    USAGE = 2
    DISK_FULL = 3
    INTERRUPTED = 130


def console() -> Console:
    """Where results go: the standard output as it is now."""
    return Console(highlight=False, markup=False, emoji=False)


def note(text: str, style: str = "dim") -> None:
    """Write a line about the work to the standard error output."""
    Console(stderr=True).print(Text(" ".join(text.splitlines()), style=style), soft_wrap=True)


def print_json(document: object) -> None:
    """Write one JSON document to the standard output; numbers that are not finite become null."""
    typer.echo(json.dumps(_plain(document), ensure_ascii=False, indent=2, allow_nan=False))


def shows_progress() -> bool:
    """Whether somebody is there to look at a progress bar."""
    return sys.stderr.isatty()


def command_line() -> str:
    """The command as it was given, for the atlas to keep."""
    return shlex.join(["neuronatlas", *sys.argv[1:]])


def run_safely(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a user can cause into one line and an exit code; anything else is a fault and shows its traceback."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _quiet():
                command(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            note(str(interrupt) or "interrupted", "yellow")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except (*_INPUT_ERRORS, OSError) as error:
            code = _exit_code(error)
            if code is None:
                raise
            note(f"error: {_message(error)}", "bold red")
            raise typer.Exit(code) from None

    return guarded


def require_place(file: Path | None) -> None:
    """Refuse a file to write that cannot lie where it is to, before any work is done for it."""
    if file is None:
        return
    if not file.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to write a file in: make it first", str(file.parent))
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder: give the name of a file", str(file))


@contextmanager
def resumable(folder: Path, what: str = "the atlas", proof: str = "atlas.json") -> Iterator[None]:
    """Say on an interruption that the work so far is kept, where the file that proves it is there."""
    try:
        yield
    except KeyboardInterrupt:
        begun = (folder / proof).exists()
        kept = f"{what} in {folder} is valid and keeps what is done; the same command takes it up again"
        raise KeyboardInterrupt(f"interrupted: {kept if begun else 'nothing was written yet'}") from None


def _exit_code(error: Exception) -> Exit | None:
    cause = error.__cause__ or error
    if isinstance(cause, Exception) and is_disk_full(cause):
        return Exit.DISK_FULL
    of_path = isinstance(error, _PATH_KINDS) or (isinstance(error, OSError) and error.errno in _PATH_ERRORS)
    if of_path or isinstance(error, _INPUT_ERRORS):
        return Exit.INPUT
    return None


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep other libraries' bars and warnings from the terminal, and show ours as notes."""
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    enable_progress_bars()  # which hides the hub's too, and a download is worth watching
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        for own in (FactFileWarning, TuningWarning):
            warnings.simplefilter("always", own)
        warnings.showwarning = _show_warning
        yield


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    note(f"note: {message}", "yellow")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
