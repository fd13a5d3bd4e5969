"""Runs a model with neurons replaced, and measures what it makes of questions. The low level under `interventions`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from tqdm.auto import tqdm

from neuronatlas.models.answers import by_length
from neuronatlas.models.heads import answer_logits
from neuronatlas.models.hooks import InterventionError, set_values
from neuronatlas.models.model import Model
from neuronatlas.neurons import NeuronSet
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.questions import Question, Questions

__all__ = ["MEASURES", "Answers", "Replacement", "flat", "moments", "run"]

MEASURES = ("class_mass", "p_gold", "log_p_gold", "top_in_class")
"""What is measured at a word's place: see `interventions.PropertyEffects`."""

BATCH_TOKENS = 8192
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

    def made(self, model: Model) -> AbstractContextManager[object]:
        """The model with them replaced."""
        values = torch.from_numpy(self.values) if isinstance(self.values, np.ndarray) else self.values
        return set_values(model, self.neurons, values)


@dataclass(frozen=True)
class Answers:
    """What was measured, in the untouched model first and then under each replacement; NaN where it was not asked."""

    measures: Float64[np.ndarray, "run question measure"]
    tops: Int[np.ndarray, "run question"]
    unknown: Float64[np.ndarray, "run question"]


def run(model: Model, questions: Questions, replacements: Sequence[Replacement], *, progress: bool) -> Answers:
    """Ask the model as it is, and under each replacement; it is restored whatever happens."""
    asked, runs = questions.asked, 1 + len(replacements)
    measures = np.full((runs, len(asked), len(MEASURES)), np.nan)
    tops, unknown = np.full((runs, len(asked)), -1), np.full((runs, len(asked)), np.nan)
    measure = _Measure(model, questions)
    last_of = {question.sentence: index for index, question in enumerate(asked)}
    with torch.no_grad(), tqdm(total=len(last_of), desc="Intervening", unit="sentence", disable=not progress) as bar:
        for batch in _batches(model, asked):
            measures[0, batch], tops[0, batch], unknown[0, batch] = measure(batch)
            for place, replacement in enumerate(replacements, start=1):
                some = [index for index in batch if replacement.asked[index]]
                if some:
                    with replacement.made(model):
                        measures[place, some], tops[place, some], unknown[place, some] = measure(some)
            bar.update(sum(last_of[asked[index].sentence] == index for index in batch))
    return Answers(measures, tops, unknown)


def _batches(model: Model, asked: Sequence[Question]) -> Iterator[list[int]]:
    """Questions by their number of tokens, so that none is padded; as many at once as their logits leave room for."""
    budget = max(1, min(BATCH_TOKENS, BATCH_LOGITS // len(model.tokenizer)))
    yield from by_length([len(question.ids) for question in asked], budget)


def _logits(model: Model, asked: Sequence[Question]) -> Float[Tensor, "question token"]:
    places = torch.tensor([question.place for question in asked], device=model.device)
    if model.kind == "masked":
        ids = torch.tensor([question.ids for question in asked], device=model.device)
        return answer_logits(model, ids, places)
    # Of a causal model one pass over a sentence answers for all its words.
    row_of = {ids: row for row, ids in enumerate(dict.fromkeys(question.ids for question in asked))}
    ids = torch.tensor(list(row_of), device=model.device)
    rows = torch.tensor([row_of[question.ids] for question in asked], device=model.device)
    return model.logits(ids)[rows, places]


class _Measure:
    """Asks some of the questions; holds what does not change from one pass to the next."""

    def __init__(self, model: Model, questions: Questions) -> None:
        self.model, self.questions = model, questions
        self.codes = torch.from_numpy(questions.class_codes).to(model.device)
        self.membership = torch.empty(0)

    def __call__(
        self, batch: Sequence[int]
    ) -> tuple[Float64[np.ndarray, "question measure"], Int[np.ndarray, " question"], Float64[np.ndarray, " question"]]:
        """The measures in their order, the likeliest tokens, and the probability of unknown ones."""
        chosen = [self.questions.asked[index] for index in batch]
        logits = _logits(self.model, chosen).double()
        if not len(self.membership):
            self.membership = torch.from_numpy(self.questions.membership(logits.shape[1])).to(logits.device)
        rows, codes = torch.arange(len(chosen), device=logits.device), self.codes[batch]
        logs = torch.log_softmax(logits, dim=1)
        masses = logs.exp() @ self.membership
        gold, tops = logs[rows, [question.token for question in chosen]], logits.argmax(dim=1)
        measures = torch.stack((masses[rows, codes], gold.exp(), gold, self.membership[tops, codes]), dim=1)
        return measures.cpu().numpy(), tops.cpu().numpy(), masses[:, -1].cpu().numpy()
