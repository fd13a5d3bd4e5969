"""The training itself: transformers' Trainer, told to draw everything from one seed and to leave no trace."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from tqdm.auto import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from neuronatlas.studies.children.classifier import Classifier, batch_of
from neuronatlas.studies.children.settings import ChildSettings
from neuronatlas.studies.children.task import Row

__all__ = ["train"]


def train(
    classifier: Classifier, rows: Sequence[Row], fill: int, settings: ChildSettings, *, progress: bool
) -> list[float]:
    """Train a classifier in place on labelled sentences; returns the mean loss of each epoch.

    The same input gives the same weights on the same machine; the caller's random state is left alone.
    """
    device = next(classifier.parameters()).device
    with _frozen(device), TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=classifier,
            args=_arguments(settings, scratch, device),
            train_dataset=list(rows),
            data_collator=partial(_collated, fill=fill),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Bar(progress))
        trainer.train()
        log: list[dict[str, Any]] = trainer.state.log_history
    classifier.eval()
    return [float(entry["loss"]) for entry in log if "loss" in entry]


def _collated(rows: Sequence[Row], fill: int) -> dict[str, torch.Tensor]:
    return batch_of(rows, fill)


def _arguments(settings: ChildSettings, scratch: str, device: torch.device) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=scratch,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.rate,
        warmup_steps=settings.warm_up,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=device.type == "cpu",
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    # One device: several would share a batch, and the sums of their gradients would depend on how many there are.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


class _Bar(TrainerCallback):
    """A progress bar over the steps."""

    def __init__(self, progress: bool) -> None:
        self._shown = progress
        self._bar: tqdm[Any] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(total=state.max_steps, desc="fine-tune", unit="step", disable=not self._shown)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def _frozen(device: torch.device) -> Iterator[None]:
    """Compute deterministically inside, and give all that is global back on exit.

    Trainer seeds the generators of Python, numpy and torch, sets how loud transformers is, and remembers the process'
    state in accelerate.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - which Trainer seeds
    deterministic = torch.are_deterministic_algorithms_enabled()
    verbosity, workspace = transformers.logging.get_verbosity(), os.environ.get(_WORKSPACE)
    # Seeding draws on every GPU, not only on the one at hand.
    seeded = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(seeded):
        try:
            if device.type == "cuda":
                os.environ[_WORKSPACE] = workspace or ":4096:8"
            torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002 - the same
            transformers.logging.set_verbosity(verbosity)
            if workspace is None:
                os.environ.pop(_WORKSPACE, None)


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without it cuBLAS refuses to be deterministic."""
