"""How `check` looks on a terminal: a model's sites and their proofs, and the table of all architectures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from neuronatlas.atlas.wording import count
from neuronatlas.cli.show import table_of
from neuronatlas.models.checking import ProvedWays
from neuronatlas.models.model import Model
from neuronatlas.models.other_tools import other_names
from neuronatlas.models.sites import Site, path_pattern
from neuronatlas.studies.sweep.page import COLUMNS, count_outcomes, outcome_cells
from neuronatlas.studies.sweep.walk import Outcome

__all__ = ["show_check", "show_sweep"]


def show_check(out: Console, model: Model, ways: ProvedWays) -> None:
    """What a model is, where its neurons are, what was proved of them, and what other tools call them."""
    out.print(f"{model.name}: a {model.kind} language model of {_blocks(model)}, {model.dtype}")
    out.print(
        f"weights {model.digest}, revision {model.revision or 'none'}, prompts of up to {model.max_length:,} tokens\n"
    )
    for site in model.sites.values():
        out.print(f"{site.name:<17} {path_pattern(site)} ({site.points[-1].side})")
    rows = [
        (s.name, len(s.points), _widths(s.widths), _deviation(s), "bit-equal", "changed") for s in model.sites.values()
    ]
    out.print(table_of(("site", "layers", "1 width", "2 deviation", "3 written back", "4 zeroed"), rows))
    out.print(
        "The proofs: 1 what is captured is as wide as the layer; 2 the projection applied to it gives the model's own "
        "result, up to this share of the largest value; 3 writing it back leaves the logits bit-equal; 4 zeroing any "
        "layer changes them."
    )
    _show_layers(out, model)
    for name, reason in model.missing.items():
        out.print(f"no site {name}: {reason}", style="yellow")
    out.print(f"Attribution runs by {ways.at_answer} at the answer's place and by {ways.elsewhere} elsewhere.")
    for way, reason in ways.refused.items():
        out.print(f"not by {way}: {reason}", style="yellow")
    _show_other_names(out, model)


def _blocks(model: Model) -> str:
    if not model.encoder_blocks:
        return count(len(model.blocks), "block")
    return f"{count(len(model.encoder_blocks), 'encoder block')} and {count(len(model.blocks), 'decoder block')}"


def _is_hidden(site: Site) -> bool:
    return site.name.endswith("hidden")


def _show_layers(out: Console, model: Model) -> None:
    """Neurons and deviation of each site, layer by layer."""
    depth = max(len(site.points) for site in model.sites.values())
    columns = [name for site in model.sites.values() for name in _columns(site)]
    rows = [(layer, *(cell for site in model.sites.values() for cell in _cells(site, layer))) for layer in range(depth)]
    out.print(table_of(("layer", *columns), rows))


def _columns(site: Site) -> tuple[str, ...]:
    return (site.name,) if _is_hidden(site) else (site.name, "deviation")


def _cells(site: Site, layer: int) -> tuple[str, ...]:
    if layer >= len(site.proofs):
        return ("",) * len(_columns(site))
    proof = site.proofs[layer]
    return (f"{proof.width:,}", f"{proof.error:.0e}")[: len(_columns(site))]


def _show_other_names(out: Console, model: Model) -> None:
    out.print("\nIn other tools, for layer i:")
    for site in model.sites.values():
        names = other_names(
            site.name, path_pattern(site), experts=bool(site.experts), two_stacks=bool(model.encoder_blocks)
        )
        for tool, name in names.items():
            out.print(f"  {site.name:<17} {tool:<15} {name}")


def _widths(widths: Sequence[int]) -> str:
    return ", ".join(f"{width:,}" if n == 1 else f"{n} x {width:,}" for width, n in Counter(widths).items())


def _deviation(site: Site) -> str:
    return f"{max(proof.error for proof in site.proofs):.0e}" if not _is_hidden(site) else "no projection"


def show_sweep(out: Console, outcomes: Sequence[Outcome]) -> None:
    """The table of architectures, and how many came out how."""
    out.print(table_of(COLUMNS, map(outcome_cells, outcomes), left=len(COLUMNS)))
    out.print(count_outcomes(outcomes).sentence())
