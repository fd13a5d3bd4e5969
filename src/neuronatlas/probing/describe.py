"""What drives a neuron over a corpus: its words, its contexts, and how it tells the classes of a property apart.

>>> from neuronatlas.probing.corpora import Sentence
>>> sentences = [Sentence.of(["the", "dogs"], ["DET", "NOUN"], "a"), Sentence.of(["the", "cats"], ["DET", "NOUN"], "b")]
>>> corpus = Corpus(tuple(sentences), label="upos")
>>> acts = Activations.of(np.array([[0.0, 1.0], [3.0, 1.0], [0.0, 2.0], [5.0, 2.0]]))
>>> found = describe(acts, corpus, Neuron(0, 0), k=1, min_count=1, progress=False)
>>> found.contexts.filter(pl.col("direction") == "up").select("left", "word", "right", "value").row(0)
('the ', 'cats', '', 5.0)
>>> found.profiles["best_class"][0], found.profiles["best_auc"][0]
('NOUN', 1.0)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64, Int
from scipy.stats import rankdata
from tqdm.auto import tqdm

from neuronatlas.addresses import address_series
from neuronatlas.neurons import Neuron, NeuronSet
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.corpora import Corpus

__all__ = ["Description", "describe", "describe_many"]

BLOCK_VALUES = 16_000_000
"""Most values (rows by neurons, or word types by neurons) held at once: some hundred megabytes with what is made of
them. More neurons than that are described in several rounds over the activations, each reading its own columns."""

Values = Float32[np.ndarray, "neuron row"]
Codes = Int[np.ndarray, " row"]
ByNeuron = Float64[np.ndarray, " neuron"]
ByGroup = Float64[np.ndarray, "neuron group"]


@dataclass(frozen=True)
class Description:
    """What drives some neurons, as tables with a row for each neuron, or several.

    `profiles`: neuron, layer, expert (of a model with experts), unit, n_rows, mean, std, best_class and best_auc (the
    class that the neuron's value alone tells best from all others, and the area under the ROC curve: 1 is always
    higher, 0 always lower, 0.5 chance), and the share of its variance that the label and the word type explain:
    eta_label, eta_word (eta squared: between-group over total sum of squares), and adjusted_eta_label,
    adjusted_eta_word, which take off what as many random groups would explain (epsilon squared, Kelley 1935): a word
    that occurs once explains itself wholly, so that eta_word alone is high for any neuron. NaN for a constant neuron.

    `classes`: neuron, class, n, mean, std, difference (mean in the class less mean of all other labelled rows, in
    standard deviations of the neuron over labelled rows), auc.

    `words`: neuron, direction (`up`, `down`), rank (from 1), word, n, mean, z (mean in standard deviations from the
    neuron's mean): the word types of at least `min_count` rows with the highest and the lowest means.

    `contexts`: neuron, direction, rank, sentence (index in the corpus), source, left, word, right (which joined are the
    sentence's text), label, value, z: the rows with the highest and the lowest values. Ties go by place in the corpus:
    the lowest values of a neuron behind a ReLU are mostly 0, and those rows then mean nothing.
    """

    label: str
    neurons: NeuronSet
    profiles: pl.DataFrame
    classes: pl.DataFrame
    words: pl.DataFrame
    contexts: pl.DataFrame

    def of(self, neuron: Neuron) -> Description:
        """The part about one neuron."""
        mine = pl.col("neuron") == str(neuron)
        tables = {name: getattr(self, name).filter(mine) for name in _TABLES}
        return replace(self, neurons=self.neurons & self.neurons.layout.set([neuron]), **tables)


_TABLES = ("profiles", "classes", "words", "contexts")


def describe(
    acts: Activations, corpus: Corpus, neuron: Neuron, k: int = 10, *, min_count: int = 3, progress: bool = True
) -> Description:
    """Describe one neuron: see `describe_many`."""
    return describe_many(acts, corpus, acts.layout.set([neuron]), k, min_count=min_count, progress=progress)


def describe_many(
    acts: Activations, corpus: Corpus, neurons: NeuronSet, k: int = 10, *, min_count: int = 3, progress: bool = True
) -> Description:
    """Describe neurons over a corpus: the k words and k contexts that drive each most, up and down, and its classes.

    `acts` are of this very corpus; rows without a label count for words and contexts, not for classes. Words are told
    apart as they are written (`The` is not `the`). Where sentences carry the labels there are no words to describe: the
    contexts are whole texts.

    Errors: ActivationsError when the activations are of another corpus, do not hold a neuron, or are not finite.
    """
    _check(acts, corpus, neurons, k)
    groups = _Groups.of(acts, corpus, min_count)
    # Neurons are described independently, so how many are held at a time changes nothing but the memory.
    at_once = max(1, BLOCK_VALUES // max(len(acts), len(groups.types) + 1))
    members = neurons.members
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in _TABLES}
    with tqdm(total=len(members), desc="Describing", unit="neuron", disable=not progress) as bar:
        for start in range(0, len(members), at_once):
            some = NeuronSet(neurons.layout, members[start : start + at_once])
            described = _describe_block(_Block.read(acts, some), groups, corpus, acts, k)
            for name, table in zip(_TABLES, described, strict=True):
                parts[name].append(table)
            bar.update(len(some))
    return Description(corpus.label, neurons, **{name: pl.concat(tables) for name, tables in parts.items()})


def _check(acts: Activations, corpus: Corpus, neurons: NeuronSet, k: int) -> None:
    ours, theirs = corpus.words_digest, acts.words_digest or corpus.words_digest
    if acts.n_items != corpus.n_items or ours != theirs:
        raise ActivationsError(
            f"activations of {acts.n_items} items of another corpus than the {corpus.n_items} of "
            f"{corpus.name or 'this one'}: give the corpus that they were extracted from"
        )
    if not len(acts) or not len(neurons) or k < 1:
        raise ActivationsError(
            f"nothing to describe: {len(neurons)} neurons over {len(acts)} rows, the {k} strongest of each"
        )


@dataclass(frozen=True)
class _Groups:
    """The class and the word type of each row; -1 where a row has none."""

    classes: tuple[str, ...]
    class_codes: Codes
    types: tuple[str, ...]
    type_codes: Codes
    min_count: int

    @classmethod
    def of(cls, acts: Activations, corpus: Corpus, min_count: int) -> _Groups:
        labels, words = corpus.labels[acts.items], corpus.items[acts.items]
        if corpus.level == "sentence":
            words = np.full(len(acts), None, dtype=object)
        return cls(*_coded(labels), *_coded(words), min_count)


def _coded(names: np.ndarray) -> tuple[tuple[str, ...], Codes]:
    known = tuple(sorted({name for name in names if name is not None}))
    index = {name: code for code, name in enumerate(known)}
    return known, np.array([index.get(name, -1) for name in names], dtype=np.int64)


@dataclass(frozen=True)
class _Block:
    """Some neurons' values in all rows; each neuron's lie together, so that its sums do not depend on the others."""

    neurons: NeuronSet
    values: Values
    mean: ByNeuron
    std: ByNeuron

    @classmethod
    def read(cls, acts: Activations, neurons: NeuronSet) -> _Block:
        view = acts.chosen(columns=neurons)
        values = np.empty(view.shape[::-1], dtype=np.float32)
        for rows, block in view.chunks():
            values[:, rows] = block.T
        if not np.isfinite(values).all():
            index, row = np.argwhere(~np.isfinite(values))[0]
            raise ActivationsError(
                f"activations must be finite: {neurons.members[index]} is {values[index, row]} at item "
                f"{acts.items[row]}; extract again in float32, or leave that neuron out"
            )
        mean, std = values.mean(axis=1, dtype=np.float64), values.std(axis=1, dtype=np.float64)
        # A constant's mean is rounded, which would leave it a deviation.
        return cls(neurons, values, mean, np.where((values == values[:, :1]).all(axis=1), 0.0, std))

    @property
    def names(self) -> list[str]:
        return [str(neuron) for neuron in self.neurons]

    def z(self, values: np.ndarray, index: int) -> np.ndarray:
        """Standard deviations from the mean; 0 for a constant neuron."""
        return (values - self.mean[index]) / self.std[index] if self.std[index] else np.zeros(len(values))


def _describe_block(
    block: _Block, groups: _Groups, corpus: Corpus, acts: Activations, k: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    by_type = _Moments.of(block.values, groups.type_codes, len(groups.types))
    by_class = _Moments.of(block.values, groups.class_codes, len(groups.classes))
    areas = _areas(block.values, groups.class_codes, by_class.counts)
    return (
        _profiles(block, groups, by_class, by_type, areas),
        _classes(block, groups, by_class, areas),
        _words(block, groups, by_type, k),
        _contexts(block, corpus, acts, k),
    )


@dataclass(frozen=True)
class _Moments:
    """Of each group: its rows, its mean as a distance from `origin`, and its sum of squared deviations.

    `origin` is the first row, so that the groups of a constant neuron are exactly alike.
    """

    counts: Int[np.ndarray, " group"]
    offsets: ByGroup
    squares: ByGroup
    origin: ByNeuron

    @classmethod
    def of(cls, values: Values, codes: Codes, n_groups: int) -> _Moments:
        order = np.argsort(codes, kind="stable")
        order = order[np.searchsorted(codes[order], 0) :]
        counts = np.bincount(codes[order], minlength=n_groups)
        origin = values[:, 0].astype(np.float64)
        if not len(order):
            nothing = np.zeros((len(values), n_groups))
            return cls(counts, nothing, nothing, origin)
        grouped = values[:, order] - origin[:, None]
        starts = np.cumsum(counts) - counts
        offsets = np.add.reduceat(grouped, starts, axis=1) / counts
        grouped -= np.repeat(offsets, counts, axis=1)
        np.square(grouped, out=grouped)
        return cls(counts, offsets, np.add.reduceat(grouped, starts, axis=1), origin)

    @property
    def n_rows(self) -> int:
        return int(self.counts.sum())

    @property
    def means(self) -> ByGroup:
        means: ByGroup = self.offsets + self.origin[:, None]
        return means

    @property
    def mean_offset(self) -> ByNeuron:
        mean: ByNeuron = (self.counts * self.offsets).sum(axis=1) / max(1, self.n_rows)
        return mean

    @property
    def between(self) -> ByNeuron:
        between: ByNeuron = (self.counts * (self.offsets - self.mean_offset[:, None]) ** 2).sum(axis=1)
        return between

    def eta(self) -> tuple[ByNeuron, ByNeuron]:
        """Eta squared and epsilon squared; NaN for a constant neuron and where there is nothing to compare."""
        within, n_rows, n_groups = self.squares.sum(axis=1), self.n_rows, len(self.counts)
        total = within + self.between
        with np.errstate(divide="ignore", invalid="ignore"):
            eta = np.where(total > 0, self.between / total, np.nan)
            spare = (n_rows - 1) / (n_rows - n_groups) if n_rows > n_groups else np.nan
            return eta, 1 - (1 - eta) * spare


def _areas(values: Values, codes: Codes, counts: Int[np.ndarray, " group"]) -> ByGroup:
    """Area under the ROC curve of each class against all other labelled rows, ties counting half (Mann and Whitney)."""
    labelled = codes >= 0
    areas = np.full((len(values), len(counts)), np.nan)
    others = counts.sum() - counts
    if len(counts) < 2:
        return areas
    for index, of_neuron in enumerate(values):
        sums = np.bincount(codes[labelled], weights=rankdata(of_neuron[labelled]), minlength=len(counts))
        areas[index] = (sums - counts * (counts + 1) / 2) / (counts * others)
    return areas


def _best(areas: ByGroup) -> Int[np.ndarray, " neuron"]:
    """The class told best by high or by low values; of two classes told equally well, the one of high values."""
    strength = np.abs(areas - 0.5)
    told_best = strength >= strength.max(axis=1, keepdims=True) - 1e-12
    best: Int[np.ndarray, " neuron"] = np.where(told_best, areas, -1.0).argmax(axis=1)
    return best


def _profiles(block: _Block, groups: _Groups, by_class: _Moments, by_type: _Moments, areas: ByGroup) -> pl.DataFrame:
    (eta_label, fair_label), (eta_word, fair_word) = by_class.eta(), by_type.eta()
    best = _best(areas) if len(groups.classes) > 1 else None
    n_neurons = len(block.neurons)
    return pl.DataFrame(
        {
            "neuron": block.names,
            **address_series(block.neurons.layout, block.neurons),
            "n_rows": [block.values.shape[1]] * n_neurons,
            "mean": block.mean,
            "std": block.std,
            "best_class": [None] * n_neurons if best is None else [groups.classes[code] for code in best],
            "best_auc": [np.nan] * n_neurons if best is None else areas[np.arange(n_neurons), best],
            "eta_label": eta_label,
            "adjusted_eta_label": fair_label,
            "eta_word": eta_word,
            "adjusted_eta_word": fair_word,
        },
        schema_overrides={"best_class": pl.String, "best_auc": pl.Float64},
    )


def _classes(block: _Block, groups: _Groups, found: _Moments, areas: ByGroup) -> pl.DataFrame:
    n_neurons, n_classes = found.means.shape
    counts = found.counts
    with np.errstate(divide="ignore", invalid="ignore"):
        # The mean of the rest lies as far on the other side of the mean of all as the class' share makes it.
        apart = (found.offsets - found.mean_offset[:, None]) * found.n_rows / (found.n_rows - counts)
        spread = np.sqrt((found.squares.sum(axis=1) + found.between) / found.n_rows)[:, None]
        difference = np.where(spread > 0, apart / spread, 0.0)
        std = np.sqrt(found.squares / counts)
    return pl.DataFrame(
        {
            "neuron": [name for name in block.names for _ in range(n_classes)],
            "class": list(groups.classes) * n_neurons,
            "n": np.tile(found.counts, n_neurons),
            "mean": found.means.reshape(-1),
            "std": std.reshape(-1),
            "difference": difference.reshape(-1),
            "auc": areas.reshape(-1),
        },
        schema_overrides={"class": pl.String},
    )


def _strongest(values: np.ndarray, k: int) -> Iterator[tuple[str, Int[np.ndarray, " place"]]]:
    """The places of the k highest and of the k lowest values, strongest first, ties by place."""
    for direction, signed in (("up", -values), ("down", values)):
        places = np.arange(len(values))
        if len(values) > k:
            # Only what is at least as strong as the k-th is sorted.
            places = np.flatnonzero(signed <= np.partition(signed, k - 1)[k - 1])
        yield direction, places[np.argsort(signed[places], kind="stable")[:k]]


def _words(block: _Block, groups: _Groups, found: _Moments, k: int) -> pl.DataFrame:
    frequent = np.flatnonzero(found.counts >= groups.min_count)
    rows = []
    for index, (name, means) in enumerate(zip(block.names, found.means[:, frequent], strict=True)):
        z = block.z(means, index)
        for direction, places in _strongest(means, k):
            for rank, place in enumerate(places.tolist(), start=1):
                code = int(frequent[place])
                n = int(found.counts[code])
                rows.append((name, direction, rank, groups.types[code], n, float(means[place]), float(z[place])))
    schema = {"neuron": pl.String, "direction": pl.String, "rank": pl.Int64, "word": pl.String}
    return pl.DataFrame(rows, {**schema, "n": pl.Int64, "mean": pl.Float64, "z": pl.Float64}, orient="row")


def _contexts(block: _Block, corpus: Corpus, acts: Activations, k: int) -> pl.DataFrame:
    rows = []
    for index, name in enumerate(block.names):
        values = block.values[index]
        z = block.z(values, index)
        for direction, places in _strongest(values, k):
            for rank, row in enumerate(places.tolist(), start=1):
                where = _context(corpus, int(acts.items[row]))
                rows.append((name, direction, rank, *where, float(values[row]), float(z[row])))
    schema = {"neuron": pl.String, "direction": pl.String, "rank": pl.Int64, "sentence": pl.Int64, "source": pl.String}
    words = dict.fromkeys(("left", "word", "right", "label"), pl.String)
    return pl.DataFrame(rows, {**schema, **words, "value": pl.Float64, "z": pl.Float64}, orient="row")


def _context(corpus: Corpus, item: int) -> tuple[int, str, str, str, str, str | None]:
    """Sentence, source, and the text before, of and after an item, with its label."""
    index = int(corpus.sentence_of[item])
    sentence, label = corpus.sentences[index], corpus.labels[item]
    if corpus.level == "sentence":
        return index, sentence.source, "", sentence.text, "", label
    start, end = sentence.spans[item - int(np.searchsorted(corpus.sentence_of, index))]
    return index, sentence.source, sentence.text[:start], sentence.text[start:end], sentence.text[end:], label
