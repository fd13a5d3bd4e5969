"""What an atlas of salient neurons found, in a few numbers for each property."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neuronatlas.atlas import Atlas, AtlasError
from neuronatlas.neurons import Neuron
from neuronatlas.statistics import Interval
from neuronatlas.studies.salience.tables import SCHEMAS, framed

__all__ = [
    "InTheModel",
    "Kept",
    "OwnNeurons",
    "PropertyFindings",
    "SalienceOverview",
    "TopNeuron",
    "is_salience",
    "salience_overview",
]

_SHOWN_SHARE = 0.05


@dataclass(frozen=True)
class TopNeuron:
    """One of the first neurons of the ranking: the class that it tells best, how well, and the words that drive it.

    `words` are those of the end that the class is at: the highest values where it is above the others, else the lowest.
    """

    neuron: str
    told: str | None
    above: bool
    auc: float | None
    words: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """Accuracy of probes trained anew on a share of the neurons alone: top, random or bottom ones of the ranking."""

    share: float
    top: float
    random: float
    bottom: float


@dataclass(frozen=True)
class InTheModel:
    """What replacing neurons does to the probability of words of the right class, mean over classes of words.

    `control` is the mean of random neurons' changes, `p` how often one of them does as much. `falling` are the classes
    whose own probability falls more than by chance, at a false discovery rate of 5 %.
    """

    set_size: int
    replacement: str
    n_words: int
    before: float
    change: Interval
    control: Interval
    n_controls: int
    p: float
    falling: tuple[str, ...]
    n_classes: int


@dataclass(frozen=True)
class OwnNeurons:
    """What replacing each class's own neurons does to the probability of words of that class.

    `fewest` and `most` neurons are a class's own. `falling` are the classes that fall more than by chance, at a false
    discovery rate of 5 %, the furthest first; `n_left_out` of the property's classes were not asked for. No class was
    compared with more than `n_controls` random sets.
    """

    replacement: str
    fewest: int
    most: int
    falling: tuple[str, ...]
    n_classes: int
    n_left_out: int
    n_controls: int


@dataclass(frozen=True)
class PropertyFindings:
    """The headline numbers of a property; None where something was not measured.

    Accuracies are of the probe on all neurons in test, but `minimal_accuracy`: that of the minimal set alone. `layers`
    counts the minimal set's neurons layer by layer, `layer_accuracy` is that of a probe on each layer alone.
    """

    label: str
    level: str
    n_items: int
    n_classes: int
    n_train: int
    n_test: int
    n_dropped: int
    accuracy: Interval
    majority: float
    word_majority: float
    random_weights: Interval | None
    control_accuracy: float | None
    selectivity: Interval | None
    by_type_accuracy: Interval | None
    unseen_accuracy: float | None
    n_unseen: int
    n_neurons: int
    kept: Kept | None
    minimal_size: int
    minimal_accuracy: Interval
    delta: float
    n_disjoint: int
    disjoint_bound: bool
    redundant_share: float | None
    layers: dict[int, int]
    layer_accuracy: dict[int, float]
    top: tuple[TopNeuron, ...]
    in_the_model: tuple[InTheModel, ...]
    class_by_class: tuple[OwnNeurons, ...]


@dataclass(frozen=True)
class SalienceOverview:
    """The headline numbers of a finished atlas: its site, its sentences and what was found of each property.

    `left_out` are the tables that it lacks: a study does not make all of them.
    """

    corpus: str
    n_sentences: int
    site: str
    properties: tuple[PropertyFindings, ...]
    left_out: tuple[str, ...] = ()


def is_salience(atlas: Atlas) -> bool:
    """Whether an atlas, finished or not, is one of salient neurons."""
    return "labels" in atlas.meta["settings"]


def salience_overview(atlas: Atlas, n_top: int = 5) -> SalienceOverview:
    """Sum up a finished atlas, with the first `n_top` neurons of each property.

    Errors: AtlasError when it is not finished.
    """
    if atlas.state != "complete":
        raise AtlasError(
            f"{atlas.folder} is not finished; run the command that began it again, it takes up where it was"
        )
    settings = atlas.meta["settings"]
    found = tuple(_property(atlas, row, n_top) for row in atlas.table("properties").iter_rows(named=True))
    missing = tuple(name for name in SCHEMAS if name not in atlas.tables)
    return SalienceOverview(settings["corpus"], settings["n_sentences"], settings["site"], found, missing)


def _property(atlas: Atlas, row: Mapping[str, Any], n_top: int) -> PropertyFindings:
    label = row["label"]
    layers = _of(atlas, "layers", label).filter(pl.col("class").is_null()).sort("layer")
    alone = _of(atlas, "layer_probes", label).filter(~pl.col("upto")).sort("layer")
    top = _of(atlas, "neurons", label).sort("rank").head(n_top)
    same = {name: row[name] for name in PropertyFindings.__dataclass_fields__ if name in row}
    return PropertyFindings(
        **same
        | {
            "n_dropped": _of(atlas, "dropped_classes", label).height,
            "accuracy": _interval(row, "accuracy"),
            "random_weights": _interval(row, "random_weights"),
            "selectivity": _interval(row, "selectivity"),
            "by_type_accuracy": _interval(row, "by_type_accuracy", "by_type"),
            "minimal_accuracy": _interval(row, "minimal_accuracy", "minimal"),
            "n_neurons": int(layers["width"].sum()),
            "kept": _kept(_of(atlas, "ablation", label)),
            "layers": dict(layers.select("layer", "n").iter_rows()),
            "layer_accuracy": dict(alone.select("layer", "accuracy").iter_rows()),
            "top": tuple(_top(one) for one in top.iter_rows(named=True)),
            "in_the_model": tuple(_in_the_model(_of(atlas, "interventions", label))),
            "class_by_class": tuple(_class_by_class(atlas, label)),
        }
    )


def _kept(table: pl.DataFrame) -> Kept | None:
    """At the share nearest to a twentieth, of those that were tried for all three."""
    anew = table.filter(pl.col("retrained"), method="lca", mode="keep")
    shares = sorted(set(anew.filter(which="bottom")["share"]), key=lambda share: abs(share - _SHOWN_SHARE))
    if not shares:
        return None
    scores = dict(anew.filter(share=shares[0]).select("which", "accuracy").iter_rows())
    return Kept(shares[0], scores["top"], scores["random"], scores["bottom"])


def _of(atlas: Atlas, table: str, label: str) -> pl.DataFrame:
    # A study does not make all tables, and atlases that are older than one lack it.
    rows = atlas.table(table) if table in atlas.tables else framed(table, SCHEMAS[table], [])
    return rows.filter(pl.col("label") == label)


def _interval(row: Mapping[str, Any], name: str, bounds: str | None = None) -> Interval | None:
    prefix = bounds or name
    return None if row[name] is None else Interval(row[name], row[f"{prefix}_low"], row[f"{prefix}_high"])


def _top(row: Mapping[str, Any]) -> TopNeuron:
    neuron, above = str(Neuron(row["layer"], row["unit"], row.get("expert"))), row["direction"] > 0
    words = row["words_up"] if above else row["words_down"]
    return TopNeuron(neuron, row["class"], above, row["auc"], tuple(words))


def _in_the_model(table: pl.DataFrame) -> list[InTheModel]:
    mass = table.filter(pl.col("measure") == "class mass")
    found = []
    for row in mass.filter(pl.col("class").is_null()).iter_rows(named=True):
        classes = mass.filter(pl.col("class").is_not_null() & (pl.col("replacement") == row["replacement"]))
        found.append(
            InTheModel(
                row["set_size"],
                row["replacement"],
                row["n_words"],
                row["before"],
                Interval(row["change"], row["low"], row["high"]),
                Interval(row["control_mean"], row["control_low"], row["control_high"]),
                row["n_controls"],
                row["p"],
                _falling(classes),
                classes.height,
            )
        )
    return found


def _falling(classes: pl.DataFrame) -> tuple[str, ...]:
    # One-sided p of a fall: what rises cannot pass.
    return tuple(classes.filter(pl.col("p_adjusted") <= 0.05).sort("change", "class")["class"])


def _class_by_class(atlas: Atlas, label: str) -> Iterator[OwnNeurons]:
    table = _of(atlas, "class_interventions", label)
    mass = table.filter(pl.col("class").is_not_null(), measure="class mass")
    n_left_out = table["left_out"].count()
    for (replacement,), classes in mass.group_by("replacement", maintain_order=True):
        sizes = classes["set_size"].to_list()
        n_controls = max(classes["n_controls"])
        yield OwnNeurons(
            str(replacement), min(sizes), max(sizes), _falling(classes), classes.height, n_left_out, n_controls
        )
