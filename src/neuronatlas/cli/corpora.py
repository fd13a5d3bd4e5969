"""The labelled text that commands are given, and the options about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuronatlas.cli.inputs import SPECIMEN
from neuronatlas.cli.running import note, shows_progress
from neuronatlas.probing.corpora import LABELLERS, Corpus
from neuronatlas.probing.pooling import POOLINGS
from neuronatlas.probing.rankings import RANKINGS
from neuronatlas.readers import CORPUS_FORMATS, CorpusFileError, read_corpus
from neuronatlas.readers.files import open_text
from neuronatlas.readers.hub import HUB
from neuronatlas.studies.specimen_corpus import N_SENTENCES, corpus_of_specimen

__all__ = [
    "ANY_LABEL",
    "CorpusFile",
    "FormatName",
    "Label",
    "Labels",
    "Layers",
    "MethodName",
    "MinCount",
    "PoolingName",
    "Sentences",
    "as_layers",
    "open_corpora",
    "require_corpus",
]

ANY_LABEL = "length"
"""A label that words of any text have, for what looks at the words alone."""

_LABEL_HELP = (
    "upos, deprel, feats.Number, misc.Chunk, ... of CoNLL-U; a column by name or number; semtag, ccg of the Parallel "
    "Meaning Bank; upos, chunk, role, number, tense, suffix, semantic of the specimen. "
    f"Of any text: {', '.join(LABELLERS)}."
)

CorpusFile = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help=f"Labelled text, gzipped or not: {', '.join(form.description for form in CORPUS_FORMATS)}; hf:NAME:SPLIT "
        "for a data set on the hub; or the word `specimen` for sentences of the specimen's grammar.",
    ),
]
Label = Annotated[str, typer.Option("--label", "-l", metavar="LABEL", help=f"The property: {_LABEL_HELP}")]
Labels = Annotated[
    list[str],
    typer.Option(
        "--label", "-l", metavar="LABEL", help=f"Properties: commas between, or the option again. {_LABEL_HELP}"
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help=f"{', '.join(form.name for form in CORPUS_FORMATS)}; by default the file's name and content tell.",
        rich_help_panel="Text",
    ),
]
Sentences = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="N", help="At most so many sentences, the first.", rich_help_panel="Text"),
]
MinCount = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Leave out classes that have fewer words.", rich_help_panel="Text"),
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="0,3-5",
        help="Only these layers of the site; 0 is the embeddings where it is hidden.",
        rich_help_panel="Neurons",
    ),
]
PoolingName = Annotated[
    str | None,
    typer.Option(
        "--pooling",
        metavar="|".join(POOLINGS),
        help="What of a word's sub-words stands for it (by default the last), or of a sentence's (their mean).",
        rich_help_panel="Neurons",
    ),
]
MethodName = Annotated[
    str,
    typer.Option(
        metavar="METHOD", help="; ".join(f"{method.name}: {method.description}" for method in RANKINGS.values()) + "."
    ),
]


def require_corpus(source: str) -> None:
    """Refuse a file that cannot be read before a model is loaded for it."""
    if source != SPECIMEN and not source.startswith(HUB):
        open_text(Path(source), CorpusFileError)


def open_corpora(source: str, labels: list[str], limit: int | None = None, form: str | None = None) -> list[Corpus]:
    """Read the sentences once for each label."""
    note(f"reading {source}")
    if source == SPECIMEN:
        return [corpus_of_specimen(label, limit or N_SENTENCES) for label in labels]
    bar = shows_progress()
    return [read_corpus(source, label=label, format=form, limit=limit, progress=bar) for label in labels]


def as_layers(text: str | None) -> tuple[int, ...] | None:
    """Read layers with commas between, and ranges of them.

    >>> as_layers("0,3-5"), as_layers(None)
    ((0, 3, 4, 5), None)
    """
    if text is None:
        return None
    layers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdecimal() or (last and not last.strip().isdecimal()):
            raise typer.BadParameter(f"{text!r}: layers such as 0,3-5 expected", param_hint="--layers")
        layers |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(layers))
