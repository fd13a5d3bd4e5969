"""Atlases with plausible made-up tables: facts whose few neurons sit high in the model and matter when changed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from tests.atlas.pages import RULE, write_atlas
from tests.atlas.salience_tables import Recipe as SalienceRecipe
from tests.atlas.salience_tables import salience_tables

NAMES = ["capital", "continent", "currency", "language", "birthplace", "occupation", "author", "maker"]
NAMES += ["composer", "painter", "director", "sport", "headquarters", "animal", "mythology", "demonym", "dish"]
STRENGTH = {
    "located": 1.4,
    "held-out": 1.25,
    "random": 0.01,
    "matched": 0.05,
    "activation": 0.2,
    "other-relation": 0.04,
}


@dataclass(frozen=True)
class Recipe:
    """How large a made-up atlas is, and what is special about it."""

    relations: int = 12
    facts: int = 20
    layers: int = 8
    units: int = 512
    gains: tuple[float, ...] = (0.0, 2.0)
    strength: float = 1.0
    log_odds: float = 0.0
    seed: int = 0


Tables = dict[str, pl.DataFrame]


@pytest.fixture
def make_tables() -> Callable[..., Tables]:
    """Make up the tables of an atlas; takes the fields of `Recipe` by name."""
    return lambda **recipe: synthetic_tables(Recipe(**recipe))


@pytest.fixture
def make_salience() -> Callable[..., Tables]:
    """Make up the tables of an atlas of salient neurons; takes the fields of `salience_tables.Recipe` by name."""
    return lambda **recipe: salience_tables(SalienceRecipe(**recipe))


@pytest.fixture
def make_atlas(tmp_path: Path) -> Callable[..., Path]:
    """Write an atlas of the given tables, or of made-up ones; `about` changes how it describes itself."""

    def make(tables: Tables | None = None, name: str = "atlas", **about: Any) -> Path:
        write_atlas(tmp_path / name, tables or synthetic_tables(Recipe()), **about)
        return tmp_path / name

    return make


def synthetic_tables(recipe: Recipe) -> Tables:
    """Every table of an atlas, made up but consistent with one another."""
    random = np.random.default_rng(recipe.seed)
    facts = _facts(recipe, random)
    prompts = _prompts(recipe, facts, random)
    neurons = _neurons(recipe, facts, random)
    located = neurons.filter(rule=RULE, fold="all")
    counts = located.group_by("fact").agg(n_neurons=pl.len().cast(pl.Int64))
    facts = facts.join(counts, on="fact", how="left", maintain_order="left").with_columns(
        pl.col("n_neurons").fill_null(0)
    )
    means = prompts.group_by("fact").agg(p_mean=pl.col("p").mean(), top1=(pl.col("p") > 0.3).mean())
    facts = facts.join(means, on="fact", maintain_order="left")
    effects = _effects(recipe, facts, prompts, random)
    return {
        "facts": facts,
        "prompts": prompts,
        "coarse": located.select("fact", pl.lit(0).alias("prompt"), "rule", "layer", "unit", "score"),
        "neurons": neurons,
        "effects": effects,
        "summary": _summary(effects, random),
        "relations": _relations(facts),
        "layers": _layers(neurons),
        "sharing": _sharing(located),
    }


def _facts(recipe: Recipe, random: np.random.Generator) -> pl.DataFrame:
    relation = [NAMES[index % len(NAMES)] for index in range(recipe.relations) for _ in range(recipe.facts)]
    fact = range(len(relation))
    n_prompts = random.integers(2, 11, len(relation))
    return pl.DataFrame({"fact": fact, "relation": relation, "n_prompts": n_prompts}).with_columns(
        pl.format("subject {}", "fact").alias("subject"),
        pl.format("answer {}", "fact").alias("answer"),
        (pl.col("n_prompts") < 3).alias("weak"),
    )


def _prompts(recipe: Recipe, facts: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    frame = facts.select(
        "fact", "relation", "subject", prompt=pl.int_ranges(0, pl.col("n_prompts"), dtype=pl.Int64)
    ).explode("prompt")
    known = random.normal(recipe.log_odds, 1.5, facts.height)[frame["fact"].to_numpy()]
    log_odds = known + random.normal(0, 0.8, frame.height)
    return frame.select(
        "fact",
        "prompt",
        text=pl.format("The {} of {} is [MASK].", "relation", "subject"),
        p=pl.Series(1 / (1 + np.exp(-log_odds))),
        log_odds=pl.Series(log_odds),
        top1_token=pl.lit("answer"),
        tokens=pl.lit(1),
        unit=pl.lit("P"),
        gap=pl.Series(random.normal(0, 0.004, frame.height)),
        way=pl.lit("replay"),
    )


def _neurons(recipe: Recipe, facts: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    towards_top = np.arange(1, recipe.layers + 1) ** 2.5
    rows: list[tuple[int, str, str, str, int, int, float, float]] = []
    for fact, relation in facts.select("fact", "relation").iter_rows():
        shared = NAMES.index(relation)
        for rule in (RULE, "activation"):
            weights = towards_top if rule == RULE else np.ones(recipe.layers)
            for number in range(random.poisson(3.6)):
                layer = int(random.choice(recipe.layers, p=weights / weights.sum()))
                common = number < 2 and random.random() < 0.6
                unit = shared * 7 + number if common else int(random.integers(recipe.units))
                layer = recipe.layers - 1 - shared % 2 if common else layer
                for fold in ("all", "a", "b"):
                    score = float(random.gamma(2, 0.05))
                    rows.append((fact, relation, rule, fold, layer, unit, float(random.uniform(0.5, 1)), score))
    columns = ["fact", "relation", "rule", "fold", "layer", "unit", "share", "score"]
    return pl.DataFrame(rows, schema=columns, orient="row").unique(
        ["fact", "rule", "fold", "layer", "unit"], maintain_order=True
    )


def _effects(recipe: Recipe, facts: pl.DataFrame, prompts: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    changes = pl.DataFrame({"condition": list(STRENGTH), "strength": list(STRENGTH.values())})
    gains = pl.DataFrame({"gain": [float(gain) for gain in recipe.gains]})
    frame = prompts.join(facts.select("fact", "relation", "n_neurons"), on="fact", maintain_order="left")
    frame = frame.join(changes, how="cross").join(gains, how="cross")
    noise = pl.Series(random.normal(0, 0.3, frame.height)) * pl.col("strength")
    per_relation = 0.4 + pl.col("relation").replace_strict({name: i for i, name in enumerate(NAMES)}) % 5 / 3
    push = (pl.col("gain") - 1) * pl.col("strength") * per_relation * recipe.strength
    after = pl.col("log_odds") + pl.when(pl.col("n_neurons") > 0).then(push + noise).otherwise(0.0)
    return frame.select(
        "fact",
        "relation",
        "prompt",
        "condition",
        "gain",
        "n_neurons",
        p_before="p",
        p_after=1 / (1 + (-after).exp()),
        log_odds_before="log_odds",
        log_odds_after=after,
    )


def _summary(effects: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for key, group in effects.group_by("relation", "condition", "gain", maintain_order=True):
        shift = pl.col("log_odds_after") - pl.col("log_odds_before")
        by_fact = group.group_by("fact", maintain_order=True).agg(pl.sum("p_before", "p_after"), shift.sum(), pl.len())
        sums = by_fact.drop("fact").to_numpy()
        drawn = sums[random.integers(0, len(sums), (200, len(sums)))].sum(1)
        row: dict[str, object] = dict(zip(("relation", "condition", "gain"), key, strict=True))
        row |= {"n_facts": len(sums), "n_prompts": group.height}
        row |= _interval("change", "change", drawn[:, 1] / drawn[:, 0] - 1)
        row |= _interval("log_odds_change", "log_odds", drawn[:, 2] / drawn[:, 3])
        rows.append(row)
    frame = pl.DataFrame(rows)
    means = pl.selectors.matches("change|log_odds").mean()
    together = frame.group_by("condition", "gain", maintain_order=True).agg(pl.sum("n_facts", "n_prompts"), means)
    return pl.concat([frame, together.select(pl.lit("all").alias("relation"), *frame.columns[1:])])


def _interval(name: str, prefix: str, drawn: NDArray[np.float64]) -> dict[str, object]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {name: float(drawn.mean()), f"{prefix}_low": float(low), f"{prefix}_high": float(high)}


def _relations(facts: pl.DataFrame) -> pl.DataFrame:
    frame = facts.group_by("relation", maintain_order=True).agg(
        n_facts=pl.len(),
        n_prompts=pl.sum("n_prompts"),
        n_weak=pl.sum("weak"),
        share_threshold=pl.lit(0.7),
        passes=pl.lit(3),
        mean_neurons=pl.mean("n_neurons"),
        p_mean=pl.mean("p_mean"),
        top1=pl.mean("top1"),
    )
    reached = pl.col("mean_neurons").is_between(2, 4)
    return frame.with_columns(tuned=pl.when(reached).then(pl.lit("reached 2-5")).otherwise(pl.lit("not reached")))


def _layers(neurons: pl.DataFrame) -> pl.DataFrame:
    counts = neurons.filter(fold="all").group_by("rule", "relation", "layer").agg(n=pl.len())
    share = pl.col("n") / pl.col("n").sum().over("rule", "relation")
    return counts.with_columns(share=share).sort("rule", "relation", "layer")


def _sharing(located: pl.DataFrame) -> pl.DataFrame:
    sets = {
        key[0]: (str(group["relation"][0]), set(group.select("layer", "unit").iter_rows()))
        for key, group in located.group_by("fact", maintain_order=True)
    }
    rows: list[tuple[str, str, int, float]] = []
    for fact, (relation, neurons) in sets.items():
        for other, (other_relation, others) in sets.items():
            if fact < other:
                shared = len(neurons & others)
                rows.append((relation, other_relation, shared, shared / len(neurons | others)))
    columns = {"relation_a": pl.String, "relation_b": pl.String, "mean_shared": pl.Float64, "mean_overlap": pl.Float64}
    pairs = pl.DataFrame(rows, schema=columns, orient="row").group_by("relation_a", "relation_b", maintain_order=True)
    return pairs.agg(n_pairs=pl.len(), mean_shared=pl.mean("mean_shared"), mean_overlap=pl.mean("mean_overlap"))
