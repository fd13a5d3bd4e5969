"""How well the sentences that fire a fact's neurons tell the fact: precision at 2 and 10 on the embedded model.

    python benchmarks/triggers.py --markdown triggers.md      # some minutes on one core
    python benchmarks/triggers.py --quick                     # a few facts

Neurons are located on the sentences that the model was trained on. The texts are sentences of its generator that it has
never seen: every fact in held-out templates, as it stands and in frames, and plain sentences that tell no fact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import neuronatlas as na
from neuronatlas.knowledge.mentions import KINDS
from neuronatlas.specimen import world
from neuronatlas.specimen.corpus import FRAMES
from neuronatlas.specimen.grammar import generate
from neuronatlas.statistics import Interval, ratio_of_means
from neuronatlas.studies.demo import demo_facts
from outcome import table

SEED, PLAIN, FRAMED, RELATION_NEURONS = 1, 2_000, 3, 20
AT = (2, 10)

Told = tuple[str, str, str]
"""Relation, subject and answer of what a sentence tells."""


@dataclass(frozen=True)
class Row:
    """Neurons of one kind, read in one way: precision at each depth, and the precision of a random order.

    `alike`, of facts: what share of the ten top sentences tells any fact of the relation, and any with the same answer.
    """

    target: str
    neurons: str
    pooling: str
    texts: str
    precision: tuple[Interval, ...]
    chance: float
    alike: tuple[Interval, ...] = ()


def sentences(masked: bool) -> dict[str, Told | None]:
    """Texts of the held-out part and what each tells; `masked` ones have a mask in the answer's place."""
    texts: dict[str, Told | None] = {}
    for fact in world.facts():
        if fact.language != "en" or not fact.is_one_word:
            continue
        told = (fact.relation, fact.subject, fact.answer)
        for sentence in world.sentences(fact, held_out=True):
            for before, after in (("", ""), *FRAMES["en"][:FRAMED]):
                whole = sentence.shifted(before, after)
                texts.setdefault(whole.prompt if masked else whole.text, told)
    for plain in generate("en", PLAIN, SEED):
        texts.setdefault(plain.text, None)
    return texts


def relation_neurons(facts: Sequence[na.Fact], found: Sequence[na.NeuronSet], relation: str) -> na.NeuronSet:
    """The neurons in most of a relation's facts, at most 20; ties by address."""
    counts = Counter(n for fact, own in zip(facts, found, strict=True) if fact.relation == relation for n in own)
    ordered = sorted(counts, key=lambda neuron: (-counts[neuron], neuron))
    return na.NeuronSet.of(found[0].layout, ordered[:RELATION_NEURONS])


def precisions(
    found: Sequence[na.Triggers],
    told: Mapping[str, Told | None],
    wanted: Sequence[set[Told]],
    depths: Sequence[int] = AT,
) -> tuple[Interval, ...]:
    """Share of the top sentences that tell what is wanted, with an interval over facts or relations."""
    intervals = []
    for depth in depths:
        hits = []
        for one, facts in zip(found, wanted, strict=True):
            top = one.sentences.filter(direction="top")["text"].head(depth).to_list()
            hits.append((sum(told[text] in facts for text in top), float(depth)))
        intervals.append(ratio_of_means(np.array(hits, dtype=np.float64), seed=0))
    return tuple(intervals)


def study(model: na.Model, facts: Sequence[na.Fact], progress: bool) -> tuple[list[Row], list[tuple[str, ...]]]:
    """All rows of the table of precision, and those of the table of means."""
    found = [(fact, own) for fact, own in zip(facts, na.locate(model, facts), strict=True) if len(own)]
    kept, sets = [fact for fact, _ in found], [na.NeuronSet(own.layout, own.members) for _, own in found]
    relations = list(dict.fromkeys(fact.relation for fact in kept))
    told_of = {fact: {(fact.relation, fact.subject or "", fact.answer)} for fact in kept}
    rows, means = [], []
    for masked in (False, True):
        told = sentences(masked)
        all_told = [one for one in told.values() if one is not None]
        of_relation = {r: {one for one in all_told if one[0] == r} for r in relations}
        wanted = [told_of[fact] for fact in kept] + [of_relation[r] for r in relations]
        for name, random in (("located", False), ("random", True)):
            own = [s.random_like(i) if random else s for i, s in enumerate(sets)]
            whole = [relation_neurons(kept, own, relation) for relation in relations]
            targets: list[tuple[na.Fact | list[na.Fact], na.NeuronSet]] = [*zip(kept, own, strict=True)]
            targets += [([f for f in kept if f.relation == r], s) for r, s in zip(relations, whole, strict=True)]
            for pooling in ("max", "mean"):
                seen = na.triggers_of_many(model, targets, list(told), pooling=pooling, k=max(AT), progress=progress)
                for label, part in (("fact", slice(0, len(kept))), ("relation", slice(len(kept), None))):
                    right = [sum(one in w for one in told.values()) / len(told) for w in wanted[part]]
                    which = "masked" if masked else "whole"
                    measured = precisions(seen[part], told, wanted[part])
                    row = Row(label, name, pooling, which, measured, float(np.mean(right)))
                    rows.append(replace(row, alike=_alike(kept, seen, told, all_told)) if label == "fact" else row)
                if not masked:
                    means.append((name, pooling, *_mean_row(seen[: len(kept)])))
    return rows, means


def _alike(
    facts: Sequence[na.Fact], seen: Sequence[na.Triggers], told: Mapping[str, Told | None], all_told: Sequence[Told]
) -> tuple[Interval, ...]:
    relation = [{one for one in all_told if one[0] == fact.relation} for fact in facts]
    answer = [{one for one in all_told if one[2] == fact.answer} for fact in facts]
    found = seen[: len(facts)]
    return (*precisions(found, told, relation, AT[-1:]), *precisions(found, told, answer, AT[-1:]))


def _mean_row(found: Sequence[na.Triggers]) -> list[str]:
    """Mean over facts of the mean activation on each kind of sentence, with an interval over facts."""
    cells = []
    for kind in KINDS:
        values = [float(one.means.filter(kind=kind)["mean"][0]) for one in found]
        sums = np.array([(value, 1.0) for value in values if np.isfinite(value)])
        cells.append(_shown(ratio_of_means(sums, seed=0), 1))
    return cells


def _shown(found: Interval, scale: float) -> str:
    return f"{found.estimate * scale:.2f} [{found.low * scale:.2f}, {found.high * scale:.2f}]"


def as_markdown(rows: Sequence[Row], means: Sequence[tuple[str, ...]]) -> str:
    """Both tables."""
    head = ("neurons of a", "which", "pooling", "texts", *(f"precision at {depth}, %" for depth in AT), "chance, %")
    head = (*head, f"same relation at {AT[-1]}, %", f"same answer at {AT[-1]}, %")
    cells = [
        (
            *(r.target, r.neurons, r.pooling, r.texts),
            *(_shown(p, 100) for p in r.precision),
            f"{100 * r.chance:.2f}",
            *([_shown(p, 100) for p in r.alike] or ["", ""]),
        )
        for r in rows
    ]
    first = table(head, cells)
    return (
        f"{first}\n\nMean activation of a fact's neurons, over facts:\n\n{table(('which', 'pooling', *KINDS), means)}\n"
    )


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A few facts.")] = False,
    each: Annotated[int, typer.Option(min=1, help="Facts of each relation.")] = 8,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here too.")] = None,
) -> None:
    """Locate neurons, read the held-out sentences, and print the tables."""
    model = na.load(na.specimen_folder())
    facts = demo_facts(model, 2 if quick else each)
    text = as_markdown(*study(model, facts[:4] if quick else facts, progress=not quick))
    typer.echo(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
