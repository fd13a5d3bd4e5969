"""What a property's neurons do in the model itself: replace them while it runs, and see what it then predicts.

A probe shows that a property is *encoded*: it can be read from the neurons. Whether the model *uses* them there is
another question (Antverg and Belinkov 2022; Elazar et al. 2021), which only a change of the running model answers.
Neither stands for the other: information may lie unused, and a model may turn to a copy when one place is wiped out. So
both are to be shown.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool

from neuronatlas.models.hooks import InterventionError
from neuronatlas.models.model import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.effect_tables import tabulate
from neuronatlas.probing.questions import Questions, ask
from neuronatlas.probing.replacing import MEASURES, Answers, moments, run
from neuronatlas.probing.trials import LEVEL, Trial, in_rounds

__all__ = ["MEASURES", "ClassEffects", "PropertyEffects", "class_effects", "property_effects"]

OTHERS = 10
"""Words of each other class that a class's set is tried on."""

FAIR = 1.25
"""Random sets that vary more than so many times more or less than the set are told to be no fair match."""


@dataclass(frozen=True)
class PropertyEffects:
    """What happens to a property when neurons are replaced.

    Four measures at a word's place: `class_mass`, the probability of all tokens of the word's own class (the class of a
    token is the one its words have most often in the corpus): the property's own measure; `p_gold` and `log_p_gold`
    (natural logarithm), the probability of the word itself; `top_in_class`, whether the likeliest token is of it.

    `classes`: class, measure, n_words, n_sentences; before, after (means over words), change (after less before) with
    its 95 % interval low, high (percentile bootstrap over sentences); control_change, control_low, control_high (mean,
    least and greatest change of the random sets), n_controls (how many these are); z (by how many standard deviations
    of these the change differs from their mean, NaN where they do not differ); p (one-sided: how often a random set
    lowers the measure as much, (1 + b) / (1 + n)) and p_adjusted (Benjamini-Hochberg over the classes of a measure).

    `overall`: the same with the unweighted mean over the classes, one row a measure, no p_adjusted.

    `controls`: control, class, measure, change, variance_ratio (the control's summed variance over the set's).

    `words`: item, sentence, class, word, and for each measure its value before and after; top_before, top_after (the
    likeliest tokens), unknown_before, unknown_after (probability of all tokens that no word of the corpus is).

    `coverage`: class, n_words in the corpus, n_asked, several_tokens and no_place (words that could not be asked for),
    n_tokens (of the vocabulary, that are of the class).
    """

    label: str
    neurons: NeuronSet
    value: float | None
    classes: pl.DataFrame
    overall: pl.DataFrame
    controls: pl.DataFrame
    words: pl.DataFrame
    coverage: pl.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ClassEffects:
    """What happens to each class when its own neurons are replaced, and to the others meanwhile.

    `classes`, `overall`, `controls`, `words`, `coverage` are those of `PropertyEffects`; in each, a word of a class is
    measured with that class's own neurons replaced, and with random sets for these. `n_neurons` in `classes` counts
    them.

    `across`: replaced (whose neurons are replaced), class (whose words are measured, 10 of another class at most),
    measure, n_words, before, after, change. What falls on the diagonal alone is the class's own; what falls everywhere
    is the model at large.
    """

    label: str
    neurons: Mapping[str, NeuronSet]
    value: float | None
    classes: pl.DataFrame
    overall: pl.DataFrame
    across: pl.DataFrame
    controls: pl.DataFrame
    words: pl.DataFrame
    coverage: pl.DataFrame
    notes: tuple[str, ...]


def property_effects(
    model: Model,
    corpus: Corpus,
    acts: Activations,
    neurons: NeuronSet,
    *,
    value: float | None = None,
    n_controls: int = 20,
    per_class: int = 50,
    min_words: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> PropertyEffects:
    """Replace neurons by their mean while the model runs, and compare what it predicts for words of each class.

    Words are asked for as `questions.ask` describes. The neurons are set to their means over `acts`, at ALL positions,
    those of special tokens too: what a word is can be read off at its neighbours and at separators, where wiping out a
    single position would leave it. `value` sets them to a number instead; 0 is no neutral value of a residual unit,
    whose mean it shifts. Compared with `n_controls` random sets of the same layers, neuron by neuron of about the same
    variance over `acts` (`matching.matched_controls`), set to their own means.

    `acts` may be of other sentences than `corpus`, and hold some neurons only: controls are then drawn among these.
    `per_class` words of a class are asked for at most, and classes of fewer than `min_words` are left out. With n
    controls no p is below 1 / (1 + n), so that 20 may do for the mean over the classes (`overall`), but hardly for
    single ones after correction: for these take 100 or more. Read the notes: where the set holds the neurons that vary
    most, a layer has no others to match them, and the controls vary less.

    Errors: InterventionError when there is nothing to replace or to ask for; LayoutMismatchError when neurons,
    activations and model do not belong together; NeuronError when a layer has too few other neurons.

    >>> import neuronatlas as na
    >>> from neuronatlas.probing.corpora import Sentence
    >>> model = na.load(na.specimen_folder())
    >>> words, labels = ["The", "cat", "sleeps", "."], ["DET", "NOUN", "VERB", "PUNCT"]
    >>> corpus = Corpus((Sentence.of(words, labels, "a note"),), label="upos")
    >>> layout = model.layout("ffn")
    >>> acts = Activations.of(np.random.default_rng(0).random((4, layout.n_neurons)), layout)
    >>> found = property_effects(
    ...     model, corpus, acts, layout.set(["L3.U7"]), n_controls=3, min_words=1, progress=False
    ... )
    >>> found.classes.filter(measure="class_mass").select("class", "n_words").rows()
    [('DET', 1), ('NOUN', 1), ('PUNCT', 1), ('VERB', 1)]
    """
    _check(model, acts, [neurons], n_controls, per_class)
    trial = Trial.of(neurons, moments(acts, neurons), value, n_controls, seed)
    questions = ask(model, corpus, per_class=per_class, min_words=min_words, seed=seed, progress=progress)
    everything = np.ones(len(questions.asked), dtype=bool)
    answers = run(model, questions, [trial.replacement(place, everything) for place in trial.places], progress=progress)
    tables = tabulate(questions, answers.measures, MEASURES, seed=seed)
    ratios = pl.col("control").replace_strict(dict(enumerate(trial.ratios)))
    return PropertyEffects(
        corpus.label,
        neurons,
        value,
        tables.classes,
        tables.overall,
        tables.controls.with_columns(variance_ratio=ratios),
        _words(model, corpus, questions, answers),
        questions.coverage,
        (*questions.notes, *_notes(answers, [trial], len(questions.classes))),
    )


def class_effects(
    model: Model,
    corpus: Corpus,
    acts: Activations,
    neurons: Mapping[str, NeuronSet],
    *,
    value: float | None = None,
    n_controls: int = 20,
    per_class: int = 50,
    min_words: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> ClassEffects:
    """Replace the neurons of one class after another, and compare what the model predicts for words of that class.

    `neurons` are each class's own (`Ranking.of_class(name).top(k)`); classes without any are left out. A set for a
    whole property is diluted by every class that it serves; this shows whether the neurons of a class are its own.
    A class's set is tried on all its own words and on up to 10 of each other class, its random sets on its own words:
    `n_controls` at most, and fewer for a class that can no longer differ (`trials.in_rounds`), which changes nothing
    for those that do. The rest is as in `property_effects`, errors too.

    With K classes of w words and n random sets, at most w K (n + n / 20 + 2) + 10 K (K - 1) sentences go through the
    model (of a causal model, all words of a sentence at once).

    >>> import neuronatlas as na
    >>> from neuronatlas.probing.corpora import Sentence
    >>> model = na.load(na.specimen_folder())
    >>> words, labels = ["The", "cat", "sleeps", "."], ["DET", "NOUN", "VERB", "PUNCT"]
    >>> corpus = Corpus((Sentence.of(words, labels, "a note"),), label="upos")
    >>> layout = model.layout("ffn")
    >>> acts = Activations.of(np.random.default_rng(0).random((4, layout.n_neurons)), layout)
    >>> sets = {"NOUN": layout.set(["L3.U7"]), "VERB": layout.set(["L3.U8", "L2.U0"])}
    >>> found = class_effects(model, corpus, acts, sets, n_controls=3, min_words=1, progress=False)
    >>> found.across.filter(measure="class_mass").select("replaced", "class").rows()
    [('NOUN', 'NOUN'), ('NOUN', 'VERB'), ('VERB', 'NOUN'), ('VERB', 'VERB')]
    """
    given = {name: neurons[name] for name in sorted(neurons) if len(neurons[name])}
    _check(model, acts, list(given.values()), n_controls, per_class)
    questions = ask(
        model, corpus, per_class=per_class, min_words=min_words, seed=seed, progress=progress, only=tuple(given)
    )
    known = moments(acts, functools.reduce(operator.or_, given.values()))
    trials = [
        Trial.of(given[name], known, value, n_controls, seed + place) for place, name in enumerate(questions.classes)
    ]
    sets = [trial.replacement(0, asked) for trial, asked in zip(trials, _own_and_some_others(questions), strict=True)]
    answers = run(model, questions, sets, progress=progress)
    own = in_rounds(model, questions, trials, answers, progress=progress)
    tables = tabulate(questions, own.measures, MEASURES, seed=seed)
    sizes = pl.col("class").replace_strict({name: len(given[name]) for name in questions.classes})
    return ClassEffects(
        corpus.label,
        given,
        value,
        tables.classes.with_columns(n_neurons=sizes),
        tables.overall,
        _across(questions, answers),
        tables.controls.join(_ratios(questions, trials), on=["control", "class"], how="left", maintain_order="left"),
        _words(model, corpus, questions, own),
        questions.coverage,
        (*questions.notes, *_notes(own, trials, len(questions.classes))),
    )


def _own_and_some_others(questions: Questions) -> list[Bool[np.ndarray, " question"]]:
    """Which words each class's set is tried on: its own, and the first few of each other class."""
    codes, few = questions.class_codes, np.zeros(len(questions.asked), dtype=bool)
    for code in range(len(questions.classes)):
        few[np.flatnonzero(codes == code)[:OTHERS]] = True
    return [few | (codes == code) for code in range(len(questions.classes))]


def _check(model: Model, acts: Activations, sets: Sequence[NeuronSet], n_controls: int, per_class: int) -> None:
    n_neurons = sum(len(neurons) for neurons in sets)
    if not n_neurons or n_controls < 1 or per_class < 1:
        raise InterventionError(
            f"{n_neurons} neurons, {n_controls} controls, {per_class} words a class: at least one of each expected"
        )
    for neurons in sets:
        model.layout(neurons.layout.site).require(neurons.layout)
        neurons.layout.require(acts.layout)


def _across(questions: Questions, answers: Answers) -> pl.DataFrame:
    """Every class's words under every class's set, as far as they were asked for."""
    codes, rows = questions.class_codes, []
    for place, replaced in enumerate(questions.classes, start=1):
        for code, name in enumerate(questions.classes):
            mine = (codes == code) & ~np.isnan(answers.measures[place, :, 0])
            for column, measure in enumerate(MEASURES):
                before, after = (float(answers.measures[run_, mine, column].mean()) for run_ in (0, place))
                rows.append((replaced, name, measure, int(mine.sum()), before, after, after - before))
    names = dict.fromkeys(("replaced", "class", "measure"), pl.String)
    numbers = dict.fromkeys(("before", "after", "change"), pl.Float64)
    return pl.DataFrame(rows, {**names, "n_words": pl.Int64, **numbers}, orient="row")


def _ratios(questions: Questions, trials: Sequence[Trial]) -> pl.DataFrame:
    rows = [
        (control, name, ratio)
        for name, trial in zip(questions.classes, trials, strict=True)
        for control, ratio in enumerate(trial.ratios)
    ]
    return pl.DataFrame(rows, {"control": pl.Int64, "class": pl.String, "variance_ratio": pl.Float64}, orient="row")


def _words(model: Model, corpus: Corpus, questions: Questions, answers: Answers) -> pl.DataFrame:
    asked = questions.asked
    names = model.tokenizer.convert_ids_to_tokens
    before_after = {
        f"{measure}_{when}": answers.measures[run, :, column]
        for column, measure in enumerate(MEASURES)
        for run, when in enumerate(("before", "after"))
    }
    return pl.DataFrame(
        {
            "item": [question.item for question in asked],
            "sentence": [question.sentence for question in asked],
            "class": [question.label for question in asked],
            "word": [corpus.items[question.item] for question in asked],
            **before_after,
            "top_before": names(answers.tops[0].tolist()),
            "top_after": names(answers.tops[1].tolist()),
            "unknown_before": answers.unknown[0],
            "unknown_after": answers.unknown[1],
        }
    )


def _notes(answers: Answers, trials: Sequence[Trial], n_classes: int) -> tuple[str, ...]:
    before, after = answers.unknown[:2].mean(axis=1)
    ratios = [ratio for trial in trials for ratio in trial.ratios]
    ratio, n_controls = float(np.mean(ratios)), len(trials[0].ratios)
    # Benjamini and Hochberg call k equal p-values of n_classes when n_classes * p / k is at most the level.
    least = 1 / (1 + n_controls)
    needed = math.ceil(n_classes * least / LEVEL - 1e-9)
    notes = [
        f"tokens that no word of the corpus is have {before:.1%} of the probability before and {after:.1%} after",
        f"random neurons have {ratio:.2f} times the variance of those that they are compared with "
        f"({min(ratios):.2f} to {max(ratios):.2f})",
        f"with {n_controls} random sets no p is below {least:.3f}",
    ]
    if needed > 1:
        at_all = f"when {needed} of the {n_classes} do" if needed <= n_classes else "in no case"
        notes.append(f"after correction at {LEVEL} a class can differ only {at_all}: take more random sets")
    if not 1 / FAIR <= ratio <= FAIR:
        notes.append(
            "the layers have no other neurons that vary as much: part of the difference may be due to variance"
        )
    return tuple(notes)
