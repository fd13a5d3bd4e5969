"""An atlas as one side of a comparison: sets of neurons by name, and what they were found in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from neuronatlas.addresses import address_columns
from neuronatlas.atlas import Atlas, AtlasError
from neuronatlas.studies.salience.building import LAYER_WIDTHS

__all__ = ["Address", "ComparisonError", "Fact", "Kind", "Side", "by_neuron", "read_side"]

Kind = Literal["knowledge", "salience"]
Address = tuple[int | None, ...]
Fact = tuple[str, str, str]
"""Relation, subject and answer."""


class ComparisonError(AtlasError):
    """Two atlases that cannot be compared."""


@dataclass(frozen=True)
class Side:
    """One of two atlases: its model, its layers, and its sets of neurons.

    `widths` counts neurons by layer, 0 in one that was not read, or is empty where the atlas, made by an earlier
    version, does not say. `facts` (knowledge) or `properties` (salience) are the sets by name; `classes` has, of a
    property and a class, the number of top neurons by layer. `doubled` facts stood more than once and are left out.
    `unknown_depth` tells that the atlas was made of some layers and, by an earlier version, does not say of how many:
    then `n_layers` is a guess.
    """

    folder: str
    name: str
    kind: Kind
    model: Mapping[str, Any]
    site: str
    n_layers: int
    widths: tuple[int, ...]
    experts: bool
    facts: Mapping[Fact, frozenset[Address]] = field(default_factory=dict)
    properties: Mapping[str, frozenset[Address]] = field(default_factory=dict)
    classes: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    doubled: int = 0
    unknown_depth: bool = False

    @property
    def digest(self) -> str:
        """A digest of all sets by name, whatever order they stand in."""
        sets = [(*key, *sorted(map(repr, own))) for key, own in self.facts.items()]
        sets += [(key, *sorted(map(repr, own))) for key, own in self.properties.items()]
        sets += [(*key, *map(str, counts)) for key, counts in self.classes.items()]
        return hashlib.sha256(repr(sorted(sets)).encode()).hexdigest()[:16]

    def histogram(self, neurons: Iterable[Address]) -> list[int]:
        """Numbers of neurons by layer."""
        found = Counter(neuron[0] for neuron in neurons)
        return [found.get(layer, 0) for layer in range(self.n_layers)]


def read_side(atlas: Atlas) -> Side:
    """Read a finished atlas of either kind.

    Errors: ComparisonError when it is not finished or holds no sets of neurons.
    """
    if atlas.state != "complete":
        command = atlas.meta["command"] or "the command that began it"
        raise ComparisonError(f"{atlas.folder} is not finished, so it cannot be compared; run again: {command}")
    if "facts" in atlas.tables:
        return _knowledge(atlas)
    if "properties" in atlas.tables:
        return _salience(atlas)
    found = ", ".join(atlas.tables) or "no tables"
    raise ComparisonError(
        f"{atlas.folder} holds no sets of neurons to compare (it has {found}); give one of `locate` or `probe`"
    )


def by_neuron(first: Side, second: Side) -> str:
    """Why two sides cannot be compared neuron by neuron; nothing where they can."""
    if first.site != second.site:
        return f"they are of two sites, {first.site!r} and {second.site!r}"
    if first.n_layers != second.n_layers:
        return f"{first.name} has {first.n_layers} layers and {second.name} has {second.n_layers}"
    if first.widths and second.widths and first.widths != second.widths:
        read = [[width > 0 for width in side.widths] for side in (first, second)]
        return "their layers have different numbers of neurons" if read[0] == read[1] else "other layers were read"
    if first.experts != second.experts:
        return "only one of them has experts"
    return ""


def _knowledge(atlas: Atlas) -> Side:
    facts, layers = atlas.table("facts"), atlas.table("layers")
    settings = atlas.meta["settings"]
    rules = set(atlas.table("neurons")["rule"])
    # An atlas of a study names its rule; the other rule there is the activation baseline.
    rule = settings.get("rule") or next(iter(sorted(rules - {"activation"} or rules)), "")
    found = atlas.table("neurons").filter(rule=rule, fold="all")
    by_fact: dict[int, set[Address]] = {}
    for fact, *address in found.select("fact", *address_columns(found)).iter_rows():
        by_fact.setdefault(fact, set()).add(tuple(address))
    named = {
        fact: (relation, subject or "", answer)
        for fact, relation, subject, answer in facts.select("fact", "relation", "subject", "answer").iter_rows()
    }
    times = Counter(named.values())
    sets = {key: frozenset(by_fact.get(fact, ())) for fact, key in named.items() if times[key] == 1}
    widths = layers.unique("layer").sort("layer")["width"].to_list() if "width" in layers.columns else []
    return Side(
        kind="knowledge",
        site=settings.get("site", "ffn"),
        n_layers=1 + max(layers["layer"], default=-1),
        widths=tuple(widths),
        experts="expert" in found.columns,
        facts=sets,
        doubled=facts.height - len(sets),
        **_named(atlas),
    )


def _salience(atlas: Atlas) -> Side:
    sets, layers = atlas.table("sets").filter(set=0), atlas.table("layers").sort("layer")
    members: dict[str, set[Address]] = {label: set() for label in atlas.table("properties")["label"]}
    for label, *address in sets.select("label", *address_columns(sets)).iter_rows():
        members[label].add(tuple(address))
    own = layers.filter(pl.col("class").is_null())
    read = dict(own.unique("layer").select("layer", "width").iter_rows())
    settings = atlas.meta["settings"]
    # The tables have no row of a layer that was left out, so that they cannot say how many there are.
    told = atlas.meta.get("remembered", {}).get(LAYER_WIDTHS)
    n_layers = len(told) if told else 1 + max(layers["layer"], default=-1)
    widths: tuple[Any, ...] = tuple(read.get(layer, 0 if told else None) for layer in range(n_layers))
    classes: dict[tuple[str, str], list[int]] = {}
    rows = layers.filter(pl.col("class").is_not_null()).select("label", "class", "layer", "n")
    for label, name, layer, n in rows.iter_rows():
        classes.setdefault((label, name), [0] * n_layers)[layer] = n or 0
    return Side(
        kind="salience",
        site=settings.get("site", "hidden"),
        n_layers=n_layers,
        widths=widths if None not in widths else (),
        unknown_depth=not told and settings.get("layers") is not None,
        experts="expert" in sets.columns,
        properties={label: frozenset(neurons) for label, neurons in members.items()},
        classes={key: tuple(counts) for key, counts in classes.items()},
        **_named(atlas),
    )


def _named(atlas: Atlas) -> dict[str, Any]:
    model = atlas.meta["model"]
    name = str(model.get("id") or "a model in memory")
    return {"folder": str(atlas.folder), "model": model, "name": Path(name).name if Path(name).is_absolute() else name}
