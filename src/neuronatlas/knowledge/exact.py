"""The exact edit: the smallest change of value slots that makes answers the new ones while other texts keep theirs.

Dai et al. (2022) leave it to future work. With the slots' change as the unknown x, each prompt of the fact asks that
the log-odds of its new answer reach a margin, and each of a sample of other prompts that the log-odds of what the model
answers there, against the new answers, stay (against all tokens they would hardly show a new answer on the rise).
Linearised at the current change this is least squares under inequalities, whose solution is closed (`least_change`); it
is solved again at the new change until the model itself, not its linearisation, obeys. The kept prompts are many:
they are linearised where the change is 0, and anew only where the model then does not keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neuronatlas.knowledge.keeping import Kept
from neuronatlas.knowledge.least_change import Change, Gram, LeastChangeError, gram_matrix, smallest_change
from neuronatlas.models.asking import BUDGET, all_logits, log_odds_of
from neuronatlas.models.model import Model
from neuronatlas.models.queries import Step
from neuronatlas.models.slot_gradients import RowSlopes, slot_slopes, slots_shifted
from neuronatlas.models.slots import Slots

__all__ = ["ExactSettings", "Solution", "Task", "margins", "solve"]


@dataclass(frozen=True)
class ExactSettings:
    """What an exact edit aims at.

    `margin`: log-odds that the new answer is to have on every prompt (2: P = 0.88), see `margins`. `weight`: how much a
    move of the kept log-odds counts against the length of the change. `firm`: how much it counts, prompt by prompt,
    where a kept answer's lead falls below `safe`, or below what it was where that is less. `kept_share`: the share of
    the kept prompts, those fitted and those watched, that has to be safe (see `Kept.safe`). `most_steps`:
    linearisations at most.
    """

    margin: float = 2.0
    weight: float = 100.0
    firm: float = 10.0
    safe: float = 1.0
    kept_share: float = 0.99
    most_steps: int = 15
    budget: int = BUDGET


@dataclass(frozen=True, eq=False)
class Task:
    """What an exact edit is to reach, whatever neurons it takes: `rows` their `aims`, `kept` and `watched` to stay.

    The edit is fitted to `kept`; `watched` tells how it does on what it has not seen.
    """

    model: Model
    rows: Sequence[Step]
    aims: Float[Tensor, " row"]
    kept: Kept
    watched: Kept
    settings: ExactSettings


@dataclass(frozen=True, eq=False)
class Solution:
    """A change of slots [slot, width], the log-odds that it leads to, and whether every prompt reaches its aim.

    `kept_same` is the share of the fitted and watched rows on which the model still prefers the same token, `safe` of
    those that are safe (see `Kept.safe`), `watched_safe` of the watched ones alone; `steps` how many linearisations it
    took; `binding` how many prompts hold the change back from being smaller.
    """

    shift: Float[Tensor, "slot width"]
    log_odds: Float[Tensor, " row"]
    reached: bool
    kept_same: float
    safe: float
    watched_safe: float
    steps: int
    binding: int

    @property
    def order(self) -> tuple[bool, float]:
        """What makes one better than another: that every prompt reaches its aim, then what is kept."""
        return self.reached, self.safe

    def suffices(self, settings: ExactSettings) -> bool:
        """Whether it reaches the aims and keeps enough."""
        return self.reached and self.safe >= settings.kept_share


SLACK = 0.25
"""Share of the margin that may lack of an aim: linearisations come closer to it ever more slowly."""
LEAD = 0.1
"""By how much the logit of a new answer must be above every other, in any case."""
_BISECTIONS, _WORTH = 3, 0.9
_AGAIN, _HELPED = 4, 0.8
"""How often the kept rows are linearised anew, at the change that was found, while too few of them are safe and each
time no more than this share of the unsafe is left."""
_SHORTENED, _RAISE = 6, 0.5


def margins(now: Float[Tensor, " row"], settings: ExactSettings) -> Float[Tensor, " row"]:
    """The log-odds that each row is to reach: `margin`, but no more than what the model prefers there has `now`."""
    return now.clamp(max=settings.margin)


def solve(task: Task, slots: Sequence[Slots]) -> Solution:
    """Find the smallest shift of slots with which the rows reach their aims and the kept ones stay; write nothing."""
    shift = torch.zeros(sum(len(group.neurons) for group in slots), slots[0].width, dtype=torch.float64)
    shift = shift.to(task.model.device)
    found = _descend(_problem(task, slots, shift), shift)
    return found if found.suffices(task.settings) or not found.reached else _improve(task, slots, found)


def _improve(task: Task, slots: Sequence[Slots], found: Solution) -> Solution:
    """Linearise the kept rows anew at a solution, and descend from there; again while that leaves fewer unsafe."""
    best = last = found
    for _ in range(_AGAIN):
        again = _descend(_problem(task, slots, last.shift), last.shift, bold=True)
        helped, last = 1 - again.safe <= _HELPED * (1 - last.safe), replace(again, steps=last.steps + again.steps)
        best = max(best, last, key=lambda one: one.order)
        if best.suffices(task.settings) or not helped or not last.reached:
            break
    return best


def _problem(task: Task, slots: Sequence[Slots], shift: Tensor) -> _Problem:
    """The task for some slots, the kept rows linearised at a shift."""
    if not task.kept.rows:
        return _Problem(task, slots, task.aims, None)
    with slots_shifted(slots, shift):
        found = slot_slopes(task.model, slots, task.kept.rows, rivals=task.kept.rivals, budget=task.settings.budget)
    off = found.log_odds - task.kept.leads - _times(found.slopes, shift.flatten())
    return _Problem(task, slots, task.aims, _Stay(found.slopes, gram_matrix(found.slopes), task.kept.leads, off))


def _descend(problem: _Problem, shift: Tensor, bold: bool = False) -> Solution:
    """From a shift, step by step, to one that reaches the aims and costs little.

    A `bold` first step may lose the aims for what it saves; the steps after it come back to them.
    """
    standing, best, binding, part, done = problem.standing(shift), None, 0, 1.0, 0
    for done in range(problem.settings.most_steps + 1):
        # Another token may be ahead of the new answer though that is as likely as what was preferred: ask for more.
        behind = (standing.leads < LEAD) & (standing.log_odds > problem.aims - _RAISE / 2)
        problem = replace(problem, aims=torch.where(behind, standing.log_odds + _RAISE, problem.aims))
        if problem.reached(standing):
            cost = problem.cost(shift)
            worth = best is None or cost < _WORTH * best[0]
            best = (cost, shift, standing) if best is None or cost < best[0] else best
            if not worth:
                break
        if done == problem.settings.most_steps:
            break
        found = problem.step(shift, standing, part, bold and done == 0)
        if found is None:
            break
        shift, standing, binding, part = found
    _, shift, standing = best or (0.0, shift, standing)
    return _told(problem, shift, standing, done, binding)


def _told(problem: _Problem, shift: Tensor, standing: _Standing, steps: int, binding: int) -> Solution:
    """The solution that a shift is, with what becomes of the rows that are to stay."""
    task, same, safe = problem.task, list[Tensor](), list[Tensor]()
    with slots_shifted(problem.slots, shift):
        for some in (task.kept, task.watched):
            seen = some.seen(task.model, task.settings.budget)
            same.append(seen.same)
            safe.append(some.safe(seen, task.settings.safe))
    shares = (_share(torch.cat(same)), _share(torch.cat(safe)), _share(safe[1]))
    return Solution(shift, standing.log_odds, problem.reached(standing), *shares, steps, binding)


def _share(rows: Tensor) -> float:
    return float(rows.double().mean()) if len(rows) else 1.0


@dataclass(frozen=True, eq=False)
class _Stay:
    """Kept rows: their slopes where they were last linearised, these slopes' Gram matrix, and their leads.

    `start` are the leads at the start, `off` what the linearisation says of their change where the shift is 0.
    """

    slopes: Float[Tensor, "kept number"]
    gram: Gram
    start: Float[Tensor, " kept"]
    off: Float[Tensor, " kept"]


@dataclass(frozen=True, eq=False)
class _Standing:
    """How the rows' tokens stand: their log-odds, and by how much their logits lead all others."""

    log_odds: Float[Tensor, " row"]
    leads: Float[Tensor, " row"]


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is minimised: the shift's length and what the kept leads move and lose, while the rows reach their aims."""

    task: Task
    slots: Sequence[Slots]
    aims: Float[Tensor, " row"]
    stay: _Stay | None

    @property
    def model(self) -> Model:
        return self.task.model

    @property
    def rows(self) -> Sequence[Step]:
        return self.task.rows

    @property
    def settings(self) -> ExactSettings:
        return self.task.settings

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
            fallen = (self._floor() - moves).clamp(min=0)
            total = total + 0.5 * self.settings.weight * moves.pow(2).mean()
            total = total + 0.5 * self.settings.firm * fallen.pow(2).sum()
        return float(total)

    def step(
        self, shift: Tensor, standing: _Standing, part: float, bold: bool = False
    ) -> tuple[Tensor, _Standing, int, float] | None:
        """The next shift, how the rows stand there, how many conditions bind, and the part to begin with then.

        Before the aims are reached: the smallest change of the present shift that goes towards them, and a step is
        better that comes closer; one that leads beyond is cut back to where they are just reached. From then on: the
        smallest shift altogether, and a step is better that costs less and still reaches them. Where the model does not
        follow its linearisation that far, less of the way is gone. None where no step is better.
        """
        with slots_shifted(self.slots, shift):
            here = slot_slopes(self.model, self.slots, self.rows, budget=self.settings.budget)
        gram, done, lacking = self._gram(here), self.reached(standing), self._lacking(standing)
        for _ in range(_SHORTENED):
            try:
                change, centre = self._linearised(shift, here, gram, part, done)
            except LeastChangeError:
                return None
            aim = centre + self._combined(change, here).reshape(shift.shape)
            there = self.standing(aim)
            if done:
                better = (bold or self.reached(there)) and self.cost(aim) < self.cost(shift)
            else:
                better = self._lacking(there) < (1 - part / 4) * lacking
                if self.reached(there):
                    aim, there = self._cut_back(shift, aim, there)
            if better:
                return aim, there, int((change.multipliers > 0).sum()), min(1.0, 2 * part)
            part = part / 3
        return None

    def _gram(self, here: RowSlopes) -> Gram:
        """Inner products of the rows' slopes, then the kept ones', of which those among themselves are known."""
        if self.stay is None:
            return gram_matrix(here.slopes)
        inner, cross = gram_matrix(here.slopes), gram_matrix(self.stay.slopes, here.slopes)
        return np.block([[inner, cross.T], [cross, self.stay.gram]])

    def _combined(self, change: Change, here: RowSlopes) -> Tensor:
        total = _times(here.slopes.T, torch.as_tensor(change.of_conditions, device=here.slopes.device))
        if self.stay is not None:
            total = total + _times(self.stay.slopes.T, torch.as_tensor(change.of_kept, device=total.device))
        return total

    def _lacking(self, standing: _Standing) -> float:
        """What the rows lack of their aims, and of leading."""
        aims = (self.aims - standing.log_odds).clamp(min=0).sum()
        return float(aims + (LEAD - standing.leads).clamp(min=0).sum())

    def _cut_back(self, short: Tensor, beyond: Tensor, there: _Standing) -> tuple[Tensor, _Standing]:
        """The point between two at which the conditions are just reached, by bisection."""
        for _ in range(_BISECTIONS):
            middle = (short + beyond) / 2
            between = self.standing(middle)
            if self.reached(between):
                beyond, there = middle, between
            else:
                short = middle
        return beyond, there

    def _floor(self) -> Tensor:
        """How far each kept lead may move without falling below what is safe, or below what it was."""
        assert self.stay is not None
        return (self.settings.safe - self.stay.start).clamp(max=0)

    def _linearised(self, shift: Tensor, here: RowSlopes, gram: Gram, part: float, done: bool) -> tuple[Change, Tensor]:
        """Solve the problem linearised at a shift: the change, about the centre that is returned with it."""
        weights = self.settings.weight, self.settings.firm
        if not done:
            wanted, centre = part * (self.aims - here.log_odds), shift
        else:
            # With d |x - s|^2 / 2 added, x = c + z, where c = s d / (1 + d) and z solves the same problem about c.
            centre = shift * (1 - part)
            wanted = torch.minimum(self.aims, here.log_odds) - here.log_odds
            wanted = wanted + _times(here.slopes, (shift - centre).flatten())
            weights = part * weights[0], part * weights[1]
        if self.stay is None:
            return smallest_change(gram, wanted.cpu().numpy(), np.zeros(0), 0.0), centre
        moved = _times(self.stay.slopes, centre.flatten()) + self.stay.off
        # On the way to the aims only what is added counts, but for what has fallen.
        off = moved if done else 0 * moved
        floor = self._floor() - moved + off
        asked, strayed, least = (tensor.cpu().numpy() for tensor in (wanted, off, floor))
        return smallest_change(gram, asked, strayed, weights[0], least, weights[1]), centre


def _times(rows: Tensor, vector: Tensor) -> Tensor:
    return (rows @ vector.to(rows)).double()
