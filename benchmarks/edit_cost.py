"""Time and memory of one exact edit of a model with random weights, facts and words, in a process of its own.

python benchmarks/edit_cost.py BERT-base --markdown docs/editing.md
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import neuronatlas as na
from edit_tables import write_block
from measure import machine, peak_memory
from shapes import SHAPES, Shape, random_module

__all__ = ["random_facts", "worded_model"]

SPECIAL = ["[PAD]", "[UNK]", "[MASK]"]


def worded_model(shape: Shape, seed: int = 0) -> na.Model:
    """A model of that shape with random weights, its words being t3, t4 and so on, one token each."""
    words = {word: index for index, word in enumerate(SPECIAL)}
    words |= {f"t{index}": index for index in range(len(SPECIAL), shape.vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    named = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]"
    )
    return na.load((random_module(shape, "sdpa", torch.float32, seed), named))


def random_facts(shape: Shape, count: int, prompts: int, tokens: int, seed: int = 0) -> list[na.Fact]:
    """Facts of one relation in prompts of random words, the answer's place at the end."""
    rng = np.random.default_rng(seed)

    def words(size: int) -> list[str]:
        return [f"t{index}" for index in rng.integers(len(SPECIAL), shape.vocabulary, size)]

    found = []
    for _ in range(count):
        subject, answer = words(2)
        texts = [" ".join([subject, *words(tokens - 2), "[MASK]"]) for _ in range(prompts)]
        found.append(na.Fact("random", subject, answer, texts))
    return found


def main(
    shape: str,
    facts: Annotated[int, typer.Option(help="How many facts, of which one is edited and the others stay.")] = 300,
    prompts: Annotated[int, typer.Option(help="Prompts a fact.")] = 4,
    tokens: Annotated[int, typer.Option(help="Tokens a prompt.")] = 12,
    threads: int = 1,
    markdown: Annotated[Path | None, typer.Option(help="A page with a block for the table.")] = None,
    block: Annotated[str, typer.Option(help="Name of that block.")] = "cost",
) -> None:
    """Locate a fact's neurons, edit it, and tell the time and the peak memory after each."""
    torch.set_num_threads(threads)
    model = worded_model(SHAPES[shape])
    edited, *others = random_facts(SHAPES[shape], facts, prompts, tokens)
    lines = ["| | CPU seconds | seconds | peak memory, MiB |", "| --- | --- | --- | --- |"]
    lines.append(f"| the model in memory | | | {peak_memory() / 2**20:.0f} |")
    start, wall = time.process_time(), time.perf_counter()

    def told(what: str) -> None:
        nonlocal start, wall
        spent = f"{time.process_time() - start:.1f} | {time.perf_counter() - wall:.1f}"
        lines.append(f"| {what} | {spent} | {peak_memory() / 2**20:.0f} |")
        start, wall = time.process_time(), time.perf_counter()

    found = na.locate(model, edited)
    neurons = na.NeuronSet(found.layout, found.members)
    told(f"locating {len(neurons)} neurons")
    edit = na.exact_update(model, edited, others[0].answer, keep=others, neurons=neurons)
    sizes = ", ".join(str(attempt["neurons"]) for attempt in edit.settings["attempts"])
    told(f"the exact edit, {edit.settings['kept_prompts']} prompts kept, sets of {sizes} neurons tried")
    edit.undo()
    told("undoing it")
    text = f"{shape}, random weights, {prompts} prompts of {tokens} tokens. {machine()}.\n\n" + "\n".join(lines)
    print(text)
    if markdown is not None:
        write_block(markdown, block, text)


if __name__ == "__main__":
    typer.run(main)
