"""How likely a model finds an answer: token by token, and all of them together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neuronatlas.models.model import Model
from neuronatlas.models.queries import Query, Step

__all__ = ["Answered", "broken_rows", "joined", "log_odds", "read_answers", "regrouped", "token_names"]


@dataclass(frozen=True)
class Answered:
    """What a model makes of a query: P(answer), its log-odds log(P / (1 - P)), and the tokens it prefers.

    P of an answer of several tokens is the product along it: each token's P after the right ones before it.
    `token_log_probabilities` has their logarithms; `is_top` says that every token is the model's first choice.
    """

    probability: float
    log_odds: float
    top_token: str
    is_top: bool
    token_log_probabilities: tuple[float, ...]

    @property
    def log_probability(self) -> float:
        """Log P(answer)."""
        return sum(self.token_log_probabilities)

    @property
    def mean_log_probability(self) -> float:
        """Mean log P of the answer's tokens, which does not fall with their number."""
        return self.log_probability / len(self.token_log_probabilities)


def log_odds(
    logits: Float[Tensor, "row token"], answers: Sequence[int]
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """P(answer) and log(P / (1 - P)) of each row, in float64, without losing either end of the scale."""
    exact = logits.double()
    rows, columns = torch.arange(len(answers)), torch.as_tensor(answers)
    chosen = exact[rows, columns]
    others = exact.clone()
    others[rows, columns] = -torch.inf
    odds = chosen - torch.logsumexp(others, dim=1)
    return torch.sigmoid(odds), odds


def broken_rows(logits: Float[Tensor, "row token"]) -> Bool[Tensor, " row"]:
    """Which rows are no outcome of a model: those with a NaN or an infinity, or with no token that may be chosen.

    A token that a model rules out has -inf, which is no fault.

    >>> broken_rows(torch.tensor([[0.0, -torch.inf], [0.0, torch.nan], [torch.inf, 0.0]])).tolist()
    [False, True, True]
    """
    return ~torch.isfinite(logits.amax(1))


def read_answers(model: Model, steps: Sequence[Step], logits: Float[Tensor, "row token"]) -> list[Answered]:
    """Turn the logits at the answers' places into what the model makes of each step."""
    probabilities, odds = log_odds(logits, [step.answer_id for step in steps])
    top = logits.argmax(dim=1).tolist()
    tokens = token_names(model, top)
    logs = torch.nn.functional.logsigmoid(odds)
    return [
        Answered(float(p), float(o), token, index == step.answer_id, (float(log),))
        for step, p, o, log, index, token in zip(steps, probabilities, odds, logs, top, tokens, strict=True)
    ]


def token_names(model: Model, ids: Sequence[int]) -> list[str]:
    """Tokens as the tokenizer writes them; `[123]` of an id that has none.

    A vocabulary padded to a round size has rows that are no token of the tokenizer.
    """
    named = zip(model.tokenizer.convert_ids_to_tokens(list(ids)), ids, strict=True)
    return [token if isinstance(token, str) else f"[{index}]" for token, index in named]


def joined(tokens: Sequence[Answered]) -> Answered:
    """What the model makes of a whole answer, from what it makes of each of its tokens.

    >>> half = Answered(0.5, 0.0, "New", True, (math.log(0.5),))
    >>> both = joined([half, half])
    >>> both.probability, round(both.log_odds, 6), both.top_token, round(both.mean_log_probability, 6)
    (0.25, -1.098612, 'New New', -0.693147)
    """
    if len(tokens) == 1:
        return tokens[0]
    logs = tuple(log for token in tokens for log in token.token_log_probabilities)
    together = sum(logs)
    # log(1 - P) by expm1, so that nothing is lost where P is near 1.
    rest = -math.expm1(together)
    odds = together - math.log(rest) if rest > 0 else math.inf
    shown = " ".join(token.top_token for token in tokens)
    probability = math.prod(token.probability for token in tokens)
    return Answered(probability, odds, shown, all(token.is_top for token in tokens), logs)


def regrouped(queries: Sequence[Query], found: Iterable[Answered]) -> list[Answered]:
    """Join what was found of all steps, in order, into one outcome a query."""
    rest = iter(found)
    return [joined(list(islice(rest, len(query.steps)))) for query in queries]
