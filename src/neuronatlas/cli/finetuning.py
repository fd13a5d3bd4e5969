"""The command that makes a fine-tuned child of a model: `finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuronatlas.atlas.wording import count
from neuronatlas.cli import show
from neuronatlas.cli.corpora import (
    CorpusFile,
    FormatName,
    MinCount,
    PoolingName,
    Sentences,
    open_corpora,
    require_corpus,
)
from neuronatlas.cli.inputs import open_model
from neuronatlas.cli.options import AsJson, Device, Dtype, ModelName, Revision
from neuronatlas.cli.running import console, note, print_json, shows_progress
from neuronatlas.studies.children.making import train_child
from neuronatlas.studies.children.record import Child
from neuronatlas.studies.children.settings import ChildSettings

__all__ = ["finetune"]

_DEFAULTS = ChildSettings()
_TRAINING = "Training"


def finetune(
    model: ModelName,
    corpus: CorpusFile,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where the child goes: a new folder, or one that already holds this very child.",
        ),
    ],
    label: Annotated[
        str,
        typer.Option(
            "--label", "-l", metavar="LABEL", help="What it learns to tell: a column, of words or of whole sentences."
        ),
    ] = "label",
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the training sentences.", rich_help_panel=_TRAINING)
    ] = _DEFAULTS.epochs,
    rate: Annotated[
        float,
        typer.Option(help="Highest learning rate; small models need more, 1e-3.", rich_help_panel=_TRAINING),
    ] = _DEFAULTS.rate,
    batch: Annotated[int, typer.Option(min=1, help="Sentences a step.", rich_help_panel=_TRAINING)] = _DEFAULTS.batch,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the split, the first weights and the order.", rich_help_panel=_TRAINING)
    ] = _DEFAULTS.seed,
    shuffle_labels: Annotated[
        bool,
        typer.Option(
            "--shuffle-labels",
            help="Permute the training labels: the control, a child that was trained as long on nothing.",
            rich_help_panel=_TRAINING,
        ),
    ] = False,
    pooling: PoolingName = None,
    limit: Sentences = None,
    form: FormatName = None,
    min_count: MinCount = _DEFAULTS.min_count,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Make a fine-tuned child of a model from labelled sentences or words, to be compared with its base.

    Example: neuronatlas finetune specimen specimen --label role --rate 1e-3 -o child

    CORPUS has a label for each sentence (columns text and label, JSON lines) or for each word (CoNLL-U and others).
    A classifier on the last layer and all layers below are trained on 70 % of the sentences; the rest say how well it
    does. The folder is a language model as its base was, for every command, with the classifier and child.json beside
    it. The same command gives the same bytes. Needs accelerate: pip install 'neuronatlas[train]'.
    """
    settings = ChildSettings(
        epochs=epochs,
        rate=rate,
        batch=batch,
        seed=seed,
        shuffled=shuffle_labels,
        pooling=pooling,  # type: ignore[arg-type] # which the settings check
        min_count=min_count,
    )
    require_corpus(corpus)
    base = open_model(model, revision=revision, device=device, dtype=dtype, site=None)
    text = open_corpora(corpus, [label], limit, form)[0]
    note(f"fine-tuning for {label} on {count(len(text), 'sentence')} into {output}")
    child = train_child(base, text, output, settings, progress=shows_progress())
    if as_json:
        print_json({"folder": str(output), **child.record})
        return
    _show(child)


def _show(child: Child) -> None:
    out, task = console(), child.record["task"]
    what = " with its training labels permuted" if child.shuffled else ""
    out.print(f"a child of {child.record['base']['name']} for {child.label} ({len(child.classes)} classes){what}")
    out.print(f"items of {task['level']}s left out: {task['left_out']}")
    rows = [
        (part, f"{s['n']:,}", f"{s['accuracy']:.3f}", f"[{s['low']:.3f}, {s['high']:.3f}]", f"{s['majority']:.3f}")
        for part, s in child.scores.items()
    ]
    out.print(show.table_of(("part", "items", "accuracy", "95 % interval", "majority"), rows))
    out.print(f"mean loss by epoch: {', '.join(f'{loss:.3f}' for loss in child.record['losses'])}")
    layers = child.layers.pivot("model", index="layer", values="accuracy")
    if len(layers):
        shown = [(layer, f"{base:.3f}", f"{own:.3f}") for layer, base, own in layers.rows()]
        out.print(f"{child.label} read from each layer alone, on sentences that were not trained on:")
        out.print(show.table_of(("layer", "base", "child"), shown))
    if child.shuffled:
        out.print("accuracy in train is by the permuted labels, in dev and test by the true ones")
    out.print(f"the child: {child.folder}", soft_wrap=True)
