"""What a specimen knows and where: the tables of docs/specimen.md. `python benchmarks/specimen.py causal [FOLDER]`.

Without a folder, the specimen as it ships. What it knows is read from training.json. Its knowledge neurons are found by
the paper's method (left sum of 20 points, threshold 0.2, at least 70 % of the prompts, nothing tuned) for facts spread
evenly over the list of each relation, or of each number of words. They are suppressed and amplified on the prompts that
they were found with and on held-out ones, beside equally many random neurons of the same layers. Changes are those of
the mean P(answer), in per cent.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from tqdm.auto import tqdm

import neuronatlas as na
from neuronatlas.specimen import specimen_folder
from neuronatlas.specimen.records import SpecimenFact, read_facts
from neuronatlas.specimen.world import LANGUAGES

FACTS_A_GROUP = 6
GAINS = (0.0, 2.0)


@dataclass(frozen=True)
class Found:
    """One fact's neurons by layer, and sums of P(answer): before, and after each gain of its neurons or random ones."""

    layers: Counter[int]
    sums: dict[tuple[str, ...], float]


def known(training: dict[str, Any]) -> Iterator[str]:
    """Top-1 and P(answer) by half, by relation and language, and of compositions."""
    yield "| half | top-1 trained | P | top-1 held-out | P |"
    yield "|---|---|---|---|---|"
    for half, kinds in training["summary"].items():
        cells = [f"{100 * kinds[k]['top1']:.1f} % | {kinds[k]['p']:.2f}" for k in kinds]
        yield f"| {half} | {' | '.join(cells)} |"
    yield from ("", "| relation | language | half | trained | held-out |", "|---|---|---|---|---|")
    for (group, language), cells in _pairs(training["facts"]):
        half = next(half for half, names in training["halves"].items() if group in names)
        yield f"| {group} | {language} | {half} | {' | '.join(cells)} |"
    yield from ("", "| kind | trained | held-out |", "|---|---|---|")
    for (group, _), cells in _pairs(training["compositions"]):
        yield f"| {group} | {' | '.join(cells)} |"


def _pairs(scores: Sequence[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """(group, language), and its trained and held-out scores as cells of a table."""
    by_group: dict[tuple[str, str], dict[bool, str]] = defaultdict(dict)
    for score in scores:
        cell = f"{100 * score['top1']:.1f} ({score['p']:.2f})"
        by_group[score["group"], score["language"]][score["held_out"]] = cell
    for key in sorted(by_group, key=lambda key: (key[0], LANGUAGES.index(key[1]))):
        yield key, [by_group[key][held_out] for held_out in (False, True)]


def measured(model: na.Model, record: SpecimenFact, seed: int) -> Found:
    """Find the neurons of one fact and try them."""
    fact = na.Fact(record.relation, record.subject, record.answer, record.prompts)
    held_out = na.Fact(record.relation, record.subject, record.answer, record.held_out_prompts)
    neurons = na.locate(model, fact, share=0.7, rule="left-riemann", steps=20)
    sums: dict[tuple[str, ...], float] = {}
    for asked, prompts in (("trained", fact), ("held-out", held_out)):
        for whose, chosen in (("own", neurons), ("random", neurons.random_like(seed))):
            table = na.effects(model, prompts, chosen, gains=GAINS)
            sums[asked, "before"] = float(table.filter(pl.col("gain") == GAINS[0])["p_before"].to_numpy().sum())
            for gain in GAINS:
                after = table.filter(pl.col("gain") == gain)["p_after"].to_numpy()
                sums[asked, whose, f"{gain:g}"] = float(after.sum())
    return Found(Counter(neuron.layer for neuron in neurons), sums)


def row(name: str, facts: Sequence[Found]) -> tuple[str, list[float]]:
    """A group's line of the table, and its numbers."""
    layers = sum((fact.layers for fact in facts), Counter[int]())

    def change(*key: str) -> float:
        before = sum(fact.sums[key[0], "before"] for fact in facts)
        return 100 * (sum(fact.sums[key] for fact in facts) / before - 1)

    tried = [
        (asked, whose, f"{gain:g}")
        for asked in ("trained", "held-out")
        for whose in ("own", "random")
        for gain in GAINS
    ]
    numbers = [layers.total() / len(facts), *(change(*key) for key in tried)]
    return f"{line(name, numbers)} {', '.join(f'{layer}: {n}' for layer, n in sorted(layers.items()))} |", numbers


def line(name: str, numbers: Sequence[float]) -> str:
    """The cells of one line: neurons a fact, then suppress, amplify and both for random neurons, twice."""
    n, *changes = (f"{number:+.1f}" for number in numbers)
    pairs = [(changes[at], changes[at + 1], f"{changes[at + 2]} / {changes[at + 3]}") for at in (0, 4)]
    return f"| {name} | {n[1:]} | {' | '.join(cell for pair in pairs for cell in pair)} |"


def where(model: na.Model, groups: dict[str, list[SpecimenFact]]) -> Iterator[str]:
    """The table of the knowledge neurons of some groups of facts."""
    yield (
        "| facts | neurons a fact | suppress | amplify | random | suppress, held-out | amplify, held-out "
        "| random, held-out | layers |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    numbers = []
    for name, records in tqdm(groups.items(), unit="group"):
        count = min(FACTS_A_GROUP, len(records))
        chosen = [records[index * len(records) // count] for index in range(count)]
        text, found = row(name, [measured(model, record, seed) for seed, record in enumerate(chosen)])
        numbers.append(found)
        yield text
    yield f"{line('**mean**', [sum(column) / len(numbers) for column in zip(*numbers, strict=True)])} |"


def main(kind: str, folder: str | None = None) -> None:
    """Print all tables."""
    place = Path(folder) if folder else specimen_folder(kind)
    training = json.loads((place / "training.json").read_text(encoding="utf-8"))
    print("\n".join(known(training)))
    model = na.load(place, device="cpu")
    by_relation: dict[str, list[SpecimenFact]] = defaultdict(list)
    by_words: dict[str, list[SpecimenFact]] = defaultdict(list)
    for record in read_facts(place / "facts.jsonl"):
        if record.language == "en":
            groups, name = (by_relation, record.relation) if record.words == 1 else (by_words, f"{record.words} words")
            groups[name].append(record)
    for half, relations in training["halves"].items():
        print(f"\nAnswers of one word, {half} half:\n")
        print("\n".join(where(model, {name: by_relation[name] for name in relations if name in by_relation})))
    print("\nAnswers of several words:\n")
    print("\n".join(where(model, dict(sorted(by_words.items())))))


if __name__ == "__main__":
    main(*sys.argv[1:])
