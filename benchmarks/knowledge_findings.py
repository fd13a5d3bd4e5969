"""What studies of knowledge neurons found beside Dai et al. (2022), as a Markdown table with a column for each study.

python benchmarks/knowledge_findings.py specimen-study bert-study --markdown findings.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from neuronatlas import Atlas
from neuronatlas.atlas.knowledge.looks import gain_name
from neuronatlas.atlas.knowledge_study.published import PUBLISHED, RISES
from neuronatlas.atlas.knowledge_study.reading import change_of, effect, interval, pick, score
from neuronatlas.atlas.wording import Effect, Score, count, number, percent
from outcome import table

__all__ = ["as_markdown"]

Line = tuple[str, str, str]
"""What was measured, what the paper published where that is confirmed, and what the study found."""


def as_markdown(folders: list[Path]) -> str:
    """A line for each measure, in the order of the experiments; 95 % intervals in brackets."""
    studies = [Atlas.open(folder) for folder in folders]
    found = [{what: (published, value) for what, published, value in lines(study)} for study in studies]
    order = dict.fromkeys(what for each in found for what in each)
    head = ["measure", "published", *(Path(str(study.meta["model"]["id"])).name for study in studies)]
    rows = []
    for what in order:
        published = next(each[what][0] for each in found if what in each)
        rows.append((what, published, *(each[what][1] if what in each else "" for each in found)))
    return table(tuple(head), rows) + "\n"


def lines(study: Atlas) -> Iterator[Line]:
    """All that a study has to tell."""
    tables = {name: study.table(name) for name in study.tables}
    makers: tuple[tuple[str, Callable[[dict[str, pl.DataFrame]], Iterator[Line]]], ...] = (
        ("neuron_counts", _places),
        ("summary", _suppression),
        ("trigger_means", _triggers),
        ("update_measures", _update),
        ("erase_measures", _erase),
        ("gain_sweep", _gains),
        ("threshold_sweep", _thresholds),
        ("half_overlaps", _halves),
        ("symmetry_effects", _symmetry),
        ("answer_effects", _frequency),
        ("rule_effects", _rules),
        ("interaction_totals", _interactions),
        ("implicit_summary", _implicit),
    )
    for needed, make in makers:
        if needed in tables:
            yield from make(tables)


def _places(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    counts = tables["neuron_counts"].filter(pl.col("rule") != "activation")
    overall = counts.filter(relation="all").row(0, named=True)
    relations = counts.filter(pl.col("relation") != "all").height
    yield "facts", "27,738", f"{overall['n_facts']:,} of {count(relations, 'relation')}"
    yield "neurons a fact", "about 4", interval(overall, 2)
    layers = tables["layer_shares"].filter(pl.col("rule") != "activation").sort("layer")
    quarter = layers.tail(-(-layers.height // 4))["mean"]
    where = f"{percent(float(quarter.sum()))} in {len(quarter)} of {layers.height}"
    yield "neurons in the top quarter of layers", "most in the topmost", where
    for row in tables["sharing_means"].filter(pl.col("n_pairs") > 0).iter_rows(named=True):
        yield f"neurons that two facts of {row['pairs']} share", "", interval(row, 2)


def _suppression(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for gain in (0.0, 2.0):
        for condition in ("located", "held-out", "activation", "random", "matched", "other-relation"):
            found = change_of(tables["summary"], condition, gain)
            if found:
                paper = PUBLISHED.get(("change", condition, gain_name(gain)))
                told = "" if paper is None else Effect(paper, paper, paper).size
                yield f"{gain_name(gain)}, {condition}: change of P", told, str(found)


def _triggers(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for row in tables["trigger_means"].filter(pl.col("n_facts") > 0).iter_rows(named=True):
        yield f"activation, texts with {row['kind']}", "", interval(row, 3)
    for row in tables["trigger_precision"].filter(pl.col("n") > 0, of="relations").iter_rows(named=True):
        told = f"{score(row, 'precision')} (of all texts {percent(row['base'], 1)})"
        yield f"top {row['k']} texts of a relation that express it", "", told


def _update(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for name in ("change rate", "success rate", "generalisation, generated", "accuracy, other relations"):
        for method in ("normalised", "printed", "random", "exact"):
            row = pick(tables["update_measures"], measure=name, method=method)
            paper = PUBLISHED.get((name, {"normalised": "located"}.get(method, method)))
            if row and row["after"] is not None:
                told = "" if paper is None else Score(paper).size
                yield f"update, {method}: {name}", told, str(score(row, "after"))
    for row in tables["update_perplexity"].filter(pl.col("prompts") > 0, group="other relations").iter_rows(named=True):
        told = f"{effect(row, 'rise', 'low', 'high')} ({number(row['before'], 2)} to {number(row['after'], 2)})"
        printed = f"+{RISES[row['method']]} of perplexity" if row["method"] in RISES else ""
        yield f"update, {row['method']}: perplexity of other relations", printed, told
    for row in tables["update_sizes"].filter(method="exact").iter_rows(named=True):
        yield "update, exact: neurons an edit", "", number(row["neurons"], 1)


def _erase(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for row in tables["erase_measures"].filter(relation="all").iter_rows(named=True):
        before, after = (
            Score(row["accuracy_before"]).size,
            score(row, "accuracy_after", "accuracy_low", "accuracy_high"),
        )
        yield f"erase, {row['condition']}: accuracy, {row['group']}", "", f"{before} to {after}"
        yield f"erase, {row['condition']}: perplexity, {row['group']}", "", str(effect(row, "rise", "low", "high"))


def _gains(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    own = tables["gain_sweep"].filter(relation="all", condition="located")
    best = own.sort("change", descending=True).row(0, named=True)
    yield "gain at which P is highest", "", f"{best['gain']:g}: {effect(best)}"


def _thresholds(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for row in tables["threshold_sweep"].filter(gain=0.0).iter_rows(named=True):
        yield f"threshold {row['threshold']:g}: neurons a fact, suppressed", "", f"{row['neurons']:.1f}: {effect(row)}"


def _halves(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for row in tables["half_overlaps"].filter(pl.col("n_facts") > 0).iter_rows(named=True):
        yield f"overlap with {row['condition']}", "", str(score(row, "overlap"))


def _symmetry(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for condition in ("own", "inverse", "control"):
        found = change_of(tables["symmetry_effects"], condition, 0.0)
        if found:
            yield f"the other way round, {condition} neurons suppressed", "", str(found)


def _frequency(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for condition in tables["answer_effects"]["condition"].unique(maintain_order=True):
        found = change_of(tables["answer_effects"], condition, 0.0)
        if found and condition != "own":
            who = "own neurons, answer shared" if condition.startswith("own") else f"neurons of a fact with {condition}"
            yield f"{who}, suppressed", "", str(found)
    for row in tables["frequency_correlations"].iter_rows(named=True):
        yield f"rank correlation, {row['frequency']} and {row['outcome']}", "", interval(row, 2, "rho")


def _rules(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for row in tables["rule_effects"].iter_rows(named=True):
        yield f"5 neurons by {row['rule']}, suppressed on unseen prompts", "", str(effect(row))


def _interactions(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    names = {"single_sum": "one by one, added up", "joint": "at once"}
    for row in tables["interaction_totals"].filter(measure="log_odds").iter_rows(named=True):
        if row["what"] in names:
            yield f"neurons suppressed {names[row['what']]}: change of log-odds", "", interval(row, 2)
    for row in tables["interaction_kinds"].filter(pl.col("n") > 0).iter_rows(named=True):
        yield f"pairs of a fact's neurons: {row['kind']}", "", str(score(row, "share"))


def _implicit(tables: dict[str, pl.DataFrame]) -> Iterator[Line]:
    for row in tables["implicit_counts"].filter(kind="two-hop").iter_rows(named=True):
        yield "prompts of two hops answered right", "", f"{row['n_right']:,} of {row['n_prompts']:,}"
    for row in tables["implicit_summary"].drop_nulls("log_odds").iter_rows(named=True):
        what = f"{row['kind']}, {row['part']} fact, neurons {row['condition']}: change of log-odds"
        yield what, "", interval(row, 2, "log_odds", "log_odds_low", "log_odds_high")


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `neuronatlas study knowledge-neurons` wrote.")],
    markdown: Annotated[Path | None, typer.Option(help="Write the table to this file as well.")] = None,
) -> None:
    """Print the findings of studies beside the paper's."""
    text = as_markdown(folders)
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
