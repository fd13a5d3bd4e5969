"""The command `study salient-neurons`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from neuronatlas.atlas import write_report
from neuronatlas.cli import show
from neuronatlas.cli.corpora import (
    FormatName,
    Labels,
    Layers,
    MinCount,
    PoolingName,
    Sentences,
    as_layers,
    open_corpora,
    require_corpus,
)
from neuronatlas.cli.inputs import open_model
from neuronatlas.cli.options import AsJson, Device, Dtype, Output, SiteName
from neuronatlas.cli.running import command_line, console, note, print_json, resumable, shows_progress
from neuronatlas.studies.salient_neurons.questions import salient_study
from neuronatlas.studies.salient_neurons.settings import StudySettings, moderate
from neuronatlas.studies.salient_neurons.study import Source

__all__ = ["salient_neurons"]

_DEFAULTS = StudySettings()
_STUDY = _DEFAULTS.salience


def salient_neurons(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Hub ids, folders, or models in the package: `specimen`, `specimen-causal`. Of any kinds.",
        ),
    ],
    corpus: Annotated[
        str,
        typer.Option("--corpus", "-c", metavar="FILE", help="Labelled text, as for probe; or the word `specimen`."),
    ],
    label: Labels,
    output: Output,
    limit: Sentences = None,
    form: FormatName = None,
    min_count: MinCount = _STUDY.min_count,
    site: SiteName = _STUDY.site,
    layers: Layers = None,
    pooling: PoolingName = _STUDY.pooling,
    delta: Annotated[float, typer.Option(help="Accuracy that a minimal set may lose.")] = _STUDY.delta,
    sets: Annotated[
        int, typer.Option(min=1, metavar="N", help="Disjoint minimal sets to look for at most.")
    ] = _STUDY.most_sets,
    classes: Annotated[
        int, typer.Option(min=1, metavar="N", help="So many classes of a property, the most frequent, get own sets.")
    ] = _STUDY.most_classes,
    top: Annotated[
        float, typer.Option(help="Share of the neurons, the first of the ranking, whose layers are compared.")
    ] = _DEFAULTS.top,
    seed: Annotated[int, typer.Option(min=0, help="Of splits, controls and the bootstrap.")] = _DEFAULTS.seed,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask where the knowledge of language lies in one or several models: how few neurons, which layers, how often.

    Example: neuronatlas study salient-neurons specimen specimen-causal -c specimen -l upos -l chunk -o study

    Minimal sets of properties and classes, their layers, their copies, and how models differ, on the same sentences.
    Leaves a folder with an atlas of each model, the tables that compare them and report.html. Interrupted or killed,
    the same command takes up where it was.
    """
    salience = moderate(
        site=site,
        layers=as_layers(layers),
        pooling=pooling,
        min_count=min_count,
        delta=delta,
        most_sets=sets,
        most_classes=classes,
        seed=seed,
    )
    settings = StudySettings(salience, top=top)
    require_corpus(corpus)
    corpora = open_corpora(corpus, label, limit, form)
    sources = [Source(name, partial(open_model, name, device=device, dtype=dtype)) for name in models]
    note(f"studying {', '.join(models)} for {', '.join(label)} into {output}")
    with resumable(output, "the study"):
        atlas = salient_study(sources, corpora, output, settings, command=command_line(), progress=shows_progress())
    path = write_report(output)
    if as_json:
        print_json({"study": str(output), "report": str(path), "sets": atlas.table("minimal_sets").to_dicts()})
        return
    out = console()
    rows = [
        (row["model"], row["label"], _percent(row["accuracy"]), row["set_size"], _percent(row["set_accuracy"]))
        for row in atlas.table("minimal_sets").iter_rows(named=True)
    ]
    out.print(show.table_of(("model", "property", "accuracy", "minimal set", "its accuracy"), rows))
    out.print(f"\nThe report, with pictures: {path}", soft_wrap=True)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
