"""The sections of a report on knowledge neurons, in the order in which a reader asks."""

from collections.abc import Iterator

from neuronatlas.atlas.knowledge import findings, plots
from neuronatlas.atlas.knowledge.findings import ends
from neuronatlas.atlas.knowledge.listings import fact_listing, neuron_listing, relation_listing
from neuronatlas.atlas.knowledge.looks import gain_label
from neuronatlas.atlas.knowledge.memory import memory_section
from neuronatlas.atlas.page import Plot, Section, Tables, level

__all__ = ["sections"]

_MOST_FACTS = 500


def sections(tables: Tables) -> Iterator[Section]:
    """Every section that the tables have something for."""
    yield _layers(tables)
    if plots.routed(tables["neurons"]).height:
        yield _experts(tables)
    yield _neurons_per_fact(tables)
    yield _sharing(tables)
    if tables["summary"].height:
        yield _effects(tables)
        yield _relations(tables)
    yield _top_neurons(tables)
    if memory := memory_section(tables):
        yield memory
    yield _facts(tables)


def _layers(tables: Tables) -> Section:
    layers = tables["layers"]
    caption = "Share of the neurons that each layer holds. A neuron counts once for each fact that it belongs to."
    shown = [Plot("layers", plots.layer_histogram(layers), caption)]
    if tables["relations"].height > 1:
        by_relation = "The same for the knowledge neurons of each relation."
        shown.append(Plot("layers-by-relation", plots.layer_heatmap(layers), by_relation))
    title = "Where the knowledge neurons lie"
    return Section("layers", "Layers", title, findings.layers_sentence(layers), level(shown))


def _experts(tables: Tables) -> Section:
    neurons = tables["neurons"]
    caption = "Neurons of facts in each expert. A neuron counts once for each fact that it belongs to."
    shown = Plot("experts", plots.expert_heatmap(neurons), caption)
    note = "Where there is a shared expert, it is the last one of its layer."
    finding = findings.experts_sentence(neurons)
    return Section("experts", "Experts", "Which experts hold them", finding, (shown,), note=note)


def _neurons_per_fact(tables: Tables) -> Section:
    facts = tables["facts"]
    figure = plots.neurons_per_fact(facts, tables["neurons"])
    shown = Plot("neurons-per-fact", figure, "Facts by their number of neurons, after refining over prompts.")
    title = "How many neurons a fact has"
    return Section("counts", "Neurons per fact", title, findings.neurons_sentence(facts), (shown,))


def _sharing(tables: Tables) -> Section:
    sharing = tables["sharing"]
    shown = []
    if sum(sharing["n_pairs"]):
        caption = "Neurons that two facts share, mean over pairs of facts."
        shown.append(Plot("sharing", plots.sharing_bars(sharing), caption))
    if shown and tables["relations"].height > 2:
        caption = "The same for each pair of relations. On the diagonal: two facts of one relation."
        shown.append(Plot("sharing-by-relation", plots.sharing_heatmap(sharing), caption))
    finding = findings.sharing_sentence(sharing)
    return Section("sharing", "Sharing", "Neurons that facts share", finding, level(shown))


def _effects(tables: Tables) -> Section:
    summary = tables["summary"]
    over = "mean over relations" if tables["relations"].height > 1 else "over all prompts"
    log_odds = f"The same in log-odds, {over}, which show a change even where P is near 0 or 1."
    shown = [
        Plot("effects", plots.effects_overview(summary), f"Change of P(answer), {over}. Whiskers: 95 % intervals."),
        Plot("effects-log-odds", plots.effects_overview(summary, plots.LOG_ODDS), log_odds),
    ]
    if summary["gain"].n_unique() > 2:
        shown += [
            Plot("gains", plots.gain_curve(summary), "Change of P(answer) against the gain."),
            Plot("gains-log-odds", plots.gain_curve(summary, plots.LOG_ODDS), "Change of log-odds against the gain."),
        ]
    title = "What suppressing and amplifying does"
    return Section("effects", "Effects", title, findings.relations_sentence(summary), tuple(shown))


def _relations(tables: Tables) -> Section:
    summary = tables["summary"]
    shown = [
        Plot(
            f"relations-{measure.value.replace('_', '-')}-{place}",
            plots.effects_by_relation(summary, gain, measure),
            f"Change of {what}, neurons {gain_label(gain)}. Whiskers: 95 % intervals.",
        )
        for measure, what in ((plots.PROBABILITY, "P(answer)"), (plots.LOG_ODDS, "log-odds"))
        for place, gain in enumerate(ends(summary))
        if tables["relations"].height > 1
    ]
    finding = "Relations sorted by the effect of their own knowledge neurons, against every control."
    missed = tables["relations"].filter(tuned="not reached").height
    note = "\N{DAGGER} No threshold that was tried brought the mean to between 2 and 5 neurons." if missed else ""
    table = relation_listing(tables)
    return Section("relations", "Relations", "Relation by relation", finding, tuple(shown), (table,), note)


def _top_neurons(tables: Tables) -> Section:
    finding = findings.top_neuron_sentence(tables)
    note = "Share: on how many of a fact's prompts the neuron passed the coarse threshold. Score: mean attribution."
    title = "The neurons with the most facts"
    return Section("neurons", "Top neurons", title, finding, listings=(neuron_listing(tables),), note=note)


def _facts(tables: Tables) -> Section:
    n_facts = tables["facts"].height
    finding = findings.facts_sentence(tables["facts"])
    shown = f"The first {_MOST_FACTS:,} of {n_facts:,} facts" if n_facts > _MOST_FACTS else "All facts"
    note = f"{shown} in the order of their file; facts.parquet and neurons.parquet have them all. * Weakly refined."
    table = fact_listing(tables, _MOST_FACTS)
    return Section("facts", "Facts", "The facts", finding, listings=(table,), note=note)
