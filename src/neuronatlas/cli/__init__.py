"""The command line: one thin function a command, no logic."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated

import typer
from rich.markup import escape

import neuronatlas
from neuronatlas.cli import (
    atlases,
    checking,
    comparing,
    editing,
    finetuning,
    inspecting,
    interplaying,
    knowledge_study,
    probing,
    salient_study,
    shared_facts,
    triggering,
)
from neuronatlas.cli.running import run_safely

__all__ = ["app"]

EXIT_CODES = (
    "Exit codes: 0 done; 1 something is wrong with the input, one line says what; 2 the command is not written as it "
    "should be; 3 the disk is full; 130 interrupted, the same command goes on."
)

app = typer.Typer(
    name="neuronatlas",
    help="Find, test, explain and edit the neurons in which a language model keeps its facts and its grammar.",
    epilog=f"{EXIT_CODES} Start with: neuronatlas demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
)


def _help(command: Callable[..., None]) -> str:
    """A command's docstring with the lines of each paragraph joined, so that the terminal breaks them."""
    text = "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(command.__doc__ or "").split("\n\n"))
    return escape(text)  # the name of an extra in brackets is no markup


for command in (
    atlases.demo,
    checking.check,
    inspecting.attribute,
    atlases.locate,
    inspecting.effects,
    triggering.triggers,
    interplaying.interactions,
    interplaying.implicit,
    probing.probe,
    probing.extract,
    probing.rank,
    probing.describe,
    comparing.compare,
    finetuning.finetune,
    comparing.figures,
    atlases.report,
    atlases.info,
):
    app.command(help=_help(command))(run_safely(command))


edits = typer.Typer(
    help="Edit what a model knows, see what an edit changed, and take it back.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)
EDIT_COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("update", editing.update),
    ("erase", editing.erase),
    ("show", editing.show_edits),
    ("undo", editing.undo),
)
for name, edit_command in EDIT_COMMANDS:
    edits.command(name, help=_help(edit_command))(run_safely(edit_command))
app.add_typer(edits, name="edit")

studies = typer.Typer(
    help="Ask the questions of a paper of some models, end to end, with controls, in one report.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)
STUDY_COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("knowledge-neurons", knowledge_study.knowledge_neurons),
    ("salient-neurons", salient_study.salient_neurons),
    ("shared-facts", shared_facts.shared_facts),
)
for name, study_command in STUDY_COMMANDS:
    studies.command(name, help=_help(study_command))(run_safely(study_command))
app.add_typer(studies, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neuronatlas {neuronatlas.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass
