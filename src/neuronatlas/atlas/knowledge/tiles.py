"""The four numbers at the head of a report on knowledge neurons."""

from collections.abc import Iterator
from statistics import median

import polars as pl

from neuronatlas.atlas.knowledge.findings import KNOWN, effect, ends
from neuronatlas.atlas.knowledge.looks import gain_name
from neuronatlas.atlas.knowledge.plots import main_rule
from neuronatlas.atlas.page import Tables, Tile, whiskers
from neuronatlas.atlas.wording import count, number, percent

__all__ = ["tiles"]


def tiles(tables: Tables) -> Iterator[Tile]:
    """What each gain does, how many neurons a fact has and where they lie, and how much the model knows."""
    yield from _effect_tiles(tables["summary"])
    yield _neurons_tile(tables)
    yield _known_tile(tables)


def _effect_tiles(summary: pl.DataFrame) -> Iterator[Tile]:
    for gain in ends(summary):
        located, random = effect(summary, "located", gain), effect(summary, "random", gain)
        if located is None:
            continue
        zero, drawn = whiskers({"found": located} | ({"control": random} if random else {}))
        note = f"random neurons {random}" if random else "no control"
        label = f"P(answer), {gain_name(gain)}"
        yield Tile(label, located.size, note, located.interval, zero, drawn)


def _neurons_tile(tables: Tables) -> Tile:
    facts, layers = tables["facts"], tables["layers"]
    own = layers.filter(pl.col("relation") != "all", pl.col("rule") == main_rule(layers))
    by_layer = dict(own.group_by("layer").agg(pl.sum("n")).iter_rows())
    n = [by_layer.get(layer, 0) for layer in range(1 + max(layers["layer"], default=-1))]
    bars = tuple(round(100 * value / max(1, *n), 1) for value in n)
    mean = sum(facts["n_neurons"]) / max(facts.height, 1)
    note = f"by layer, from 0 to {len(n) - 1}" if len(n) > 1 else "in the only layer"
    spread = f"median {median(facts['n_neurons']):g}, at most {max(facts['n_neurons']):,}" if facts.height else ""
    return Tile("Neurons per fact", number(mean, 1), note if n else "none found", spread, bars=bars)


def _known_tile(tables: Tables) -> Tile:
    facts, relations, prompts = (tables[name] for name in ("facts", "relations", "prompts"))
    known = facts.filter(pl.col("top1") >= KNOWN).height
    share = known / max(facts.height, 1)
    size = f"{count(relations.height, 'relation')}, {count(prompts.height, 'prompt')}"
    detail = f"{known:,} of {facts.height:,}"
    return Tile("Facts the model knows", percent(share), size, detail, filled=round(100 * share, 1))
