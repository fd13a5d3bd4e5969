"""Effects: what happens to an answer when neurons are suppressed or amplified at its place (Dai et al. 2022, 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.knowledge.facts import Fact
from neuronatlas.models.answers import Answered, broken_rows, read_answers, regrouped
from neuronatlas.models.heads import answer_logits
from neuronatlas.models.hooks import InterventionError, scale_rows
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, Step, by_shape
from neuronatlas.models.ways import Prompts
from neuronatlas.neurons import NeuronSet

__all__ = ["Trial", "effects", "run_trials"]

DEFAULT_BUDGET = 8192


@dataclass(frozen=True)
class Trial:
    """One intervention: a query with some neurons multiplied by a gain at the query's position.

    Of an answer of several tokens each is asked by a pass of its own, with the neurons scaled at its own place.
    """

    query: Query
    neurons: NeuronSet
    gain: float


def effects(
    model: Model,
    fact: Fact,
    neurons: NeuronSet,
    *,
    gains: Sequence[float] = (0.0, 2.0),
    position: str | int = "answer",
    budget: int = DEFAULT_BUDGET,
) -> pl.DataFrame:
    """What a fact's answer does under each gain of the neurons: one row a prompt and gain.

    Columns: prompt (index), text, gain, p_before, p_after (P(answer)), log_odds_before, log_odds_after
    (log(P / (1 - P))), mean_log_p_before, mean_log_p_after (mean log P of the answer's tokens), top_after (the token
    preferred then; of several, each after the right ones before it). Gain 0 suppresses, 2 doubles, 1 changes nothing.
    The neurons are scaled at the answer's place, or at `position`, as in `attribute`.

    Errors: FactError, QueryError; LayoutMismatchError when the neurons are not of this model as it is now;
    InterventionError for a gain under which the model's logits are no finite numbers.

    >>> import neuronatlas as na
    >>> model = na.load(na.specimen_folder())
    >>> fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    >>> table = na.effects(model, fact, model.layout().set(["L0.U1"]), gains=[1.0])
    >>> bool(table["p_before"][0] == table["p_after"][0])
    True
    """
    model.layout(neurons.layout.site).require(neurons.layout)
    asked_by_index = fact_queries(model, fact, position=position, site=neurons.layout.site)
    queries = list(asked_by_index.values())
    none = NeuronSet(neurons.layout, ())
    trials = [Trial(q, none, 1.0) for q in queries] + [Trial(q, neurons, g) for g in gains for q in queries]
    outcomes = list(run_trials(model, trials, budget=budget))
    before, after = outcomes[: len(queries)], outcomes[len(queries) :]
    rows = [
        (index, asked.text, float(gain), before[row], after[step * len(queries) + row])
        for step, gain in enumerate(gains)
        for row, (index, asked) in enumerate(asked_by_index.items())
    ]
    return pl.DataFrame(
        {
            "prompt": [row[0] for row in rows],
            "text": [row[1] for row in rows],
            "gain": [row[2] for row in rows],
            "p_before": [row[3].probability for row in rows],
            "p_after": [row[4].probability for row in rows],
            "log_odds_before": [row[3].log_odds for row in rows],
            "log_odds_after": [row[4].log_odds for row in rows],
            "mean_log_p_before": [row[3].mean_log_probability for row in rows],
            "mean_log_p_after": [row[4].mean_log_probability for row in rows],
            "top_after": [row[4].top_token for row in rows],
        }
    )


def run_trials(model: Model, trials: Sequence[Trial], *, budget: int = DEFAULT_BUDGET) -> Iterator[Answered]:
    """Run interventions batched by length, rows of different neurons and gains together; outcomes in order."""
    asked = [(step, trial) for trial in trials for step in trial.query.steps]
    found: dict[int, Answered] = {}
    for batch in by_shape([step.shape for step, _ in asked], budget):
        chosen = [asked[index] for index in batch]
        found |= zip(batch, _run_batch(model, chosen), strict=True)
    outcomes = (found[index] for index in range(len(asked)))
    return iter(regrouped([trial.query for trial in trials], outcomes))


def _run_batch(model: Model, asked: Sequence[tuple[Step, Trial]]) -> list[Answered]:
    steps, trials = [step for step, _ in asked], [trial for _, trial in asked]
    prompts, site = Prompts.of(steps, model.device), trials[0].neurons.layout.site
    with torch.no_grad(), scale_rows(model, _factors(trials, model), prompts.positions, site):
        logits = answer_logits(model, prompts.ids, prompts.answer_positions, prompts.decoder_ids)
    broken = broken_rows(logits).nonzero().flatten().tolist()
    if broken:
        trial = trials[broken[0]]
        raise InterventionError(
            f'with {len(trial.neurons)} neurons times {trial.gain} the logits of "{trial.query.text}" are not finite '
            'numbers: a smaller gain expected, or load the model with dtype="float32"'
        )
    return read_answers(model, steps, logits)


def _factors(trials: Sequence[Trial], model: Model) -> dict[int, Tensor]:
    """Per layer a factor for each row and unit: 1 but for a row's own neurons."""
    factors: dict[int, Tensor] = {}
    for row, trial in enumerate(trials):
        for layer, units in trial.neurons.units().items():
            if layer not in factors:
                factors[layer] = torch.ones(len(trials), trial.neurons.layout.widths[layer], device=model.device)
            factors[layer][row, units] = trial.gain
    return factors
