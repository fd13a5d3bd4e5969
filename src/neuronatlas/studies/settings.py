"""The settings of an atlas of knowledge neurons: all that its tables depend on beside the model and the facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuronatlas.knowledge.facts import Fact
from neuronatlas.knowledge.quadrature import DEFAULT_RULE, usual_steps
from neuronatlas.models.ways import Routing

__all__ = ["LocateSettings", "SettingsError", "described", "facts_digest"]


class SettingsError(ValueError):
    """Settings that make no sense."""


@dataclass(frozen=True)
class LocateSettings:
    """How knowledge neurons are located and tested.

    `share` is the share of prompts that must agree, or "tuned" for the search of Dai et al. (2022), relation by
    relation.
    `gains` are the factors of the interventions: 0 suppresses, 2 doubles. `facts_per_part` facts are worked on and kept
    together, so an interruption loses at most that many. `routing` is that of a mixture of experts during attribution,
    free or frozen; interventions always leave it free. `attribution_budget` and `effects_budget` bound the token
    positions computed at once; they belong to the settings because sums in another order differ in the last bits.
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
    seed: int = 0
    facts_per_part: int = 16
    attribution_budget: int = 2048
    effects_budget: int = 8192

    def __post_init__(self) -> None:
        usual_steps(self.rule, self.steps, kinks=False)
        if self.share != "tuned" and not 0 < self.share <= 1:
            raise SettingsError(f"share {self.share}: expected a number above 0 and up to 1, or tuned")
        for name in ("threshold", "activation_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsError(f"{name} {getattr(self, name)}: expected a number above 0 and up to 1")
        if self.routing not in ("free", "frozen"):
            raise SettingsError(f"routing {self.routing!r}: expected free or frozen")
        if not self.gains or len(set(self.gains)) != len(self.gains):
            raise SettingsError(f"gains {self.gains}: expected one or more different numbers")

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule asked for, and the activation baseline beside it."""
        return tuple(dict.fromkeys((self.rule, "activation")))

    def threshold_of(self, rule: str) -> float:
        """Coarse threshold of one of the rules."""
        return self.activation_threshold if rule == "activation" else self.threshold


def described(settings: LocateSettings, facts: Sequence[Fact], *, kinks: bool, routed: bool) -> dict[str, Any]:
    """The settings as plain JSON, with the steps that the model's neurons get spelled out and a digest of the facts.

    Of a model that is not `routed` to experts, routing is no setting.
    """
    steps = usual_steps(settings.rule, settings.steps, kinks=kinks)
    found = asdict(settings) | {"steps": steps, "gains": list(settings.gains)}
    if not routed:
        del found["routing"]
    return found | {"n_facts": len(facts), "facts_digest": facts_digest(facts)}


def facts_digest(facts: Sequence[Fact]) -> str:
    """Tell one list of facts from another: SHA-256 over all they hold, its first 16 digits."""
    text = json.dumps([asdict(fact) for fact in facts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
