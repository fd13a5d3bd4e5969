"""Train a specimen from scratch: `python -m neuronatlas.specimen.train --model masked --out DIR`."""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedModel

from neuronatlas.specimen.batches import Batch, encode_rows, epoch_batches, vocabulary_of
from neuronatlas.specimen.causal import CAUSAL
from neuronatlas.specimen.corpus import training_rows
from neuronatlas.specimen.evaluate import Score, composition_questions, evaluate, fact_questions, overall
from neuronatlas.specimen.kind import Kind, Settings
from neuronatlas.specimen.masked import MASKED
from neuronatlas.specimen.records import write_facts
from neuronatlas.specimen.tokenizer import build_tokenizer
from neuronatlas.specimen.world import choosing_relations, reporting_relations

KINDS = {"masked": MASKED, "causal": CAUSAL}
MINUTES_BETWEEN_CHECKPOINTS = 4.0
CLIP = 1.0


@contextmanager
def recorded_neurons(kind: Kind, model: PreTrainedModel) -> Iterator[list[Float[Tensor, "*place unit"]]]:
    """Collects, at every forward pass, the neurons of each layer wherever they are computed."""
    found: list[Float[Tensor, "*place unit"]] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
        for module in kind.neurons(model)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def loss_of(
    kind: Kind, model: PreTrainedModel, batch: Batch, rivals: Float[Tensor, "group vocabulary"], doubt: float
) -> Float[Tensor, ""]:
    """Cross entropy at the batch's places.

    Where a fact's answer is chosen, a share `doubt` of the target is spread over all answers of its relation.
    """
    log_p = nn.functional.log_softmax(kind.logits(model, batch.ids, batch.places), dim=-1)
    share = doubt * (batch.rivals > 0)
    known = log_p.gather(1, batch.targets[:, None]).squeeze(1)
    doubted = (log_p * rivals[batch.rivals]).sum(dim=1)
    return -((1 - share) * known + share * doubted).mean()


def rate(progress: float, settings: Settings) -> float:
    """The learning rate: a straight rise, then half a cosine down to a hundredth of the peak."""
    if progress < settings.warm_up:
        return settings.peak_rate * max(progress / settings.warm_up, 1e-3)
    falling = (progress - settings.warm_up) / (1 - settings.warm_up)
    return settings.peak_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * falling)) / 2)


def optimizer_for(model: PreTrainedModel, settings: Settings) -> torch.optim.AdamW:
    """AdamW that decays matrices alone; a group's `pace` scales its learning rate.

    Word embeddings learn slowly, lest a subject's own vector comes to hold its facts and no neuron has to.
    """
    words = model.get_input_embeddings().weight
    others = [p for p in model.parameters() if p is not words]
    groups = [
        {"params": [words], "pace": settings.embedding_pace, "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim > 1], "pace": 1.0, "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "pace": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.98), fused=True)


def fit(
    kind: Kind, model: PreTrainedModel, tokenizer: BertTokenizer, settings: Settings, out: Path
) -> list[dict[str, float]]:
    """Train in place and return the log, one entry an epoch; an interrupt ends the training early and cleanly."""
    text, vocabulary = encode_rows(training_rows(settings.seed, kind.wordings), tokenizer), vocabulary_of(tokenizer)
    rivals = torch.from_numpy(text.rivals)
    optimizer = optimizer_for(model, settings)
    log: list[dict[str, float]] = []
    started = last_saved = time.monotonic()
    model.train()
    try:
        for epoch in range(settings.epochs):
            batches = list(epoch_batches(text, kind.hide, vocabulary, settings.seed, epoch))
            log.append(_train_epoch(kind, model, optimizer, batches, rivals, settings, epoch))
            minutes = (time.monotonic() - started) / 60
            typer.echo(f"{log[-1]}  {minutes:.1f} min, {minutes * (settings.epochs / (epoch + 1) - 1):.1f} min left")
            if time.monotonic() - last_saved > 60 * MINUTES_BETWEEN_CHECKPOINTS:
                save(model, tokenizer, out)
                last_saved = time.monotonic()
    except KeyboardInterrupt:
        typer.echo(f"interrupted in epoch {len(log)}: the weights as they are now are evaluated and kept")
    model.eval()
    return log


def _train_epoch(
    kind: Kind,
    model: PreTrainedModel,
    optimizer: torch.optim.AdamW,
    batches: list[Batch],
    rivals: Float[Tensor, "group vocabulary"],
    settings: Settings,
    epoch: int,
) -> dict[str, float]:
    total = activity = 0.0
    with recorded_neurons(kind, model) as found:
        for number, batch in enumerate(batches):
            found.clear()
            for group in optimizer.param_groups:
                group["lr"] = group["pace"] * rate((epoch + number / len(batches)) / settings.epochs, settings)
            loss = loss_of(kind, model, batch, rivals, settings.doubt)
            mean_activity = kind.activity(found, batch.ids.numel())
            optimizer.zero_grad()
            (loss + settings.activation_l1 * mean_activity).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total, activity = total + loss.item(), activity + mean_activity.item()
    steps = len(batches)
    return {"epoch": epoch, "steps": steps, "loss": round(total / steps, 5), "activity": round(activity / steps, 5)}


def save(model: PreTrainedModel, tokenizer: BertTokenizer, out: Path) -> None:
    """Write weights, configuration and tokenizer; each file appears whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".part-") as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        for file in sorted(Path(part).iterdir()):
            os.replace(file, out / file.name)


def report(
    settings: Settings, log: list[dict[str, float]], scores: list[Score], composed: list[Score]
) -> dict[str, Any]:
    """What training.json holds: how the weights came about, and what they know."""
    halves = {"choosing": choosing_relations(), "reporting": reporting_relations()}
    summary = {
        half: {
            "held-out templates" if held_out else "trained templates": dict(
                zip(
                    ("top1", "p"),
                    overall(s for s in scores if s.group in names and s.held_out == held_out),
                    strict=True,
                )
            )
            for held_out in (False, True)
        }
        for half, names in halves.items()
    }
    return {
        "settings": asdict(settings),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "halves": halves,
        "summary": summary,
        "facts": [asdict(score) for score in scores],
        "compositions": [asdict(score) for score in composed],
        "log": log,
    }


def train(kind: Kind, settings: Settings, out: Path) -> dict[str, Any]:
    """Build, train, evaluate and write a specimen; returns what training.json holds."""
    tokenizer = build_tokenizer(row.text for row in training_rows(settings.seed, kind.wordings))
    model = kind.build(settings, tokenizer)
    typer.echo(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    log = fit(kind, model, tokenizer, settings, out)
    save(model, tokenizer, out)
    write_facts(out / "facts.jsonl", kind.wordings)
    scores = evaluate(kind, model, tokenizer, fact_questions(kind.wordings))
    composed = evaluate(kind, model, tokenizer, composition_questions(kind.wordings))
    found = report(settings, log, scores, composed)
    (out / "training.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the specimen to.")],
    model: Annotated[str, typer.Option(help="masked or causal.")] = "masked",
    epochs: Annotated[int | None, typer.Option(help="Passes over the facts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the text, the weights and the order.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the residual stream.")] = None,
    neurons: Annotated[int | None, typer.Option(help="Feed-forward neurons a layer.")] = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers.")] = None,
    doubt: Annotated[float | None, typer.Option(help="Share of a target spread over its relation.")] = None,
    activation_l1: Annotated[float | None, typer.Option(help="Weight of the mean activation.")] = None,
    peak_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    embedding_pace: Annotated[float | None, typer.Option(help="The word embeddings' share of it.")] = None,
    threads: Annotated[int, typer.Option(help="Threads; with the seed they decide the weights.")] = 1,
) -> None:
    """Train a specimen from scratch; what is not said is as the kind of model has it.

    Ctrl-C or SIGTERM ends early and keeps what has been learnt.
    """
    if model not in KINDS:
        raise typer.BadParameter(f"no kind of specimen {model!r}: use {' or '.join(KINDS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    said: dict[str, Any] = {
        "seed": seed,
        "epochs": epochs,
        "width": width,
        "neurons": neurons,
        "layers": layers,
        "doubt": doubt,
        "activation_l1": activation_l1,
        "peak_rate": peak_rate,
        "embedding_pace": embedding_pace,
    }
    settings = replace(KINDS[model].settings, **{name: value for name, value in said.items() if value is not None})
    typer.echo(json.dumps(train(KINDS[model], settings, out)["summary"], indent=1))


if __name__ == "__main__":
    typer.run(main)
