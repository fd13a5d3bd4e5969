"""The command `check`: one model closely, or every architecture of transformers at toy size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronatlas.cli.inputs import open_model
from neuronatlas.cli.options import AsJson, Device, Dtype, Revision, as_names
from neuronatlas.cli.running import console, note, print_json, require_place, shows_progress
from neuronatlas.cli.show_check import show_check, show_sweep
from neuronatlas.models import Model
from neuronatlas.models.checking import ProvedWays, prove_ways
from neuronatlas.models.other_tools import other_names
from neuronatlas.models.sites import path_pattern
from neuronatlas.studies.sweep.page import count_outcomes, markdown_page, outcome_record
from neuronatlas.studies.sweep.toys import architectures
from neuronatlas.studies.sweep.walk import sweep

__all__ = ["check"]

OptionalModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A hub id such as bert-base-cased, a folder, `specimen` or `specimen-causal`; left out with --all.",
        show_default=False,
    ),
]
Every = Annotated[
    bool, typer.Option("--all", help="Try every language-model class of transformers at toy size, some minutes long.")
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="llama,t5", help="With --all: only these model types, with commas between, or again."),
]
Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --all: write the table there as a page of Markdown.")
]


def check(
    model: OptionalModel = None,
    every: Every = False,
    only: Only = None,
    markdown: Markdown = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Find a model's neurons, prove that they are the right ones, and say what this tool can do with the model.

    Example: neuronatlas check bert-base-cased

    Prints the model's kind and blocks, each site of neurons with its names in other tools, what was proved of it layer
    by layer, and the way in which attribution runs. A site that the model lacks is named with the reason; a model that
    has none is refused, exit code 1. With --all, every causal, masked and sequence-to-sequence class that transformers
    has is built at toy size, proved, attributed against plain re-runs, suppressed and restored.
    """
    if every == (model is not None):
        raise typer.BadParameter("give a MODEL, or --all for every architecture of transformers")
    if model is None:
        _check_all(as_names(only), markdown, as_json)
        return
    if only is not None or markdown is not None:
        raise typer.BadParameter("--only and --markdown go with --all")
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=None)
    ways = prove_ways(loaded)
    if as_json:
        print_json(_document(loaded, ways))
    else:
        show_check(console(), loaded, ways)


def _check_all(only: list[str] | None, markdown: Path | None, as_json: bool) -> None:
    known = architectures()
    unknown = set(only or ()) - {architecture.model_type for architecture in known}
    if unknown:
        raise typer.BadParameter(f"{min(unknown)!r} is no model type of transformers", param_hint="--only")
    require_place(markdown)
    chosen = [architecture for architecture in known if only is None or architecture.model_type in only]
    outcomes = list(sweep(chosen, progress=shows_progress()))
    if markdown is not None:
        markdown.write_text(markdown_page(outcomes), encoding="utf-8")
        note(f"wrote {markdown}")
    if as_json:
        rows = [outcome_record(outcome) for outcome in outcomes]
        print_json({"counts": asdict(count_outcomes(outcomes)), "architectures": rows})
    else:
        show_sweep(console(), outcomes)


def _document(model: Model, ways: ProvedWays) -> dict[str, Any]:
    sites = {
        site.name: {
            "widths": list(site.widths),
            "layers": [asdict(proof) for proof in site.proofs],
            "written_back_bit_equal": True,
            "zeroing_changes_the_output": True,
            "other_names": other_names(
                site.name, path_pattern(site), experts=bool(site.experts), two_stacks=bool(model.encoder_blocks)
            ),
        }
        for site in model.sites.values()
    }
    about: dict[str, Any] = {
        "model": model.name,
        "kind": model.kind,
        "revision": model.revision,
        "digest": model.digest,
    }
    about |= {
        "dtype": str(model.dtype),
        "blocks": len(model.blocks),
        "encoder_blocks": len(model.encoder_blocks),
        "max_length": model.max_length,
    }
    return about | {"sites": sites, "missing_sites": model.missing, "ways": asdict(ways)}
