"""Compares the rules of attribution by what they are for: how far suppressing what they found moves the fact.

    python benchmarks/attribution_rules.py --markdown rules.md    # the specimen, and ParaRel's BERT if it is there
    python benchmarks/attribution_rules.py --quick                # a few facts of the specimen

Each rule scores the neurons on every other prompt of a fact; the neurons with the highest mean scores, equally many by
every rule, are then suppressed on the fact's other prompts, which the rule has not seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm.auto import tqdm

import neuronatlas as na
from neuronatlas.knowledge.attribution import attribute_queries, suiting_queries
from neuronatlas.knowledge.corruptions import CORRUPTIONS, Corruption
from neuronatlas.knowledge.effects import Trial, run_trials
from neuronatlas.knowledge.rules import RULES
from neuronatlas.models.queries import Query
from neuronatlas.readers import FactFileWarning
from neuronatlas.statistics import Interval, mean_of_ratios_of_means
from neuronatlas.studies.demo import demo_facts
from outcome import table
from subjects import MissingSubjectError, shared_folder

RELATIONS = ("P19", "P30", "P39", "P103", "P127", "P140", "P178", "P279", "P413", "P495", "P937", "P1412")
MOST_PROMPTS, SEED = 12, 0
REFERENCE = "gauss-legendre"


@dataclass(frozen=True)
class Asked:
    """A fact with the prompts that rules may look at, and those on which what they found is tried."""

    fact: na.Fact
    seen: list[Query]
    unseen: list[Query]


@dataclass(frozen=True)
class Found:
    """What a rule found on one model: effects of suppression with intervals over facts, and how it overlaps."""

    rule: str
    change: Interval
    log_odds: Interval
    overlap: float


def known_facts(model: na.Model, facts: Sequence[na.Fact], each: int, corruptions: Sequence[Corruption]) -> list[Asked]:
    """The first facts of each relation that the model knows: its answer is the first choice on half of the prompts.

    A prompt counts when every corruption can be applied to it; a fact when it has four of them.
    """
    kept: dict[str, list[Asked]] = {}
    for fact in tqdm(facts, desc="choosing", unit="fact", leave=False):
        if len(kept.setdefault(fact.relation, [])) == each:
            continue
        queries = [q for q in suiting_queries(model, fact)[0].values() if _corruptible(model, q, corruptions)]
        queries = queries[:MOST_PROMPTS]
        if len(queries) < 4:
            continue
        none = na.NeuronSet(model.layout(), ())
        clean = list(run_trials(model, [Trial(q, none, 1.0) for q in queries]))
        if np.mean([outcome.is_top for outcome in clean]) >= 0.5:
            kept[fact.relation].append(Asked(fact, queries[0::2], queries[1::2]))
    return [asked for group in kept.values() for asked in group]


def _corruptible(model: na.Model, query: Query, corruptions: Sequence[Corruption]) -> bool:
    try:
        for corruption in corruptions:
            corruption.require(model, query)
    except na.QueryError:
        return False
    return True


def top_neurons(
    model: na.Model, asked: Sequence[Asked], rule: str, corruption: Corruption | None, count: int
) -> list[na.NeuronSet]:
    """For each fact the neurons with the highest mean score over the prompts that may be seen."""
    chosen = []
    for one in tqdm(asked, desc=rule, unit="fact", leave=False):
        scores = na.NeuronScores.mean(list(attribute_queries(model, one.seen, rule=rule, corruption=corruption)))
        chosen.append(na.NeuronSet.of(model.layout(), scores.top(count)))
    return chosen


def effect(model: na.Model, asked: Sequence[Asked], chosen: Sequence[na.NeuronSet]) -> tuple[Interval, Interval]:
    """Change of P (a ratio of means) and of log-odds under suppression, on unseen prompts; means over relations."""
    none = na.NeuronSet(model.layout(), ())
    plans = [(index, query) for index, one in enumerate(asked) for query in one.unseen]
    before = list(run_trials(model, [Trial(query, none, 1.0) for _, query in plans]))
    after = list(run_trials(model, [Trial(query, chosen[index], 0.0) for index, query in plans]))
    sums = np.zeros((len(asked), 4))
    for (index, _), old, new in zip(plans, before, after, strict=True):
        sums[index] += (new.probability - old.probability, old.probability, new.log_odds - old.log_odds, 1.0)
    relations = [one.fact.relation for one in asked]
    groups = [sums[[r == relation for r in relations]] for relation in dict.fromkeys(relations)]
    change = mean_of_ratios_of_means([group[:, :2] for group in groups], seed=SEED)
    return change, mean_of_ratios_of_means([group[:, 2:] for group in groups], seed=SEED)


def compare(model: na.Model, facts: Sequence[na.Fact], each: int, count: int) -> tuple[int, list[Found]]:
    """All rules on some facts of a model, and random neurons in the layers of the reference's; and how many facts."""
    corruptions = {name: make(facts) for name, make in CORRUPTIONS.items()}
    asked = known_facts(model, facts, each, list(corruptions.values()))
    if not asked:
        raise SystemExit(f"{model.name} knows none of the {len(facts)} facts on prompts that can be corrupted")
    ways: dict[str, tuple[str, Corruption | None]] = {}
    for name, rule in RULES.items():
        if rule.corrupts:
            ways |= {f"{name}, {how}": (name, corruption) for how, corruption in corruptions.items()}
        else:
            ways[name] = (name, None)
    chosen = {name: top_neurons(model, asked, *way, count) for name, way in ways.items()}
    chosen["random neurons"] = [found.random_like(SEED + i) for i, found in enumerate(chosen[REFERENCE])]
    found = []
    for name, sets in chosen.items():
        shared = [len(own & right) / count for own, right in zip(sets, chosen[REFERENCE], strict=True)]
        found.append(Found(name, *effect(model, asked, sets), float(np.mean(shared))))
    return len(asked), found


def as_markdown(name: str, n_facts: int, found: Sequence[Found], count: int) -> str:
    """A table, the strongest rule first."""
    head = ("rule", "change of P", "change of log-odds", f"shared with {REFERENCE}")
    ordered = sorted(found, key=lambda one: one.log_odds.estimate)
    rows = [
        (one.rule, _interval(one.change, 100, " %"), _interval(one.log_odds, 1, ""), f"{one.overlap:.0%}")
        for one in ordered
    ]
    return f"`{name}`: {n_facts} facts, {count} neurons a fact, suppressed.\n\n{table(head, rows)}"


def _interval(found: Interval, scale: float, unit: str) -> str:
    low, high = found.low * scale, found.high * scale
    return f"{found.estimate * scale:+.2f}{unit} [{low:+.2f}, {high:+.2f}]"


def _pararel() -> tuple[na.Model, list[na.Fact]]:
    model = na.load(shared_folder("NEURONATLAS_MODELS", "models") / "pararel-bert")
    data = shared_folder("NEURONATLAS_DATA", "data") / "pararel" / "data_all_allbags.json.gz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FactFileWarning)
        return model, list(na.read_facts(data, relations=RELATIONS, limit=60))


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A few facts of the specimen.")] = False,
    each: Annotated[int, typer.Option(min=1, help="Known facts of each relation.")] = 4,
    count: Annotated[int, typer.Option(min=1, help="Neurons of each fact.")] = 5,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here too.")] = None,
) -> None:
    """Compare the rules, and print a table for each model."""
    model = na.load(na.specimen_folder())
    # A prompt is corrupted by the subjects of other facts of its relation, so one fact of each would not do.
    facts = demo_facts(model, max(each, 4))[: 4 if quick else None]
    parts = [as_markdown("specimen", *compare(model, facts, each, count), count)]
    if not quick:
        try:
            model, facts = _pararel()
            parts.append(as_markdown("pararel-bert", *compare(model, facts, each, count), count))
        except MissingSubjectError as missing:
            parts.append(f"`pararel-bert` left out: {missing}")
    text = "\n\n".join(parts) + "\n"
    typer.echo(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
