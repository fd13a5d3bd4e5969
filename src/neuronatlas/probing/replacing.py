"""Runs a model with neurons replaced, and measures what it makes of questions. The low level under `interventions`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from tqdm.auto import tqdm

from neuronatlas.models.heads import answer_logits
from neuronatlas.models.hooks import InterventionError
from neuronatlas.models.model import Model
from neuronatlas.models.queries import by_length
from neuronatlas.models.taps import Edit, tapped
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.questions import Questions

__all__ = ["MEASURES", "Answers", "Replacement", "flat", "moments", "run"]

MEASURES = ("class_mass", "p_gold", "log_p_gold", "top_in_class")
"""What is measured at a word's place: see `interventions.PropertyEffects`."""

BATCH_TOKENS, BATCH_TOKENS_ON_GPU = 1024, 8192
BATCH_LOGITS = 64_000_000
"""Most tokens, and most logits, in a pass."""


def flat(neurons: NeuronSet) -> Int[np.ndarray, " neuron"]:
    """Flat indices of neurons, in their order."""
    return np.array([neurons.layout.index(neuron) for neuron in neurons], dtype=np.int64)


def moments(
    acts: Activations, neurons: NeuronSet
) -> tuple[Float64[np.ndarray, " neuron"], Float64[np.ndarray, " neuron"]]:
    """Mean and variance over the rows of all neurons in the set's layers, by flat index; NaN where they are not held.

    Errors: InterventionError without rows, or where a value is not finite; ActivationsError for a neuron not held.
    """
    acts.chosen(columns=neurons)  # tells which one is lacking
    edges = [acts.layout.offsets[layer : layer + 2] for layer in neurons.units()]
    places = np.concatenate([np.arange(*np.searchsorted(acts.columns, edge)) for edge in edges])
    view = acts.chosen(columns=places)
    sums, squares, origin = np.zeros(len(places)), np.zeros(len(places)), None
    for _, block in view.chunks():
        # About the first row: squares about 0 would lose a variance that is small beside the mean.
        if not np.isfinite(block).all():
            raise InterventionError("no means to put in the neurons' place: some activations are not finite")
        origin = block[0].astype(np.float64) if origin is None else origin
        shifted = block - origin
        sums += shifted.sum(axis=0)
        squares += np.square(shifted).sum(axis=0)
    if origin is None:
        raise InterventionError("no means to put in the neurons' place: there are no activations")
    means, variances = (np.full(acts.layout.n_neurons, np.nan) for _ in range(2))
    offsets = sums / len(view)
    means[view.columns] = origin + offsets
    variances[view.columns] = np.maximum(squares / len(view) - offsets**2, 0.0)
    return means, variances


@dataclass(frozen=True)
class Replacement:
    """Neurons, the values that take their place, and which questions are asked meanwhile."""

    neurons: NeuronSet
    values: Float64[np.ndarray, " neuron"] | float
    asked: Bool[np.ndarray, " question"]

    def by_layer(self) -> dict[int, tuple[list[int], list[float]]]:
        """The places of the neurons in each layer, and a value for each."""
        values = np.broadcast_to(self.values, len(self.neurons)).tolist()
        layers: dict[int, tuple[list[int], list[float]]] = {}
        for neuron, value in zip(self.neurons, values, strict=True):
            units, new = layers.setdefault(neuron.layer, ([], []))
            units.append(self.neurons.layout.place(neuron))
            new.append(value)
        return layers


@dataclass(frozen=True)
class Answers:
    """What was measured, in the untouched model first and then under each replacement; NaN where it was not asked."""

    measures: Float64[np.ndarray, "run question measure"]
    tops: Int[np.ndarray, "run question"]
    unknown: Float64[np.ndarray, "run question"]


def run(model: Model, questions: Questions, replacements: Sequence[Replacement], *, progress: bool) -> Answers:
    """Ask the model as it is, and under each replacement (all of one site); it is restored whatever happens."""
    asked, shape = questions.asked, (1 + len(replacements), len(questions.asked))
    measures = np.full((*shape, len(MEASURES)), np.nan)
    tops, unknown = np.full(shape, -1), np.full(shape, np.nan)
    pairs = _pairs(questions, replacements)
    last_of = {asked[question].sentence: place for place, (_, question) in enumerate(pairs)}
    passes = _Passes(model, questions, replacements)
    with torch.no_grad(), tqdm(total=len(last_of), desc="Intervening", unit="sentence", disable=not progress) as bar:
        for batch in by_length([len(asked[question].ids) for _, question in pairs], passes.budget):
            where = tuple(np.array([pairs[place] for place in batch]).T)
            measures[where], tops[where], unknown[where] = passes.measure([pairs[place] for place in batch])
            bar.update(sum(last_of[asked[pairs[place][1]].sentence] == place for place in batch))
    return Answers(measures, tops, unknown)


def _pairs(questions: Questions, replacements: Sequence[Replacement]) -> list[tuple[int, int]]:
    """Which run and which question: all of a sentence together, so that what runs share is computed once."""
    everything = np.ones(len(questions.asked), dtype=bool)
    wanted = np.stack([everything, *(replacement.asked for replacement in replacements)])
    runs, places = np.nonzero(wanted)
    order = np.lexsort((places, runs, questions.sentences[places]))
    return list(zip(runs[order].tolist(), places[order].tolist(), strict=True))


class _Passes:
    """Passes of the model whose rows have different neurons replaced."""

    def __init__(self, model: Model, questions: Questions, replacements: Sequence[Replacement]) -> None:
        self.model, self.questions = model, questions
        self.site = model.site(replacements[0].neurons.layout.site)
        self.layers = [{}, *(replacement.by_layer() for replacement in replacements)]
        self.codes = torch.from_numpy(questions.class_codes).to(model.device)
        self.membership = torch.empty(0)

    @property
    def budget(self) -> int:
        """Most tokens in a pass: as many as keep the device busy and leave room for their logits."""
        most = BATCH_TOKENS if self.model.device.type == "cpu" else BATCH_TOKENS_ON_GPU
        return max(1, min(most, BATCH_LOGITS // len(self.model.tokenizer)))

    def measure(
        self, pairs: Sequence[tuple[int, int]]
    ) -> tuple[Float64[np.ndarray, "pair measure"], Int[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
        """The measures in their order, the likeliest tokens, and the probability of unknown ones."""
        logits = self._logits(pairs).double()
        if not len(self.membership):
            self.membership = torch.from_numpy(self.questions.membership(logits.shape[1])).to(logits.device)
        places = [question for _, question in pairs]
        rows, codes = torch.arange(len(pairs), device=logits.device), self.codes[places]
        logs = torch.log_softmax(logits, dim=1)
        masses = logs.exp() @ self.membership
        gold = logs[rows, [self.questions.asked[place].token for place in places]]
        tops = logits.argmax(dim=1)
        measures = torch.stack((masses[rows, codes], gold.exp(), gold, self.membership[tops, codes]), dim=1)
        return measures.cpu().numpy(), tops.cpu().numpy(), masses[:, -1].cpu().numpy()

    def _logits(self, pairs: Sequence[tuple[int, int]]) -> Float[Tensor, "pair token"]:
        asked = [self.questions.asked[question] for _, question in pairs]
        # Equal rows are run once: of a causal model one pass over a sentence answers for all its words.
        keys = [(run_, question.ids) for (run_, _), question in zip(pairs, asked, strict=True)]
        row_of = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        device = self.model.device
        ids = torch.tensor([ids for _, ids in row_of], device=device)
        rows = torch.tensor([row_of[key] for key in keys], device=device)
        places = torch.tensor([question.place for question in asked], device=device)
        with self._replaced([run_ for run_, _ in row_of]):
            if self.model.kind == "causal":
                return self.model.logits(ids)[rows, places]
            return answer_logits(self.model, ids, places.new_zeros(len(ids)).scatter(0, rows, places))[rows]

    @contextmanager
    def _replaced(self, runs: Sequence[int]) -> Iterator[None]:
        """Inside, each row has its own run's neurons replaced, at all positions."""
        by_layer: dict[int, tuple[list[int], list[int], list[float]]] = {}
        for row, run_ in enumerate(runs):
            for layer, (units, values) in self.layers[run_].items():
                rows, columns, new = by_layer.setdefault(layer, ([], [], []))
                rows += [row] * len(units)
                columns += units
                new += values
        edits = {self.site.points[layer]: self._edit(*lists) for layer, lists in by_layer.items()}
        with self.model.intervening(self.site.name), tapped(self.model.module, edits):
            yield

    def _edit(self, rows: list[int], units: list[int], values: list[float]) -> Edit:
        # Indices may be on the CPU whatever device the layer is on.
        where, which, new = torch.tensor(rows), torch.tensor(units), torch.tensor(values, dtype=torch.float64)

        def edit(neurons: Tensor) -> Tensor:
            changed = neurons.clone()
            changed[where, :, which] = new.to(neurons)[:, None]
            return changed

        return edit
