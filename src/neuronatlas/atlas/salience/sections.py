"""The sections of a report on salient neurons, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from neuronatlas.atlas.page import Plot, Section, Tables, level
from neuronatlas.atlas.salience import curves, effects, findings, listings, own_neurons, places
from neuronatlas.atlas.salience.looks import BASELINES, EXPOSURES
from neuronatlas.atlas.salience.names import MEASURES, items_of, measure_name, property_name
from neuronatlas.atlas.salience.reading import (
    ALPHA,
    main_interventions,
    main_method,
    rows_of,
    shown_agreement,
    total_layers,
)
from neuronatlas.atlas.wording import count, percent

__all__ = ["sections"]


def sections(tables: Tables) -> Iterator[Section]:
    """Every section that the tables have something for."""
    yield _accuracy(tables)
    for make in (_ablation, _minimal, _layers, _model, _overlap, _neurons, _classes, _notes):
        section = make(tables)
        if section is not None and (section.plots or section.listings):
            yield section


def _measured(tables: Tables, table: str, column: str) -> bool:
    return bool(tables[table][column].is_not_null().any())


def _accuracy(tables: Tables) -> Section:
    shown = []
    if any(_measured(tables, "properties", name) for name in BASELINES):
        caption = "Accuracy of the probe against what else could give it. Whiskers: 95 % intervals over sentences."
        shown.append(Plot("accuracy", curves.score_dots(tables, BASELINES), caption))
    if any(_measured(tables, "properties", name) for name in EXPOSURES):
        caption = "Words that occurred in training, words that did not, and a probe trained and tested on other words."
        shown.append(Plot("exposure", curves.score_dots(tables, EXPOSURES), caption))
    title = "How well the property is read" if tables["properties"].height == 1 else "How well each property is read"
    note = f"{findings.corpus_sentence(tables)} In brackets: 95 % intervals. The words are explained at the end."
    finding = findings.accuracy_sentence(tables)
    return Section(
        "accuracy", "Accuracy", title, finding, level(shown), (listings.score_listing(tables),), note.lstrip()
    )


def _ablation(tables: Tables) -> Section:
    rows = tables["ablation"].filter(pl.col("accuracy").is_not_null(), pl.col("share") > 0)
    shown = [plot for place in range(tables["properties"].height) for plot in _ablated(tables, rows, place)]
    note = (
        "Neurons in the order of the ranking, cut at so many per cent of all. Retrained: a fresh probe sees only the "
        "neurons that are left. Same probe: the others stand at their mean. Bands: 95 % intervals."
    )
    title = "What is left when neurons are taken out"
    return Section("ablation", "Ablation", title, findings.ablation_sentence(tables), tuple(shown), note=note)


def _ablated(tables: Tables, rows: pl.DataFrame, place: int) -> Iterator[Plot]:
    """Of one property: what is kept and dropped, by a fresh probe and by the same one; then the rankings compared."""
    row = rows_of(tables)[place]
    own = rows.filter(pl.col("label") == row["label"]).with_columns(pl.col("retrained").fill_null(value=False))
    main, name = own.filter(pl.col("method") == main_method(own)), property_name(row["label"])
    figures = []
    for mode, what in (("keep", "with these neurons alone"), ("drop", "without these neurons")):
        for retrained, how in ((True, "retrained"), (False, "same probe")):
            group = main.filter(pl.col("mode") == mode, pl.col("retrained") == retrained)
            if group.height:
                figure = curves.ablation_curves(group, row["accuracy"], row["majority"])
                figures.append(Plot(f"ablation-{mode}-{how[:4]}-{place}", figure, f"{name}: {what}, {how}."))
    kept = own.filter(pl.col("which") == "top", pl.col("mode") == "keep")
    kept = kept.filter(pl.col("retrained") == bool(kept["retrained"].any()))
    if kept["method"].n_unique() > 1:
        how = "retrained" if kept["retrained"].any() else "same probe"
        caption = f"{name}: the top neurons of each ranking alone, {how}."
        figures.append(Plot(f"methods-{place}", curves.method_curves(kept, row["accuracy"], row["majority"]), caption))
    measured = own.select(pl.min_horizontal("low", "accuracy").min(), pl.max_horizontal("high", "accuracy").max())
    ends = [100 * end for end in (*measured.row(0), row["accuracy"], row["majority"]) if end is not None]
    for plot in figures:  # on one scale, so that they can be compared
        plot.figure.update_yaxes(range=[max(min(ends) - 4, -2), max(ends) + 4])
        yield plot


def _minimal(tables: Tables) -> Section:
    shown = []
    if _measured(tables, "minimal", "accuracy"):
        caption = "Accuracy of a probe retrained on the top neurons alone, at every size that was tried. "
        caption += "The ring marks the minimal set."
        shown.append(Plot("minimal", curves.minimal_curves(tables), caption))
    if tables["disjoint"].filter(pl.col("set") > 0, pl.col("n_neurons") > 0).height:
        caption = "Neurons in each further set that shares none with those before it. "
        caption += "Open symbols: no longer as good as all neurons."
        shown.append(Plot("disjoint", curves.disjoint_sizes(tables), caption))
    finding = f"{findings.minimal_sentence(tables)} {findings.disjoint_sentence(tables)}".strip()
    rows = rows_of(tables)
    missed = any(row["minimal_reached"] is False for row in rows)
    note = "Accuracy on test. With a weight: neurons to which the probe gives any weight in any class. "
    note += "Redundant: share of all neurons that can go when one is kept of each cluster of correlated ones."
    note += " + The search was ended by its bound." if any(row["disjoint_bound"] for row in rows) else ""
    note += " \N{DAGGER} No set smaller than all did as well." if missed else ""
    listing = listings.set_listing(tables)
    if not _measured(tables, "properties", "minimal_size") and not shown:
        return Section("minimal", "Minimal sets", "", "")
    return Section("minimal", "Minimal sets", "How few neurons are enough", finding, tuple(shown), (listing,), note)


def _layers(tables: Tables) -> Section:
    shown: list[Plot] = []
    several, levels = tables["properties"].height > 1, total_layers(tables)
    if levels > 1:
        together = [*_set_layers(tables, several=several), *_layer_probes(tables, several=several)]
        shown += [*(together if several else level(together)), *_class_layers(tables)]
    sentences = [findings.layers_sentence(tables), findings.layer_probes_sentence(tables)]
    finding = " ".join(filter(None, sentences))
    return Section("layers", "Layers", "In which layers", finding, tuple(shown))


def _set_layers(tables: Tables, *, several: bool) -> Iterator[Plot]:
    if not tables["layers"].filter(pl.col("class").is_null(), pl.col("n") > 0).height:
        return
    if not several:
        yield Plot("layers", places.layer_bars(tables), "Share of the minimal set that each layer holds.")
        return
    together = [Plot("layers", places.layer_heatmap(tables), "Share of each property's minimal set in every layer.")]
    if tables["rankings"].height:
        caption = f"The same for the top {percent(places.TOP_SHARE)} of the ranking: equally many neurons for each."
        together.append(Plot("top-layers", places.top_layers(tables), caption))
    yield from level(together)


def _layer_probes(tables: Tables, *, several: bool) -> Iterator[Plot]:
    if not _measured(tables, "layer_probes", "accuracy"):
        return
    if not several:
        caption = "Accuracy of a probe on one layer alone, and on that layer with all below it. Bands: 95 % intervals."
        yield Plot("layer-probes", curves.layer_probes(tables), caption)
        return
    caption = "Accuracy of a probe on one layer alone. Whiskers: 95 % intervals."
    yield Plot("layer-probes", curves.layer_probes(tables, upto=False), caption)
    if tables["layer_probes"]["upto"].any():
        caption = "Accuracy of a probe on a layer with all below it."
        yield Plot("layer-probes-up-to", curves.layer_probes(tables, upto=True), caption)


def _class_layers(tables: Tables) -> Iterator[Plot]:
    by_class = tables["layers"].filter(pl.col("class").is_not_null(), pl.col("n").is_not_null())
    for place, label in enumerate(tables["properties"]["label"]):
        n = by_class.filter(pl.col("label") == label)["class"].n_unique()
        if n > 1:
            which = f"the {places.MOST_CLASSES} most frequent classes" if n > places.MOST_CLASSES else "each class"
            caption = f"{property_name(label)}: share of the top neurons of {which} in every layer."
            yield Plot(f"class-layers-{place}", places.class_heatmap(tables, label), caption)


def _model(tables: Tables) -> Section | None:
    shown: list[Plot] = []
    if not _measured(tables, "interventions", "change"):
        return None
    for place, row in enumerate(rows_of(tables)):
        own = main_interventions(tables, row["label"]).filter(pl.col("change").is_not_null())
        if own.is_empty():
            continue
        one = own.row(0, named=True)
        put = {"mean": "their mean", "zero": "0"}.get(one["replacement"], one["replacement"])
        what = MEASURES.get(measure_name(one["measure"]), one["measure"])
        caption = f"{property_name(row['label'])}: change of the {what} when {count(one['set_size'] or 0, 'neuron')} "
        caption += f"are replaced by {put}. * Adjusted p ≤ {ALPHA:g}."
        together = Plot(f"interventions-{place}", effects.class_effects(own), caption)
        shown += level([together, *own_neurons.own_plot(tables, place)])
    controls = tables["interventions"]["n_controls"].max()
    note = f"Grey: {controls:,} sets of random neurons" if isinstance(controls, int) else "Grey: sets of random neurons"
    note += (
        " of the same layers and about the same variance, their mean and their whole range. p: how often a random set "
        "lowers the measure as much. All classes: the mean over classes, each counting alike. Probe without the top: "
        "so many top neurons stand at their mean, and the accuracy that is left."
    )
    found = [listings.side_by_side(tables), listings.effect_listing(tables), listings.class_effect_listing(tables)]
    found += [by_class] if (by_class := listings.own_effect_listing(tables)).rows else []
    title = "What the model does without them: encoded does not mean used"
    finding = f"{findings.model_sentence(tables)} {own_neurons.own_sentence(tables)}".rstrip()
    return Section(
        "model",
        "In the model",
        title,
        finding,
        tuple(shown),
        tuple(found),
        f"{note} {own_neurons.own_note(tables)}".rstrip(),
    )


def _overlap(tables: Tables) -> Section:
    shown = []
    if tables["properties"].height > 1 and _measured(tables, "overlaps", "jaccard"):
        caption = "Neurons that the minimal sets of two properties share; in brackets what chance would give."
        shown.append(Plot("overlaps", places.overlap_heatmap(tables), caption))
    agreed = shown_agreement(tables)
    if agreed.height:
        sizes = agreed["k"].drop_nulls().unique().sort().to_list()
        top = count(sizes[0], "neuron") if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,} neurons"
        chance = agreed["chance"].mean()
        caption = f"Share of the top {top} that two rankings have in common"
        caption += ", mean over the properties" if agreed["label"].n_unique() > 1 else ""
        caption += f"; by chance {percent(chance, 1)}." if isinstance(chance, float) else "."
        shown.append(Plot("agreement", places.agreement_heatmap(tables), caption))
    finding = f"{findings.overlaps_sentence(tables)} {findings.agreement_sentence(tables)}".strip()
    title = "What properties, and rankings, have in common"
    return Section("overlap", "Overlap", title, finding, tuple(shown))


def _neurons(tables: Tables) -> Section | None:
    if tables["neurons"].is_empty():
        return None
    note = (
        "↑ high values, ↓ low values. Class: the one that the neuron alone tells best; AUC 0.5 is chance. "
        "η²: share of the neuron's variance that the label, or the word, explains."
    )
    title, finding = "The top neurons, and what drives them", findings.neurons_sentence(tables)
    return Section("neurons", "Top neurons", title, finding, (), (listings.neuron_listing(tables),), note)


def _classes(tables: Tables) -> Section | None:
    if tables["classes"].is_empty():
        return None
    item = items_of(tables["properties"]["level"][0])
    note = f"Train, test: labelled {item}s of the class. Recall: share of its test {item}s that are read rightly."
    finding = findings.classes_sentence(tables)
    return Section("classes", "Classes", "The classes", finding, (), (listings.class_listing(tables),), note)


def _notes(tables: Tables) -> Section | None:
    if tables["notes"].is_empty():
        return None
    finding = "What each stage of the study had to say of its own work."
    return Section("notes", "Notes", "Notes of the study", finding, (), (listings.note_listing(tables),))
