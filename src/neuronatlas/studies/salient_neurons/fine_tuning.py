"""(iv) What fine-tuning does to salient neurons: which are kept, and where the others lie, beside a control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from math import copysign
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from neuronatlas.depths import layer_depths, layer_shift
from neuronatlas.models import Model
from neuronatlas.probing.corpora import Corpus
from neuronatlas.statistics import share_interval
from neuronatlas.studies.children.record import RECORD, Child, open_child
from neuronatlas.studies.children.settings import ChildError
from neuronatlas.studies.salient_neurons.layers import ADJUSTED, adjusted
from neuronatlas.studies.salient_neurons.reading import (
    SETS,
    compared_sets,
    is_read,
    labels_of,
    members_in,
    overlap_columns,
    widths,
)
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.study import Member, Role, Source, Study
from neuronatlas.studies.salient_neurons.tables import table

__all__ = ["CHILDREN", "answered", "compared", "require_base", "sources_of", "summarised", "unseen"]

CHILDREN: tuple[Role, Role] = ("child", "shuffled child")

_SUMMED = ("kept", "kept_expected", "moved", "signed_distance", "accuracy_change")
"""Numbers of each child that are summed up over seeds: their mean, the least and the most."""


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Tables `child_pairs`, `child_seeds`, `child_agreement` and `child_task`; without rows where there is no child.

    `child_pairs` has a row a child, property and kind of set: what `compared` gives. `child_seeds` sums up over the
    children of one base, trained on true or on shuffled labels; a child in which, or in whose base, the property cannot
    be `read` takes no part. `child_agreement` compares children of different seeds with each other: what they agree on
    is no accident of one run. Each p is adjusted over properties and children, for each kind of set and of labels.
    `child_task` is how well each layer of base and child tells the labels that the child was trained for.

    Errors: ChildError for a child whose site has other layers than its base.
    """
    pairs = [(_base(study, child), child) for child in study.of_role(*CHILDREN)]
    rows = [row for base, child in pairs for row in _pair(base, child, study.settings)]
    compared_pairs = adjusted(table("child_pairs", rows), "of", "role", of=ADJUSTED)
    agreement = table("child_agreement", _agreement(pairs, study.settings))
    return {
        "child_pairs": compared_pairs,
        "child_seeds": summarised(compared_pairs),
        "child_agreement": adjusted(agreement, "of", "role", of=("p", "p_in_layers")),
        "child_task": table("child_task", [row for base, child in pairs for row in _task(base, child)]),
    }


def unseen(children: Sequence[Child], corpora: Sequence[Corpus]) -> list[Corpus]:
    """Corpora without the sentences that any of the children was trained on: what a study of these may be asked of.

    Errors: ChildError where none are left.
    """
    found = list(corpora)
    for child in children:
        found = [child.held_out(corpus) for corpus in found]
    return found


def compared(base: pl.DataFrame, child: pl.DataFrame, width: Sequence[int], *, seed: int, draws: int) -> dict[str, Any]:
    """What became of a set of neurons: which were kept, against chance, and where the set moved.

    `base` and `child` are the addresses (layer, unit, expert where there is any) of the sets before and after, `width`
    [layer] how many neurons could have been in them. `kept` is the share of the base's that the child's has too,
    `kept_expected` that of random sets with as many neurons in each layer; `p` and `p_in_layers` are those of
    `overlaps.overlap`. `moved` is the mean depth after less before, below 0 for downwards; `distance` is the earth
    mover's distance over layers in units of depth, and `signed_distance` has the sign of `moved`. Intervals are a
    bootstrap over neurons.

    >>> before = pl.DataFrame({"layer": [2, 2], "unit": [0, 1]})
    >>> after = pl.DataFrame({"layer": [2, 0], "unit": [0, 5]})
    >>> found = compared(before, after, [9, 9, 9], seed=0, draws=100)
    >>> found["n_kept"], found["kept"], found["moved"], found["signed_distance"]
    (1, 0.5, -0.5, -0.5)
    """
    found, both, before, after = compared_sets(base, child, width)
    shared = overlap_columns(found, seed=seed, draws=draws)
    shift = layer_shift(before, after, shared=both, seed=seed, draws=draws)
    return {
        **{"n_base": found.n_first, "n_child": found.n_second, "n_kept": found.n_shared},
        **share_interval(found.n_shared, found.n_first, seed=seed, draws=draws).columns("kept"),
        "kept_expected": found.expected_in_layers / found.n_first if found.n_first else None,
        **{name: value for name, value in shared.items() if name.startswith(("jaccard", "p"))},
        **shift.moved.columns("moved"),
        **shift.distance.columns("distance"),
        "signed_distance": copysign(shift.distance.estimate, shift.moved.estimate),
        **{"distance_expected": shift.expected, "p_distance": shift.p_value, "p_moved": shift.p_moved},
    }


def sources_of(names: Sequence[str], load: Callable[[str], Model]) -> list[Source]:
    """Models by name, and after them the children among these: folders with a child's record, each with its base.

    The base is the model that the record names, by the same name or as the same folder; where there is a single one,
    that; else the one whose weights have the record's digest, for which they are loaded. `require_base` looks closer.

    Errors: ChildError for a child without its base among the names, and for a broken record.
    """
    children = {name: open_child(name) for name in names if Path(name, RECORD).is_file()}
    bases, called = [name for name in names if name not in children], _short_names(names)
    found = [Source(called[name], partial(load, name)) for name in bases]
    for name, child in children.items():
        source = Source.of_child(child, called[_base_among(bases, child, load)], partial(load, name))
        found.append(replace(source, name=called[name]))
    return found


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """What models are called in tables and pictures: folders by their last part where no other ends so."""
    last = {name: Path(name).resolve().name if Path(name).is_dir() else name for name in names}
    return {name: short if list(last.values()).count(short) == 1 else name for name, short in last.items()}


def _base_among(bases: Sequence[str], child: Child, load: Callable[[str], Model]) -> str:
    told, digest = str(child.record["base"]["name"]), child.record["base"].get("digest")
    if told in bases:
        return told
    same = [name for name in bases if Path(name).exists() and Path(name).resolve() == Path(told).resolve()]
    if same or len(bases) == 1:
        return (same or list(bases))[0]
    for name in bases:
        if digest is not None and load(name).digest == digest:
            return name
    given = ", ".join(bases) or "none"
    raise ChildError(
        f"{child.folder} is a child of {told}, which is not among the models ({given}): give it as well, in the dtype "
        "that it was fine-tuned in"
    )


def require_base(study: Study, member: Member, model: Model) -> None:
    """Raise ChildError unless a child's record names its weights, and those of the model that it is compared with.

    `model` is the child as it was loaded; its base's atlas has to be there. What is no child, or has no record, passes.
    """
    child = member.source.child
    if child is None:
        return
    base = study.named(member.source.base)
    found, expected = base.atlas.meta["model"]["digest"], child.record["base"]["digest"]
    if found != expected:
        raise ChildError(
            f"{member.name} is a child of {child.record['base']['name']} (digest {expected}), not of {base.name} "
            f"({found}): give its own base, loaded in the dtype that it was fine-tuned in"
        )
    if model.dtype == torch.float32 and model.digest != child.record["digest"]:
        raise ChildError(
            f"{member.name} has other weights (digest {model.digest}) than it was saved with "
            f"({child.record['digest']}): fine-tune again"
        )


def _base(study: Study, child: Member) -> Member:
    base = study.named(child.source.base)
    if not np.array_equal(widths(base), widths(child)):
        raise ChildError(
            f"{child.name} is no child of {base.name}: layers of {widths(child).tolist()} neurons, "
            f"{widths(base).tolist()} expected; give its own base"
        )
    return base


def _pair(base: Member, child: Member, settings: StudySettings) -> Iterator[dict[str, Any]]:
    for label in labels_of(base):
        before, after = (_accuracy(member, label) for member in (base, child))
        for of in SETS:
            ours, theirs = (members_in(member, label, of, settings.top) for member in (base, child))
            found = compared(ours, theirs, widths(base).tolist(), seed=settings.seed, draws=settings.draws)
            change = {"base_accuracy": before, "accuracy": after, "accuracy_change": after - before}
            read = is_read(base, label) and is_read(child, label)
            yield _about(base, child) | {"label": label, "of": of} | found | change | {"read": read}


def _about(base: Member, child: Member) -> dict[str, Any]:
    own = child.source.child
    seed = None if own is None else own.seed
    return {"model": child.name, "base": base.name, "role": child.source.role, "child_seed": seed}


def _accuracy(member: Member, label: str) -> float:
    rows = member.table("measures").filter(pl.col("label") == label, pl.col("measure") == "accuracy")
    return float(rows["value"][0])


def summarised(pairs: pl.DataFrame) -> pl.DataFrame:
    """Children of one base over their seeds: mean, least and most of what `child_pairs` has, and how many moved down.

    Only rows that are `read` count; `n_left_out` are the others.
    A row for the children trained on true labels has the control's means beside its own: `control_kept` and
    `control_moved`, null without a child on shuffled labels.
    """
    keys = ["base", "role", "label", "of"]
    spread = [
        getattr(pl.col(name).filter("read"), how)().alias(f"{name}{end}")
        for name in _SUMMED
        for how, end in (("mean", ""), ("min", "_least"), ("max", "_most"))
    ]
    counted = (
        pl.col("read").sum().alias("n_seeds"),
        pl.col("read").not_().sum().alias("n_left_out"),
        (pl.col("moved") < 0).filter("read").sum().alias("n_down"),
    )
    found = pairs.group_by(keys, maintain_order=True).agg(*counted, *spread)
    control = found.filter(pl.col("role") == CHILDREN[1]).select(
        "base", "label", "of", control_kept="kept", control_moved="moved", role=pl.lit(CHILDREN[0])
    )
    return table("child_seeds", found.join(control, on=keys, how="left", maintain_order="left").iter_rows(named=True))


def _agreement(pairs: Sequence[tuple[Member, Member]], settings: StudySettings) -> Iterator[dict[str, Any]]:
    for (base, first), (other_base, second) in combinations(pairs, 2):
        if base is not other_base or first.source.role != second.source.role:
            continue
        width = widths(base)
        for label in labels_of(base):
            for of in SETS:
                ours, theirs = (members_in(member, label, of, settings.top) for member in (first, second))
                found = compared_sets(ours, theirs, width)[0]
                about = {"base": base.name, "role": first.source.role, "model": first.name, "other": second.name}
                yield {
                    **about,
                    **{"label": label, "of": of},
                    **overlap_columns(found, seed=settings.seed, draws=settings.draws),
                    "read": is_read(first, label) and is_read(second, label),
                }


def _task(base: Member, child: Member) -> Iterator[dict[str, Any]]:
    own = child.source.child
    if own is None:
        return
    layers = own.layers
    depths = layer_depths(layers["layer"].n_unique()) if layers.height else np.zeros(0)
    for row in layers.iter_rows(named=True):
        place = {"task": own.label, "which": row["model"], "layer": row["layer"], "depth": float(depths[row["layer"]])}
        ends = {"accuracy": row["accuracy"], "accuracy_low": row["low"], "accuracy_high": row["high"]}
        yield _about(base, child) | place | ends | {"chance": row["chance"]}
