"""The commands about what neurons do together and by implication: `interactions` and `implicit`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console

from neuronatlas.atlas import Atlas
from neuronatlas.atlas.knowledge.interplay import pair_matrix
from neuronatlas.atlas.style import download_config
from neuronatlas.atlas.wording import count, number, percent
from neuronatlas.cli import show
from neuronatlas.cli.inputs import SPECIMENS, choose_fact, open_facts, open_model, require_facts
from neuronatlas.cli.options import (
    AsJson,
    Device,
    Dtype,
    FactsFile,
    Limit,
    ModelName,
    NeuronNames,
    NeuronsOfAtlas,
    Relations,
    Revision,
    SiteOfNeurons,
    as_names,
    require_source,
)
from neuronatlas.cli.running import console, print_json, require_place, shows_progress
from neuronatlas.knowledge.facts import Fact, FactError
from neuronatlas.knowledge.implicit import ImplicitEffects, hop_prompts, implicit_effects
from neuronatlas.knowledge.interaction_tables import interaction_tables
from neuronatlas.knowledge.interactions import EXACT_UP_TO, ROUNDS
from neuronatlas.knowledge.two_hop import two_hop
from neuronatlas.models import Model
from neuronatlas.models.queries import place_tokens
from neuronatlas.neurons import NeuronSet
from neuronatlas.readers.files import open_text
from neuronatlas.studies.implicit_prompts import specimen_prompts
from neuronatlas.studies.overview import atlas_neurons, find_row

__all__ = ["implicit", "interactions"]

OneFact = Annotated[
    str | None,
    typer.Option(
        help="Only this fact of the selection: its subject, or its number, counted from 0; with --neurons the one that "
        "they are of, by default the first.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all that is drawn.")]
Gain = Annotated[float, typer.Option(help="What neurons are multiplied by: 0 suppresses, 2 doubles.")]
_WHATS = {
    "single_sum": "one by one, added up",
    "joint": "all at once",
    "rest": "the difference",
    "share redundancy": "pairs redundant, by up to half",
    "share degenerate": "pairs redundant by more",
    "share synergy": "pairs in synergy",
    "share none found": "pairs with none found",
}


def interactions(
    model: ModelName,
    facts: FactsFile,
    atlas: NeuronsOfAtlas = None,
    neurons: NeuronNames = None,
    fact: OneFact = None,
    gain: Gain = 0.0,
    exact_up_to: Annotated[
        int, typer.Option(min=1, metavar="N", help="Up to this many neurons run every subset; for more, sample.")
    ] = EXACT_UP_TO,
    rounds: Annotated[int, typer.Option(min=2, metavar="N", help="Estimates of each pair, where sampled.")] = ROUNDS,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Draw the matrix of the fact with the most neurons.")
    ] = None,
    relations: Relations = None,
    limit: Limit = None,
    site: SiteOfNeurons = "ffn",
    seed: Seed = 0,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare what pairs of a fact's neurons do together with what each does alone, against random neurons.

    Example: neuronatlas interactions specimen specimen --atlas neuronatlas-demo/facts --relations capital --limit 4

    Prints all neurons at once against the sum of single ones, what share of pairs is redundant or in synergy, and the
    pairs that interact most; --json has every pair, with the Shapley interaction index.
    """
    require_place(plot)
    require_source(atlas, neurons)
    given = _Given(facts, atlas, as_names(neurons), fact, as_names(relations), limit)
    loaded, chosen, sets = _located(
        given, lambda own: open_model(model, revision=revision, device=device, dtype=dtype, site=own or site)
    )
    tables = interaction_tables(
        loaded,
        chosen,
        sets,
        gain=gain,
        exact_up_to=exact_up_to,
        rounds=rounds,
        seed=seed,
        progress=shows_progress(),
    )
    if plot is not None:
        _draw(tables["interactions"], plot)
    if as_json:
        about: dict[str, Any] = {"model": loaded.name, "digest": loaded.digest, "gain": gain, "seed": seed}
        print_json(about | {name: table.to_dicts() for name, table in tables.items()})
        return
    _show_interactions(console(), tables, chosen)


def implicit(
    model: ModelName,
    facts: FactsFile,
    atlas: NeuronsOfAtlas = None,
    neurons: NeuronNames = None,
    fact: OneFact = None,
    gain: Gain = 0.0,
    each: Annotated[int, typer.Option(min=1, metavar="N", help="Two-hop prompts of each pair of facts.")] = 2,
    bridges: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help='Phrases by relation, {"capital of": ["the country whose capital is {subject}"]}.'
        ),
    ] = None,
    relations: Relations = None,
    limit: Limit = None,
    site: SiteOfNeurons = "ffn",
    seed: Seed = 0,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Test whether suppressing a fact's neurons moves answers that need the fact without stating it.

    Example: neuronatlas implicit specimen specimen --atlas neuronatlas-demo/facts

    Two-hop prompts are composed from pairs of relations in the file; a specimen is also asked the two-hop, yes/no and
    comparing questions of its own world. Controls: random neurons, another fact of the relation, an unrelated fact.
    """
    phrases = {} if bridges is None else _read_bridges(bridges)
    require_source(atlas, neurons)
    given = _Given(facts, atlas, as_names(neurons), fact, as_names(relations), limit)
    loaded, chosen, sets = _located(
        given, lambda own: open_model(model, revision=revision, device=device, dtype=dtype, site=own or site)
    )
    everything = open_facts(facts, loaded, None, None)
    last = loaded.kind != "masked"
    hops = two_hop(everything, bridges=phrases, each=each, answer_last=last, places=place_tokens(loaded))
    prompts = hop_prompts(hops, "two-hop, composed")
    prompts += specimen_prompts(SPECIMENS[facts]) if facts in SPECIMENS else ()
    names = {(fact.relation, fact.subject) for fact in chosen}
    asked = [one for one in prompts if any((need.relation, need.subject) in names for need in one.needs)]
    if not asked:
        raise FactError(f"no two-hop prompt can be composed from {facts}: give --bridges, or another file of facts")
    found = implicit_effects(loaded, chosen, sets, asked, gain=gain, seed=seed, progress=shows_progress())
    if as_json:
        about: dict[str, Any] = {"model": loaded.name, "digest": loaded.digest, "gain": gain, "seed": seed}
        tables = {"counts": found.counts, "summary": found.summary, "effects": found.effects}
        print_json(about | {name: table.to_dicts() for name, table in tables.items()})
        return
    _show_implicit(console(), found)


@dataclass(frozen=True)
class _Given:
    """Where facts and their neurons come from: a file and an atlas, or neurons of one of the facts."""

    facts: str
    atlas: Path | None
    neurons: list[str] | None
    fact: str | None
    relations: list[str] | None
    limit: int | None


def _located(given: _Given, load: Callable[[str | None], Model]) -> tuple[Model, list[Fact], list[NeuronSet]]:
    """The model, the selected facts and the neurons of each; `load` is told the atlas's site."""
    require_facts(given.facts)
    found = None if given.atlas is None else Atlas.open(given.atlas)
    model = load(None if found is None else str(found.meta["settings"]["site"]))
    selected = open_facts(given.facts, model, given.relations, given.limit)
    if found is None:
        return model, [selected[choose_fact(selected, given.fact or "0")]], [model.layout().set(given.neurons or [])]
    held = set(found.table("facts").select("relation", "subject", "answer").rows())
    wanted = range(len(selected)) if given.fact is None else [choose_fact(selected, given.fact)]
    there = [index for index in wanted if _key(selected[index]) in held]
    if not there:
        raise FactError(
            f"of {count(len(wanted), 'fact')} selected from {given.facts} {given.atlas} holds none: give its own file"
        )
    sets = [atlas_neurons(found, model, find_row(found, selected, index)) for index in there]
    return model, [selected[index] for index in there], sets


def _key(fact: Fact) -> tuple[str, str | None, str]:
    return fact.relation, fact.subject, fact.answer


def _read_bridges(path: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(open_text(path).text)
    except ValueError as error:
        raise FactError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict) or not all(
        isinstance(phrases, list) and all(isinstance(one, str) for one in phrases) for phrases in found.values()
    ):
        raise FactError(f"{path}: an object of relations, each with a list of phrases, expected")
    return found


def _draw(pairs: pl.DataFrame, path: Path) -> None:
    located = pairs.filter(pl.col("condition") == "located")
    if located.is_empty():
        raise FactError("no fact has two neurons: there is no matrix to draw")
    sizes = located.group_by("fact", maintain_order=True).len().sort("len", "fact", descending=[True, False])
    fact = pl.col("fact") == sizes["fact"][0]
    drawn = pair_matrix(located.filter(fact))
    path.write_text(
        drawn.to_html(include_plotlyjs=True, full_html=True, config=download_config("pairs")), encoding="utf-8"
    )


def _show_interactions(out: Console, tables: dict[str, pl.DataFrame], facts: Sequence[Fact]) -> None:
    overall = tables["interaction_summary"].filter(pl.col("relation") == "all", pl.col("measure") == "log_odds")
    if overall.is_empty():
        out.print("No fact has two neurons or more: nothing can interact.")
        return
    counted = overall.filter(pl.col("condition") == "located").row(0, named=True)
    facts_told, pairs_told = count(counted["n_facts"], "fact"), count(counted["n_pairs"], "pair")
    out.print(f"{facts_told} with two neurons or more, {pairs_told}; mean over relations")
    cells = {(row["condition"], row["what"]): _cell(row) for row in overall.iter_rows(named=True)}
    rows = [(name, cells["located", what], cells.get(("random", what), "")) for what, name in _WHATS.items()]
    out.print(show.table_of(("change of log-odds", "the facts' neurons", "random neurons"), rows))
    pairs = tables["interactions"].filter(pl.col("condition") == "located", pl.col("measure") == "log_odds")
    top = pairs.sort(pl.col("interaction").abs(), descending=True).head(10)
    shown = [
        (
            facts[row["fact"]].label,
            f"{row['a']} {row['b']}",
            row["kind"],
            f"{number(row['a_alone'], 2)}, {number(row['b_alone'], 2)}",
            *(number(row[name], 2) for name in ("joint", "interaction", "shapley")),
        )
        for row in top.iter_rows(named=True)
    ]
    out.print(
        "the pairs that interact most (interaction: both at once, less the first, less the second; Shapley: the same, "
        "averaged over which other neurons are suppressed too):"
    )
    out.print(
        show.table_of(("fact", "pair", "kind", "first", "second", "both", "interaction", "Shapley"), shown, left=3)
    )


def _cell(row: dict[str, Any]) -> str:
    written = percent if row["what"].startswith("share") else lambda value: number(value, 2)
    return f"{written(row['estimate'])} [{written(row['low'])}, {written(row['high'])}]"


def _show_implicit(out: Console, found: ImplicitEffects) -> None:
    columns = ("kind", "prompts", "suit the model", "answered right", "tested", "facts")
    out.print(show.table_of(columns, found.counts.rows()))
    rows = [
        (
            row["kind"],
            row["part"],
            row["condition"],
            row["n_facts"],
            row["n_prompts"],
            _interval(row, "change", 100, 1),
            _interval(row, "log_odds", 1, 2),
            percent(row["lost"]),
            "" if row["excess"] is None else _interval(row, "excess", 1, 2),
        )
        for row in found.summary.iter_rows(named=True)
    ]
    heads = ("kind", "fact", "neurons", "facts", "prompts", "change of P (%)", "of log-odds", "lost", "own less these")
    out.print(show.table_of(heads, rows, left=3))
    out.print(
        "Only prompts that are answered right are tested. In brackets: 95 % intervals from a bootstrap over facts. "
        "Lost: answers no longer the first choice. Own less these: change of log-odds by the fact's own neurons, "
        "less that by these."
    )


def _interval(row: dict[str, Any], name: str, scale: float, digits: int) -> str:
    value, low, high = (number(row[f"{name}{end}"] * scale, digits) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
