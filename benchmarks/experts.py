"""Locates facts in four toy mixtures of experts, and suppresses what was found one expert at a time.

    python benchmarks/experts.py --markdown docs/experts.md      # a minute
    python benchmarks/experts.py --quick                         # one style and a few facts, seconds

Every fact is attributed twice: with routing free, as the model sends the scaled rows, and frozen, as it sends the
unchanged prompt. The completeness gap of a prompt is that of its worst layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm.auto import tqdm

import neuronatlas as na
from neuronatlas.atlas.wording import number, percent
from neuronatlas.knowledge.attribution import Attribution, attribute_queries, fact_queries
from neuronatlas.knowledge.effects import Trial, run_trials
from neuronatlas.models.queries import Query
from neuronatlas.models.ways import Routing
from neuronatlas.neurons import Neuron, NeuronSet
from outcome import table
from trained_experts import STYLES, trained, world

ROUTINGS: tuple[Routing, ...] = ("free", "frozen")
Group = tuple[int, int | None]
"""A layer and an expert."""

HEADER = """# Mixtures of experts, one expert at a time

Made by `python benchmarks/experts.py --markdown docs/experts.md`. Four of transformers' own classes, at toy size
(three layers of four experts, two a token), were trained for seconds on 24 facts in three wordings each, until
-log P(answer) was 0.1 on average. What holds in them need not hold in a large model: the page shows what is
measured and that it is measured right, not how large models are.
"""
ROUTING_TEXT = """## Routing free and frozen

Scaling a neuron may send the layers above to other experts, where P(answer) jumps along the path of integration
and no rule is exact; the completeness gap (in units of P, of the worst layer of a prompt) tells of it. With
routing frozen the path is smooth. "Same neurons": facts for which both give the same knowledge neurons.
"Rerouted": prompts on which suppressing the fact's neurons, located with free routing, sends a position to other
experts.
"""
SUPPRESSED_TEXT = """## Suppressed one expert at a time

The knowledge neurons of each fact (routing free) that belong to one expert are set to 0, expert by expert; then
all of them together. Change of P: mean over the prompts of the facts that have neurons there of P after less P
before, over the mean of P before; of log-odds: mean of log(P / (1 - P)) after less before, in nats. Beside them as
many random neurons of the same expert. The last expert of Qwen and DeepSeek is the shared one.
"""


@dataclass(frozen=True)
class Located:
    """One fact under one routing: its prompts' scores and its knowledge neurons."""

    scores: list[Attribution]
    neurons: NeuronSet

    @property
    def gaps(self) -> list[float]:
        """Completeness gap of each prompt."""
        return [score.gap for score in self.scores]


@dataclass(frozen=True)
class Change:
    """What suppressing does to P(answer), and what as many random neurons do; over `facts` facts."""

    facts: int
    neurons: float
    change: float
    random: float
    log_odds: float
    random_log_odds: float


@dataclass(frozen=True)
class Study:
    """What was found on one style: the facts by routing, the share of prompts rerouted, the changes by expert."""

    style: str
    known: float
    located: Mapping[Routing, list[Located]]
    rerouted: float
    experts: Mapping[Group, Change]
    together: Change


def study(style: str, facts: Sequence[na.Fact]) -> Study:
    """Train one style, locate the facts and suppress their neurons."""
    model = trained(style)
    located = {routing: locate(model, facts, routing) for routing in ROUTINGS}
    found = {fact: one.neurons for fact, one in enumerate(located["free"])}
    queries = [list(fact_queries(model, fact).values()) for fact in facts]
    groups = sorted({group_of(n) for neurons in found.values() for n in neurons}, key=lambda g: (g[0], g[1] or 0))
    experts = {}
    for group in groups:
        mine = {fact: NeuronSet(s.layout, tuple(n for n in s if group_of(n) == group)) for fact, s in found.items()}
        experts[group] = suppressed(model, queries, {fact: neurons for fact, neurons in mine.items() if len(neurons)})
    tops = [score.answered.is_top for one in located["free"] for score in one.scores]
    moved = [reroutes(model, query, found[fact]) for fact, asked in enumerate(queries) for query in asked]
    together = suppressed(model, queries, {fact: neurons for fact, neurons in found.items() if len(neurons)})
    return Study(style, float(np.mean(tops)), located, float(np.mean(moved)), experts, together)


def group_of(neuron: Neuron) -> Group:
    """The layer and expert of a neuron."""
    return neuron.layer, neuron.expert


def locate(model: na.Model, facts: Sequence[na.Fact], routing: Routing) -> list[Located]:
    """The knowledge neurons of each fact, with the share of prompts tuned relation by relation."""
    queries = [list(fact_queries(model, fact).values()) for fact in facts]
    scores = [list(attribute_queries(model, asked, routing=routing)) for asked in queries]
    return [Located(*pair) for pair in zip(scores, na.locate(model, facts, routing=routing), strict=True)]


def suppressed(model: na.Model, queries: Sequence[Sequence[Query]], neurons: Mapping[int, NeuronSet]) -> Change:
    """Set some neurons of some facts to 0 on all of their prompts, and as many random ones of the same experts."""
    asked = [(query, fact) for fact in neurons for query in queries[fact]]
    control = {fact: own.random_like(seed=fact) for fact, own in neurons.items()}
    none = NeuronSet(model.layout(), ())
    outcomes = [
        list(run_trials(model, [Trial(query, sets[fact], 0.0) for query, fact in asked]))
        for sets in (dict.fromkeys(neurons, none), neurons, control)
    ]
    before, *after = (np.array([found.probability for found in run]) for run in outcomes)
    odds_before, *odds_after = (np.array([found.log_odds for found in run]) for run in outcomes)
    size = float(np.mean([len(own) for own in neurons.values()]))
    change, chance = (float((found - before).mean() / before.mean()) for found in after)
    odds, chance_odds = (float((found - odds_before).mean()) for found in odds_after)
    return Change(len(neurons), size, change, chance, odds, chance_odds)


def reroutes(model: na.Model, query: Query, neurons: NeuronSet) -> bool:
    """Whether suppressing neurons at the query's place sends any position to other experts."""
    return any(
        a != b for a, b in zip(routes(model, query, neurons, 1.0), routes(model, query, neurons, 0.0), strict=True)
    )


def routes(model: na.Model, query: Query, neurons: NeuronSet, gain: float) -> list[list[bool]]:
    """For each layer of experts, which of them each position has neurons in."""
    ids = torch.tensor([query.first.ids], device=model.device)
    with torch.no_grad(), na.scale(model, neurons, gain, query.first.position), na.capture(model) as seen:
        model.logits(ids)
    found = []
    for layer, values in sorted(seen.items()):
        widths = model.layout().experts_of(layer)
        found.append([bool(part.any()) for at in values[0] for part in at.split(widths)] if widths else [])
    return found


def routing_table(studies: Sequence[Study]) -> str:
    """Gaps under both routings, and how far the neurons that are found agree."""
    headings = ["style", "prompts", "known", "neurons a fact"]
    headings += [f"gap, {routing}: {what}" for routing in ROUTINGS for what in ("median", "largest")]
    rows = []
    for one in studies:
        gaps = {routing: [gap for found in one.located[routing] for gap in found.gaps] for routing in ROUTINGS}
        pairs = list(zip(one.located["free"], one.located["frozen"], strict=True))
        same = sum(free.neurons.members == frozen.neurons.members for free, frozen in pairs)
        size = float(np.mean([len(found.neurons) for found in one.located["free"]]))
        row = [one.style, f"{len(gaps['free'])}", percent(one.known), number(size, 1)]
        row += [f"{value:.1e}" for routing in ROUTINGS for value in (median(gaps[routing]), max(gaps[routing]))]
        rows.append([*row, f"{same} of {len(pairs)}", percent(one.rerouted)])
    return table([*headings, "same neurons", "rerouted"], rows)


def suppressed_table(studies: Sequence[Study]) -> str:
    """What suppressing each expert's neurons does."""
    rows = []
    for one in studies:
        named = {
            f"L{layer}" + ("" if expert is None else f".E{expert}"): c for (layer, expert), c in one.experts.items()
        }
        for name, change in {**named, "all of them": one.together}.items():
            effects = [percent(value, 1) for value in (change.change, change.random)]
            effects += [number(value, 2) for value in (change.log_odds, change.random_log_odds)]
            rows.append([one.style, name, str(change.facts), number(change.neurons, 1), *effects])
    headings = ["style", "expert", "facts", "neurons a fact", "change of P", "random", "of log-odds", "random"]
    return table(headings, rows)


def page(studies: Sequence[Study]) -> Iterator[str]:
    """The page in parts."""
    yield HEADER.rstrip()
    yield f"{ROUTING_TEXT}\n{routing_table(studies)}"
    yield f"{SUPPRESSED_TEXT}\n{suppressed_table(studies)}"


def main(
    markdown: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One style, four facts.")] = False,
) -> None:
    """Print, and with --markdown write, what was found."""
    styles = list(STYLES)[:1] if quick else list(STYLES)
    facts = world()[10:14] if quick else world()
    text = "\n\n".join(page([study(style, facts) for style in tqdm(styles, unit="style")]))
    typer.echo(text)
    if markdown is not None:
        markdown.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
