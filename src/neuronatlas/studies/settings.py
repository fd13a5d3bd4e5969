"""The settings of an atlas of knowledge neurons: all that its tables depend on beside the model and the facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from neuronatlas.knowledge.budgets import DEFAULT_BUDGET, Budget, found_budget
from neuronatlas.knowledge.corruptions import CORRUPTIONS, Corruption
from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.quadrature import DEFAULT_RULE
from neuronatlas.knowledge.rules import RULES, chosen_rule, rule_steps
from neuronatlas.models import Model
from neuronatlas.models.queries import Query
from neuronatlas.models.ways import Routing

__all__ = ["LocateSettings", "SettingsError", "described", "facts_digest", "settled"]

EFFECTS_PER_ATTRIBUTION = 4


class SettingsError(ValueError):
    """Settings that make no sense."""


@dataclass(frozen=True)
class LocateSettings:
    """How knowledge neurons are located and tested.

    `share` is the share of prompts that must agree, or "tuned" for the search of Dai et al. (2022), relation by
    relation. `corruption` is that of attribution patching, one of `CORRUPTIONS`; no other rule has any.
    `gains` are the factors of the interventions: 0 suppresses, 2 doubles. `facts_per_part` facts are worked on and kept
    together, so an interruption loses at most that many. `routing` is that of a mixture of experts during attribution,
    free or frozen; interventions always leave it free. `attribution_budget` and `effects_budget` bound the token
    positions computed at once; they belong to the settings because sums in another order differ in the last bits. An
    attribution budget of "auto", or of an amount of memory such as "8GB", is settled when the atlas is begun.
    """

    rule: str = DEFAULT_RULE
    steps: int | None = None
    threshold: float = 0.2
    activation_threshold: float = 0.5
    share: float | Literal["tuned"] = "tuned"
    gains: tuple[float, ...] = (0.0, 2.0)
    position: str | int = "answer"
    site: str = "ffn"
    routing: Routing = "free"
    corruption: str = "noise"
    seed: int = 0
    facts_per_part: int = 16
    attribution_budget: Budget = DEFAULT_BUDGET
    effects_budget: int = DEFAULT_BUDGET * EFFECTS_PER_ATTRIBUTION

    def __post_init__(self) -> None:
        chosen_rule(self.rule, self.steps)
        if self.share != "tuned" and not 0 < self.share <= 1:
            raise SettingsError(f"share {self.share}: expected a number above 0 and up to 1, or tuned")
        for name in ("threshold", "activation_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsError(f"{name} {getattr(self, name)}: expected a number above 0 and up to 1")
        if self.routing not in ("free", "frozen"):
            raise SettingsError(f"routing {self.routing!r}: expected free or frozen")
        if self.corruption not in CORRUPTIONS:
            raise SettingsError(f"corruption {self.corruption!r}: expected one of {', '.join(CORRUPTIONS)}")
        if not self.gains or len(set(self.gains)) != len(self.gains):
            raise SettingsError(f"gains {self.gains}: expected one or more different numbers")

    def corruption_of(self, facts: Sequence[Fact]) -> Corruption | None:
        """How prompts are corrupted, of a rule that corrupts them."""
        return CORRUPTIONS[self.corruption](facts) if RULES[self.rule].corrupts else None

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule asked for, and the activation baseline beside it."""
        return tuple(dict.fromkeys((self.rule, "activation")))

    def threshold_of(self, rule: str) -> float:
        """Coarse threshold of one of the rules."""
        return self.activation_threshold if rule == "activation" else self.threshold


def settled(
    settings: LocateSettings, model: Model, queries: Sequence[Query], earlier: Mapping[str, Any]
) -> LocateSettings:
    """The settings with numbers for budgets: those of the atlas that is taken up, or else found on the model.

    The budget of effects, which keep no gradients, is then four times that of attribution.

    Errors: MemoryLimitError for a limit that cannot be read or is too small.
    """
    budget = settings.attribution_budget
    if isinstance(budget, int):
        return settings
    found, effects = (earlier.get(name) for name in ("attribution_budget", "effects_budget"))
    if not (isinstance(found, int) and isinstance(effects, int)):
        found = found_budget(
            model,
            queries,
            budget,
            rule=settings.rule,
            steps=settings.steps,
            site=settings.site,
            routing=settings.routing,
        )
        effects = found * EFFECTS_PER_ATTRIBUTION
    return replace(settings, attribution_budget=found, effects_budget=effects)


def described(settings: LocateSettings, facts: Sequence[Fact], *, kinks: bool, routed: bool) -> dict[str, Any]:
    """The settings as plain JSON, with the steps that the model's neurons get spelled out and a digest of the facts.

    Of a model that is not `routed` to experts, routing is no setting; nor is corruption of a rule without any.
    """
    steps = rule_steps(settings.rule, settings.steps, kinks=kinks)
    found = asdict(settings) | {"steps": steps, "gains": list(settings.gains)}
    if not routed:
        del found["routing"]
    if not RULES[settings.rule].corrupts:
        del found["corruption"]
    return found | {"n_facts": len(facts), "facts_digest": facts_digest(facts)}


def facts_digest(facts: Sequence[Fact]) -> str:
    """Tell one list of facts from another: SHA-256 over all they hold, its first 16 digits."""
    text = json.dumps([asdict(fact) for fact in facts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
