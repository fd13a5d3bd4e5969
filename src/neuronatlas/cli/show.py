"""How results look on a terminal: in words, and as tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from neuronatlas.atlas import Atlas
from neuronatlas.atlas.knowledge import findings
from neuronatlas.atlas.knowledge.looks import CONDITIONS, gain_label
from neuronatlas.atlas.wording import Effect as Change
from neuronatlas.atlas.wording import count, number, percent
from neuronatlas.studies.overview import Effect, Example, overview_of

__all__ = ["show_effects", "show_example", "show_findings", "table_of"]

_BAR = 30


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    return table


def show_findings(out: Console, atlas: Atlas) -> None:
    """Say in words what a finished atlas found, with its layers and its effects."""
    found = overview_of(atlas)
    facts, layers, summary = (atlas.table(name) for name in ("facts", "layers", "summary"))
    asked = f"{count(found.n_facts, 'fact')} of {count(len(found.relations), 'relation')}"
    out.print(f"Asked: {asked} in {count(found.n_prompts, 'prompt')}. {findings.facts_sentence(facts)}")
    if found.n_skipped:
        out.print(f"Left out: {count(found.n_skipped, 'prompt')} not fit for this model; the table `skipped` says why.")
    if found.n_weak:
        out.print(f"Weak: {count(found.n_weak, 'fact')} with fewer than three prompts to agree.")
    out.print(f"\nFound: {findings.neurons_sentence(facts)} {findings.layers_sentence(layers)}\n")
    total = max(1, sum(found.layers))
    for layer, n in enumerate(found.layers):
        out.print(f"  layer {layer:>2} {'█' * round(_BAR * n / total):<{_BAR}} {percent(n / total):>5}  {n:,}")
    headline = findings.headline(summary)
    out.print(f"\nTested: {headline.statement} {headline.verdict}")
    _show_conditions(out, found.effects)
    out.print(
        "In brackets: 95 % intervals from a bootstrap over facts. The change of P is that of its mean over prompts of "
        "a relation, averaged over relations; log-odds are log(P / (1 - P))."
    )


def _show_conditions(out: Console, effects: Sequence[Effect]) -> None:
    for gain in dict.fromkeys(effect.gain for effect in effects):
        rows = [
            (
                CONDITIONS[e.condition].name,
                Change(e.change, e.change_low, e.change_high),
                _log_odds(e),
            )
            for e in effects
            if e.gain == gain
        ]
        out.print(table_of((gain_label(gain), "change of P(answer)", "of its log-odds"), rows))


def _log_odds(effect: Effect) -> str:
    """The change of log-odds, with its interval where there are facts enough for one."""
    change, low, high = effect.log_odds_change, effect.log_odds_low, effect.log_odds_high
    return f"{number(change, 2)} [{number(low, 2)}, {number(high, 2)}]" if low < high else number(change, 2)


def show_example(out: Console, example: Example, specimen: str, folder: Path) -> None:
    """One fact of a specimen closely: its neurons, the first choices before and after, and how to see more of it."""
    fact = example.fact
    out.print(f"The fact that suppression moved most: {fact.label} -> {fact.answer} ({fact.relation})")
    out.print(f"  its neurons: {', '.join(map(str, example.neurons))}")
    out.print(
        f"  P({fact.answer}), mean of its prompts: {percent(example.p_before, 1)} -> {percent(example.p_after, 1)}"
    )
    out.print(f'  one of its prompts: "{example.prompt}"')
    pairs = zip(example.before, example.after, strict=True)
    rows = [(f"{percent(p, 1)} {word}", f"{percent(q, 1)} {other}") for (word, p), (other, q) in pairs]
    out.print(table_of(("first choices as it is", "with them suppressed"), rows, left=2))
    more = ["neuronatlas", "effects", specimen, specimen, "--atlas", str(folder), "--relations", fact.relation]
    out.print(f"More of it: {shlex.join([*more, '--fact', fact.label])}", soft_wrap=True)


def show_effects(out: Console, table: pl.DataFrame, control: pl.DataFrame) -> None:
    """What every gain does on every prompt, and on average beside equally many random neurons."""
    gains = table["gain"].unique(maintain_order=True)
    for measure, title in (("p", "P(answer)"), ("log_odds", "log-odds")):
        rows = [*_prompts(table, measure), ("mean", *_means(table, measure))]
        rows.append(("mean, random neurons instead", *_means(control, measure)))
        shown = [(name, *(percent(x, 1) if measure == "p" else number(x, 2) for x in cells)) for name, *cells in rows]
        out.print(table_of((title, "before", *(f"\N{MULTIPLICATION SIGN} {gain:g}" for gain in gains)), shown))


def _prompts(table: pl.DataFrame, measure: str) -> list[tuple[Any, ...]]:
    groups = table.group_by("prompt", maintain_order=True).agg("text", f"{measure}_before", f"{measure}_after")
    return [(texts[0], before[0], *after) for _, texts, before, after in groups.iter_rows()]


def _means(table: pl.DataFrame, measure: str) -> list[float]:
    groups = table.group_by("gain", maintain_order=True).agg(pl.mean(f"{measure}_before", f"{measure}_after"))
    return [groups[f"{measure}_before"][0], *groups[f"{measure}_after"]]
