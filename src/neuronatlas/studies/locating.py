"""First stage of an atlas of knowledge neurons: attribute every prompt and keep its coarse sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from neuronatlas.addresses import address_of, address_schema
from neuronatlas.knowledge.attribution import Attribution, attribute_queries, suiting_queries
from neuronatlas.knowledge.corruptions import Corruption
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.refinement import coarse_set
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, QueryError
from neuronatlas.studies.settings import LocateSettings

__all__ = ["AskedFact", "ask", "located_part"]

PROMPTS = {
    "fact": pl.Int64,
    "prompt": pl.Int64,
    "text": pl.String,
    "p": pl.Float64,
    "log_odds": pl.Float64,
    "top1_token": pl.String,
    "is_top1": pl.Boolean,
    "tokens": pl.Int64,
    "mean_log_p": pl.Float64,
    "unit": pl.String,
    "gap": pl.Float64,
    "way": pl.String,
}
COARSE = {
    "fact": pl.Int64,
    "prompt": pl.Int64,
    "rule": pl.String,
}
TOKENS = {
    "fact": pl.Int64,
    "prompt": pl.Int64,
    "token": pl.Int64,
    "text": pl.String,
    "log_p": pl.Float64,
    "gap": pl.Float64,
}
TOKEN_COARSE = {
    "fact": pl.Int64,
    "prompt": pl.Int64,
    "token": pl.Int64,
}
SKIPPED = {
    "fact": pl.Int64,
    "relation": pl.String,
    "subject": pl.String,
    "answer": pl.String,
    "prompt": pl.Int64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class AskedFact:
    """A fact as this model can be asked it: queries by prompt index, and the prompts that do not suit, with reasons."""

    index: int
    fact: Fact
    queries: dict[int, Query]
    skipped: dict[int, str]

    @property
    def folds(self) -> dict[int, str]:
        """The fold, a or b, of each prompt that suits: in turn, so that neither is empty when there are two."""
        return {prompt: "ab"[rank % 2] for rank, prompt in enumerate(self.queries)}


def ask(
    model: Model, index: int, fact: Fact, position: str | int, site: str, corruption: Corruption | None = None
) -> AskedFact:
    """Encode the prompts of a fact that suit the model; the others are kept with the reason, not dropped in silence.

    A prompt that is to be corrupted and cannot be does not suit.
    """
    queries, skipped = suiting_queries(model, fact, position=position, site=site)
    if corruption is not None:
        for prompt, reason in _not_corruptible(model, queries, corruption):
            skipped[prompt] = reason
            del queries[prompt]
    return AskedFact(index, fact, queries, skipped)


def _not_corruptible(model: Model, queries: dict[int, Query], corruption: Corruption) -> list[tuple[int, str]]:
    reasons = []
    for prompt, asked in queries.items():
        try:
            corruption.require(model, asked)
        except QueryError as error:
            reasons.append((prompt, str(error)))
    return reasons


def located_part(
    model: Model, facts: Sequence[AskedFact], settings: LocateSettings, corruption: Corruption | None = None
) -> dict[str, pl.DataFrame]:
    """Tables of some facts: `prompts`, `coarse`, `skipped`; `tokens` and `token_coarse` of answers of several tokens.

    Batches go across facts and stay inside this part.
    """
    places = [(fact.index, number) for fact in facts for number in fact.queries]
    scores = attribute_queries(
        model,
        [query for fact in facts for query in fact.queries.values()],
        rule=settings.rule,
        steps=settings.steps,
        site=settings.site,
        budget=settings.attribution_budget,
        routing=settings.routing,
        corruption=corruption,
    )
    found = list(zip(places, scores, strict=True))
    address = {**address_schema(model.layout(settings.site)), "score": pl.Float64}
    skipped = [
        (asked.index, asked.fact.relation, asked.fact.subject, asked.fact.answer, number, reason)
        for asked in facts
        for number, reason in asked.skipped.items()
    ]
    return {
        "prompts": _frame([_prompt_row(place, score) for place, score in found], PROMPTS),
        "coarse": _frame(
            [row for place, score in found for row in _coarse_rows(place, score, settings)], {**COARSE, **address}
        ),
        "tokens": _frame([row for place, score in found for row in _token_rows(model, place, score)], TOKENS),
        "token_coarse": _frame(
            [row for place, score in found for row in _token_coarse_rows(place, score, settings)],
            {**TOKEN_COARSE, **address},
        ),
        "skipped": _frame(skipped, SKIPPED),
    }


def _frame(rows: Iterable[tuple[Any, ...]], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def _prompt_row(place: tuple[int, int], score: Attribution) -> tuple[Any, ...]:
    outcome, steps = score.answered, score.query.steps
    shown = (outcome.probability, outcome.log_odds, outcome.top_token, outcome.is_top)
    tokens = (len(steps), outcome.mean_log_probability, score.unit)
    return (*place, score.query.text, *shown, *tokens, _known(score.gap), score.way)


def _known(gap: float) -> float | None:
    return None if math.isnan(gap) else gap


def _token_rows(model: Model, place: tuple[int, int], score: Attribution) -> Iterator[tuple[Any, ...]]:
    for number, token in enumerate(score.tokens):
        text = str(model.tokenizer.convert_ids_to_tokens(token.query.first.answer_id))
        yield (*place, number, text, token.answered.log_probability, _known(token.gap))


def _token_coarse_rows(
    place: tuple[int, int], score: Attribution, settings: LocateSettings
) -> Iterator[tuple[Any, ...]]:
    for number, token in enumerate(score.tokens):
        for neuron in coarse_set(token, rule=settings.rule, threshold=settings.threshold_of(settings.rule)):
            yield (*place, number, *address_of(token.layout, neuron).values(), token[neuron])


def _coarse_rows(place: tuple[int, int], score: Attribution, settings: LocateSettings) -> Iterator[tuple[Any, ...]]:
    for rule in settings.rules:
        values = score.activations if rule == "activation" else score
        for neuron in coarse_set(values, rule=rule, threshold=settings.threshold_of(rule)):
            yield (*place, rule, *address_of(values.layout, neuron).values(), values[neuron])
