"""(vi) One model, several languages: the same neurons or others, the same layers or not, property by property."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from neuronatlas.atlas import Atlas
from neuronatlas.depths import layer_shift
from neuronatlas.models import Model, ModelError
from neuronatlas.models.reinitialise import reinitialised
from neuronatlas.overlaps import overlap
from neuronatlas.probing.examples import ExamplesError
from neuronatlas.studies.salient_neurons.architectures import overlap_interval
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
from neuronatlas.studies.salient_neurons.study import Member, Study
from neuronatlas.studies.salient_neurons.tables import table
from neuronatlas.studies.salient_neurons.transfer import Readings, Texts, halves, in_halves, texts_of, transferred

__all__ = ["answered", "correlation", "read_languages"]

Tables = dict[str, pl.DataFrame]


def answered(study: Study) -> dict[str, pl.DataFrame]:
    """Table `language_pairs`; without rows where there is one language.

    It has a row a property, kind of set and pair of languages: how many neurons are the same, against chance, and how
    alike their layers are (`correlation`, `architectures.overlap_interval`, `depths.layer_shift`). Each p is adjusted
    over the properties and pairs, for each kind of set; not where the property cannot be `read` in one of both.
    """
    spoken = _languages(study)
    pairs = [row for label in labels_of(study.models[0]) for row in _pairs(spoken, label, study.settings)]
    return {"language_pairs": adjusted(table("language_pairs", pairs), "of", of=ADJUSTED)}


def read_languages(study: Study, atlas: Atlas, *, progress: bool) -> None:
    """Run the model over all languages once more, and its re-initialised self before, and put what is read into parts.

    A part a property, so that an interruption loses one at most: `transfer_untrained` is what `transfer.transferred`
    gives in random weights, without rows where the model cannot be re-initialised; `transfer` the same of the trained
    model, beside it; `language_halves` compares the top neurons of two halves of the sentences of one language, the
    most that two languages could be expected to share. One model at a time is in memory. Without a second language the
    tables have no rows.
    """
    spoken, settings = _languages(study), study.settings.salience
    if len(spoken) < 2:
        for stage, names in ((_UNTRAINED, ("transfer_untrained",)), (_TRAINED, ("language_halves", "transfer"))):
            if not atlas.has_part(stage, 0):
                atlas.write_part(stage, 0, {name: table(name, []) for name in names})
        return

    def fresh(model: Model) -> Model:
        return reinitialised(model, settings.seed)

    def untrained(texts: Texts, place: int) -> Tables:
        return {"transfer_untrained": _transferred(study, spoken, place, texts.refitted(place))}

    def trained(texts: Texts, place: int) -> Tables:
        own, label = texts.readings(place), labels_of(study.models[0])[place]
        read = {name: is_read(member, label) for name, member in spoken.items()}
        rows = (row | {"read": read[row["language"]]} for row in _halves(own, label, study.settings))
        halved = table("language_halves", rows)
        return {"language_halves": halved, "transfer": _beside(atlas, _transferred(study, spoken, place, own))}

    for stage, prepared, answer in ((_UNTRAINED, fresh, untrained), (_TRAINED, _as_it_is, trained)):
        missing = [place for place in range(len(labels_of(study.models[0]))) if not atlas.has_part(stage, place)]
        if not missing:
            continue
        try:
            with texts_of(spoken, settings, atlas.folder / stage, prepared, progress=progress) as texts:
                for place in tqdm(missing, desc=stage, unit="property", disable=not progress):
                    atlas.write_part(stage, place, answer(texts, place))
        except ModelError:
            if stage != _UNTRAINED:
                raise
            for place in missing:
                atlas.write_part(stage, place, {"transfer_untrained": table("transfer_untrained", [])})


_UNTRAINED, _TRAINED = "languages-untrained", "languages-trained"


def _as_it_is(model: Model) -> Model:
    return model


def _languages(study: Study) -> dict[str, Member]:
    """The first model on its own sentences and on those of other languages, by the languages' names."""
    first = study.models[0]
    others = [member for member in study.of_role("language") if member.source.base == first.name]
    return {member.source.language: member for member in (first, *others)}


def _pairs(spoken: Mapping[str, Member], label: str, settings: StudySettings) -> Iterator[dict[str, Any]]:
    given: dict[str, Any] = {"seed": settings.seed, "draws": settings.draws}
    for first, second in combinations(spoken, 2):
        width = widths(spoken[first])
        for of in SETS:
            ours, theirs = (members_in(spoken[name], label, of, settings.top) for name in (first, second))
            found, both, one, two = compared_sets(ours, theirs, width)
            shift = layer_shift(one, two, shared=both, **given)
            yield {
                **{"label": label, "of": of, "language": first, "other": second},
                **overlap_columns(found, **given),
                "correlation": correlation(one, two),
                **overlap_interval(one, two, **given).columns("overlap"),
                **shift.moved.columns("moved"),
                **shift.distance.columns("distance"),
                **{"distance_expected": shift.expected, "p_distance": shift.p_value, "p_moved": shift.p_moved},
                "read": is_read(spoken[first], label) and is_read(spoken[second], label),
            }


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
        row: dict[str, Any] = {"label": label, "language": language, "n_neurons": count}
        try:
            first, second = halves(parts.train, own.probes[language], count, seed=settings.seed)
            left_out = in_halves(parts.train, seed=settings.seed)[2]
        except ExamplesError as error:
            yield row | {"note": str(error)}
            continue
        found = overlap(first, second, parts.train.acts.neurons())
        yield {
            **row,
            **{"n_shared": found.n_shared, "jaccard": found.jaccard, "expected_jaccard": found.expected_jaccard},
            "correlation": correlation(first.layer_histogram(), second.layer_histogram()),
            "note": f"without {', '.join(left_out)}, of too few sentences" if left_out else None,
        }


def _transferred(study: Study, spoken: Mapping[str, Member], place: int, found: Readings) -> pl.DataFrame:
    label = labels_of(study.models[0])[place]
    read = {name: is_read(member, label) for name, member in spoken.items()}
    rows = transferred(found, seed=study.settings.seed)
    both = ({"label": label} | row | {"read": read[row["trained"]] and read[row["tested"]]} for row in rows)
    return table("transfer", both)


def _beside(atlas: Atlas, own: pl.DataFrame) -> pl.DataFrame:
    """What a trained model's probes do, with what those in random weights do in columns of their own."""
    keys = ["label", "trained", "tested"]
    random = {f"accuracy{end}": f"random_weights{end}" for end in ("", "_low", "_high")}
    random["new_accuracy"] = "random_weights_new"
    untrained = atlas.table("transfer_untrained").select(*keys, *random).rename(random)
    joined = own.drop(*random.values()).join(untrained, on=keys, how="left", maintain_order="left")
    return joined.select(own.columns)
