"""The command that runs every experiment on knowledge neurons: `study knowledge-neurons`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neuronatlas.atlas import Atlas, write_report
from neuronatlas.atlas.knowledge_study import findings_of
from neuronatlas.atlas.wording import count
from neuronatlas.cli.inputs import open_facts, open_model, require_facts
from neuronatlas.cli.options import (
    AsJson,
    Budget,
    Device,
    Dtype,
    FactsFile,
    ModelName,
    Output,
    Relations,
    Revision,
    RoutingName,
    RuleName,
    SiteName,
    Steps,
    as_budget,
    as_names,
)
from neuronatlas.cli.running import command_line, console, note, print_json, resumable, shows_progress
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.readers.texts import read_texts
from neuronatlas.studies.knowledge_neurons.experiments import EXPERIMENTS
from neuronatlas.studies.knowledge_neurons.running import NEURONS, study_knowledge_neurons
from neuronatlas.studies.knowledge_neurons.selecting import spread_facts
from neuronatlas.studies.knowledge_neurons.settings import KnowledgeStudySettings
from neuronatlas.studies.settings import LocateSettings

__all__ = ["knowledge_neurons", "show_study"]

_LOCATE, _STUDY = LocateSettings(), KnowledgeStudySettings()
_SIZE = "Size"


def knowledge_neurons(
    model: ModelName,
    facts: FactsFile,
    output: Output,
    relations: Relations = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="At most so many facts of each relation, spread evenly.", rich_help_panel=_SIZE
        ),
    ] = 12,
    sampled: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Facts of each relation in the costly experiments.", rich_help_panel=_SIZE
        ),
    ] = _STUDY.sampled,
    edits: Annotated[
        int, typer.Option(min=1, metavar="N", help="Facts that are updated, over all relations.", rich_help_panel=_SIZE)
    ] = _STUDY.edits,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            "--text",
            metavar="FILE",
            help="Sentences, one a line, for `triggers`; without it the facts' own prompts, filled in.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Run these experiments now, the others later: with commas between, or the option again. "
            f"Of {', '.join(EXPERIMENTS)}.",
        ),
    ] = None,
    rule: RuleName = DEFAULT_RULE,
    steps: Steps = None,
    site: SiteName = _LOCATE.site,
    routing: RoutingName = _LOCATE.routing,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of all that is drawn, and of the bootstrap.", rich_help_panel="Method")
    ] = _LOCATE.seed,
    budget: Budget = str(_LOCATE.attribution_budget),
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Run every experiment of Dai et al. (2022), and those that critics miss there, and report beside their numbers.

    Example: neuronatlas study knowledge-neurons specimen specimen -o study

    Leaves a folder with the tables of the experiments, report.html, and the atlas of the neurons in DIR/neurons.
    Interrupted or killed, the same command takes up where it was and ends in the same bytes; --only runs some
    experiments now, and the same command without it the others.
    """
    settings = KnowledgeStudySettings(
        locate=LocateSettings(
            rule=rule, steps=steps, site=site, routing=routing, seed=seed, attribution_budget=as_budget(budget)
        ),
        sampled=sampled,
        edits=edits,
    )
    chosen = as_names(only)
    if unknown := [name for name in chosen or [] if name not in EXPERIMENTS]:
        raise typer.BadParameter(f"{unknown[0]!r}: one of {', '.join(EXPERIMENTS)} expected", param_hint="--only")
    require_facts(facts)
    if texts is not None:
        read_texts(texts)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    every = open_facts(facts, loaded, as_names(relations), None)
    selected = spread_facts(every, limit)
    taken = set(selected)
    note(f"studying {count(len(selected), 'fact')} into {output}")
    with resumable(output, "the study"):
        study = study_knowledge_neurons(
            loaded,
            selected,
            output,
            settings,
            background=[fact for fact in every if fact not in taken],
            texts=texts,
            only=chosen,
            command=command_line(),
            progress=shows_progress(),
        )
    write_report(output / NEURONS)
    path = write_report(output)
    if as_json:
        told = study.table("experiments").to_dicts()
        print_json({"study": str(output), "report": str(path), "experiments": told, "findings": findings_of(study)})
        return
    out = console()
    show_study(out, study)
    out.print(f"\nThe report, with pictures: {path}", soft_wrap=True)


def show_study(out: Console, study: Atlas) -> None:
    """Say what each experiment found, and which have not been run."""
    found = findings_of(study)
    for name, question, refused, done in study.table("experiments").iter_rows():
        out.print(f"\n{name}: {question}", style="bold")
        out.print(f"  {found.get(name) or (f'not measured: {refused}' if refused else 'done' if done else 'not run')}")
