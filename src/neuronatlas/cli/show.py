"""How results look on a terminal: in words, and as tables."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from neuronatlas.models.checking import ProvedWays
from neuronatlas.models.model import Model
from neuronatlas.models.sites import Site
from neuronatlas.studies.findings import Effect, Example, Findings

__all__ = ["show_check", "show_effects", "show_example", "show_findings", "table_of"]

_BAR = 30
_CONDITIONS = {
    "located": "the fact's neurons",
    "held-out": "the same, found from other prompts",
    "random": "random ones of the same layers",
    "matched": "random ones that are as active",
    "activation": "the most active neurons",
    "other-relation": "the fact's neurons, on another fact",
}


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    return table


def show_findings(out: Console, found: Findings) -> None:
    """Say in words what an atlas found, with its layers and its effects."""
    out.print(
        f"Asked: {_many(found.n_facts, 'fact')} of {_many(len(found.relations), 'relation')} in "
        f"{_many(found.n_prompts, 'prompt')}; the right answer is the model's first choice on {found.known:.1%} of them."
    )
    if found.n_skipped:
        out.print(f"Left out: {_many(found.n_skipped, 'prompt')} not fit for this model; the table `skipped` says why.")
    if found.n_weak:
        out.print(f"Weak: {_many(found.n_weak, 'fact')} with fewer than three prompts to agree.")
    out.print(
        f"Found: {found.neurons_per_fact:.1f} neurons a fact on average, {found.n_neurons:,} different ones in all; "
        f"{_many(found.n_without, 'fact')} without any."
    )
    out.print("\nThe layers they lie in:")
    total = max(1, sum(found.layers))
    for layer, count in enumerate(found.layers):
        out.print(f"  layer {layer:>2} {'█' * round(_BAR * count / total):<{_BAR}} {count / total:6.1%}  {count:,}")
    _show_conditions(out, found.effects)
    out.print(
        "In brackets: 95% intervals from a bootstrap over facts. The change of P is the change of its mean over prompts, "
        "relation by relation, averaged over relations; log-odds are log(P / (1 - P))."
    )


def _show_conditions(out: Console, effects: Sequence[Effect]) -> None:
    for gain in dict.fromkeys(effect.gain for effect in effects):
        rows = [
            (
                _CONDITIONS.get(e.condition, e.condition),
                f"{e.change:+z.1%} [{100 * e.change_low:+z.1f}, {100 * e.change_high:+z.1f}]",
                f"{e.log_odds_change:+z.2f} [{e.log_odds_low:+z.2f}, {e.log_odds_high:+z.2f}]",
            )
            for e in effects
            if e.gain == gain
        ]
        out.print(table_of((f"{_gain_words(gain)}:", "change of P(answer)", "of its log-odds"), rows))


def _gain_words(gain: float) -> str:
    return {0.0: "Suppressed (times 0)", 2.0: "Amplified (times 2)"}.get(gain, f"Times {gain:g}")


def _many(count: int, thing: str) -> str:
    return f"{count or 'no'} {thing}{'' if count == 1 else 's'}" if count < 1000 else f"{count:,} {thing}s"


def show_example(out: Console, example: Example, folder: Path) -> None:
    """One fact closely: its neurons, the first choices before and after, and how to see more of it."""
    fact = example.fact
    out.print(f"A typical fact of those it knows: {fact.label} -> {fact.answer} ({fact.relation})")
    out.print(f"  its neurons: {', '.join(map(str, example.neurons))}")
    out.print(f'  "{example.prompt}"')
    out.print(f"  P({fact.answer}) is {example.p_before:.1%}, and {example.p_after:.1%} with them suppressed")
    pairs = zip(example.before, example.after, strict=True)
    rows = [(f"{p:.1%} {word}", f"{q:.1%} {other}") for (word, p), (other, q) in pairs]
    out.print(table_of(("first choices as it is", "with them suppressed"), rows, left=2))
    more = ["neuronatlas", "effects", "specimen", "specimen", "--atlas", str(folder), "--relations", fact.relation]
    out.print(f"More of it: {shlex.join([*more, '--fact', fact.label])}", soft_wrap=True)


def show_check(out: Console, model: Model, ways: ProvedWays) -> None:
    """What a model is, where its neurons are, and what was proved of them."""
    out.print(f"{model.name}: a {model.kind} language model of {_many(len(model.blocks), 'block')}, {model.dtype}")
    out.print(
        f"weights {model.digest}, revision {model.revision or 'none'}, prompts of up to {model.max_length:,} tokens\n"
    )
    for site in model.sites.values():
        out.print(f"{site.name:<10} {_pattern(site)} ({site.points[-1].side})")
    rows = [
        (s.name, len(s.points), _widths(s.widths), _deviation(s), "bit-equal", "changed") for s in model.sites.values()
    ]
    out.print(table_of(("site", "layers", "1 width", "2 deviation", "3 written back", "4 zeroed"), rows))
    out.print(
        "The proofs: 1 what is captured is as wide as the layer; 2 the projection applied to it gives the model's own "
        "result, up to this share of the largest value; 3 writing it back leaves the logits bit-equal; 4 zeroing a layer, "
        "whichever, changes them."
    )
    for name, reason in model.missing.items():
        out.print(f"no site {name}: {reason}", style="yellow")
    out.print(f"Attribution runs by {ways.at_answer} at the answer's place and by {ways.elsewhere} elsewhere.")
    for way, reason in ways.refused.items():
        out.print(f"not by {way}: {reason}", style="yellow")


def _widths(widths: Sequence[int]) -> str:
    return ", ".join(f"{width:,}" if count == 1 else f"{count} x {width:,}" for width, count in Counter(widths).items())


def _pattern(site: Site) -> str:
    """The modules' path with a star for the number that differs, or the first and the last one."""
    paths = [point.path for point in site.points]
    starred = {re.sub(r"\.\d+(?=\.|$)", ".*", path, count=1) for path in paths}
    if len(set(paths)) == 1 or len(starred) > 1:
        return " ... ".join(dict.fromkeys((paths[0], paths[-1])))
    return starred.pop()


def _deviation(site: Site) -> str:
    return f"{max(proof.error for proof in site.proofs):.0e}" if site.name != "hidden" else "no projection"


def show_effects(out: Console, table: pl.DataFrame, control: pl.DataFrame) -> None:
    """What every gain does on every prompt, and on average beside equally many random neurons."""
    for measure, title, form in (("p", "P(answer)", ".1%"), ("log_odds", "log-odds", "+z.2f")):
        gains = table["gain"].unique(maintain_order=True).to_list()
        rows = [(prompt, *(format(x, form) for x in cells)) for prompt, *cells in _by_gain(table, measure)]
        for name, frame in (("mean", table), ("mean, random neurons instead", control)):
            rows.append((name, *(format(x, form) for x in _means(frame, measure))))
        out.print(table_of((title, "before", *(f"times {gain:g}" for gain in gains)), rows))


def _by_gain(table: pl.DataFrame, measure: str) -> list[tuple[str, ...]]:
    before, after = f"{measure}_before", f"{measure}_after"
    groups = table.group_by("prompt", maintain_order=True).agg("text", before, after).select("text", before, after)
    return [(texts[0], befores[0], *afters) for texts, befores, afters in groups.iter_rows()]


def _means(table: pl.DataFrame, measure: str) -> list[float]:
    groups = table.group_by("gain", maintain_order=True).mean()
    return [groups[f"{measure}_before"][0], *groups[f"{measure}_after"]]
