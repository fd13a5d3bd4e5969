"""Compare two atlases: overlap of their neurons with chance, shift over layers, agreement of their scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from neuronatlas.atlas import Atlas
from neuronatlas.studies.comparing import correlations
from neuronatlas.studies.comparing.items import corrected, counted_item, layer_rows, overlap_pairs, set_item
from neuronatlas.studies.comparing.sides import Address, ComparisonError, Fact, Side, by_neuron, read_side

__all__ = ["Comparison", "compare"]

_MOST_SETS = 40
"""Sets of an atlas that are compared each with each."""

Sets = tuple[Collection[Address], Collection[Address]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two atlases have in common: tables, and what to know before reading them.

    `items` has a row for each fact, relation, property and class of both and for all together; `layers` their neurons
    layer by layer; `pairs` every two sets of both atlases; `correlations` how far scores agree. `by_neuron` says
    whether neurons were compared one by one; if not, only layers were, and `notes` say why.
    """

    first: Side
    second: Side
    by_neuron: bool
    items: pl.DataFrame
    layers: pl.DataFrame
    pairs: pl.DataFrame
    correlations: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """All tables as an atlas keeps them."""
        rows = [
            {"side": place, "model": side.name, "digest": side.model.get("digest"), "site": side.site}
            | {"n_layers": side.n_layers, "n_neurons": sum(side.widths) or None, "kind": side.kind}
            for place, side in (("first", self.first), ("second", self.second))
        ]
        return {
            "comparison": self.items,
            "layers": self.layers,
            "pairs": self.pairs,
            "correlations": self.correlations,
            "sides": pl.DataFrame(rows, schema_overrides={"n_neurons": pl.Int64, "digest": pl.String}),
            "notes": pl.DataFrame({"note": list(self.notes)}, schema={"note": pl.String}),
        }


def compare(
    first: str | Path | Atlas,
    second: str | Path | Atlas,
    folder: str | Path | None = None,
    *,
    seed: int = 0,
    command: str = "",
    progress: bool = True,
) -> Comparison:
    """Compare two finished atlases of one kind; with a `folder` also leave the comparison there as an atlas.

    Facts are matched by relation, subject and answer, properties and classes by their names. Where both atlases are of
    one site and of layers of the same widths, neurons are compared one by one; else only the depths at which they lie.

    Errors: ComparisonError for an unfinished atlas, two kinds, or nothing in common; AtlasError for the folder,
    also where it holds a comparison of one of the two as it was made before, otherwise.
    """
    atlases = [atlas if isinstance(atlas, Atlas) else Atlas.open(atlas) for atlas in (first, second)]
    sides = (read_side(atlases[0]), read_side(atlases[1]))
    if sides[0].kind != sides[1].kind:
        raise ComparisonError(
            f"{sides[0].folder} is of {sides[0].kind} and {sides[1].folder} of {sides[1].kind}: give two of one kind"
        )
    made = _knowledge if sides[0].kind == "knowledge" else _salience
    why = by_neuron(*sides)
    items, layers, sets = made(sides, together=not why, seed=seed, progress=progress)
    found = Comparison(
        *sides,
        by_neuron=not why,
        items=items,
        layers=layers,
        pairs=overlap_pairs(sides[0], {} if why else sets),
        correlations=correlations.correlations(atlases[0], atlases[1], sides, together=not why, seed=seed),
        notes=tuple(_notes(sides, why)),
    )
    if folder is not None:
        _write(
            found, {"first": _made(atlases[0], sides[0]), "second": _made(atlases[1], sides[1])}, folder, seed, command
        )
    return found


def _made(atlas: Atlas, side: Side) -> dict[str, Any]:
    """All that the numbers of a side depend on, so that a comparison of what was made again is refused."""
    told = {"settings": atlas.meta["settings"], "seed": atlas.meta["seed"], "sets": side.digest}
    return {"model": side.name, "site": side.site, "neurons": sum(side.widths) or None} | told


def _notes(sides: tuple[Side, Side], why: str) -> Iterator[str]:
    if why:
        yield f"Not compared neuron by neuron, for {why}: only the depths at which neurons lie can be compared."
    elif sides[0].model.get("digest") != sides[1].model.get("digest"):
        yield (
            "These are two models of one shape. That a neuron has the same address says something only where one was "
            "made from the other; else expect what chance gives."
        )
    if sides[0].site != sides[1].site:
        yield "Depth is counted within each site: the first layer of one need not be that of the other."
    for side in sides:
        if not side.widths:
            yield (
                f"{side.folder} does not say how many neurons a layer has, as atlases of earlier versions: "
                "chance levels are missing; make it again to have them."
            )
        if side.unknown_depth:
            yield (
                f"{side.folder} was made of some layers and does not say how many there are, as atlases of earlier "
                "versions: depths are counted as if the highest one that it has were the last; make it again."
            )
        if side.doubled:
            yield f"{side.doubled} facts of {side.folder} stand there more than once and were left out."


def _knowledge(
    sides: tuple[Side, Side], *, together: bool, seed: int, progress: bool
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Collection[Address]]]:
    common = [fact for fact in sides[0].facts if fact in sides[1].facts]
    if not common:
        raise ComparisonError(
            f"no fact of {sides[0].folder} ({len(sides[0].facts)}) is in {sides[1].folder} ({len(sides[1].facts)}): "
            "facts are matched by relation, subject and answer"
        )
    relations: dict[str, list[Fact]] = {}
    for fact in common:
        relations.setdefault(fact[0], []).append(fact)
    groups = {name: _union(sides, facts) for name, facts in relations.items()}
    rows, layers = [], []
    everything = {"level": "all", "group": "", "name": "all facts"}
    for names, own, facts in [
        (everything, _union(sides, common), common),
        *(({"level": "relation", "group": name, "name": name}, own, relations[name]) for name, own in groups.items()),
    ]:
        row = set_item(names, sides, own, together=together, placed=True, seed=seed)
        rows.append(row | ({"other_jaccard": _of_other_facts(sides, facts)} if together else {}))
        layers += list(layer_rows(names, sides, own))
    if together:
        for fact in tqdm(common, desc="comparing facts", unit="fact", disable=not progress):
            names = {"level": "fact", "group": fact[0], "name": f"{fact[1] or fact[0]} -> {fact[2]}"}
            own = (sides[0].facts[fact], sides[1].facts[fact])
            rows.append(set_item(names, sides, own, together=True, placed=False, seed=seed))
    named = _both(sides, groups) if len(groups) <= _MOST_SETS else {}
    return corrected(rows), _layers(layers), named


def _union(sides: tuple[Side, Side], facts: list[Fact]) -> Sets:
    ours, theirs = (frozenset[Address]().union(*(side.facts[fact] for fact in facts)) for side in sides)
    return ours, theirs


def _of_other_facts(sides: tuple[Side, Side], facts: list[Fact]) -> float | None:
    """Mean Jaccard of a fact's neurons in one atlas and those of the next fact of its relation in the other one.

    What a relation's facts share among themselves is no sign that a fact has the same neurons in both.
    """
    others = []
    for group in {fact[0]: None for fact in facts}:
        own = [fact for fact in facts if fact[0] == group]
        turned = [*own[1:], *own[:1]] if len(own) > 1 else []
        for fact, other in zip(own, turned, strict=False):
            ours, theirs = sides[0].facts[fact], sides[1].facts[other]
            others.append(len(ours & theirs) / max(1, len(ours | theirs)))
    return float(np.mean(others)) if others else None


def _salience(
    sides: tuple[Side, Side], *, together: bool, seed: int, progress: bool
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Collection[Address]]]:
    common = [label for label in sides[0].properties if label in sides[1].properties]
    if not common:
        ours, theirs = (", ".join(side.properties) for side in sides)
        raise ComparisonError(
            f"{sides[0].folder} and {sides[1].folder} have no property in common: {ours} there, {theirs} here"
        )
    rows, layers = [], []
    groups: dict[str, Sets] = {label: (sides[0].properties[label], sides[1].properties[label]) for label in common}
    for label, own in groups.items():
        names = {"level": "property", "group": label, "name": label}
        rows.append(set_item(names, sides, own, together=together, placed=True, seed=seed))
        layers += list(layer_rows(names, sides, own))
    classes = [key for key in sides[0].classes if key in sides[1].classes and key[0] in groups]
    for label, name in tqdm(classes, desc="comparing classes", unit="class", disable=not progress):
        counts = (sides[0].classes[label, name], sides[1].classes[label, name])
        if all(map(sum, counts)):
            rows.append(counted_item({"level": "class", "group": label, "name": name}, sides, counts, seed=seed))
    return corrected(rows), _layers(layers), _both(sides, groups)


def _both(sides: tuple[Side, Side], groups: Mapping[str, Sets]) -> dict[str, Collection[Address]]:
    names = [side.name for side in sides]
    if names[0] == names[1]:
        names = [f"{names[0]} (first)", f"{names[1]} (second)"]
    return {f"{group}, {name}": own for group, sets in groups.items() for name, own in zip(names, sets, strict=True)}


def _layers(rows: list[dict[str, Any]]) -> pl.DataFrame:
    text, whole = dict.fromkeys(("level", "group", "name"), pl.String), ("layer", "first", "second", "shared")
    return pl.DataFrame(rows, schema=text | dict.fromkeys(whole, pl.Int64))


def _write(
    found: Comparison, made: Mapping[str, Mapping[str, Any]], folder: str | Path, seed: int, command: str
) -> None:
    digests = [str(side.model.get("digest", "")) for side in (found.first, found.second)]
    about = {"id": f"{found.first.name} and {found.second.name}", "digest": "+".join(digests)}
    settings = {"kind": found.first.kind, "by_neuron": found.by_neuron, **made}
    with Atlas.create_or_resume(folder, model=about, settings=settings, command=command, seed=seed) as atlas:
        if atlas.state != "complete":
            for name, table in found.tables.items():
                atlas.write_table(name, table)
            atlas.finish()
