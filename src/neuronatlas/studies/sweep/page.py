"""The sweep's outcomes as a page of Markdown and as plain records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from neuronatlas.atlas.wording import count
from neuronatlas.studies.sweep.walk import STEPS, TOLERANCE, Outcome

__all__ = ["COLUMNS", "Counts", "count_outcomes", "markdown_page", "outcome_cells", "outcome_record"]

COLUMNS = ("model type", "class", "for", "result", "ffn", "attention", "hidden", "runs by", "deviation", "why not")


@dataclass(frozen=True)
class Counts:
    """How many architectures there are, could be built, have feed-forward neurons, and what became of them.

    `feed_forward` counts those that were understood well enough to say so.
    """

    all: int
    built: int
    feed_forward: int
    passed: int
    refused: int
    crashed: int

    def sentence(self) -> str:
        """The counts in words."""
        return (
            f"{count(self.all, 'class', 'classes')}: {self.built} built, "
            f"{self.feed_forward} found to have feed-forward neurons, {self.passed} passed at `ffn`, "
            f"{self.refused} refused with the reason, {self.crashed} crashed."
        )


def count_outcomes(outcomes: Sequence[Outcome]) -> Counts:
    """Count outcomes by what became of them.

    >>> count_outcomes([]).sentence()[:10]
    '0 classes:'
    """
    states = Counter(outcome.state for outcome in outcomes)
    return Counts(
        len(outcomes),
        len(outcomes) - states["not built"],
        sum(bool(outcome.feed_forward) for outcome in outcomes),
        states["passed"],
        states["refused"],
        states["crashed"],
    )


def outcome_cells(outcome: Outcome) -> tuple[str, ...]:
    """One row of the table, under `COLUMNS`."""
    sites = (_stacks(outcome, name) for name in ("ffn", "attention", "hidden"))
    deviation = "" if outcome.deviation is None else f"{outcome.deviation:.0e}"
    names = (outcome.model_type, outcome.class_name, outcome.kind, outcome.state)
    return (*names, *sites, ", ".join(dict.fromkeys(outcome.ways)), deviation, outcome.reason)


def _stacks(outcome: Outcome, site: str) -> str:
    """Widths of a site in the stack that answers are read from, and in the encoder before it."""
    encoder = _widths(outcome.sites.get(f"encoder.{site}", ()))
    parts = _widths(outcome.sites.get(site, ())), encoder and f"encoder {encoder}"
    return "; ".join(part for part in parts if part)


def _widths(widths: Sequence[int]) -> str:
    return ", ".join(f"{n} x {width:,}" for width, n in Counter(widths).items())


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON has it."""
    return {
        "model_type": outcome.model_type,
        "class": outcome.class_name,
        "kind": outcome.kind,
        "state": outcome.state,
        "sites": {name: list(widths) for name, widths in outcome.sites.items()},
        "ways": list(outcome.ways),
        "deviation": outcome.deviation,
        "feed_forward": outcome.feed_forward,
        "reason": outcome.reason,
    }


def markdown_page(outcomes: Sequence[Outcome]) -> str:
    """The page: what was tried, the counts, the commonest reasons, and the table."""
    lines = [
        "# Architectures",
        "",
        "Every causal, masked and sequence-to-sequence language-model class of transformers, built at toy size with "
        "random weights and held to what NeuronAtlas promises of a model. There is no list of names in the package: "
        "what stands here is what its proofs said. Made by `neuronatlas check --all --markdown docs/architectures.md` "
        f"with transformers {transformers.__version__} and torch {torch.__version__.partition('+')[0]}; not typed.",
        "",
        count_outcomes(outcomes).sentence(),
        "",
        *_definitions(),
        "",
        "| reason | classes |",
        "|---|---:|",
        *(f"| {_cell(reason)} | {n} |" for reason, n in _reasons(outcomes)),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(map(_cell, outcome_cells(outcome)))} |" for outcome in outcomes),
    ]
    return "\n".join(lines) + "\n"


def _definitions() -> list[str]:
    return [
        "- **passed**: the site `ffn` was found and proved on every layer; attribution scores of every neuron, at the "
        f"answer's place and at another position, by {STEPS} nodes, equal plain re-runs of the whole model to "
        f"{TOLERANCE:.0e} of the largest score (float32); suppressing a third of each layer's neurons changes the "
        "logits, and they are bit-equal afterwards. Of a model with an encoder and a decoder the `ffn` of both "
        "stacks are held to all of this.",
        "- **refused**: one of the package's own errors, with its reason in the last column. Sites that were proved "
        "nevertheless can be used: `--site hidden`.",
        "- **crashed**: a promise that was not kept, or an error that is none of the package's own.",
        "- **not built**: transformers gave no model, for a missing library or for a configuration that was not found.",
        "- **ffn, attention, hidden**: layers x neurons of each proved site, the decoder's first where there is an "
        "encoder too; a layer without neurons has 0. **runs by**: how attribution ran, `replay-cached`, "
        "`replay-stepped`, `replay` and `replay-whole` (docs/method.md) being the fast ways, in that order, and "
        "`plain` the re-runs themselves, so that its deviation is 0 by nature. **deviation**: the largest of a score, "
        "as a share of the largest score.",
    ]


def _reasons(outcomes: Sequence[Outcome]) -> list[tuple[str, int]]:
    """Reasons with what is particular to one model cut off, the commonest first."""
    found = Counter(outcome.cause for outcome in outcomes if outcome.reason)
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
