"""The command that reads texts with a fact's neurons: `triggers`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from neuronatlas.atlas import Atlas
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
    NeuronNames,
    NeuronsOfAtlas,
    Relations,
    Revision,
    SiteOfNeurons,
    as_names,
    require_source,
)
from neuronatlas.cli.running import console, print_json, shows_progress
from neuronatlas.knowledge.triggers import Triggers
from neuronatlas.knowledge.triggers import triggers as read_triggers
from neuronatlas.models.reading import POOLINGS
from neuronatlas.readers.texts import read_texts
from neuronatlas.studies.overview import atlas_neurons, find_row, relation_neurons

__all__ = ["triggers"]


def triggers(
    model: ModelName,
    facts: FactsFile,
    text: Annotated[
        Path,
        typer.Option(
            "--text", "--texts", metavar="FILE", help="Sentences, one a line, also gzipped; read as a stream."
        ),
    ],
    atlas: NeuronsOfAtlas = None,
    neurons: NeuronNames = None,
    fact: FactName = "0",
    relation: Annotated[
        str | None,
        typer.Option(help="Or a whole relation of the selection, with the 20 neurons that are in most of its facts."),
    ] = None,
    pooling: Annotated[
        str, typer.Option(help=f"A neuron's value on a sentence, over its tokens: {', '.join(POOLINGS)}.")
    ] = "max",
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many sentences to print at each end.")] = 10,
    relations: Relations = None,
    limit: Limit = None,
    site: SiteOfNeurons = "ffn",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Read a file of sentences and print which activate the neurons of a fact, or of a relation, most and least.

    Example: neuronatlas triggers specimen specimen --text sentences.txt --atlas neuronatlas-demo/facts --fact Japan

    Prints the mean activation on sentences that hold the fact's subject and answer, the subject only, the answer only,
    or neither, with 95 % intervals, and the sentences at both ends with the token where the neurons fire.
    """
    require_source(atlas, neurons)
    require_facts(facts)
    texts = read_texts(text)
    found = None if atlas is None else Atlas.open(atlas)
    site = site if found is None else str(found.meta["settings"]["site"])
    loaded = open_model(model, revision=revision, device=device, dtype=dtype, site=site)
    selected = open_facts(facts, loaded, as_names(relations), limit)
    if relation is None:
        index = choose_fact(selected, fact)
        asked = [selected[index]]
        chosen = None if found is None else atlas_neurons(found, loaded, find_row(found, selected, index))
    else:
        asked = [one for one in selected if one.relation == relation]
        chosen = None if found is None else relation_neurons(found, loaded, relation)
    if chosen is None:
        chosen = loaded.layout(site).set(as_names(neurons) or [])
    outcome = read_triggers(loaded, asked, chosen, texts, pooling=pooling, k=top, seed=seed, progress=shows_progress())
    if as_json:
        about: dict[str, Any] = {"model": loaded.name, "digest": loaded.digest, "facts": [asdict(one) for one in asked]}
        about |= {"neurons": list(map(str, chosen)), "pooling": pooling, "n_texts": outcome.n_texts}
        about |= {"n_cut": outcome.n_cut, "n_empty": outcome.n_empty}
        print_json(about | {"means": outcome.means.to_dicts(), "sentences": outcome.sentences.to_dicts()})
        return
    _show(console(), outcome)


def _show(out: Console, found: Triggers) -> None:
    out.print(f"{found.label}: {', '.join(map(str, found.neurons))}")
    left_out = f", {found.n_empty:,} of them empty" if found.n_empty else ""
    cut = f"; {found.n_cut:,} longer than the model takes were read up to there" if found.n_cut else ""
    out.print(f"{found.n_texts:,} sentences read{left_out}{cut}; activation: {found.pooling} over tokens")
    rows = [
        (kind, f"{n:,}", f"{mean:.4f}", f"[{low:.4f}, {high:.4f}]")
        for kind, n, mean, low, high in found.means.iter_rows()
        if n
    ]
    out.print(show.table_of(("sentences with", "n", "mean activation", "95 % interval"), rows))
    columns = ["rank", "activation", "kind", "line", "token", "text"]
    for direction, name in (("top", "most"), ("bottom", "least")):
        ends = found.sentences.filter(direction=direction).select(columns)
        shown = [(rank, f"{value:.4f}", *rest) for rank, value, *rest in ends.iter_rows()]
        out.print(f"the sentences that activate them {name}:")
        out.print(show.table_of(("rank", "activation", "holds", "line", "token", "sentence"), shown, left=6))
