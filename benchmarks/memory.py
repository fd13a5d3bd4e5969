"""Peak memory of attribution on a model with random weights, in a process of its own: prints one line of JSON.

python benchmarks/memory.py "BERT-base" --tokens 12 --prompts 128
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from measure import peak_memory
from neuronatlas.knowledge.attribution import attribute_queries
from shapes import SHAPES, Shape, random_model, random_queries

__all__ = ["Peak", "peak_of"]

PART = 8


@dataclass(frozen=True)
class Peak:
    """Peak bytes once the model was loaded and one prompt done, and once all prompts were."""

    prompts: int
    first: int
    all: int


def peak_of(shape: Shape, tokens: int, prompts: int, threads: int) -> Peak:
    """Start a fresh process for one configuration and read what it found."""
    command = [sys.executable, str(Path(__file__)), shape.name, "--tokens", str(tokens), "--prompts", str(prompts)]
    done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=True)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def main(shape: str, tokens: int = 12, prompts: int = 8, threads: Annotated[int, typer.Option()] = 1) -> None:
    """Attribute prompts in parts, as an atlas does, and tell the peak memory."""
    torch.set_num_threads(threads)
    model = random_model(SHAPES[shape])
    queries = random_queries(SHAPES[shape], tokens, prompts)
    list(attribute_queries(model, queries[:1]))
    first = peak_memory()
    for start in range(0, prompts, PART):
        for _ in attribute_queries(model, queries[start : start + PART]):
            pass
    print(json.dumps(asdict(Peak(prompts, first, peak_memory()))))


if __name__ == "__main__":
    typer.run(main)
