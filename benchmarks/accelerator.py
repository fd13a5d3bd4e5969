"""Attribution on a GPU: prompts a second, fraction of the device's rate of bare matrix products, peak memory.

python benchmarks/accelerator.py --device cuda --markdown gpu.md    # Llama-8B shape in bfloat16, BERT-base on ParaRel
python benchmarks/accelerator.py --device cpu --quick               # tiny models, seconds: does it run
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer
from transformers import AutoTokenizer

import neuronatlas as na
from arithmetic import needed
from neuronatlas.knowledge.attribution import attribute_queries
from neuronatlas.knowledge.budgets import found_budget
from neuronatlas.knowledge.quadrature import DEFAULT_RULE, QUADRATURES
from neuronatlas.models.memory import LiveBytes
from neuronatlas.models.queries import Query
from outcome import table
from shapes import LARGE, SHAPES, TINY, Shape, random_model, random_module, random_queries
from subjects import MissingSubjectError, asked_of_pararel, shared_folder

__all__ = ["main"]

STEPS = QUADRATURES[DEFAULT_RULE].steps
PART = 512
"""Prompts that are given at once: their results are held until the last is done."""


@dataclass(frozen=True)
class Line:
    """What one case took. `tera` is the arithmetic needed for all prompts, in 10^12 operations; `peak` is in bytes."""

    name: str
    dtype: torch.dtype
    prompts: int
    tokens: str
    budget: int
    seconds: float
    tera: float
    bare_tera_per_second: float
    peak: int
    way: str

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        share = self.tera / self.seconds / self.bare_tera_per_second
        return (
            self.name,
            str(self.dtype).removeprefix("torch."),
            self.tokens,
            f"{self.prompts:,}",
            self.way,
            f"{self.budget:,}",
            f"{self.prompts / self.seconds:.1f}",
            f"{share:.0%}",
            f"{self.peak / 1e9:.2f}",
        )


def bare_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """10^12 operations a second of a bare product of square matrices: the median of several runs."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    found = []
    for _ in range(8):
        _settle(device)
        started = time.perf_counter()
        for _ in range(4):
            torch.mm(left, right)
        _settle(device)
        found.append(4 * 2e-12 * size**3 / (time.perf_counter() - started))
    return statistics.median(found[1:])


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(name: str, shape: Shape, model: na.Model, queries: Sequence[Query], size: int) -> Line:
    """Attribute all prompts in parts, with the budget that fits, after one part that only warms up."""
    device = model.device
    budget = found_budget(model, queries, "auto", rule=DEFAULT_RULE, steps=STEPS)
    first = list(attribute_queries(model, queries[:8], rule=DEFAULT_RULE, steps=STEPS, budget=budget))
    peak = _peak(model, queries[:PART], budget)
    rate = bare_rate(device, model.dtype, size)
    _settle(device)
    started = time.perf_counter()
    for start in range(0, len(queries), PART):
        for _ in attribute_queries(model, queries[start : start + PART], rule=DEFAULT_RULE, steps=STEPS, budget=budget):
            pass
    _settle(device)
    seconds = time.perf_counter() - started
    lengths = [len(asked.first.ids) for asked in queries]
    tera = sum(
        needed(shape, length, lengths.count(length), STEPS, zero_is_node=False).gflop / 1e3 for length in set(lengths)
    )
    shown = str(lengths[0]) if len(set(lengths)) == 1 else f"{min(lengths)} to {max(lengths)}"
    return Line(name, model.dtype, len(queries), shown, budget, seconds, tera, rate, peak, first[0].way)


def _peak(model: na.Model, queries: Sequence[Query], budget: int) -> int:
    """Most bytes allocated on the device, weights and all; on a CPU those of live tensors beside the weights."""
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
        list(attribute_queries(model, queries, rule=DEFAULT_RULE, steps=STEPS, budget=budget))
        return int(torch.cuda.max_memory_allocated(model.device))
    with LiveBytes() as live:
        list(attribute_queries(model, queries, rule=DEFAULT_RULE, steps=STEPS, budget=budget))
    return int(live.peak)


def lines(device: torch.device, quick: bool, prompts: int, bert: Path | None) -> Iterator[Line]:
    """All cases: a large Llama in bfloat16, then BERT-base over ParaRel."""
    shape, size = (TINY[2], 128) if quick else (LARGE, 8192)
    model = random_model(shape, dtype=torch.bfloat16, device=device)
    for tokens in shape.lengths:
        yield timed(shape.name, shape, model, random_queries(shape, tokens, 4 if quick else 256), size)
    del model
    for dtype in (torch.float32, torch.bfloat16):
        found = _bert(device, dtype, quick, prompts, bert)
        if found is not None:
            yield timed("tiny BERT" if quick else "BERT-base, ParaRel", *found, size)


def _bert(
    device: torch.device, dtype: torch.dtype, quick: bool, prompts: int, folder: Path | None
) -> tuple[Shape, na.Model, list[Query]] | None:
    """BERT-base with random weights, asked ParaRel's prompts by the tokenizer of a model that is at hand."""
    if quick:
        return TINY[0], random_model(TINY[0], dtype=dtype, device=device), random_queries(TINY[0], 6, 4)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder or shared_folder("NEURONATLAS_MODELS", "models") / "pararel-bert"
        )
        shape = replace(SHAPES["BERT-base"], vocabulary=len(tokenizer))
        model = na.load((random_module(shape, "sdpa", dtype, 0, device), tokenizer))
        return shape, model, asked_of_pararel(model, prompts)
    except MissingSubjectError as error:
        typer.echo(f"ParaRel is left out: {error}")
        return None


def main(
    device: Annotated[str, typer.Option(help="cuda, cuda:1, ...; cpu only with --quick.")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models: seconds.")] = False,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of ParaRel.")] = 10_000,
    bert: Annotated[Path | None, typer.Option(help="A folder with the tokenizer of BERT.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the outcome to this file as well.")] = None,
) -> None:
    """Time attribution on an accelerator, with models of random weights."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no device {device!r} here: nothing was timed (--device cpu --quick tries the script)")
        return
    where = torch.device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "the CPU"
    head = ("model", "dtype", "tokens", "prompts", "way", "budget", "prompts a second", "of bare product", "peak, GB")
    rows = [line.cells for line in lines(where, quick, prompts, bert)]
    made = f"torch {torch.__version__}, transformers {transformers.__version__}"
    text = f"{name}, {made}. Random weights, rule {DEFAULT_RULE}, {STEPS} nodes.\n\n{table(head, rows)}\n"
    print(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
