"""What in the numbers of an atlas of knowledge neurons asks for care, in words."""

from collections.abc import Callable
from functools import partial

import polars as pl

from neuronatlas.atlas.knowledge.findings import KNOWN, beyond_random, doing, ends
from neuronatlas.atlas.page import Tables
from neuronatlas.atlas.wording import count, listed, percent, sentence

__all__ = ["FEW_FACTS", "LARGE_GAP", "SATURATED", "caveats"]

LARGE_GAP = 0.05  # of probability
MANY_GAPS = 0.01  # of the prompts
SATURATED = 0.9  # of probability
FEW_FACTS = 10


def caveats(tables: Tables, routing: str | None = None) -> list[str]:
    """What in these very numbers asks for care, one entry each; nothing where nothing does.

    `routing` is that of a mixture of experts during attribution.
    """
    checks: list[Callable[[Tables], str]] = [
        _skipped,
        _not_beyond_random,
        _untuned,
        _saturated,
        _unknown,
        partial(_large_gaps, routing=routing),
        _weak,
        _few_neurons,
        _few_facts,
    ]
    return [text for check in checks if (text := check(tables))]


def _skipped(tables: Tables) -> str:
    skipped = tables.get("skipped")
    if skipped is None or not skipped.height:
        return ""
    total = skipped.height + tables["prompts"].height
    lost = len(set(skipped["fact"]) - set(tables["facts"]["fact"]))
    facts = f", among them all prompts of {count(lost, 'fact')}" if lost else ""
    told = f"{skipped.height:,} of {count(total, 'prompt')} did not suit the model and were left out{facts}"
    return f"{told}; skipped.parquet says why."


def _not_beyond_random(tables: Tables) -> str:
    texts = []
    for gain in ends(tables["summary"]):
        compared, beyond = beyond_random(tables["summary"], gain)
        if rest := [name for name in compared if name not in beyond]:
            where = f"{len(rest)} of {count(len(compared), 'relation')} ({listed(rest)})"
            texts.append(f"{sentence(doing(gain))} is not clearly beyond random neurons in {where}.")
    return " ".join(texts)


def _untuned(tables: Tables) -> str:
    relations = tables["relations"]
    missed = relations.filter(tuned="not reached")["relation"].sort().to_list()
    if not missed:
        return ""
    where = f"{len(missed)} of {count(relations.height, 'relation')} ({listed(missed)})"
    return f"In {where} no share threshold that was tried brought the mean number of neurons to between 2 and 5."


def _saturated(tables: Tables) -> str:
    prompts = tables["prompts"]
    high = prompts.filter(pl.col("p") > SATURATED).height
    if high == 0 or high < 0.1 * prompts.height:
        return ""
    where = f"P(answer) is above {SATURATED:g} on {percent(high / prompts.height)} of the prompts"
    return f"{where}, where even a real change hardly shows in P: read the log-odds."


def _unknown(tables: Tables) -> str:
    facts = tables["facts"]
    unknown = facts.filter(pl.col("top1") < KNOWN).height
    if not unknown:
        return ""
    what = f"{unknown:,} of {count(facts.height, 'fact')} ({percent(unknown / facts.height)})"
    return f"The model does not know {what}; they count in every mean all the same."


def _large_gaps(tables: Tables, routing: str | None) -> str:
    prompts = tables["prompts"].filter(unit="P")
    large = prompts.filter(pl.col("gap").abs() > LARGE_GAP).height
    if large == 0 or large < MANY_GAPS * prompts.height:
        return ""
    where = f"{large:,} of {count(prompts.height, 'prompt')} ({percent(large / prompts.height, 1)})"
    missed = f"On {where} the scores miss the change of P that they add up to by over {LARGE_GAP:g}"
    if routing == "free":
        return f"{missed}: P jumps where the routing changes, which more nodes do not mend; compare frozen routing."
    return f"{missed}: take more nodes."


def _weak(tables: Tables) -> str:
    weak = tables["facts"].filter(pl.col("weak")).height
    if not weak:
        return ""
    return f"{count(weak, 'fact has', 'facts have')} fewer than three prompts, so little could be refined away."


def _few_neurons(tables: Tables) -> str:
    none = tables["facts"].filter(n_neurons=0).height
    few = tables["relations"].filter(pl.col("mean_neurons") < 1)["relation"].sort().to_list()
    texts = [f"{count(none, 'fact has', 'facts have')} no neuron, so nothing of theirs was changed."] if none else []
    texts += [f"Fewer than one neuron per fact on average: {listed(few)}."] if few else []
    return " ".join(texts)


def _few_facts(tables: Tables) -> str:
    small = tables["relations"].filter(pl.col("n_facts") < FEW_FACTS)["relation"].sort().to_list()
    if not small:
        return ""
    return f"Fewer than {FEW_FACTS} facts, too few for a trustworthy interval: {listed(small)}."
