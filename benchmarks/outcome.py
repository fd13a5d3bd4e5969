"""The benchmark's outcome: timings, peak memory, targets that are met or missed, and all of it as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from measure import machine
from memory import PART, Peak, peak_of
from shapes import Shape

__all__ = ["Outcome", "Target", "Timing", "as_markdown", "table", "targets"]


@dataclass(frozen=True)
class Timing:
    """One case at one rule: seconds (medians), arithmetic needed, speed of the bare product, and the evidence.

    `reference_seconds` is the per-layer method's time for all prompts, scaled from `compared` of them. `reading_share`
    is the share of the time that reading the weights once a pass would take. `gap` and `deviation` are relative.
    """

    model: str
    tokens: int
    prompts: int
    rule: str
    nodes: int
    seconds: float
    reference_seconds: float
    compared: int
    gflop: float
    bare_gflops: float
    reading_share: float | None
    gap: float
    deviation: float | None
    way: str

    @property
    def times_faster(self) -> float:
        """How many times faster than the per-layer method at its 20 points."""
        return self.reference_seconds / self.seconds

    @property
    def fraction(self) -> float:
        """Fraction of the speed of a bare matrix product."""
        return self.gflop / self.seconds / self.bare_gflops

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model}, {self.tokens} tokens, {_count(self.prompts, 'prompt')}, {self.rule} {self.nodes}"


@dataclass(frozen=True)
class Target:
    """What was wanted of a case and what was found, as times faster or as a fraction of the bare product's speed."""

    name: str
    wanted: float
    found: float

    @property
    def verdict(self) -> str:
        """Met, or missed and by how much."""
        if self.found >= self.wanted:
            return "met"
        missing = 1 - self.found / self.wanted
        return f"missed by {missing:.0%}" if missing >= 0.01 else "missed by under 1%"


@dataclass(frozen=True)
class Outcome:
    """All that one run of the benchmark found; peaks are by model and length of prompts."""

    machine: str
    runs: int
    timings: tuple[Timing, ...]
    peaks: tuple[tuple[str, int, tuple[Peak, ...]], ...] = ()

    @classmethod
    def of(cls, timings: Iterable[Timing], runs: int) -> Outcome:
        """The timings, with a description of this machine."""
        return cls(machine(), runs, tuple(timings))

    def with_memory(self, shapes: Iterable[tuple[Shape, int]], counts: Sequence[int]) -> Outcome:
        """The same with the peak memory of each shape and length, for growing numbers of prompts."""
        peaks = []
        for shape, tokens in shapes:
            found = tuple(peak_of(shape, tokens, count, torch.get_num_threads()) for count in counts)
            peaks.append((shape.name, tokens, found))
        return replace(self, peaks=tuple(peaks))

    @property
    def largest_deviation(self) -> float:
        """Of any score from the per-layer method's, relative to the largest."""
        return max((t.deviation for t in self.timings if t.deviation is not None), default=0.0)


# Times faster than the per-layer method at the same 20 points, by model, tokens and prompts.
_FASTER = {
    ("BERT-base", 12, 1): 2.0,
    ("GPT-2 small", 12, 1): 8.0,
    ("GPT-2 small", 48, 1): 20.0,
    ("GPT-2 small", 12, 32): 10.0,
    ("GPT-2 small", 48, 32): 25.0,
    ("Llama 16x1024", 12, 1): 10.0,
    ("Llama 16x1024", 48, 1): 25.0,
    ("Llama 16x1024", 192, 1): 90.0,
    ("Llama 16x1024", 12, 8): 10.0,
    ("Llama 16x1024", 48, 8): 25.0,
    ("Llama 16x1024", 192, 8): 90.0,
}
# Of the bare product's speed at 20 points; one prompt of a causal model is bound by the reading of weights instead.
_FRACTION = {
    ("BERT-base", 12, 1): 0.85,
    ("BERT-base", 48, 1): 0.85,
    ("BERT-base", 12, 32): 0.85,
    ("BERT-base", 48, 32): 0.85,
    ("GPT-2 small", 12, 32): 0.70,
    ("GPT-2 small", 48, 32): 0.70,
}


def targets(timings: Iterable[Timing]) -> list[Target]:
    """The targets that the timed cases have."""
    found = []
    for timing in timings:
        case = (timing.model, timing.tokens, timing.prompts)
        if timing.rule == "left-riemann":
            if case in _FASTER:
                found.append(Target(f"times faster: {timing.name}", _FASTER[case], timing.times_faster))
            if case in _FRACTION:
                found.append(Target(f"of bare product: {timing.name}", _FRACTION[case], timing.fraction))
        elif case[:2] == ("BERT-base", 12):
            found.append(Target(f"times faster: {timing.name}", 36 / timing.nodes, timing.times_faster))
    return found


def as_markdown(outcome: Outcome) -> str:
    """The whole outcome, to be pasted into a document."""
    parts = [f"{outcome.machine}. Random weights, float32; medians of {_count(outcome.runs, 'run')}, interleaved."]
    parts += [_timing_table(outcome.timings), _notes(outcome)]
    if outcome.peaks:
        parts += [_memory_table(outcome.peaks)]
    wanted = targets(outcome.timings)
    if wanted:
        rows = [(t.name, f"{t.wanted:.2f}", f"{t.found:.2f}", t.verdict) for t in wanted]
        parts += [table(("target", "wanted", "found", ""), rows)]
    return "\n\n".join(parts) + "\n"


def _timing_table(timings: Iterable[Timing]) -> str:
    head = (
        "model",
        "tokens",
        "prompts",
        "rule",
        "way",
        "per layer, s",
        "here, s",
        "times faster",
        "GFLOP",
        "of bare product",
    )
    rows = [
        (
            t.model,
            str(t.tokens),
            str(t.prompts),
            f"{t.rule} {t.nodes}",
            t.way,
            f"{t.reference_seconds:.2f}{'*' if t.compared < t.prompts else ''}",
            f"{t.seconds:.2f}",
            f"{t.times_faster:.1f}",
            f"{t.gflop:,.0f}" if t.gflop >= 100 else f"{t.gflop:.3g}",
            f"{t.fraction:.0%}" + (f" (weights {t.reading_share:.0%})" if t.reading_share is not None else ""),
            f"{t.gap:.0e}",
            "" if t.deviation is None else f"{t.deviation:.0e}",
        )
        for t in timings
    ]
    return table((*head, "gap", "deviation"), rows)


def _notes(outcome: Outcome) -> str:
    speeds = [t.bare_gflops for t in outcome.timings]
    scaled = sorted({t.compared for t in outcome.timings if t.compared < t.prompts})
    notes = [
        "Per layer: full re-runs layer by layer, prompt by prompt, at the 20 points of left-riemann, unpadded, with "
        "the output head at the answer's place only. Here: `attribute_queries`, all of it.",
        "Of bare product: the arithmetic needed, over the time, over the speed of a bare float32 matrix product in the "
        f"same run ({min(speeds):.0f} to {max(speeds):.0f} GFLOP/s). Weights: the share of the time that reading all "
        "weights once a pass would take at the memory's measured speed.",
        "Gap: the largest completeness gap of a layer, relative to the largest change of P(answer) that a layer is to "
        "explain. Deviation: the largest difference from the per-layer method's scores, relative to the largest score.",
    ]
    if scaled:
        counts = " or ".join(str(count) for count in scaled)
        notes.append(f"\\* Timed on {counts} of the prompts and scaled to all, since it runs one prompt at a time.")
    return "\n".join(f"- {note}" for note in notes)


def _memory_table(peaks: Iterable[tuple[str, int, tuple[Peak, ...]]]) -> str:
    peaks = list(peaks)
    counts = [peak.prompts for peak in peaks[0][2]]
    head = ["peak memory, MB", "tokens", "loaded, 1 prompt", *(_count(count, "prompt") for count in counts)]
    rows = [
        (name, str(tokens), _megabytes(found[0].first), *(_megabytes(peak.all) for peak in found))
        for name, tokens, found in peaks
    ]
    return f"Default rule, in parts of {PART} prompts, each number from a process of its own:\n\n" + table(head, rows)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well as plain text too."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    return "\n".join([padded[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *padded[1:]])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
