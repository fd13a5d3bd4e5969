"""(vi) One model, several languages: the same neurons or others, the same layers or not, property by property."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from neuronatlas.depths import layer_shift
from neuronatlas.overlaps import overlap, overlap_of_counts
from neuronatlas.studies.salient_neurons.architectures import overlap_interval
from neuronatlas.studies.salient_neurons.layers import adjusted
from neuronatlas.studies.salient_neurons.reading import (
    SETS,
    counts,
    interval,
    labels_of,
    members_in,
    shared_in,
    widths,
)
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.study import Member, Study
from neuronatlas.studies.salient_neurons.tables import table
from neuronatlas.studies.salient_neurons.transfer import Readings, halves, read, transferred

__all__ = ["answered", "correlation"]


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Tables `language_pairs`, `language_halves` and `transfer`; without rows where there is one language.

    `language_pairs` has a row a property, kind of set and pair of languages: how many neurons are the same, against
    chance, and how alike their layers are (`correlation`, `architectures.overlap_interval`, `depths.layer_shift`).
    `language_halves` compares the top neurons of two halves of the sentences of one language, the most that two
    languages could be expected to share. `transfer` is what `transfer.transferred` gives, beside the same in a model
    of random weights.
    """
    spoken = _languages(study)
    if len(spoken) < 2:
        return {name: table(name, []) for name in ("language_pairs", "language_halves", "transfer")}
    pairs = [row for label in labels_of(study.models[0]) for row in _pairs(spoken, label, study.settings)]
    same: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    for label, (own, untrained) in read(spoken, study.settings.salience, progress=False):
        same += _halves(own, label, study.settings)
        moved += _transfer(own, untrained, label, study.settings.seed)
    return {
        "language_pairs": adjusted(table("language_pairs", pairs), "of"),
        "language_halves": table("language_halves", same),
        "transfer": table("transfer", moved),
    }


def _languages(study: Study) -> dict[str, Member]:
    """The first model on its own sentences and on those of other languages, by the languages' names."""
    first = study.models[0]
    others = [member for member in study.of_role("language") if member.source.base == first.name]
    return {member.source.language or member.corpora[0].name: member for member in (first, *others)}


def _pairs(spoken: Mapping[str, Member], label: str, settings: StudySettings) -> Iterator[dict[str, Any]]:
    given: dict[str, Any] = {"seed": settings.seed, "draws": settings.draws}
    for first, second in combinations(spoken, 2):
        width = widths(spoken[first])
        for of in SETS:
            ours, theirs = (members_in(spoken[name], label, of, settings.top) for name in (first, second))
            both, one, two = (counts(neurons, len(width)) for neurons in (shared_in(ours, theirs), ours, theirs))
            found, shift = overlap_of_counts(both, one, two, width), layer_shift(one, two, shared=both, **given)
            yield {
                **{"label": label, "of": of, "language": first, "other": second},
                **{name: getattr(found, name) for name in _COUNTED},
                "p": found.p_value,
                "correlation": correlation(one, two),
                **interval("overlap", overlap_interval(one, two, **given)),
                **interval("moved", shift.moved),
                **interval("distance", shift.distance),
                **{"distance_expected": shift.expected, "p_distance": shift.p_value, "p_moved": shift.p_moved},
            }


_COUNTED = (
    *("n_first", "n_second", "n_shared", "jaccard"),
    *("expected", "expected_jaccard", "expected_in_layers", "p_in_layers"),
)


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's correlation of two histograms over the same layers; NaN where one of them is even or empty.

    >>> correlation([0, 1, 2], [1, 3, 5]), correlation([1, 1], [0, 2])
    (1.0, nan)
    """
    ours, theirs = (np.asarray(counts, dtype=np.float64) for counts in (first, second))
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    size = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / size if size > 0 else float("nan")


def _halves(own: Readings, label: str, settings: StudySettings) -> Iterator[dict[str, Any]]:
    for language, parts in own.parts.items():
        count = max(1, round(settings.top * parts.train.n_neurons))
        first, second = halves(parts.train, own.probes[language], count, seed=settings.seed)
        found = overlap(first, second, parts.train.acts.neurons())
        yield {
            **{"label": label, "language": language, "n_neurons": count, "n_shared": found.n_shared},
            **{"jaccard": found.jaccard, "expected_jaccard": found.expected_jaccard},
            "correlation": correlation(first.layer_histogram(), second.layer_histogram()),
        }


def _transfer(own: Readings, untrained: Readings | None, label: str, seed: int) -> Iterator[dict[str, Any]]:
    random = {} if untrained is None else {_key(row): row for row in transferred(untrained, seed=seed)}
    for row in transferred(own, seed=seed):
        beside = random.get(_key(row), {})
        baseline = {f"random_weights{end}": beside.get(f"accuracy{end}") for end in ("", "_low", "_high")}
        yield {"label": label} | row | baseline | {"random_weights_new": beside.get("new_accuracy")}


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["trained"], row["tested"]
