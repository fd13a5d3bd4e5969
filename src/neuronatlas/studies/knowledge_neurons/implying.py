"""Whether a fact's neurons also move answers that need the fact without stating it: prompts of two hops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from neuronatlas.knowledge.implicit import ImplicitPrompt, hop_prompts, implicit_effects
from neuronatlas.knowledge.implicit_summary import summary_table
from neuronatlas.knowledge.two_hop import TwoHop, two_hop
from neuronatlas.models.queries import place_tokens
from neuronatlas.studies.knowledge_neurons.study import NotMeasuredError, Study, Tables

__all__ = ["implying"]

_PROMPTS_A_FACT, _AT_ONCE = 20, 100


def implying(study: Study) -> Tables:
    """Tables `implicit_summary` and `implicit_counts`: see `implicit_effects`, suppressed.

    Prompts of two hops are composed from the facts of the study and those beside them in the file; up to 20 are asked
    for each sampled fact that they need, as the first hop or the second, drawn. Only those that the model answers right
    are tested, with the neurons of the needed fact, random ones, and those of other facts.
    """
    prompts = _prompts(study)
    facts = list(study.asked.values())
    sets = [study.of(fact) for fact in facts]

    def work(part: Sequence[tuple[int, ImplicitPrompt]]) -> Tables:
        found = implicit_effects(
            study.model,
            [fact.fact for fact in facts],
            sets,
            [prompt for _, prompt in part],
            seed=study.seed,
            budget=study.locate.effects_budget,
        )
        numbers = pl.DataFrame({"prompt": range(len(part)), "number": [number for number, _ in part]})
        hops = pl.col("kind") != "cloze"
        own = found.effects.filter(~hops)
        moved = found.effects.filter(hops).join(numbers, on="prompt", maintain_order="left")
        moved = moved.with_columns(prompt=pl.col("number").cast(pl.Int64)).select(own.columns)
        return {"implicit_effects": pl.concat([moved, own]), "implicit_asked": found.counts}

    study.in_parts("implicit", prompts, work, size=_AT_ONCE, unit="prompt")
    # A fact that several parts needed was asked its own prompts in each.
    effects = study.table("implicit_effects").unique(
        ["kind", "part", "prompt", "fact", "condition"], keep="first", maintain_order=True
    )
    asked = study.table("implicit_asked").group_by("kind", maintain_order=True)
    counts = asked.agg(pl.col("n_prompts", "n_suited", "n_right", "n_tested").sum())
    return {"implicit_summary": summary_table(effects, study.seed), "implicit_counts": counts}


def _prompts(study: Study) -> list[tuple[int, ImplicitPrompt]]:
    """Prompts that need a sampled fact, numbered, fact by fact."""
    places = place_tokens(study.model)
    every = [*study.facts, *study.background]
    hops = two_hop(every, answer_last=study.model.kind == "causal", places=places)
    needed: dict[tuple[str, str | None], list[TwoHop]] = {}
    for hop in hops:
        for need in (hop.first, hop.second):
            needed.setdefault((need.relation, need.subject), []).append(hop)
    found: dict[TwoHop, None] = {}
    for fact in study.sampled:
        mine = needed.get((fact.fact.relation, fact.fact.subject), [])
        drawn = np.random.default_rng([study.seed, fact.index]).permutation(len(mine))[:_PROMPTS_A_FACT]
        found |= dict.fromkeys(mine[index] for index in sorted(drawn.tolist()))
    if not found:
        raise NotMeasuredError("no prompt of two hops needs a sampled fact: its answer is no subject of another")
    return list(enumerate(hop_prompts(found)))
