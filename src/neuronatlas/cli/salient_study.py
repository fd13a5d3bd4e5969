"""The command `study salient-neurons`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from neuronatlas.atlas import Atlas, write_report
from neuronatlas.atlas.salient_study.findings import headline as salient_headline
from neuronatlas.atlas.wording import number, percent
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
from neuronatlas.cli.inputs import SPECIMEN, open_model
from neuronatlas.cli.options import AsJson, Device, Dtype, Output, SiteName, as_names, by_language
from neuronatlas.cli.running import command_line, console, note, print_json, resumable, shows_progress
from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.salient_neurons.fine_tuning import sources_of
from neuronatlas.studies.salient_neurons.questions import salient_study
from neuronatlas.studies.salient_neurons.settings import StudySettings, moderate
from neuronatlas.studies.specimen_corpus import N_SENTENCES, corpus_of_specimen

__all__ = ["salient_neurons", "show_salient_study"]

_DEFAULTS = StudySettings()
_STUDY = _DEFAULTS.salience


def salient_neurons(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Hub ids, folders, or models in the package: `specimen`, `specimen-causal`. Of any kinds; one that "
            "`neuronatlas finetune` made is compared with its base, which has to be there too.",
        ),
    ],
    corpus: Annotated[
        str,
        typer.Option("--corpus", "-c", metavar="FILE", help="Labelled text, as for probe; or the word `specimen`."),
    ],
    label: Labels,
    output: Output,
    language: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Sentences of another language with the same labels, as often as you like, for the first model; "
            "FILE may be the word `specimen` for its languages de and es.",
        ),
    ] = None,
    language_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What the language of --corpus is called beside these; `en` for the specimen's."
        ),
    ] = None,
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
        float,
        typer.Option("--top-share", help="Share of the neurons, the first of the ranking, whose layers are compared."),
    ] = _DEFAULTS.top,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splits, controls and the bootstrap.")] = _DEFAULTS.seed,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask where the knowledge of language lies in one or several models: how few neurons, which layers, how often.

    Example: neuronatlas study salient-neurons specimen specimen-causal -c specimen -l upos -l chunk -o study

    Minimal sets of properties and classes, their layers, their copies, how models differ and what fine-tuning moves, on
    the same sentences; and whether one model keeps a property in the same place for other languages.
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
    label = as_names(label) or []
    require_corpus(corpus)
    spoken = by_language(language or [], "--language")
    for file in spoken.values():
        require_corpus(file)
    told = {name: _in_language(name, file, label, limit, form) for name, file in spoken.items()}
    corpora = open_corpora(corpus, label, limit, form)
    sources = sources_of(models, lambda name: open_model(name, device=device, dtype=dtype, site=site))
    note(f"studying {', '.join(models)} for {', '.join(label)} into {output}")
    with resumable(output, "the study"):
        atlas = salient_study(
            sources,
            corpora,
            output,
            settings,
            languages=told,
            language=language_name or ("en" if corpus == SPECIMEN else "base"),
            command=command_line(),
            progress=shows_progress(),
        )
    if held_out := len(corpora[0]) - int(atlas.meta["settings"]["n_sentences"]):
        note(f"{held_out:,} sentences that children were trained on took no part")
    path = write_report(output)
    if as_json:
        print_json({"study": str(output), "report": str(path), "sets": atlas.table("minimal_sets").to_dicts()})
        return
    out = console()
    show_salient_study(out, atlas)
    out.print(f"\nThe report, with pictures: {path}", soft_wrap=True)


def _in_language(name: str, file: str, labels: list[str], limit: int | None, form: str | None) -> list[Corpus]:
    if file == SPECIMEN:
        return [corpus_of_specimen(label, limit or N_SENTENCES, language=name) for label in labels]
    return open_corpora(file, labels, limit, form)


def show_salient_study(out: Console, atlas: Atlas) -> None:
    """Print what a study found: its headline, then each property of each model in a row."""
    headline = salient_headline({name: atlas.table(name) for name in atlas.tables})
    out.print(f"{headline.statement} {headline.verdict}")
    places = {
        (row["model"], row["label"]): row for row in atlas.table("localisation").filter(of="top").iter_rows(named=True)
    }
    copies = {(row["model"], row["label"]): row for row in atlas.table("redundancy").iter_rows(named=True)}
    rows = []
    for row in atlas.table("minimal_sets").iter_rows(named=True):
        key = row["model"], row["label"]
        place, again = places[key], copies[key]
        sizes = f"{row['set_size']:,} of {row['n_neurons']:,}"
        where = f"{number(place['mean_depth'], 2)}, {number(place['excess'], 2)}"
        disjoint = f"{again['n_disjoint']}{'+' if again['disjoint_bound'] else ''}"
        rows.append((*key, percent(row["accuracy"], 1), sizes, percent(row["set_accuracy"], 1), where, disjoint))
    heads = ("model", "property", "accuracy", "minimal set", "with it", "depth, localised", "disjoint sets")
    out.print(show.table_of(heads, rows, left=2))
