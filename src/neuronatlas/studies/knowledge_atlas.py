"""From a file of facts to an atlas of knowledge neurons: locate, refine, intervene, summarise. Resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
from tqdm.auto import tqdm

from neuronatlas.atlas import Atlas
from neuronatlas.knowledge.attribution import check_routing
from neuronatlas.knowledge.corruptions import Corruption
from neuronatlas.knowledge.facts import Fact, FactError, check_facts
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.model import Model
from neuronatlas.models.queries import place_tokens
from neuronatlas.studies import summaries
from neuronatlas.studies.locating import AskedFact, ask, located_part
from neuronatlas.studies.memory import memory_tables
from neuronatlas.studies.refining import Located, refine_all, refine_tokens
from neuronatlas.studies.settings import LocateSettings, described, settled
from neuronatlas.studies.testing import partners_of, tested_part

__all__ = ["build_atlas"]


def build_atlas(
    model: Model,
    facts: Sequence[Fact],
    folder: str | Path,
    settings: LocateSettings | None = None,
    *,
    command: str = "",
    progress: bool = True,
) -> Atlas:
    """Locate the knowledge neurons of all facts, test them against controls, and leave an atlas in `folder`.

    Interrupted at any moment, the same call takes up where it was and ends in the same bytes. Tables: facts, prompts,
    skipped, coarse, neurons, effects, summary, relations, layers, sharing; tokens, token_coarse, token_neurons for
    answers of several tokens; and what the neurons write and read: value_tokens, answer_ranks, key_prompts, with
    `unread` saying why where a table of these is empty. Prompts that do not suit the model (text after the place in a
    causal model) are kept in `skipped` with the reason. Tables of neurons of a mixture of experts have a column
    `expert`, or name each as `L4.E3.U17`.

    Errors: FactError when no prompt suits the model or a fact stands twice; AttributionError where routing cannot be
    frozen; AtlasError for the folder.
    """
    settings = settings or LocateSettings(site=model.default_site)
    check_routing(model, settings.routing)
    check_facts(facts, place_tokens(model))
    corruption = settings.corruption_of(facts)
    asked = [ask(model, index, fact, settings.position, settings.site, corruption) for index, fact in enumerate(facts)]
    if not any(fact.queries for fact in asked):
        first = next((reason for fact in asked for reason in fact.skipped.values()), "there are none")
        raise FactError(
            f"none of the {sum(len(f.prompts) for f in facts)} prompts suits {model.name}; the first: {first}"
        )
    about = {"id": model.name, "revision": model.revision, "digest": model.digest, "kind": model.kind}
    there = Atlas.open(folder).meta["settings"] if (Path(folder) / "atlas.json").is_file() else {}
    settings = settled(settings, model, [query for fact in asked for query in fact.queries.values()], there)
    with Atlas.create_or_resume(
        folder,
        model=about,
        settings=described(settings, facts, kinks=has_kinks(model), routed=model.has_experts),
        command=command,
        seed=settings.seed,
    ) as atlas:
        if atlas.state != "complete":
            _fill(atlas, model, asked, settings, corruption, progress)
    return Atlas.open(folder)


def _fill(
    atlas: Atlas,
    model: Model,
    asked: Sequence[AskedFact],
    settings: LocateSettings,
    corruption: Corruption | None,
    progress: bool,
) -> None:
    _in_parts(atlas, "locate", asked, settings, progress, lambda part: located_part(model, part, settings, corruption))
    layout = model.layout(settings.site)
    # Facts that could not be asked are told in `skipped`; counted as facts without neurons they would sway every mean.
    usable = [fact for fact in asked if fact.queries]
    located = refine_all(pl.concat(atlas.read_parts("coarse")), usable, layout, settings)
    partners = partners_of(usable, settings.seed)
    _in_parts(
        atlas, "test", usable, settings, progress, lambda part: tested_part(model, part, partners, located, settings)
    )
    _summarise(atlas, usable, located, model, settings)
    atlas.finish()


def _in_parts(
    atlas: Atlas,
    stage: str,
    facts: Sequence[AskedFact],
    settings: LocateSettings,
    progress: bool,
    work: Callable[[Sequence[AskedFact]], dict[str, pl.DataFrame]],
) -> None:
    size = settings.facts_per_part
    names = {"locate": "locating neurons", "test": "testing them"}
    parts = [facts[start : start + size] for start in range(0, len(facts), size)]
    done = sum(len(part) for index, part in enumerate(parts) if atlas.has_part(stage, index))
    with tqdm(total=len(facts), initial=done, desc=names[stage], unit="fact", disable=not progress) as bar:
        for index, part in enumerate(parts):
            if not atlas.has_part(stage, index):
                atlas.write_part(stage, index, work(part))
                bar.update(len(part))


def _summarise(
    atlas: Atlas, asked: Sequence[AskedFact], located: Located, model: Model, settings: LocateSettings
) -> None:
    layout = model.layout(settings.site)
    facts = summaries.facts_table(asked, pl.concat(atlas.read_parts("prompts")), located, settings.rule)
    relations = summaries.relations_table(facts, located, settings)
    names = relations["relation"].to_list()
    atlas.write_table("facts", facts)
    atlas.write_table("neurons", located.table)
    token_coarse = pl.concat(atlas.read_parts("token_coarse"))
    atlas.write_table("token_neurons", refine_tokens(token_coarse, located, asked, settings.rule))
    atlas.write_table("relations", relations)
    atlas.write_table("summary", summaries.summary_table(pl.concat(atlas.read_parts("effects")), settings))
    atlas.write_table("layers", summaries.layers_table(located.table, names, layout, settings.rules))
    for name, table in memory_tables(model, asked, located, settings).items():
        atlas.write_table(name, table)
    atlas.write_table("sharing", summaries.sharing_table(asked, located, layout, settings.rule))
