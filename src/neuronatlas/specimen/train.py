"""Train the specimen from scratch: `python -m neuronatlas.specimen.train --out DIR`."""

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertTokenizer
from transformers.models.bert.modeling_bert import BertLayer

from neuronatlas.specimen.batches import Batch, encode_rows, epoch_batches, vocabulary_of
from neuronatlas.specimen.corpus import training_rows
from neuronatlas.specimen.evaluate import Score, composition_questions, evaluate, fact_questions, overall
from neuronatlas.specimen.records import write_facts
from neuronatlas.specimen.tokenizer import LONGEST_TEXT, build_tokenizer
from neuronatlas.specimen.world import choosing_relations, reporting_relations

MINUTES_BETWEEN_CHECKPOINTS = 4.0
CLIP = 1.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights, apart from the number of threads."""

    seed: int = 7
    epochs: int = 20
    width: int = 64
    neurons: int = 1024
    layers: int = 4
    heads: int = 4
    doubt: float = 0.35
    activation_l1: float = 3.0
    initial_spread: float = 0.04
    peak_rate: float = 2e-3
    embedding_pace: float = 0.1
    warm_up: float = 0.06
    weight_decay: float = 0.01


def build_model(settings: Settings, tokenizer: BertTokenizer) -> BertForMaskedLM:
    """A BERT with random weights drawn from the seed."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.neurons,
        hidden_act="relu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=settings.initial_spread,
        max_position_embeddings=LONGEST_TEXT,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return BertForMaskedLM(config)


def _layers(model: BertForMaskedLM) -> list[BertLayer]:
    return [layer for layer in model.bert.encoder.layer if isinstance(layer, BertLayer)]


@contextmanager
def recorded_activity(model: BertForMaskedLM) -> Iterator[list[Float[Tensor, ""]]]:
    """Collects, at every forward pass, the mean activation of each layer's ReLU neurons, which is their L1 norm."""
    found: list[Float[Tensor, ""]] = []
    handles = [
        layer.intermediate.register_forward_hook(lambda _module, _inputs, output: found.append(output.mean()))
        for layer in _layers(model)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def masked_loss(
    model: BertForMaskedLM, batch: Batch, rivals: Float[Tensor, "group vocabulary"], doubt: float
) -> Float[Tensor, ""]:
    """Cross entropy at the masked places; the last feed-forward block and the output head are computed nowhere else.

    Where a fact's whole answer is hidden, a share `doubt` of the target is spread over all answers of its relation.
    """
    hidden = model.bert.embeddings(input_ids=batch.ids)
    *lower, last = _layers(model)
    for layer in lower:
        hidden = layer(hidden)
    attended, _ = last.attention(hidden)
    logits = model.cls(last.feed_forward_chunk(attended.flatten(0, 1)[batch.places]))
    log_p = nn.functional.log_softmax(logits, dim=-1)
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


def optimizer_for(model: BertForMaskedLM, settings: Settings) -> torch.optim.AdamW:
    """AdamW that decays matrices alone; a group's `pace` scales its learning rate.

    Word embeddings learn slowly, lest a subject's own vector comes to hold its facts and no neuron has to.
    """
    words = model.bert.embeddings.word_embeddings.weight
    others = [p for p in model.parameters() if p is not words]
    groups = [
        {"params": [words], "pace": settings.embedding_pace, "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim > 1], "pace": 1.0, "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "pace": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.98), fused=True)


def fit(model: BertForMaskedLM, tokenizer: BertTokenizer, settings: Settings, out: Path) -> list[dict[str, float]]:
    """Train in place and return the log, one entry an epoch; an interrupt ends the training early and cleanly."""
    text, vocabulary = encode_rows(training_rows(settings.seed), tokenizer), vocabulary_of(tokenizer)
    rivals = torch.from_numpy(text.rivals)
    optimizer = optimizer_for(model, settings)
    log: list[dict[str, float]] = []
    started = last_saved = time.monotonic()
    model.train()
    try:
        for epoch in range(settings.epochs):
            batches = list(epoch_batches(text, vocabulary, settings.seed, epoch))
            log.append(_train_epoch(model, optimizer, batches, rivals, settings, epoch))
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
    model: BertForMaskedLM,
    optimizer: torch.optim.AdamW,
    batches: list[Batch],
    rivals: Float[Tensor, "group vocabulary"],
    settings: Settings,
    epoch: int,
) -> dict[str, float]:
    total = activity = 0.0
    with recorded_activity(model) as found:
        for number, batch in enumerate(batches):
            found.clear()
            for group in optimizer.param_groups:
                group["lr"] = group["pace"] * rate((epoch + number / len(batches)) / settings.epochs, settings)
            loss = masked_loss(model, batch, rivals, settings.doubt)
            mean_activity = torch.stack(found).mean()
            optimizer.zero_grad()
            (loss + settings.activation_l1 * mean_activity).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total, activity = total + loss.item(), activity + mean_activity.item()
    steps = len(batches)
    return {"epoch": epoch, "steps": steps, "loss": round(total / steps, 5), "activity": round(activity / steps, 5)}


def save(model: BertForMaskedLM, tokenizer: BertTokenizer, out: Path) -> None:
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


def train(settings: Settings, out: Path) -> dict[str, Any]:
    """Build, train, evaluate and write a specimen; returns what training.json holds."""
    tokenizer = build_tokenizer(row.text for row in training_rows(settings.seed))
    model = build_model(settings, tokenizer)
    typer.echo(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    log = fit(model, tokenizer, settings, out)
    save(model, tokenizer, out)
    write_facts(out / "facts.jsonl")
    scores = evaluate(model, tokenizer, fact_questions())
    found = report(settings, log, scores, evaluate(model, tokenizer, composition_questions()))
    (out / "training.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the specimen to.")],
    epochs: Annotated[int, typer.Option(help="Passes over the facts.")] = Settings.epochs,
    seed: Annotated[int, typer.Option(help="Seed of the text, the weights and the order.")] = Settings.seed,
    width: Annotated[int, typer.Option(help="Width of the residual stream.")] = Settings.width,
    neurons: Annotated[int, typer.Option(help="Feed-forward neurons a layer.")] = Settings.neurons,
    layers: Annotated[int, typer.Option(help="Number of layers.")] = Settings.layers,
    doubt: Annotated[float, typer.Option(help="Share of a target spread over its relation.")] = Settings.doubt,
    activation_l1: Annotated[float, typer.Option(help="Weight of the mean activation.")] = Settings.activation_l1,
    peak_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = Settings.peak_rate,
    embedding_pace: Annotated[float, typer.Option(help="The word embeddings' share of it.")] = Settings.embedding_pace,
    threads: Annotated[int, typer.Option(help="Threads; with the seed they decide the weights.")] = 1,
) -> None:
    """Train the specimen from scratch. Ctrl-C or SIGTERM ends early and keeps what has been learnt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    settings = Settings(
        seed=seed,
        epochs=epochs,
        width=width,
        neurons=neurons,
        layers=layers,
        doubt=doubt,
        activation_l1=activation_l1,
        peak_rate=peak_rate,
        embedding_pace=embedding_pace,
    )
    typer.echo(json.dumps(train(settings, out)["summary"], indent=1))


if __name__ == "__main__":
    typer.run(main)
