"""The command `study shared-facts`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from neuronatlas.atlas import Atlas, write_report
from neuronatlas.atlas.shared_facts import headline
from neuronatlas.atlas.wording import number, percent
from neuronatlas.cli import show
from neuronatlas.cli.inputs import SPECIMEN, open_facts, open_model, require_facts
from neuronatlas.cli.options import (
    AsJson,
    Device,
    Dtype,
    ModelName,
    Output,
    Relations,
    Revision,
    RuleName,
    Steps,
    as_names,
    by_language,
)
from neuronatlas.cli.running import command_line, console, note, print_json, resumable, shows_progress
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.models import Model
from neuronatlas.studies.salient_neurons.parallel import ParallelFact, parallel_facts_of, parallel_facts_of_specimen
from neuronatlas.studies.salient_neurons.shared_study import study_shared_facts

__all__ = ["shared_facts", "show_shared_facts"]


def shared_facts(
    model: ModelName,
    facts: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=FACTS...",
            help="The same facts in two languages or more, such as en=en.jsonl de=de.jsonl, in the formats of locate: "
            "the n-th fact of a relation is the same in all of them. Or the word `specimen`.",
        ),
    ],
    output: Output,
    relations: Relations = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many facts of each relation.")
    ] = None,
    rule: RuleName = DEFAULT_RULE,
    steps: Steps = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap, permutations and random neurons.")] = 0,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask whether a fact has the same knowledge neurons in several languages, and whether they do the same there.

    Example: neuronatlas study shared-facts specimen specimen --limit 10 -o shared

    Locates the neurons of each fact in each language, compares them with those of other facts of the relation, and
    suppresses what one language found while the model is asked in the others. Leaves a folder with the tables and
    report.html. Interrupted or killed, the same command takes up where it was.
    """
    files = {} if facts == [SPECIMEN] else by_language(facts, "FACTS")
    for file in files.values():
        require_facts(file)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype)
    chosen = _parallel(loaded, files, as_names(relations), limit)
    note(f"studying {len(chosen)} facts in {len(chosen[0].facts)} languages into {output}")
    with resumable(output, "the study"):
        atlas = study_shared_facts(
            loaded,
            chosen,
            output,
            rule=rule,
            steps=steps,
            seed=seed,
            command=command_line(),
            progress=shows_progress(),
        )
    path = write_report(output)
    if as_json:
        print_json({"study": str(output), "report": str(path), "overlaps": atlas.table("shared_overlaps").to_dicts()})
        return
    out = console()
    show_shared_facts(out, atlas)
    out.print(f"\nThe report, with pictures: {path}", soft_wrap=True)


def _parallel(
    model: Model, files: dict[str, str], relations: list[str] | None, limit: int | None
) -> list[ParallelFact]:
    if not files:
        return parallel_facts_of_specimen(model, relations=relations, limit=limit)
    return parallel_facts_of({name: open_facts(file, model, relations, limit) for name, file in files.items()})


def show_shared_facts(out: Console, atlas: Atlas) -> None:
    """Print what languages share, then each pair of languages and group of facts in a row."""
    found = headline({name: atlas.table(name) for name in atlas.tables})
    out.print(f"{found.statement} {found.verdict}")
    rows = [
        (
            *(f"{row['language']}, {row['other']}", row["facts"], f"{row['n_facts']:,}", percent(row["jaccard"], 1)),
            *(percent(row["other_facts"], 1), number(row["p_adjusted"], 3), percent(row["with_common"])),
        )
        for row in atlas.table("shared_overlaps").iter_rows(named=True)
    ]
    heads = ("languages", "facts", "how many", "jaccard", "other facts", "adjusted p", "with common neurons")
    out.print(show.table_of(heads, rows, left=2))
