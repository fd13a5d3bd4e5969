"""What kind a pair of neurons is: whether the two make up for each other or need each other, by intervals over prompts.

Let I be the interaction, joint effect less both single effects, on each prompt, and J the joint effect. What the pair
contributes to the answer has the sign of J where neurons are amplified, and the opposite one where they are suppressed,
for then J is the loss. Changing the sign of a contribution changes nothing in I, so in both cases:

- `redundancy`: the pair contributes less than the sum of what each would contribute without the other. Suppressed, the
  two together cost more than one by one: each makes up for the loss of the other.
- `degenerate`: a redundancy of more than half of what the pair contributes: the interval over prompts of |I| - |J| / 2,
  with the signs that they have on the mean, lies above 0. Either will do: the pair contributes about what one does.
- `synergy`: the pair contributes more than that sum. Suppressed, the loss of one already costs what both do.
- `mixed`: they interact, but the interval of J holds 0, so that neither name fits.
- `none found`: no interaction was found, which does not prove that there is none.
- `untested`: one prompt alone, which gives no interval.

They interact where the p-value of I (t test over prompts), corrected for all pairs of the set (Benjamini and Hochberg),
is at most 0.05 and I is larger than rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from scipy import stats

from neuronatlas.statistics import benjamini_hochberg

__all__ = ["KINDS", "LEVEL", "PairValues", "pair_columns"]

KINDS = ("redundancy", "degenerate", "synergy", "mixed", "none found", "untested")
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class PairValues:
    """Effects on one measure: of single neurons, of pairs in the order of `itertools.combinations`, and their index.

    `error` is the standard error that sampling gives the mean of the index over prompts. What is no larger than
    `resolution` may be rounding.
    """

    single: Float[np.ndarray, "neuron prompt"]
    joint: Float[np.ndarray, "pair prompt"]
    shapley: Float[np.ndarray, "pair prompt"]
    error: Float[np.ndarray, " pair"]
    resolution: float

    @classmethod
    def of(
        cls,
        single: Float[np.ndarray, "neuron prompt"],
        joint: Float[np.ndarray, "pair prompt"],
        before: Float[np.ndarray, " prompt"],
        drawn: Float[np.ndarray, "round pair prompt"],
        resolution: float,
    ) -> Self:
        """From values of the measure under each condition, and estimates of the index, one where it is exact."""
        rounds, means = len(drawn), drawn.mean(2)
        error = means.std(0, ddof=1) / np.sqrt(rounds) if rounds > 1 else np.zeros(means.shape[1])
        return cls(single - before, joint - before, drawn.mean(0), error, resolution)

    @property
    def interaction(self) -> Float[np.ndarray, "pair prompt"]:
        """Joint effects less both single ones."""
        first, second = np.array(list(combinations(range(len(self.single)), 2))).T
        found: Float[np.ndarray, "pair prompt"] = self.joint - self.single[first] - self.single[second]
        return found


def pair_columns(names: Sequence[str], values: PairValues, measure: str, gain: float) -> pl.DataFrame:
    """The table of all pairs on one measure; columns as those of `Interactions.pairs`."""
    first, second = np.array(list(combinations(range(len(names)), 2))).T
    interaction, alone = values.interaction, values.single.mean(1)
    mean, low, high, p = _t_interval(interaction, values.resolution)
    shapley, shapley_low, shapley_high, _ = _t_interval(values.shapley, values.resolution)
    q = benjamini_hochberg(p) if interaction.shape[1] > 1 else p
    columns = {
        "measure": [measure] * len(first),
        "a": [names[i] for i in first],
        "b": [names[i] for i in second],
        "a_alone": alone[first],
        "b_alone": alone[second],
        "joint": values.joint.mean(1),
        "interaction": mean,
        "low": low,
        "high": high,
        "q": q,
        "shapley": shapley,
        "shapley_low": shapley_low,
        "shapley_high": shapley_high,
        "shapley_error": values.error,
        "kind": _kinds(values, q, gain),
    }
    return pl.DataFrame(columns, nan_to_null=True)


def _kinds(values: PairValues, q: Float[np.ndarray, " pair"], gain: float) -> list[str]:
    if values.joint.shape[1] < 2:
        return ["untested"] * len(values.joint)
    interaction, joint = values.interaction.mean(1), values.joint.mean(1)
    interact = (q <= LEVEL) & (np.abs(interaction) > values.resolution)
    clear = _moves(values.joint, values.resolution)
    contribution = np.sign(joint) * (1 if gain > 1 else -1)
    # What each would add again where the other is there already, beyond half of what both contribute.
    overlap = -contribution[:, None] * values.interaction - np.sign(joint)[:, None] * values.joint / 2
    either = _moves(overlap, values.resolution) & (overlap.mean(1) > 0)
    found = np.where(contribution * interaction > 0, "synergy", np.where(either, "degenerate", "redundancy"))
    kinds: list[str] = np.where(interact, np.where(clear, found, "mixed"), "none found").tolist()
    return kinds


def _moves(effects: Float[np.ndarray, "what prompt"], resolution: float) -> Bool[np.ndarray, " what"]:
    """Where the interval over prompts leaves out 0, and the mean is more than rounding."""
    mean, low, high, _ = _t_interval(effects, resolution)
    found: Bool[np.ndarray, " what"] = ((low > 0) | (high < 0)) & (np.abs(mean) > resolution)
    return found


def _t_interval(values: Float[np.ndarray, "what prompt"], resolution: float) -> tuple[Float[np.ndarray, " what"], ...]:
    """Mean over prompts, both ends of its 95 % t interval, and the p-value of a mean of 0; NaN for a single prompt.

    Prompts that agree to the last digit leave p at 0, or at 1 where their mean is no more than rounding.
    """
    n, mean = values.shape[1], values.mean(1)
    if n < 2:
        nothing = np.full(len(values), np.nan)
        return mean, nothing, nothing, nothing
    error = values.std(1, ddof=1) / np.sqrt(n)
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * error
    alike = np.where(np.abs(mean) > resolution, 0.0, 1.0)
    t = np.divide(np.abs(mean), error, out=np.zeros_like(mean), where=error > 0)
    return mean, mean - half, mean + half, np.where(error > 0, 2 * stats.t.sf(t, n - 1), alike)
