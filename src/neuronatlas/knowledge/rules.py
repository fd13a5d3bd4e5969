"""Rules of attribution: each one gives a score to every neuron, for a batch of prompts.

Integrated gradients by one quadrature or another, the gradient times the activation, the activation itself, the direct
rise of log P, and attribution patching. To add one, write a function from `Asked` to `Scored` and a line in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.quadrature import QUADRATURES, RuleError, rule_nodes, usual_steps
from neuronatlas.models.direct import direct_gradients
from neuronatlas.models.gradients import Path, path_gradients
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Unit
from neuronatlas.models.ways import Prompts, Routing

__all__ = ["RULES", "Asked", "Rule", "Scored", "chosen_rule", "rule_steps"]


@dataclass(frozen=True, eq=False)
class Asked:
    """What a rule scores: prompts of one shape at a site, and how; `corrupted` are the neurons of corrupted prompts."""

    model: Model
    prompts: Prompts
    site: str
    steps: int | None
    budget: int
    routing: Routing
    corrupted: Float[Tensor, "prompt neuron"] | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores and activations of all layers' neurons, side by side, with what the clean pass gave; as in `Path`."""

    scores: Float[Tensor, "prompt neuron"]
    activations: Float[Tensor, "prompt neuron"]
    clean_logits: Float[Tensor, "prompt token"]
    zeroed: Float[Tensor, "layer prompt"]
    way: str


@dataclass(frozen=True)
class Rule:
    """A rule by name: its function, the unit it scores in whatever the answer, and whether it needs a corruption."""

    name: str
    score: Callable[[Asked], Scored]
    summary: str
    unit: Unit | None = None
    corrupts: bool = False


def _by_quadrature(name: str) -> Callable[[Asked], Scored]:
    def score(asked: Asked) -> Scored:
        nodes, weights = rule_nodes(name, usual_steps(name, asked.steps, kinks=has_kinks(asked.model)))
        path = _path(asked, nodes, weights)
        return _scored(path, path.scores())

    return score


def _activation(asked: Asked) -> Scored:
    path = _path(asked, (), ())
    return _scored(path, path.activations())


def _direct(asked: Asked) -> Scored:
    """A first-order account of what each neuron's value slot adds to log P past all other neurons and heads."""
    if asked.routing == "frozen":
        raise RuleError("rule 'direct' leaves the routing as it is: take routing 'free'")
    path = direct_gradients(asked.model, asked.prompts, asked.site)
    return _scored(path, path.scores())


def _patching(asked: Asked) -> Scored:
    """A first-order account of what P loses when a neuron takes its value in the corrupted prompt (Nanda 2023)."""
    assert asked.corrupted is not None
    path = _path(asked, (1.0,), (1.0,))
    slopes = torch.cat([layer.to(path.gradients[0]) for layer in path.gradients], dim=1)
    scores = path.scores() - asked.corrupted.to(slopes) * slopes
    return replace(_scored(path, scores), zeroed=torch.full_like(path.zeroed, torch.nan))


def _path(asked: Asked, nodes: Sequence[float], weights: Sequence[float]) -> Path:
    return path_gradients(
        asked.model,
        asked.prompts,
        nodes,
        weights,
        site=asked.site,
        budget=asked.budget,
        routing=asked.routing,
    )


def _scored(path: Path, scores: Float[Tensor, "prompt neuron"]) -> Scored:
    return Scored(scores, path.activations(), path.clean_logits, path.zeroed, path.way)


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        *(Rule(name, _by_quadrature(name), quadrature.summary) for name, quadrature in QUADRATURES.items()),
        Rule("direct", _direct, "the direct rise of log P through the output embedding, to first order", unit="log P"),
        Rule(
            "attribution-patching",
            _patching,
            "what P loses when neurons are as in a corrupted prompt, to first order",
            corrupts=True,
        ),
        Rule("activation", _activation, "the activation itself: the baseline of Dai et al."),
    )
}


def chosen_rule(name: str, steps: int | None = None) -> Rule:
    """A rule by its name.

    Errors: RuleError for an unknown rule, or fewer than one step of one that takes steps.
    """
    if name not in RULES:
        raise RuleError(f"no rule {name!r}: expected one of {', '.join(RULES)}")
    rule_steps(name, steps, kinks=False)
    return RULES[name]


def rule_steps(name: str, steps: int | None, *, kinks: bool) -> int:
    """How many points a rule takes: those of its quadrature (see `usual_steps`), or 0 where it has none.

    >>> rule_steps("gauss-legendre", None, kinks=True), rule_steps("direct", 7, kinks=True)
    (18, 0)
    """
    return usual_steps(name, steps, kinks=kinks) if name in QUADRATURES else 0
