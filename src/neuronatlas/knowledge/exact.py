"""The exact edit: the smallest change of value slots that makes answers the new ones while other texts keep theirs.

Dai et al. (2022) leave it to future work. With the slots' change as the unknown x, each prompt of the fact asks that
the log-odds of its new answer reach a margin, and each of a sample of other prompts that the log-odds of what the model
answers there, against the new answers, stay (against all tokens they would hardly show a new answer on the rise).
Linearised at the current change this is least squares under inequalities, whose solution is closed (`least_change`); it
is solved again at the new change until the model itself, not its linearisation, obeys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.least_change import Change, Gram, LeastChangeError, gram_matrix, smallest_change
from neuronatlas.models.asking import BUDGET, all_logits, log_odds_of
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Step
from neuronatlas.models.slot_gradients import RowSlopes, slot_slopes, slots_shifted
from neuronatlas.models.slots import Slots

__all__ = ["ExactSettings", "Solution", "margins", "solve"]


@dataclass(frozen=True)
class ExactSettings:
    """What an exact edit aims at.

    `margin`: log-odds that the new answer is to have on every prompt (2: P = 0.88), see `margins`. `weight`: how much a
    move of the kept log-odds counts against the length of the change. `most_steps`: linearisations at most.
    """

    margin: float = 2.0
    weight: float = 100.0
    most_steps: int = 15
    budget: int = BUDGET


@dataclass(frozen=True, eq=False)
class Solution:
    """A change of slots [slot, width], the log-odds that it leads to, and whether every prompt reaches its aim.

    `kept_same` is the share of the kept rows on which the model still prefers the same token; `steps` how many
    linearisations it took; `binding` how many prompts hold the change back from being smaller.
    """

    shift: Float[Tensor, "slot width"]
    log_odds: Float[Tensor, " row"]
    kept_log_odds: Float[Tensor, " kept"]
    kept_same: float
    reached: bool
    steps: int
    binding: int


SLACK = 0.25
"""Share of the margin that may lack of an aim: linearisations come closer to it ever more slowly."""
LEAD = 0.1
"""By how much the logit of a new answer must be above every other, in any case."""
_RELINEARISED, _BISECTIONS, _WORTH = 2, 3, 0.9
_SHORTENED, _RAISE = 6, 0.5


def margins(now: Float[Tensor, " row"], settings: ExactSettings) -> Float[Tensor, " row"]:
    """The log-odds that each row is to reach: `margin`, but no more than what the model prefers there has `now`."""
    return now.clamp(max=settings.margin)


def solve(
    model: Model,
    slots: Sequence[Slots],
    rows: Sequence[Step],
    aims: Float[Tensor, " row"],
    kept: Sequence[Step],
    settings: ExactSettings,
) -> Solution:
    """Find the smallest shift of slots with which `rows` reach their aims and `kept` ones stay; write nothing."""
    count, width = sum(len(group.neurons) for group in slots), slots[0].width
    shift = torch.zeros(count, width, dtype=torch.float64, device=model.device)
    rivals = sorted({row.answer_id for row in rows})
    stay, best, least, binding, part = None, shift, torch.inf, 0, 1.0
    for step in range(settings.most_steps + 1):
        with slots_shifted(slots, shift):
            here = slot_slopes(model, slots, rows, budget=settings.budget)
            if kept and step < _RELINEARISED:
                near = slot_slopes(model, slots, kept, rivals=rivals, budget=settings.budget)
                stay = _stay(near, shift, stay)
        problem = _Problem(model, slots, rows, aims, stay, settings)
        standing = problem.standing(shift)
        # Another token may be ahead of the new answer though that is as likely as what was preferred: ask for more.
        behind = (standing.leads < LEAD) & (standing.log_odds > aims - _RAISE / 2)
        aims = torch.where(behind, standing.log_odds + _RAISE, aims)
        problem = replace(problem, aims=aims)
        if problem.reached(standing):
            worth = problem.cost(shift) < _WORTH * least
            best, least = (shift, problem.cost(shift)) if problem.cost(shift) < least else (best, least)
            if not worth:
                break
        if step == settings.most_steps:
            break
        try:
            found = problem.step(shift, here, standing, part)
        except LeastChangeError:
            break
        if found is None:
            break
        shift, binding, part = found
    return _solution(problem, best if least < torch.inf else shift, kept, step, binding)


@dataclass(frozen=True, eq=False)
class _Stay:
    """Kept rows: their slopes where they were last linearised, their log-odds at the start, and how far these are off.

    `off` is what the linearisation says of the log-odds' change where the shift is 0.
    """

    slopes: Float[Tensor, "kept number"]
    start: Float[Tensor, " kept"]
    off: Float[Tensor, " kept"]


def _stay(found: RowSlopes, shift: Tensor, before: _Stay | None) -> _Stay:
    start = found.log_odds if before is None else before.start
    return _Stay(found.slopes, start, found.log_odds - start - _times(found.slopes, shift.flatten()))


@dataclass(frozen=True, eq=False)
class _Standing:
    """How the rows' tokens stand: their log-odds, and by how much their logits lead all others."""

    log_odds: Float[Tensor, " row"]
    leads: Float[Tensor, " row"]


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is minimised: the shift's length and the kept log-odds' moves, while the rows reach their aims."""

    model: Model
    slots: Sequence[Slots]
    rows: Sequence[Step]
    aims: Float[Tensor, " row"]
    stay: _Stay | None
    settings: ExactSettings

    def reached(self, standing: _Standing) -> bool:
        enough = standing.log_odds >= self.aims - SLACK * self.settings.margin
        return bool((enough & (standing.leads >= LEAD)).all())

    def standing(self, shift: Tensor) -> _Standing:
        """Of the rows' tokens, as the model gives them with the shift."""
        odds = torch.zeros(len(self.rows), dtype=torch.float64, device=shift.device)
        leads = torch.zeros_like(odds)
        with slots_shifted(self.slots, shift):
            for batch, logits in all_logits(self.model, self.rows, self.settings.budget):
                tokens = torch.tensor([self.rows[index].answer_id for index in batch], device=logits.device)[:, None]
                others = logits.scatter(1, tokens, -torch.inf).amax(1)
                odds[batch] = log_odds_of(logits, tokens[:, 0].tolist()).double()
                leads[batch] = (logits.gather(1, tokens)[:, 0] - others).double()
        return _Standing(odds, leads)

    def cost(self, shift: Tensor) -> float:
        """What is minimised."""
        total = 0.5 * shift.pow(2).sum()
        if self.stay is not None:
            moves = _times(self.stay.slopes, shift.flatten()) + self.stay.off
            total = total + 0.5 * self.settings.weight * moves.pow(2).mean()
        return float(total)

    def step(
        self, shift: Tensor, here: RowSlopes, standing: _Standing, part: float
    ) -> tuple[Tensor, int, float] | None:
        """The next shift, how many conditions bind there, and the part to begin with then; None where none is better.

        Before the aims are reached: the smallest change of the present shift that goes towards them, and a step is
        better that comes closer; one that leads beyond is cut back to where they are just reached. From then on: the
        smallest shift altogether, and a step is better that costs less and still reaches them. Where the model does not
        follow its linearisation that far, less of the way is gone.
        """
        rows = here.slopes if self.stay is None else torch.cat([here.slopes, self.stay.slopes])
        gram, done, lacking = gram_matrix(rows), self.reached(standing), self._lacking(standing)
        for _ in range(_SHORTENED):
            change, centre = self._linearised(shift, here, gram, part, done)
            combination = torch.as_tensor(np.concatenate([change.of_conditions, change.of_kept]), device=shift.device)
            aim = centre + _times(rows.T, combination).reshape(shift.shape)
            there = self.standing(aim)
            if done:
                better = self.reached(there) and self.cost(aim) < self.cost(shift)
            else:
                better = self._lacking(there) < (1 - part / 4) * lacking
                if self.reached(there):
                    aim = self._cut_back(torch.zeros_like(shift), self._cut_back(shift, aim))
            if better:
                return aim, int((change.multipliers > 0).sum()), min(1.0, 2 * part)
            part = part / 3
        return None

    def _lacking(self, standing: _Standing) -> float:
        """What the rows lack of their aims, and of leading."""
        aims = (self.aims - standing.log_odds).clamp(min=0).sum()
        return float(aims + (LEAD - standing.leads).clamp(min=0).sum())

    def _cut_back(self, short: Tensor, beyond: Tensor) -> Tensor:
        """The point between two at which the conditions are just reached, by bisection."""
        for _ in range(_BISECTIONS):
            middle = (short + beyond) / 2
            short, beyond = (short, middle) if self.reached(self.standing(middle)) else (middle, beyond)
        return beyond

    def _linearised(self, shift: Tensor, here: RowSlopes, gram: Gram, part: float, done: bool) -> tuple[Change, Tensor]:
        """Solve the problem linearised at a shift: the change, about the centre that is returned with it."""
        moved = torch.zeros(0) if self.stay is None else _times(self.stay.slopes, shift.flatten())
        if not done:
            off = 0 * moved
            wanted, centre, weight = part * (self.aims - here.log_odds), shift, self.settings.weight
        else:
            # With d |x - s|^2 / 2 added, x = c + z, where c = s d / (1 + d) and z solves the same problem about c.
            centre = shift * (1 - part)
            off = moved * (1 - part) + (moved if self.stay is None else self.stay.off)
            wanted = torch.minimum(self.aims, here.log_odds) - here.log_odds
            wanted = wanted + _times(here.slopes, (shift - centre).flatten())
            weight = self.settings.weight * part
        return smallest_change(gram, wanted.cpu().numpy(), off.cpu().numpy(), weight), centre


def _times(rows: Tensor, vector: Tensor) -> Tensor:
    return (rows @ vector.to(rows)).double()


def _solution(problem: _Problem, shift: Tensor, kept: Sequence[Step], step: int, binding: int) -> Solution:
    odds, same = torch.zeros(len(kept), dtype=torch.float64), 0
    with slots_shifted(problem.slots, shift):
        for batch, logits in all_logits(problem.model, kept, problem.settings.budget):
            tokens = torch.tensor([kept[index].answer_id for index in batch], device=logits.device)
            odds[batch] = log_odds_of(logits, tokens.tolist()).double().cpu()
            same += int((logits.argmax(1) == tokens).sum())
    found = problem.standing(shift)
    share = same / len(kept) if kept else 1.0
    return Solution(shift, found.log_odds, odds, share, problem.reached(found), step, binding)
