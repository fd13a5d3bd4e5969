"""Commands that edit what a model knows: `edit update`, `edit erase`, `edit show`, `edit undo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from neuronatlas.atlas import wording
from neuronatlas.cli import show
from neuronatlas.cli.inputs import choose_fact, open_facts, open_model, require_facts
from neuronatlas.cli.options import (
    AsJson,
    Device,
    Dtype,
    FactName,
    FactsFile,
    Limit,
    ModelName,
    Relations,
    Revision,
    as_names,
)
from neuronatlas.cli.running import console, note, print_json, shows_progress
from neuronatlas.knowledge.edit_cases import EditCase
from neuronatlas.knowledge.edit_files import EditError, read_record
from neuronatlas.knowledge.edit_measures import EDIT_MEASURES, edit_measures
from neuronatlas.knowledge.editing import UPDATE_RULES
from neuronatlas.knowledge.editing import erase as erase_neurons
from neuronatlas.knowledge.editing import update as update_fact
from neuronatlas.knowledge.edits import Edit, read_edits, save_edits
from neuronatlas.knowledge.exact_editing import exact_update
from neuronatlas.knowledge.judging import judge_edits, judge_erasure
from neuronatlas.knowledge.locating import locate
from neuronatlas.knowledge.two_hop import follow_up_prompts
from neuronatlas.models.model import Model
from neuronatlas.models.queries import place_tokens

__all__ = ["erase", "show_edits", "undo", "update"]

EXACT = "exact"
METHODS = (EXACT, *UPDATE_RULES)
JUDGED = 300
"""Other facts that an edit is judged by: so many of its relation and of others."""

NewFolder = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", help="Where the model goes: a folder that is not there yet."),
]
EditedFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that an edited model was saved in.")]
Neurons = Annotated[
    list[str] | None,
    typer.Option(
        metavar="L3.U10,L3.U77",
        help="These neurons, with commas between or the option again, not those that locating finds.",
    ),
]


def update(
    model: ModelName,
    facts: FactsFile,
    output: NewFolder,
    fact: FactName,
    answer: Annotated[str, typer.Option(help="The answer that it is to have.")],
    method: Annotated[
        str,
        typer.Option(
            help="exact: the smallest change that does it while other facts of the file stay; normalised or printed: "
            "the rules of Dai et al. (2022), the official code's and the paper's."
        ),
    ] = EXACT,
    neurons: Neurons = None,
    relations: Relations = None,
    limit: Limit = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Change the answer of a fact in its neurons' value slots, say what else moved, and save the model.

    Example: neuronatlas edit update specimen specimen --relations capital --fact France --answer Rome -o edited

    Prints the value slots that changed and, before and after, how the fact's prompts and other facts of the file are
    answered. The folder is a model that transformers loads; `neuronatlas edit undo` takes the edit back.
    """
    if method not in METHODS:
        raise typer.BadParameter(f"{method!r}: one of {', '.join(METHODS)} expected", param_hint="--method")
    _require_new(output)
    require_facts(facts)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype)
    selected = open_facts(facts, loaded, as_names(relations), limit)
    chosen = selected[choose_fact(selected, fact)]
    others = [other for other in selected if (other.relation, other.subject) != (chosen.relation, chosen.subject)]
    names = as_names(neurons)
    note("locating the fact's neurons" if names is None else "editing")
    members = locate(loaded, chosen) if names is None else loaded.layout().set(names)

    def make(edited: Model, case: EditCase) -> Edit:
        if method != EXACT:
            return update_fact(edited, case.fact, case.new_answer, neurons=members, rule=method)
        return exact_update(edited, case.fact, case.new_answer, keep=others, neurons=members, progress=shows_progress())

    hops = follow_up_prompts(chosen, answer, selected, answer_last=loaded.kind == "causal", places=place_tokens(loaded))
    case = EditCase(chosen, answer, portability=tuple((hop.prompt, hop.answer) for hop in hops))
    made = make(loaded, case)
    made.undo()
    judged = judge_edits(loaded, [case], lambda *_: _again(made), others=others, sample=JUDGED)
    _again(made).save(output)
    _print_edit(made, output, edit_measures(judged), as_json)


def erase(
    model: ModelName,
    facts: FactsFile,
    output: NewFolder,
    relation: Annotated[str, typer.Option("--relation", "--relations", help="The relation to erase: one.")],
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many of its most frequent neurons.")] = 20,
    limit: Limit = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Erase a relation: set the value slots of its most frequent neurons to 0, and save the model.

    Example: neuronatlas edit erase specimen specimen --relation currency --limit 20 -o erased

    Locates the neurons of the relation's facts, takes those that most facts have (20 in Dai et al. 2022), and prints
    what became of the facts of this relation and of others.
    """
    _require_new(output)
    require_facts(facts)
    loaded = open_model(model, revision=revision, device=device, dtype=dtype)
    mine = open_facts(facts, loaded, [relation], limit)
    others = [other for other in open_facts(facts, loaded, None, limit) if other.relation != mine[0].relation]
    note(f"locating the neurons of {wording.count(len(mine), 'fact')}")
    made = erase_neurons(loaded, locate(loaded, mine), count=count)
    made.undo()
    judged = judge_erasure(loaded, mine, others, lambda _: _again(made), sample=JUDGED)
    _again(made).save(output)
    _print_edit(made, output, edit_measures(judged), as_json)


def show_edits(folder: EditedFolder, as_json: AsJson = False) -> None:
    """Show the edits that a saved model carries.

    Example: neuronatlas edit show edited

    Prints what was asked, how, and each value slot that changed: its layers, its weights, and its length before and
    after. Reads the record alone; the model is not loaded.
    """
    record, _ = read_record(folder)
    if as_json:
        print_json(record)
        return
    out = console()
    carried = wording.count(len(record["edits"]), "edit")
    out.print(f"{record['model']}, {record['dtype']}; weights {record['digest']} with {carried}")
    for entry in record["edits"]:
        out.print(f"\n{entry['kind']}: {entry['settings'].get('about', '')}")
        out.print(
            f"weights {entry['digest_before']} -> {entry['digest_after']}, the change is {entry['size']:.4f} long"
        )
        out.print(_slot_table(entry["slots"]))


def undo(
    folder: EditedFolder,
    output: NewFolder,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Take back the last edit of a saved model, bit for bit, and save what it was before.

    Example: neuronatlas edit undo edited -o restored

    Where the model had several edits the folder keeps the others, and the same command takes back the next.
    """
    _require_new(output)
    record, _ = read_record(folder)
    loaded = open_model(str(folder), device=device, dtype=str(record.get("dtype", "auto")))
    edits = read_edits(loaded, folder)
    if not edits:
        raise EditError(f"the model in {folder} carries no edit: there is nothing to undo")
    last = edits[-1]
    last.undo()
    save_edits(loaded, output)
    if as_json:
        print_json({"undone": last.record(), "digest": loaded.digest, "left": len(edits) - 1, "folder": str(output)})
        return
    left = wording.count(len(edits) - 1, "edit")
    console().print(f"undone: {last.summary}; weights {loaded.digest}, {left} left, in {output}")


def _require_new(folder: Path) -> None:
    """Refuse a folder that exists before any work is done for it."""
    if folder.exists():
        raise EditError(f"{folder} exists: give a folder that does not, nothing is overwritten")


def _again(edit: Edit) -> Edit:
    edit.redo()
    return edit


def _print_edit(edit: Edit, folder: Path, measures: pl.DataFrame, as_json: bool) -> None:
    measured = measures.filter(pl.col("prompts") > 0)
    if as_json:
        about = {"model": edit.model.name, "digest": edit.model.digest, "folder": str(folder)}
        print_json(about | {"edit": edit.record(), "measures": measured.to_dicts()})
        return
    out = console()
    out.print(f"{edit.summary}")
    shared = [layer for layer in edit.layers if layer not in {neuron.layer for neuron in edit.neurons}]
    if shared:
        out.print(f"the weights are shared: layers {', '.join(map(str, edit.layers))} change")
    out.print(_slot_table(edit.diff().to_dicts()))
    rows = [
        (row["measure"], _shown(row["before"]), _shown(row["after"]), row["prompts"]) for row in measured.to_dicts()
    ]
    out.print(show.table_of(("measure", "before", "after", "prompts"), rows))
    for name in measured["measure"]:
        out.print(f"  {name}: {EDIT_MEASURES[name].definition}")
    missing = [name for name in EDIT_MEASURES if name not in measured["measure"].to_list()]
    out.print(f"not measured, having no prompts: {', '.join(missing) or 'nothing'}")
    out.print(f"\nsaved in {folder}; neuronatlas edit undo {folder} -o DIR takes it back")


def _slot_table(slots: list[dict[str, Any]]) -> Any:
    rows = [
        (
            slot["neuron"],
            ", ".join(map(str, slot["layers"])),
            f"{slot['norm_before']:.4f}",
            f"{slot['norm_after']:.4f}",
            f"{slot['change']:.4f}",
            "" if slot["cosine"] is None else f"{slot['cosine']:+.3f}",
        )
        for slot in slots
    ]
    return show.table_of(("value slot", "layers", "length before", "after", "change", "cosine"), rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
