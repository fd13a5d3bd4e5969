"""Whether it is the fact or the answer's token: neurons of facts with that answer, and what its frequency explains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl

from neuronatlas.neurons import NeuronSet
from neuronatlas.readers.texts import read_texts
from neuronatlas.studies.knowledge_neurons.correlation import rank_correlation
from neuronatlas.studies.knowledge_neurons.study import Study, Tables, frame
from neuronatlas.studies.knowledge_neurons.trying import Try, summarised, tried
from neuronatlas.studies.locating import AskedFact

__all__ = ["frequency"]

_GAINS = (0.0, 2.0)
_FEWEST = 10
SHARED = "own, answer shared"
CORRELATIONS = {
    "frequency": pl.String,
    "outcome": pl.String,
    "n_facts": pl.Int64,
    "rho": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def frequency(study: Study) -> Tables:
    """Tables `answer_effects` and `frequency_correlations`.

    On a sampled fact's prompts are scaled its own neurons, and those of other facts drawn from its relation and from
    others, each once with the same answer and once with another one; `own, answer shared` are the own neurons of those
    facts alone whose answer another one has. A correlation is Spearman's, over all facts, between how many facts of the
    file have the answer (or how often it stands in the texts, if it is one word) and a
    fact's number of neurons, P(answer), and the change of its log-odds when its neurons are suppressed.
    """

    def work(facts: Sequence[AskedFact]) -> Tables:
        tries = []
        for fact in facts:
            for name, found in _sets(study, fact).items():
                tries += [Try(fact, name, gain, found) for gain in _GAINS]
        return {"answer_trials": tried(study, tries)}

    study.in_parts("frequency", study.sampled, work)
    rows = study.table("answer_trials")
    same = rows.filter(pl.col("condition").str.starts_with("same answer"))
    shared = rows.filter(condition="own").join(same.select("fact").unique(), on="fact", how="semi")
    effects = summarised(pl.concat([rows, shared.with_columns(condition=pl.lit(SHARED))]), study.seed)
    return {"answer_effects": effects, "frequency_correlations": _correlations(study)}


def _sets(study: Study, fact: AskedFact) -> dict[str, NeuronSet]:
    found, drawn = {"own": study.of(fact)}, np.random.default_rng([study.seed, fact.index])
    located = [f for f in study.asked.values() if f.index != fact.index and len(study.of(f))]
    for answer in ("same", "other"):
        for relation in ("same", "other"):
            fits = [
                other
                for other in located
                if (other.fact.answer == fact.fact.answer) == (answer == "same")
                and (other.fact.relation == fact.fact.relation) == (relation == "same")
            ]
            if fits:
                found[f"{answer} answer, {relation} relation"] = study.of(fits[int(drawn.integers(len(fits)))])
    return found


def _correlations(study: Study) -> pl.DataFrame:
    facts = list(study.asked.values())
    in_file = Counter(fact.fact.answer for fact in facts)
    counts = {"facts with the answer": [float(in_file[fact.fact.answer]) for fact in facts]}
    if study.texts is not None:
        in_texts = _words(study, {fact.fact.answer for fact in facts})
        counts["answer in the texts"] = [in_texts.get(fact.fact.answer, np.nan) for fact in facts]
    rows = list[tuple[object, ...]]()
    for name, values in counts.items():
        for outcome, found in _outcomes(study).items():
            pairs = np.array([(v, found.get(f.index, np.nan)) for f, v in zip(facts, values, strict=True)])
            pairs = pairs[np.isfinite(pairs).all(axis=1)]
            if len(pairs) >= _FEWEST and all(len(set(column)) > 1 for column in pairs.T):
                rho = rank_correlation(pairs[:, 0], pairs[:, 1], seed=study.seed)
                rows.append((name, outcome, len(pairs), rho.estimate, rho.low, rho.high))
    return frame(rows, CORRELATIONS)


def _outcomes(study: Study) -> dict[str, dict[int, float]]:
    effects = (
        study.neurons.table("effects")
        .filter(condition="located", gain=0.0)
        .group_by("fact")
        .agg(change=(pl.col("log_odds_after") - pl.col("log_odds_before")).mean())
    )
    facts = study.neurons.table("facts").select("fact", "n_neurons", "p_mean")
    return {
        "number of neurons": {fact: float(n) for fact, n, _ in facts.iter_rows()},
        "P(answer)": {fact: p for fact, _, p in facts.iter_rows() if p is not None},
        "change of log-odds, suppressed": dict(effects.iter_rows()),
    }


def _words(study: Study, answers: set[str]) -> dict[str, float]:
    """How often each answer of one word stands in the texts."""
    assert study.texts is not None
    single = {answer for answer in answers if re.fullmatch(r"\w+", answer)}
    seen: Counter[str] = Counter()
    for text in read_texts(study.texts):
        seen.update(word for word in re.findall(r"\w+", text) if word in single)
    return {answer: float(seen[answer]) for answer in single}
