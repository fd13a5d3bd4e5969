"""How salient neurons look on a terminal: what was found of each property, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console

from neuronatlas.atlas import Atlas
from neuronatlas.atlas.salience import findings
from neuronatlas.atlas.salience.names import items_of, property_name
from neuronatlas.atlas.salience.tables import completed
from neuronatlas.atlas.wording import Difference, Score, count, listed, number, percent
from neuronatlas.cli.show import table_of
from neuronatlas.probing.describe import Description
from neuronatlas.statistics import Interval
from neuronatlas.studies.salience.overview import (
    InTheModel,
    OwnNeurons,
    PropertyFindings,
    TopNeuron,
    salience_overview,
)

__all__ = ["show_description", "show_salience"]

_BAR = 30
_WORDS = 6


def show_salience(out: Console, atlas: Atlas) -> None:
    """Say in words what a finished atlas of salient neurons found of each property."""
    found = salience_overview(atlas)
    read = f"{count(found.n_sentences, 'sentence')} of {found.corpus or 'a corpus'}"
    headline = findings.headline(completed({name: atlas.table(name) for name in atlas.tables}))
    out.print(f"Read: {read}. Neurons: site {found.site}. Accuracies are of words or sentences kept for the test.")
    out.print(f"In short: {headline.statement} {headline.verdict}")
    for one in found.properties:
        out.print(f"\n{property_name(one.label)}", style="bold")
        for line in _sentences(one):
            out.print(line)
        _show_layers(out, one)
        if one.in_the_model:
            out.print("\n".join(_used(change) for change in one.in_the_model))
        if one.class_by_class:
            out.print("\n".join(_own(found) for found in one.class_by_class))
        if one.top:
            out.print(table_of(("its top neurons", "tell", "AUC", "words there"), map(_top, one.top), left=2))
    out.print(
        "In brackets: 95 % intervals from a bootstrap over sentences; of random neurons, the least and the greatest."
    )
    if found.left_out:
        out.print(f"Not measured here, `neuronatlas probe` does: {listed(list(found.left_out), len(found.left_out))}.")


def _sentences(one: PropertyFindings) -> Iterator[str]:
    items = items_of(one.level)
    yield (
        f"Asked: {count(one.n_classes, 'class', 'classes')}, {count(one.n_train, items)} to learn from and "
        f"{one.n_test:,} for the test.{_dropped(one)}"
    )
    yield (
        f"Encoded: a probe that reads all {count(one.n_neurons, 'neuron')} is right on {_score(one.accuracy)} of them. "
        f"{' '.join(_compared(one))}"
    )
    yield f"Memorised? {' '.join(_memorised(one)) or 'That could not be tested.'}"
    if one.kept is not None:
        yield (
            f"Do the top ones count? A probe trained anew on the top {percent(one.kept.share)} of the neurons alone "
            f"gets {percent(one.kept.top, 1)}, on random ones {percent(one.kept.random, 1)}, on the bottom ones "
            f"{percent(one.kept.bottom, 1)}."
        )
    yield f"Few suffice? {_minimal(one)}"


def _dropped(one: PropertyFindings) -> str:
    return f" {count(one.n_dropped, 'class', 'classes')} had too few and were left out." if one.n_dropped else ""


def _compared(one: PropertyFindings) -> Iterator[str]:
    if one.random_weights is not None:
        yield f"The same model with random weights allows {_score(one.random_weights)}."
    word = items_of(one.level)
    yield f"Without a model, the commonest class of each {word} is right on {percent(one.word_majority, 1)}"
    yield f"and always the commonest class on {percent(one.majority, 1)}:"
    low, high = one.accuracy.low, one.accuracy.high
    told = "more than" if low > one.word_majority else "less than" if high < one.word_majority else "about as much as"
    yield f"the neurons tell {told} the {word} itself."


def _memorised(one: PropertyFindings) -> Iterator[str]:
    if one.selectivity is not None:
        yield (
            f"Of labels drawn at random for each word it gets {percent(one.control_accuracy, 1)}, so that its "
            f"selectivity is {_difference(one.selectivity)}."
        )
    if one.n_unseen:
        yield f"On {count(one.n_unseen, 'word')} not seen before it is right on {percent(one.unseen_accuracy, 1)}."
    if one.by_type_accuracy is not None:
        yield f"Trained and tested on different words it gets {_score(one.by_type_accuracy)}."


def _minimal(one: PropertyFindings) -> str:
    share = one.minimal_size / one.n_neurons
    words = f"{one.minimal_size:,} of the {one.n_neurons:,} neurons ({percent(share, 1)})"
    if one.minimal_size == one.n_neurons:
        return "No: every smaller set of the top neurons loses more than allowed."
    sets = count(one.n_disjoint, "set of that kind", "sets of that kind without a neuron in common")
    further = f"at least {sets}, where the search stopped" if one.disjoint_bound else sets
    return (
        f"{words} alone get {_score(one.minimal_accuracy)}: the fewest that lose at most {percent(one.delta, 1)} on "
        f"other sentences. There {'is' if one.n_disjoint == 1 else 'are'} {further}.{_redundant(one)}"
    )


def _redundant(one: PropertyFindings) -> str:
    if one.redundant_share is None:
        return ""
    return f" {percent(one.redundant_share)} of all neurons could go as near-copies of others."


def _show_layers(out: Console, one: PropertyFindings) -> None:
    total = max(1, sum(one.layers.values()))
    out.print("Where the few lie, and what a probe on each layer alone gets:")
    for layer, n in one.layers.items():
        alone = percent(one.layer_accuracy.get(layer), 1)
        out.print(f"  layer {layer:>2} {'█' * round(_BAR * n / total):<{_BAR}} {n:>5,}  {alone:>7}")


def _used(change: InTheModel) -> str:
    value = "their mean" if change.replacement == "mean" else "zero"
    falling = listed(list(change.falling)) if change.falling else "none"
    return (
        f"Used? With {count(change.set_size, 'neuron')} at {value} while the model runs, the probability that it gives "
        f"to words of the right class, else {percent(change.before, 1)}, changes by {_difference(change.change)}; with "
        f"random neurons of the same layers by {_difference(change.control)} ({change.n_controls} sets, p = "
        f"{number(change.p, 3)}). "
        f"Classes that fall more than by chance: {falling} (of {change.n_classes})."
    )


def _own(found: OwnNeurons) -> str:
    value = "their mean" if found.replacement == "mean" else "zero"
    size = count(found.fewest, "neuron") if found.fewest == found.most else f"{found.fewest} to {found.most} neurons"
    moved = f"{len(found.falling)} of {count(found.n_classes, 'class', 'classes')}"
    named = f": {listed(list(found.falling))}" if found.falling else ""
    were = "was" if found.n_left_out == 1 else "were"
    rest = f" {count(found.n_left_out, 'class', 'classes')} {were} not tried." if found.n_left_out else ""
    return (
        f"Its own? With each class's own neurons alone at {value} ({size} a class, up to {found.n_controls} random "
        f"sets each), the probability of {moved} falls more than by chance{named}.{rest}"
    )


def _top(neuron: TopNeuron) -> tuple[str, ...]:
    told = "nothing" if neuron.told is None else f"{'high' if neuron.above else 'low'} for {neuron.told}"
    strength = None if neuron.auc is None else max(neuron.auc, 1 - neuron.auc)
    return neuron.neuron, told, number(strength, 2), ", ".join(neuron.words[:_WORDS])


def _score(found: Interval) -> str:
    return str(Score(found.estimate, found.low, found.high))


def _difference(found: Interval) -> str:
    return str(Difference(found.estimate, found.low, found.high))


def show_description(out: Console, found: Description, words: int) -> None:
    """The words and contexts that drive each neuron, up and down, and the class it tells best."""
    for neuron in found.neurons:
        one = found.of(neuron)
        profile = one.profiles.row(0, named=True)
        out.print(f"{neuron}", style="bold", end="")
        out.print(f"  mean {profile['mean']:.3f}, standard deviation {profile['std']:.3f}, {profile['n_rows']:,} items")
        if profile["best_class"] is not None:
            out.print(
                f"of {found.label} it tells {profile['best_class']} best (AUC {profile['best_auc']:.2f}); the label "
                f"explains {percent(profile['adjusted_eta_label'])} of its variance, the word "
                f"{percent(profile['adjusted_eta_word'])}"
            )
        for direction, title in (("up", "highest"), ("down", "lowest")):
            mine = one.words.filter(direction=direction).sort("rank").head(words)
            named = ", ".join(f"{row['word']} {row['z']:+.1f}" for row in mine.iter_rows(named=True))
            out.print(f"{title} words (standard deviations): {named or 'none often enough'}")
            rows = one.contexts.filter(direction=direction).sort("rank").head(words)
            out.print(table_of((f"{title}, in place", "value"), _in_place(rows.iter_rows(named=True))))


def _in_place(rows: Iterable[dict[str, object]]) -> Iterator[tuple[str, str]]:
    for row in rows:
        left, right = str(row["left"])[-50:], str(row["right"])[:50]
        yield f"{left}[{row['word']}]{right}", f"{row['value']:.3f}"
