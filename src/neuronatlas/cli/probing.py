"""Commands about labelled text: `extract`, `probe`, `rank`, `describe`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import polars as pl
import typer

from neuronatlas.addresses import address_series
from neuronatlas.atlas import Atlas, write_report
from neuronatlas.atlas.wording import count
from neuronatlas.cli import show, show_salience
from neuronatlas.cli.corpora import (
    ANY_LABEL,
    CorpusFile,
    FormatName,
    Label,
    Labels,
    Layers,
    MethodName,
    MinCount,
    PoolingName,
    Sentences,
    as_layers,
    open_corpora,
    require_corpus,
)
from neuronatlas.cli.inputs import open_model
from neuronatlas.cli.options import AsJson, Device, Dtype, ModelName, Output, Revision, SiteName, as_names
from neuronatlas.cli.running import command_line, console, note, print_json, require_place, resumable, shows_progress
from neuronatlas.models import Model
from neuronatlas.neurons import Neuron
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.describe import describe_many
from neuronatlas.probing.examples import examples_of
from neuronatlas.probing.extraction import extract as extract_activations
from neuronatlas.probing.manifest import MANIFEST, read_manifest
from neuronatlas.probing.ranking import Ranking
from neuronatlas.probing.rankings import RANKINGS
from neuronatlas.probing.rankings import rank as rank_neurons
from neuronatlas.probing.shards import open_activations
from neuronatlas.studies.salience.building import build_salience_atlas
from neuronatlas.studies.salience.overview import salience_overview
from neuronatlas.studies.salience.settings import REPLACEMENTS, SEARCHES, SalienceSettings

__all__ = ["build", "describe", "extract", "probe", "rank"]

_DEFAULTS = SalienceSettings()
_PROBE, _TESTS = "Probe", "Tests"
_METHODS, _REPLACEMENTS = list(_DEFAULTS.methods), list[str](_DEFAULTS.replacements)

ActivationsFolder = Annotated[
    Path, typer.Argument(metavar="ACTIVATIONS", help="A folder that `neuronatlas extract` wrote.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of splits, controls and the bootstrap.", rich_help_panel=_TESTS)]


def extract(
    model: ModelName,
    corpus: CorpusFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where they go; resumes what is there.")
    ],
    label: Annotated[
        str,
        typer.Option(
            "--label", "-l", metavar="LABEL", help="The label of whole sentences, where these carry it and not words."
        ),
    ] = ANY_LABEL,
    site: SiteName = _DEFAULTS.site,
    layers: Layers = None,
    pooling: PoolingName = _DEFAULTS.pooling,
    storage: Annotated[
        str, typer.Option(help="How numbers are kept: float32, float16 or bfloat16.", rich_help_panel="Neurons")
    ] = _DEFAULTS.dtype,
    limit: Sentences = None,
    form: FormatName = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a model over sentences and keep what its neurons are at every word, for other commands and programs.

    Example: neuronatlas extract bert-base-cased en_ewt-ud-dev.conllu -o activations --layers 0,6,12

    Leaves a folder of shards that rank and describe read, as open_activations does in Python. Words that the tokenizer
    drops or that lie past the model's length have no row. Interrupted, the same command goes on.
    """
    require_corpus(corpus)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    text = open_corpora(corpus, [label], limit, form)[0]
    note(f"extracting the activations of {count(len(text), 'sentence')} into {output}")
    with resumable(output, "the folder of activations", MANIFEST):
        acts = extract_activations(
            loaded,
            text,
            site,
            output,
            layers=as_layers(layers),
            pooling=pooling,  # type: ignore[arg-type] # which it checks
            dtype=storage,
            progress=shows_progress(),
        )
    rows, columns = acts.shape
    if as_json:
        about = {"folder": str(output), "model": loaded.name, "digest": loaded.digest, "site": site}
        print_json(about | {"rows": rows, "neurons": columns, "items": text.n_items, "sentences": len(text)})
        return
    out = console()
    out.print(f"{rows:,} rows of {columns:,} neurons (site {site}) for {text.n_items:,} words in {output}")
    if rows < text.n_items:
        out.print(f"{text.n_items - rows:,} words have none: the tokenizer drops them, or they lie past the length")


def probe(
    model: ModelName,
    corpus: CorpusFile,
    label: Labels,
    output: Output,
    limit: Sentences = None,
    form: FormatName = None,
    min_count: MinCount = _DEFAULTS.min_count,
    site: SiteName = _DEFAULTS.site,
    layers: Layers = None,
    pooling: PoolingName = _DEFAULTS.pooling,
    l1: Annotated[
        float, typer.Option(min=0, help="Weight of the L1 penalty (sum of |weights|).", rich_help_panel=_PROBE)
    ] = _DEFAULTS.l1,
    l2: Annotated[
        float, typer.Option(min=0, help="Weight of the L2 penalty (half the sum of weights²).", rich_help_panel=_PROBE)
    ] = _DEFAULTS.l2,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(SEARCHES),
            help="Seek both weights on dev: for accuracy, or for what tells top from bottom neurons.",
            rich_help_panel=_PROBE,
        ),
    ] = None,
    methods: Annotated[
        list[str],
        typer.Option(
            metavar="lca,probeless",
            help="Rankings to compare: with commas between, or the option again.",
            rich_help_panel=_TESTS,
        ),
    ] = _METHODS,
    delta: Annotated[
        float, typer.Option(help="Accuracy that a minimal set may lose.", rich_help_panel=_TESTS)
    ] = _DEFAULTS.delta,
    replacements: Annotated[
        list[str],
        typer.Option(
            metavar=",".join(REPLACEMENTS),
            help="What neurons are set to in the model: with commas between, or the option again.",
            rich_help_panel=_TESTS,
        ),
    ] = _REPLACEMENTS,
    controls: Annotated[
        int, typer.Option(min=1, help="Random sets to compare interventions with.", rich_help_panel=_TESTS)
    ] = _DEFAULTS.n_controls,
    class_controls: Annotated[
        int, typer.Option(min=1, help="Random sets to compare each class's own neurons with.", rich_help_panel=_TESTS)
    ] = _DEFAULTS.class_controls,
    seed: Seed = _DEFAULTS.seed,
    keep_activations: Annotated[
        bool,
        typer.Option("--keep-activations", help="Leave the activations in DIR/activations.", rich_help_panel="Neurons"),
    ] = False,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Find the neurons that carry a property of words or sentences, test them against controls, leave an atlas.

    Example: neuronatlas probe bert-base-cased en_ewt-ud-dev.conllu --label upos --label feats.Number -o english

    The whole road: activations, a linear probe and its baselines, rankings and ablation, minimal sets, layers,
    interventions while the model runs, and the words that drive the top neurons. Leaves a folder of tables and
    report.html, and prints what was found. Interrupted or killed, the same command takes up where it was.
    """
    settings = SalienceSettings(
        site=site,
        layers=as_layers(layers),
        pooling=pooling,  # type: ignore[arg-type] # which the settings check
        l1=l1,
        l2=l2,
        search=search,
        min_count=min_count,
        methods=tuple(as_names(methods) or ()),
        delta=delta,
        replacements=tuple(as_names(replacements) or ()),  # type: ignore[arg-type]
        n_controls=controls,
        class_controls=class_controls,
        seed=seed,
    )
    require_corpus(corpus)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    atlas = build(loaded, open_corpora(corpus, as_names(label) or [], limit, form), output, settings, keep_activations)
    path = write_report(output)
    if as_json:
        print_json({"atlas": str(output), "report": str(path), "overview": asdict(salience_overview(atlas))})
        return
    out = console()
    show_salience.show_salience(out, atlas)
    out.print(f"\nThe report, with pictures: {path}", soft_wrap=True)


def build(
    model: Model, corpora: list[Corpus], folder: Path, settings: SalienceSettings, keep_activations: bool = False
) -> Atlas:
    """Build the atlas of these corpora, with a word about it."""
    note(f"probing for {', '.join(corpus.label for corpus in corpora)} into {folder}")
    with resumable(folder):
        return build_salience_atlas(
            model,
            corpora,
            folder,
            settings,
            command=command_line(),
            keep_activations=keep_activations,
            progress=shows_progress(),
        )


def rank(
    activations: ActivationsFolder,
    corpus: CorpusFile,
    label: Label,
    method: MethodName = "lca",
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many neurons to print.")] = 20,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the whole ranking into this file.")] = None,
    limit: Sentences = None,
    form: FormatName = None,
    min_count: MinCount = _DEFAULTS.min_count,
    as_json: AsJson = False,
) -> None:
    """Rank neurons by how much they carry a property, from activations that were extracted before.

    Example: neuronatlas rank activations en_ewt-ud-dev.conllu --label upos --method probeless --top 50

    CORPUS is the text that the activations are of, with any label. Prints the top neurons, each with its score; --csv
    writes all of them, the first the most salient.
    """
    require_corpus(corpus)
    require_place(csv)
    acts = open_activations(activations)
    text = open_corpora(corpus, [label], limit, form)[0]
    examples = examples_of(acts, text, min_count)
    found = rank_neurons(examples.acts, examples.labels, method=method, progress=shows_progress())
    table = _ranking(found)
    if csv is not None:
        table.write_csv(csv)
    if as_json:
        about = {"label": label, "method": method, "items": len(examples), "classes": examples.counts()}
        about |= {"notes": list(found.notes), "score": RANKINGS[method].score}
        print_json(about | {"neurons": table.head(top).to_dicts()})
        return
    out, described = console(), RANKINGS[method]
    out.print(f"{label}: {len(examples):,} items of {len(examples.classes)} classes; left out: {examples.left_out}")
    out.print(f"{method}: {described.description}; score: {described.score}")
    rows = table.head(top).select("neuron", "score").iter_rows()
    out.print(show.table_of(("neuron", "score"), [(name, f"{score:.5g}") for name, score in rows]))
    for told in found.notes:
        out.print(told, style="yellow")
    if csv is not None:
        out.print(f"all {len(found):,} neurons: {csv}", soft_wrap=True)


def _ranking(found: Ranking) -> pl.DataFrame:
    neurons = found.neurons()
    return pl.DataFrame(
        {
            "rank": range(len(neurons)),
            "neuron": list(map(str, neurons)),
            **address_series(found.layout, neurons),
            "score": found.scores,
        }
    )


def describe(
    source: Annotated[
        str,
        typer.Argument(metavar="MODEL|ACTIVATIONS", help="A model, or a folder that `neuronatlas extract` wrote."),
    ],
    corpus: CorpusFile,
    neurons: Annotated[list[str], typer.Argument(metavar="NEURON...", help="Addresses such as L3.U10.")],
    label: Annotated[
        str, typer.Option("--label", "-l", metavar="LABEL", help="A property: which of its classes do they tell?")
    ] = ANY_LABEL,
    words: Annotated[int, typer.Option(min=1, metavar="N", help="How many words and contexts to print.")] = 8,
    site: SiteName = _DEFAULTS.site,
    limit: Sentences = None,
    form: FormatName = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Show what drives neurons over a text: the words and the places at which they are highest and lowest.

    Example: neuronatlas describe specimen specimen L3.U10 L3.U42 --label upos

    With a model, the text is run through it first; with a folder of activations, CORPUS is the text that they are of.
    """
    require_corpus(corpus)
    addresses = [Neuron.parse(name) for name in neurons]
    text = open_corpora(corpus, [label], limit, form)[0]
    with TemporaryDirectory() as scratch:
        if read_manifest(Path(source)) is not None:
            acts = open_activations(Path(source))
        else:
            loaded = open_model(source, revision=revision, device=device, dtype=dtype, site=site)
            chosen = loaded.layout(site).set(addresses)
            acts = extract_activations(
                loaded, text, site, Path(scratch) / "acts", neurons=chosen, progress=shows_progress()
            )
        found = describe_many(acts, text, acts.layout.set(addresses), words, progress=shows_progress())
    if as_json:
        tables = {name: getattr(found, name).to_dicts() for name in ("profiles", "classes", "words", "contexts")}
        print_json({"label": label} | tables)
    else:
        show_salience.show_description(console(), found, words)
