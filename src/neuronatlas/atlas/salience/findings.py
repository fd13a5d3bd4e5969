"""What an atlas of salient neurons found, in words: the headline, and a sentence for each section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from neuronatlas.atlas.charts import shortened
from neuronatlas.atlas.page import Headline, Tables
from neuronatlas.atlas.salience.names import MEASURES, items_of, measure_name, property_name, short_name
from neuronatlas.atlas.salience.reading import (
    ALPHA,
    Row,
    difference,
    is_beyond,
    main_interventions,
    main_method,
    n_neurons,
    rows_of,
    score,
    shown_agreement,
)
from neuronatlas.atlas.wording import Difference, Score, count, listed, number, percent, points, sentence

__all__ = [
    "ablation_sentence",
    "accuracy_sentence",
    "agreement_sentence",
    "baselines_sentence",
    "classes_sentence",
    "corpus_sentence",
    "disjoint_sentence",
    "exactness_sentence",
    "headline",
    "layer_probes_sentence",
    "layers_sentence",
    "minimal_sentence",
    "model_sentence",
    "neurons_sentence",
    "overlaps_sentence",
]


def headline(tables: Tables) -> Headline:
    """The statement that opens a report, and what it is to be compared with."""
    properties = rows_of(tables)
    measured = [row for row in properties if row["accuracy"] is not None]
    if not measured:
        return Headline("How well the property can be read from the neurons was not measured.", "")
    if len(properties) == 1:
        return Headline(_one(tables, measured[0]), " ".join([*_compared(measured[0]), *_in_model(tables, measured[0])]))
    return Headline(_several(tables, measured), baselines_sentence(tables))


def _one(tables: Tables, row: Row) -> str:
    total = n_neurons(tables, row["label"])
    source = f"{count(total, 'neuron')}" if total else "the neurons"
    text = f"{property_name(row['label'])} is read from {source} with {score(row, 'accuracy')} accuracy"
    if row["minimal_size"] is None:
        return sentence(f"{text}.")
    if row["minimal_reached"] is False:
        return sentence(f"{text}; no smaller set does as well.")
    size = f"{count(row['minimal_size'], 'neuron')} ({percent(row['minimal_share'], 1)})"
    return sentence(f"{text}; {size} {'suffices' if row['minimal_size'] == 1 else 'suffice'}.")


def _several(tables: Tables, rows: list[dict[str, Any]]) -> str:
    totals = {n_neurons(tables, row["label"]) for row in rows}
    (total,) = totals if len(totals) == 1 else (None,)
    source = count(total, "neuron") if total else "the neurons"
    text = f"{count(len(rows), 'property', 'properties')} are read from {source} with "
    text += f"{_reach([100 * row['accuracy'] for row in rows], 1)}\N{NO-BREAK SPACE}% accuracy"
    sets = [row for row in rows if row["minimal_size"] and row["minimal_reached"] is not False]
    if sets:
        shares = [100 * row["minimal_share"] for row in sets if row["minimal_share"] is not None]
        told = f" ({_reach(shares, 1)}\N{NO-BREAK SPACE}%)" if shares else ""
        which = "each" if len(sets) == len(rows) else f"{len(sets)} of them"
        text += f"; {_reach([row['minimal_size'] for row in sets], 0)} neurons{told} suffice for {which}"
    return f"{text}."


def _reach(values: list[float], digits: int) -> str:
    """From the least to the greatest, or the one number that all are."""
    return " to ".join(dict.fromkeys(number(end, digits) for end in (min(values), max(values))))


def _compared(row: Row) -> Iterator[str]:
    """What the accuracy of one property is to be seen against."""
    item = items_of(row["level"])
    told = {
        "majority": "always saying the most frequent class",
        "word_majority": f"each {item}'s most frequent class",
        "random_weights": "the same probe on the model with random weights",
    }
    found = [f"{what} gives {Score(row[name])}" for name, what in told.items() if row[name] is not None]
    if found:
        yield sentence(f"{listed(found)}.")


def _in_model(tables: Tables, row: Row) -> Iterator[str]:
    own = main_interventions(tables, row["label"]).filter(pl.col("class").is_null())
    for effect in own.head(1).iter_rows(named=True):
        yield f"In the running model, {_effect_text(effect)}."


def _effect_text(effect: Row) -> str:
    """What replacing the neurons does to the model's predictions, beside matched random ones."""
    put = {"mean": "their mean", "zero": "0"}.get(effect["replacement"], effect["replacement"] or "other values")
    what = MEASURES.get(measure_name(effect["measure"]), effect["measure"])
    change = _change_text(effect, "change", "low", "high")
    text = f"replacing the top {count(effect['set_size'] or 0, 'neuron')} by {put} changes the {what} by {change}"
    if effect["control_mean"] is None:
        return text
    control = _change_text(effect, "control_mean", "control_low", "control_high")
    return f"{text}, matched random neurons by {control}"


def _change_text(row: Row, name: str, low: str, high: str) -> str:
    if row[name] is None:
        return "an unknown amount"
    if measure_name(row["measure"]).startswith("log"):
        ends = f" [{number(row[low], 2)}, {number(row[high], 2)}]" if row[low] is not None else ""
        return f"{number(row[name], 2)} nats{ends}"
    return str(Difference(row[name], row[low], row[high]))


def corpus_sentence(tables: Tables) -> str:
    """From how much text the numbers come."""
    told = []
    for row in rows_of(tables):
        if row["n_items"] is None or row["n_sentences"] is None:
            continue
        items = count(row["n_items"], items_of(row["level"]))
        sentences = f"{count(row['n_sentences'], 'sentence')} with {items}" if row["level"] == "word" else items
        told.append(f"{sentences} of {shortened(row['corpus'] or 'a corpus', 60)}")
    return f"From {listed(list(dict.fromkeys(told)))}." if told else ""


def baselines_sentence(tables: Tables) -> str:
    """In how many properties the probe goes beyond its baselines."""
    rows = [row for row in rows_of(tables) if row["accuracy"] is not None]
    texts: list[str] = []
    missed: list[str] = []
    for name, what in (
        ("random_weights", "the same probe on random weights"),
        ("word_majority", "the most frequent class of each word"),
    ):
        compared = [row for row in rows if row[name] is not None]
        beyond = sum(is_beyond(row, name) for row in compared)
        if len(compared) > 1:
            texts.append(f"{what} in {beyond:,} of {len(compared):,} properties")
        elif compared:
            (texts if beyond else missed).append(what)
    text = f"The probe is better than {' and than '.join(texts)}, intervals apart." if texts else ""
    return text + (f" It is not clearly better than {' or than '.join(missed)}." if missed else "")


def accuracy_sentence(tables: Tables) -> str:
    """How selective the probes are, and how they read words that training did not have."""
    rows = rows_of(tables)
    selective = [difference(row, "selectivity", "selectivity_low", "selectivity_high") for row in rows]
    texts = [_selectivity_text([one for one in selective if one]), _unseen_text(rows)]
    return " ".join(filter(None, [baselines_sentence(tables) if len(rows) == 1 else "", *texts]))


def _selectivity_text(found: list[Difference]) -> str:
    if not found:
        return ""
    if len(found) == 1:
        return f"Its selectivity is {found[0]}: so much better it learns the property than labels drawn at random."
    low, high = (end(found, key=lambda one: one.value) for end in (min, max))
    reach = " to ".join(dict.fromkeys(one.size for one in (low, high)))
    return f"Selectivity, by how much it learns the property better than labels drawn at random, is {reach}."


def _unseen_text(rows: list[dict[str, Any]]) -> str:
    both = [row for row in rows if row["seen_accuracy"] is not None and row["unseen_accuracy"] is not None]
    if not both:
        return ""
    seen, unseen = (_reach([100 * row[name] for row in both], 1) for name in ("seen_accuracy", "unseen_accuracy"))
    space = "\N{NO-BREAK SPACE}"
    return f"Words that training did not have are read with {unseen}{space}%, those that it had with {seen}{space}%."


def ablation_sentence(tables: Tables) -> str:
    """What the smallest kept share leaves: of the top, random and bottom neurons."""
    kept = tables["ablation"].filter(mode="keep").filter(pl.col("accuracy").is_not_null())
    if kept.is_empty():
        return ""
    retrained = bool(kept["retrained"].any())
    kept = kept.filter(pl.col("retrained").fill_null(value=False) == retrained)
    kept = kept.filter(pl.col("method") == main_method(kept))
    shares = sorted(kept["share"].unique())
    share = next((share for share in shares if share >= 0.01), shares[-1])
    means = {
        which: Score(group["accuracy"].to_numpy().mean())
        for (which,), group in kept.filter(pl.col("share") == share).group_by("which", maintain_order=True)
    }
    if "top" not in means:
        return ""
    several = ", mean over the properties" if tables["properties"].height > 1 else ""
    again = "a probe trained anew on them" if retrained else "the same probe"
    top = percent(share, 0 if share >= 0.00995 else 1)
    text = f"With only the top {top} of the neurons {again} reaches {means['top']}"
    others = [f"{means[which]} with {which} ones" for which in ("random", "bottom") if which in means]
    return f"{text}, against {' and '.join(others)}{several}." if others else f"{text}{several}."


def minimal_sentence(tables: Tables) -> str:
    """How small the minimal sets are, and what they cost."""
    sized = [row for row in rows_of(tables) if row["minimal_size"]]
    rows = [row for row in sized if row["minimal_reached"] is not False]
    if not rows:
        return "No set smaller than all neurons did as well as all." if sized else ""
    deltas = sorted({row["delta"] for row in rows if row["delta"] is not None})
    loss = points(deltas[0]) if len(deltas) == 1 else "little"
    shares = sorted(row["minimal_share"] for row in rows if row["minimal_share"] is not None)
    reach = " to ".join(dict.fromkeys(percent(share, 1) for share in (shares[0], shares[-1]))) if shares else "few"
    which = "the property" if len(rows) == 1 else f"{len(rows)} properties"
    text = f"To read {which}, {reach} of the neurons are enough: retrained on them alone, "
    return f"{text}the probe loses at most {loss} on the development sentences."


def disjoint_sentence(tables: Tables) -> str:
    """How many sets without a common neuron do the same."""
    rows = [row for row in rows_of(tables) if row["n_disjoint"] is not None]
    if not rows:
        return ""
    found = [f"{'at least ' if row['disjoint_bound'] else ''}{row['n_disjoint']:,}" for row in rows]
    if len(rows) == 1:
        return f"{sentence(found[0])} {'set' if rows[0]['n_disjoint'] == 1 else 'sets'} without a common neuron do so."
    if len(set(found)) == 1:
        verb = "set without a common neuron does" if rows[0]["n_disjoint"] == 1 else "sets without a common neuron do"
        return f"{sentence(found[0])} {verb} so for each."
    told = [f"{n} for {short_name(row['label'])}" for n, row in zip(found, rows, strict=True)]
    return f"Sets without a common neuron that do so: {listed(told, 8)}."


def layers_sentence(tables: Tables) -> str:
    """In which layers the minimal sets lie, from the lowest property to the highest."""
    whole = tables["layers"].filter(pl.col("class").is_null(), pl.col("n").is_not_null())
    weighted = (pl.col("layer") * pl.col("n")).sum() / pl.col("n").sum()
    means = (
        whole.group_by("label", maintain_order=True).agg(mean=weighted, total=pl.sum("n")).filter(pl.col("total") > 0)
    )
    if means.is_empty():
        return "Where the minimal sets lie was not measured."
    if means.height > 1:
        ordered = [
            f"{short_name(label)} ({number(mean, 1)})" for label, mean, _ in means.sort("mean", "label").iter_rows()
        ]
        return f"From low to high, by the mean layer of their minimal sets: {listed(ordered, 8)}."
    own = whole.sort("n", "layer", descending=[True, False]).row(0, named=True)
    total, width = means["total"][0], whole["width"].sum()
    text = f"Layer {own['layer']} holds the most, {percent(own['n'] / total)} of the minimal set"
    text += f" where an even spread would put {percent(own['width'] / width)}" if own["width"] and width else ""
    return f"{text}; the mean layer is {number(means['mean'][0], 1)}."


def layer_probes_sentence(tables: Tables) -> str:
    """Which single layer reads each property best: chosen on dev where that was measured, with its score on test."""
    alone = tables["layer_probes"].filter(~pl.col("upto"), pl.col("accuracy").is_not_null())
    chosen_by = pl.coalesce("dev_accuracy", "accuracy")
    best = alone.sort(chosen_by, "layer", descending=[True, False]).unique("label", keep="first", maintain_order=True)
    order = {label: place for place, label in enumerate(tables["properties"]["label"])}
    rows = sorted(best.iter_rows(named=True), key=lambda row: order.get(row["label"], 0))
    if not rows:
        return ""
    if len(rows) == 1:
        return f"Of single layers, layer {rows[0]['layer']} reads it best, with {score(rows[0], 'accuracy')}."
    told = [f"{short_name(row['label'])} in layer {row['layer']} ({Score(row['accuracy'])})" for row in rows]
    return f"Of single layers the best are: {listed(told, 8)}."


def model_sentence(tables: Tables) -> str:
    """Whether the running model uses the neurons, beside what the probe reads from them."""
    encoded = "A probe shows that a property can be read from neurons; it does not show that the model uses them."
    rows = rows_of(tables)
    if len(rows) == 1:
        used = [f"Here {_effect_text(effect)}{_p_text(effect)}." for effect in _together(tables, rows[0]["label"])]
        return " ".join([encoded, *used, *_significant_text(tables, rows)])
    return " ".join([encoded, *_significant_text(tables, rows)])


def _together(tables: Tables, label: str) -> Iterator[Row]:
    yield from main_interventions(tables, label).filter(pl.col("class").is_null()).head(1).iter_rows(named=True)


def _p_text(effect: Row) -> str:
    return "" if effect["p"] is None else f" (p = {number(effect['p'], 3)})"


def _significant_text(tables: Tables, rows: Iterable[Row]) -> Iterator[str]:
    told = []
    for row in rows:
        classes = main_interventions(tables, row["label"]).filter(
            pl.col("class").is_not_null(), pl.col("p_adjusted").is_not_null()
        )
        if classes.height:
            lower = classes.filter(pl.col("p_adjusted") <= ALPHA).height
            told.append(f"{lower} of {count(classes.height, 'class', 'classes')} of {short_name(row['label'])}")
    if told:
        yield f"Beyond matched random neurons at an adjusted p of {ALPHA:g}: {listed(told, 8)}."


def overlaps_sentence(tables: Tables) -> str:
    """Which two properties share the most neurons."""
    pairs = tables["overlaps"].filter(pl.col("n_shared").is_not_null()).sort("n_shared", descending=True)
    if pairs.is_empty():
        return ""
    top = pairs.row(0, named=True)
    chance = f", where chance gives {number(top['expected'], 1)}" if top["expected"] is not None else ""
    names = f"{short_name(top['label'])} and {top['other'][:28]}"
    return f"Of all pairs of properties, {names} share the most neurons: {top['n_shared']:,}{chance}."


def agreement_sentence(tables: Tables) -> str:
    """How far the ways to rank neurons agree."""
    found = shown_agreement(tables)
    if found.is_empty():
        return ""
    mean = found.select(pl.mean("overlap", "chance")).row(0, named=True)
    chance = f"; by chance it would be {percent(mean['chance'])}" if mean["chance"] is not None else ""
    return (
        f"Two ways to rank neurons have {percent(mean['overlap'])} of their top neurons in common, on average{chance}."
    )


def neurons_sentence(tables: Tables) -> str:
    """What the described neurons are, and how many follow the label more than the word."""
    rows = tables["neurons"]
    text = f"What drives {count(rows.height, 'top neuron')}, up and down, over the whole corpus."
    both = rows.filter(pl.col("eta_squared").is_not_null(), pl.col("eta_squared_words").is_not_null())
    if both.is_empty():
        return text
    half = both.filter(pl.col("eta_squared") >= 0.5).height
    return f"{text} In {half:,} of {both.height:,} the label explains at least half of the variance."


def classes_sentence(tables: Tables) -> str:
    """Which class is read worst."""
    found = tables["classes"].filter(pl.col("recall").is_not_null())
    if found.is_empty():
        return f"{count(tables['classes'].height, 'class', 'classes')}."
    low = found.sort("recall", "label", "class").row(0, named=True)
    never = found.filter(recall=0.0).height
    where = f" of {short_name(low['label'])}" if tables["properties"].height > 1 else ""
    text = f"Class {short_name(low['class'] or '')}{where} is read worst, with a recall of {percent(low['recall'])}"
    if never > 1:
        text = f"{never:,} of {count(found.height, 'class', 'classes')} are never read rightly"
    return f"{text}."


def exactness_sentence(tables: Tables) -> str:
    """How exactly the probes were solved, and with which penalties."""
    rows = tables["properties"]
    gaps = rows["gap"].drop_nulls()
    text = "No duality gap of a probe was recorded."
    if len(gaps):
        text = "A probe on all neurons solves a convex problem; "
        text += f"the largest duality gap that was left is {gaps.to_numpy().max():.1e} nats."
    penalties = sorted({(row["l1"], row["l2"]) for row in rows.iter_rows(named=True) if row["l1"] is not None})
    told = [f"l1 = {l1:g}, l2 = {l2:g}" for l1, l2 in penalties if l2 is not None]
    return f"{text} Penalties: {listed(told)}." if told else text
