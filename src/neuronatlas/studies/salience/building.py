"""From labelled sentences to an atlas of salient neurons: extract, probe, rank, select, test, describe. Resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from neuronatlas import durable
from neuronatlas.atlas import Atlas
from neuronatlas.models.model import Model
from neuronatlas.models.reinitialise import reinitialised
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus, CorpusError
from neuronatlas.probing.examples import examples_of, split_by_sentences
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.manifest import Lost, read_manifest
from neuronatlas.probing.redundancy import Clusters, correlation_tree
from neuronatlas.studies.salience import fitting, intervening, selecting, summaries
from neuronatlas.studies.salience.property import Property, Shared
from neuronatlas.studies.salience.settings import SalienceSettings, described
from neuronatlas.studies.settings import SettingsError

__all__ = ["LAYER_WIDTHS", "STAGES", "Stage", "build_salience_atlas", "measure", "require_probeable"]

ACTIVATIONS, UNTRAINED = "activations", "activations-untrained"
"""Folders inside the atlas's, while it is made."""

LAYER_WIDTHS = "layer_widths"
"""Under this name the atlas keeps how many neurons each layer of the site has, read or not."""


@dataclass(frozen=True)
class Stage:
    """A piece of the work on one property: its name in the folder, in words, and what makes its tables."""

    name: str
    doing: str
    work: Callable[[Property], dict[str, pl.DataFrame]]


STAGES = (
    Stage("probe", "fitting a probe", fitting.probed),
    Stage("controls", "controls", fitting.controlled),
    Stage("untrained", "random weights", fitting.untrained),
    Stage("rank", "ranking", selecting.ranked),
    Stage("ablate", "ablation", selecting.ablated),
    Stage("select", "minimal sets", selecting.selected),
    Stage("layers", "layers", selecting.layered),
    Stage("clusters", "redundancy", selecting.clustered),
    Stage("intervene", "in the model", intervening.intervened),
    Stage("intervene-classes", "in the model, class by class", intervening.intervened_by_class),
    Stage("describe", "describing", intervening.described),
)
"""What is done for each property, in this order: later stages read what earlier ones stored."""


def build_salience_atlas(
    model: Model,
    corpora: Sequence[Corpus],
    folder: str | Path,
    settings: SalienceSettings | None = None,
    *,
    stages: Sequence[Stage] = STAGES,
    name: str = "",
    command: str = "",
    keep_activations: bool = False,
    progress: bool = True,
) -> Atlas:
    """Find the neurons that carry each property, test them against controls, and leave an atlas in `folder`.

    `corpora` are the same sentences with the labels of one property each: their activations are extracted once, into
    `folder/activations`, where they stay with `keep_activations`. The atlas calls the model by `name`, without one by
    the model's own. Interrupted at any moment, the same call takes up
    where it was and ends in the same bytes. A study may choose `stages` and add its own: `probe`, `rank` and
    `select` are what others read. Tables of all stages: properties, classes, dropped_classes, rankings, agreement,
    ablation, minimal, sets, disjoint, layers, layer_probes, interventions, class_interventions, neurons, contexts,
    overlaps, measures, notes; `tables.SCHEMAS` has their columns. Arrays `probe-0`, `probe-1`, ...: the probes.

    Errors: CorpusError for corpora of different sentences or twice the same property; ExamplesError for a property of
    fewer than two classes; SettingsError for layers, SiteError for a site that the model lacks; ActivationsError and
    AtlasError for what activations and folder lack.
    """
    settings = settings or SalienceSettings()
    require_probeable(corpora, settings)
    _check_layers(model, settings)
    folder = Path(folder)
    about = {"id": name or model.name, "revision": model.revision, "digest": model.digest, "kind": model.kind}
    plain = described(settings, corpora)
    names = [stage.name for stage in stages]
    if names != [stage.name for stage in STAGES]:
        plain["stages"] = names
    with Atlas.create_or_resume(folder, model=about, settings=plain, command=command, seed=settings.seed) as atlas:
        if atlas.state != "complete":
            _fill(atlas, model, corpora, settings, stages, progress)
        _clear(folder, keep_activations)
    return Atlas.open(folder)


def require_probeable(corpora: Sequence[Corpus], settings: SalienceSettings) -> None:
    """Refuse, before anything is written or run, what no probe could be fitted on.

    Errors: CorpusError and ExamplesError as `build_salience_atlas` tells.
    """
    if not corpora:
        raise CorpusError("no corpora: one for each property expected")
    labels = [corpus.label for corpus in corpora]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise CorpusError(f"the property {twice!r} was given twice: once is enough")
    for other in corpora[1:]:
        if other.words_digest != corpora[0].words_digest:
            levels = {corpora[0].level, other.level}
            why = "one is of words, one of sentences" if len(levels) > 1 else "their sentences are not the same"
            raise CorpusError(
                f"{corpora[0].label!r} and {other.label!r} cannot share an atlas: {why}; make one of each"
            )
    for corpus in corpora:
        nothing = Activations.of(np.zeros((corpus.n_items, 1), dtype=np.float32))
        split_by_sentences(examples_of(nothing, corpus, settings.min_count), settings.shares, settings.seed)


def _check_layers(model: Model, settings: SalienceSettings) -> None:
    n_layers = model.layout(settings.site).n_layers
    unknown = [layer for layer in settings.layers or () if not 0 <= layer < n_layers]
    if unknown:
        raise SettingsError(f"no layer {unknown[0]}: site {settings.site!r} has layers 0 to {n_layers - 1}")


def _fill(
    atlas: Atlas,
    model: Model,
    corpora: Sequence[Corpus],
    settings: SalienceSettings,
    stages: Sequence[Stage],
    progress: bool,
) -> None:
    def extracted(source: Model, folder: Path) -> Activations:
        return extract(
            source,
            corpora[0],
            settings.site,
            folder,
            layers=settings.layers,
            pooling=settings.pooling,
            dtype=settings.dtype,
            progress=progress,
        )

    @cache
    def untrained() -> Activations:
        return extracted(reinitialised(model, settings.seed), atlas.folder / UNTRAINED)

    @cache
    def clusters() -> Clusters:
        return correlation_tree(acts, progress=False).cut(settings.threshold)

    atlas.remember(LAYER_WIDTHS, lambda: list(model.layout(settings.site).widths))
    acts = extracted(model, atlas.folder / ACTIVATIONS)
    shared = Shared(atlas, model, settings, acts, _lost(atlas.folder / ACTIVATIONS), untrained, clusters)
    measure(shared, corpora, stages, progress=progress)


def measure(shared: Shared, corpora: Sequence[Corpus], stages: Sequence[Stage] = STAGES, *, progress: bool) -> None:
    """Do all stages for every property on activations that are there, then sum up and finish the atlas."""
    works = [Property(shared, index, corpus) for index, corpus in enumerate(corpora)]
    _in_parts(shared.atlas, works, stages, progress)
    _summarise(shared.atlas, shared, works)
    shared.atlas.finish()


def _lost(folder: Path) -> Lost:
    manifest = read_manifest(folder)
    assert manifest is not None
    return sum((Lost(shard["vanished"], shard["cut"]) for shard in manifest.shards), Lost())


def _in_parts(atlas: Atlas, works: Sequence[Property], stages: Sequence[Stage], progress: bool) -> None:
    steps = [(work, stage) for work in works for stage in stages]
    done = sum(atlas.has_part(stage.name, work.index) for work, stage in steps)
    with tqdm(total=len(steps), initial=done, unit="step", disable=not progress) as bar:
        for work, stage in steps:
            if not atlas.has_part(stage.name, work.index):
                bar.set_description(f"{work.label}: {stage.doing}")
                atlas.write_part(stage.name, work.index, stage.work(work))
                bar.update()
            if stage is stages[-1]:
                work.let_go()


def _summarise(atlas: Atlas, shared: Shared, works: Sequence[Property]) -> None:
    measures = pl.concat(atlas.read_parts("measures"))
    atlas.write_table("properties", summaries.properties_table([work.corpus for work in works], measures))
    sets = {work.label: work.minimal for work in works}
    atlas.write_table("overlaps", summaries.overlaps_table(sets, shared.acts.neurons()))


def _clear(folder: Path, keep_activations: bool) -> None:
    durable.remove(folder / UNTRAINED)
    if not keep_activations:
        durable.remove(folder / ACTIVATIONS)
