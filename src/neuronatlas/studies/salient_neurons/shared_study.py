"""A study of the same facts in several languages: their neurons, which are shared, and what these do. Resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import polars as pl
from tqdm.auto import tqdm

from neuronatlas.addresses import address_columns, address_series, neurons_in
from neuronatlas.atlas import Atlas
from neuronatlas.knowledge.locating import locate
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.models import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.statistics import benjamini_hochberg
from neuronatlas.studies.salient_neurons.parallel import ParallelFact, spoken
from neuronatlas.studies.salient_neurons.shared_facts import (
    ParallelNeurons,
    answers_of,
    effects_of_pair,
    fact_overlaps,
    parallel_overlaps,
)

__all__ = ["study_shared_facts"]


def study_shared_facts(
    model: Model,
    facts: Sequence[ParallelFact],
    folder: str | Path,
    *,
    rule: str = DEFAULT_RULE,
    steps: int | None = None,
    seed: int = 0,
    command: str = "",
    progress: bool = True,
) -> Atlas:
    """Locate the knowledge neurons of each fact in each language, compare them, and suppress them in every language.

    `facts` come from `parallel_facts_of` or `parallel_facts_of_specimen`; `rule` and `steps` are those of `locate`.
    Leaves an atlas in `folder` of the tables `shared_neurons` (a row a fact, language and neuron; `common` where all
    languages have it), `shared_facts` (`fact_overlaps`), `shared_overlaps` (`parallel_overlaps`, p adjusted over the
    pairs of languages, for each group of facts) and `shared_effects` (`parallel_effects`). Interrupted at any moment,
    the same call goes on and ends in the same bytes.

    Errors: FactError for facts without two languages in common; AtlasError for a folder of something else; those of
    `locate`.
    """
    languages, folder = spoken(facts), Path(folder)
    about = {"id": model.name, "revision": model.revision, "digest": model.digest, "kind": model.kind}
    plain = {
        "languages": languages,
        "n_facts": len(facts),
        "facts_digest": _digest(facts),
        "rule": rule,
        "steps": steps,
    }
    with Atlas.create_or_resume(folder, model=about, settings=plain, command=command, seed=seed) as atlas:
        if atlas.state != "complete":
            _locate(atlas, model, facts, languages, rule, steps, progress)
            found = _found(atlas, model, facts, languages)
            _suppress(atlas, model, found, seed, progress)
            atlas.write_table("shared_facts", fact_overlaps(found))
            atlas.write_table("shared_overlaps", _adjusted(parallel_overlaps(found, seed=seed)))
            atlas.finish()
    return Atlas.open(folder)


def _digest(facts: Sequence[ParallelFact]) -> str:
    told = [
        (name, fact.relation, fact.subject, fact.answer, fact.prompts)
        for one in facts
        for name, fact in one.facts.items()
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _locate(
    atlas: Atlas,
    model: Model,
    facts: Sequence[ParallelFact],
    languages: Sequence[str],
    rule: str,
    steps: int | None,
    progress: bool,
) -> None:
    """A part a language and relation: the share of prompts that a neuron needs is tuned relation by relation."""
    relations = list(dict.fromkeys(fact.relation for fact in facts))
    work = list(product(languages, relations))
    for index, (language, relation) in enumerate(tqdm(work, desc="locate", unit="relation", disable=not progress)):
        if atlas.has_part("locate", index):
            continue
        own = {place: fact.facts[language] for place, fact in enumerate(facts) if fact.relation == relation}
        located = locate(model, list(own.values()), rule=rule, steps=steps)
        rows = []
        for place, neurons in zip(own, located, strict=True):
            names = {"relation": relation, "fact": facts[place].name, "language": language}
            columns = {"place": pl.Series([place] * len(neurons), dtype=pl.Int64)}
            columns |= {key: pl.Series([name] * len(neurons), dtype=pl.String) for key, name in names.items()}
            rows.append(pl.DataFrame(columns | address_series(neurons.layout, neurons)))
        atlas.write_part("locate", index, {"located": pl.concat(rows)})


def _found(atlas: Atlas, model: Model, facts: Sequence[ParallelFact], languages: Sequence[str]) -> ParallelNeurons:
    """The sets of each fact, read back, so that a run that is taken up again works with the very same."""
    rows, layout = pl.concat(atlas.read_parts("located")), model.layout()
    sets = {
        name: [
            NeuronSet.of(layout, neurons_in(rows.filter(pl.col("place") == place, pl.col("language") == name)))
            for place in range(len(facts))
        ]
        for name in languages
    }
    found = ParallelNeurons(tuple(facts), sets)
    keys = address_columns(rows)
    common = [
        pl.DataFrame(address_series(layout, neurons)).select(pl.lit(place, pl.Int64).alias("place"), *keys)
        for place, neurons in enumerate(found.common())
    ]
    shared = pl.concat(common).with_columns(common=pl.lit(value=True))
    marked = rows.join(shared, on=["place", *keys], how="left", nulls_equal=True, maintain_order="left")
    atlas.write_table("shared_neurons", marked.with_columns(pl.col("common").fill_null(value=False)))
    return found


def _suppress(atlas: Atlas, model: Model, found: ParallelNeurons, seed: int, progress: bool) -> None:
    """A part a pair of languages: located in one, asked for in the other."""
    work = [(located, asked) for asked in found.languages for located in found.languages]
    before, answered = list[object](), ""
    for index, (located, asked) in enumerate(tqdm(work, desc="suppress", unit="pair", disable=not progress)):
        if atlas.has_part("effects", index):
            continue
        if answered != asked:
            before, answered = list(answers_of(model, found, asked)), asked
        rows = effects_of_pair(model, found, located, asked, before, seed=seed)  # type: ignore[arg-type]
        atlas.write_part("effects", index, {"shared_effects": rows})


def _adjusted(overlaps: pl.DataFrame) -> pl.DataFrame:
    return overlaps.with_columns(
        p_adjusted=pl.col("p").map_batches(benjamini_hochberg, return_dtype=pl.Float64).over("facts")
    )
