"""Commands that make and read atlases: `demo`, `locate`, `report`, `info`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from neuronatlas.atlas import Atlas, shared_facts, write_report
from neuronatlas.atlas.comparing import findings as comparing
from neuronatlas.atlas.knowledge_study import findings_of
from neuronatlas.atlas.salient_study import findings as salient_study
from neuronatlas.atlas.wording import count
from neuronatlas.cli import show
from neuronatlas.cli.inputs import SPECIMENS, open_facts, open_model, require_facts
from neuronatlas.cli.knowledge_study import show_study
from neuronatlas.cli.options import (
    AsJson,
    AtlasFolder,
    Budget,
    CorruptionName,
    Device,
    Dtype,
    FactsFile,
    Gains,
    Limit,
    ModelName,
    Output,
    Position,
    Relations,
    Revision,
    RoutingName,
    RuleName,
    SiteName,
    Steps,
    as_budget,
    as_gains,
    as_names,
    as_position,
    as_share,
)
from neuronatlas.cli.probing import build
from neuronatlas.cli.running import command_line, console, note, print_json, resumable, shows_progress
from neuronatlas.cli.salient_study import show_salient_study
from neuronatlas.cli.shared_facts import show_shared_facts
from neuronatlas.cli.show_salience import show_salience
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.models import Model
from neuronatlas.studies.demo import DEMO_SENTENCES, FACTS_PER_RELATION, demo_corpora, demo_facts, demo_settings
from neuronatlas.studies.knowledge_atlas import build_atlas
from neuronatlas.studies.overview import overview_of, worked_example
from neuronatlas.studies.salience.overview import is_salience, salience_overview
from neuronatlas.studies.settings import LocateSettings

__all__ = ["demo", "info", "locate", "report"]

_DEFAULTS = LocateSettings()


class SpecimenKind(StrEnum):
    """The models that the demonstration can take."""

    MASKED = "masked"
    CAUSAL = "causal"


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the two atlases and their reports go.")
    ] = Path("neuronatlas-demo"),
    facts: Annotated[int, typer.Option(min=1, metavar="N", help="Facts of each relation.")] = FACTS_PER_RELATION,
    sentences: Annotated[
        int, typer.Option(min=30, metavar="N", help="Labelled sentences for the second part.")
    ] = DEMO_SENTENCES,
    kind: Annotated[
        SpecimenKind,
        typer.Option("--model", help="A model that fills gaps in a text, or one that goes on with a text."),
    ] = SpecimenKind.MASKED,
) -> None:
    """Find the neurons of facts and of grammar in a small model that ships with the package, with no download.

    Example: neuronatlas demo

    First takes a few facts of every relation that the model was taught in English, finds the neurons that express each,
    and tests them by intervention. Then takes labelled sentences, and finds and tests the neurons that carry each
    word's part of speech, suffix, number and meaning. Says in words what was found, and leaves two atlases, DIR/facts
    and DIR/language, each with a report to look at.
    """
    model, out = open_model(next(name for name, of in SPECIMENS.items() if of == kind)), console()
    first = _demo_facts(out, model, facts, output / "facts")
    out.print()
    second = _demo_language(out, model, sentences, output / "language")
    out.print(f"\nThe reports, with pictures: {first}\n                            {second}", soft_wrap=True)


def _demo_facts(out: Console, model: Model, per_relation: int, folder: Path) -> Path:
    selected = demo_facts(model, per_relation)
    atlas = _build(model, selected, folder, LocateSettings())
    layers = model.site().widths
    out.print("\n1. Where are its facts?", style="bold")
    out.print(
        f"A small language model of {len(layers)} layers with {layers[0]:,} feed-forward neurons each was asked for "
        "facts in many wordings. For each fact the few neurons were found that make the right answer likely in most of "
        "its wordings. Then these, and others to compare with, were switched off (suppressed) or doubled (amplified).\n"
    )
    show.show_findings(out, atlas)
    example = worked_example(model, atlas, selected)
    if example is not None:
        out.print()
        show.show_example(out, example, model.name, folder)
    return write_report(folder)


def _demo_language(out: Console, model: Model, n_sentences: int, folder: Path) -> Path:
    settings = demo_settings()
    atlas = build(model, demo_corpora(n_sentences), folder, settings)
    widths = model.site(settings.site).widths
    out.print("\n2. Where is its grammar?", style="bold")
    out.print(
        f"The same model read {count(n_sentences, 'sentence')} whose words have labels. A probe, a linear classifier, "
        f"learned to tell a word's label from the {sum(widths):,} numbers (neurons) that the model has for it in its "
        f"{len(widths)} layers; its weights rank the neurons. How few suffice was tried on sentences that the probe "
        "had not seen, and what the model itself does without them.\n"
    )
    show_salience(out, atlas)
    return write_report(folder)


def locate(
    model: ModelName,
    facts: FactsFile,
    output: Output,
    relations: Relations = None,
    limit: Limit = None,
    rule: RuleName = DEFAULT_RULE,
    steps: Steps = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help=f"Share of a prompt's highest score that a neuron needs ({_DEFAULTS.threshold}; "
            f"{_DEFAULTS.activation_threshold} for --rule activation).",
            rich_help_panel="Method",
        ),
    ] = None,
    share: Annotated[
        str,
        typer.Option(
            metavar="tuned|0.7",
            help="Share of a fact's prompts that must agree; tuned seeks 2 to 5 neurons a fact, relation by relation.",
            rich_help_panel="Method",
        ),
    ] = str(_DEFAULTS.share),
    corruption: CorruptionName = _DEFAULTS.corruption,
    gains: Gains = "0,2",
    position: Position = "answer",
    site: SiteName = "ffn",
    routing: RoutingName = "free",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the random controls and the bootstrap.", rich_help_panel="Method")
    ] = _DEFAULTS.seed,
    budget: Budget = str(_DEFAULTS.attribution_budget),
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Find the neurons that express each fact of a file, test them against controls, and leave an atlas and a report.

    Example: neuronatlas locate bert-base-cased facts.csv -o capitals --relations P36 --limit 100

    Leaves a folder of tables and report.html, and prints what was found. Interrupted or killed, the same command takes
    up where it was and ends in the same bytes.
    """
    baseline = rule == "activation"
    settings = LocateSettings(
        rule=rule,
        steps=steps,
        threshold=_DEFAULTS.threshold if threshold is None or baseline else threshold,
        activation_threshold=threshold if threshold is not None and baseline else _DEFAULTS.activation_threshold,
        share=as_share(share),
        corruption=corruption,
        gains=as_gains(gains),
        position=as_position(position),
        site=site,
        routing=routing,
        seed=seed,
        attribution_budget=as_budget(budget),
    )
    require_facts(facts)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    selected = open_facts(facts, loaded, as_names(relations), limit)
    atlas = _build(loaded, selected, output, settings)
    path = write_report(output)
    if as_json:
        print_json({"atlas": str(output), "report": str(path), "overview": asdict(overview_of(atlas))})
        return
    out = console()
    show.show_findings(out, atlas)
    out.print(f"\nThe report, with pictures: {path}", soft_wrap=True)


def _build(model: Model, facts: list[Fact], folder: Path, settings: LocateSettings) -> Atlas:
    note(f"locating the neurons of {count(len(facts), 'fact')} into {folder}")
    with resumable(folder):
        return build_atlas(model, facts, folder, settings, command=command_line(), progress=shows_progress())


def report(folder: AtlasFolder) -> None:
    """Write the report of a finished atlas again, from its tables alone.

    Example: neuronatlas report neuronatlas-demo/facts

    Prints the path of report.html, which needs no network and no other file.
    """
    typer.echo(str(write_report(folder)))


def info(folder: AtlasFolder, as_json: AsJson = False) -> None:
    """Say what is in an atlas: its model, settings, tables and headline numbers.

    Example: neuronatlas info neuronatlas-demo/facts --json

    Of an atlas that is not finished it prints what its finished parts hold so far.
    """
    atlas = Atlas.open(folder)
    rows = {name: atlas.table(name).height for name in atlas.tables}
    finished = atlas.state == "complete"
    if as_json:
        print_json(
            atlas.meta | {"tables": rows, "overview": _overview(atlas) if finished or "experiments" in rows else None}
        )
        return
    out, meta = console(), atlas.meta
    out.print(show.table_of(("atlas", str(folder)), _described(meta), left=2))
    out.print(show.table_of(("table", "rows"), [(name, f"{height:,}") for name, height in rows.items()]))
    if "experiments" in rows:
        show_study(out, atlas)
    if not finished:
        out.print("Not finished: run the command above again, it takes up where it was.")
    elif "experiments" in rows:
        return
    elif "comparison" in atlas.tables:
        headline = comparing.headline({name: atlas.table(name) for name in atlas.tables})
        out.print(f"{headline.statement} {headline.verdict}")
    elif "minimal_sets" in rows:
        show_salient_study(out, atlas)
    elif "shared_overlaps" in rows:
        show_shared_facts(out, atlas)
    elif is_salience(atlas):
        show_salience(out, atlas)
    else:
        show.show_findings(out, atlas)


def _overview(atlas: Atlas) -> dict[str, Any]:
    if "experiments" in atlas.tables:
        return dict(findings_of(atlas))
    if "comparison" in atlas.tables:
        return asdict(comparing.headline({name: atlas.table(name) for name in atlas.tables}))
    if "minimal_sets" in atlas.tables:
        return asdict(salient_study.headline({name: atlas.table(name) for name in atlas.tables}))
    if "shared_overlaps" in atlas.tables:
        return asdict(shared_facts.headline({name: atlas.table(name) for name in atlas.tables}))
    return asdict(salience_overview(atlas) if is_salience(atlas) else overview_of(atlas))


def _described(meta: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = {"state": meta["state"], "command": meta["command"]}
    pairs |= {f"model {key}": value for key, value in meta["model"].items()} | meta["settings"]
    pairs |= {f"version of {key}": value for key, value in meta["versions"].items()}
    return [(key, "none" if value is None else str(value)) for key, value in pairs.items()]
