"""From a base model and labelled text to a fine-tuned child in a folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Bool
from safetensors.torch import save_file

from neuronatlas import durable
from neuronatlas.models import Model, load
from neuronatlas.models.model import digest_of
from neuronatlas.probing.corpora import Corpus
from neuronatlas.statistics import accuracy_interval
from neuronatlas.studies.children.classifier import Classifier, batch_of, classifier_of
from neuronatlas.studies.children.reading import task_layers
from neuronatlas.studies.children.record import CLASSIFIER, RECORD, SCHEMA, Child, open_child, sentence_digest
from neuronatlas.studies.children.settings import ChildError, ChildSettings
from neuronatlas.studies.children.task import PARTS, Row, Task, task_of

__all__ = ["train_child"]


def train_child(
    base: Model,
    corpus: Corpus,
    folder: str | Path,
    settings: ChildSettings | None = None,
    *,
    progress: bool = True,
) -> Child:
    """Fine-tune a copy of a model to tell the labels of a corpus, and leave it in `folder`.

    Words or sentences may carry the labels (`corpus.level`). A linear classifier reads the body's last hidden states;
    classifier and body are trained together by transformers' Trainer (cross entropy, AdamW), the language-model head is
    kept as it is, but for what it shares with the embeddings. Then probes read the task from each layer of base and
    child, on sentences that were not trained on. The base stays as it is. The same input gives the same bytes on the
    same machine. A folder that already holds this very child is opened, nothing is trained.

    Errors: ChildError without accelerate, for a model that cannot be trained, and for a folder that holds something
    else; ExamplesError for labels that cannot be learnt; SettingsError for settings that make no sense.
    """
    settings, folder = settings or ChildSettings(), Path(folder)
    task = task_of(corpus, base.tokenizer, base.max_length, settings)
    plan = _plan(base, corpus, task, settings)
    if folder.exists() and any(folder.iterdir()):
        return _reopened(folder, plan)
    if find_spec("accelerate") is None:
        raise ChildError("fine-tuning needs accelerate, which is not installed: pip install 'neuronatlas[train]'")
    # Imported here, for it loads all of Trainer, which nothing else needs.
    from neuronatlas.studies.children.training import train  # noqa: PLC0415

    learnt = task.shuffled(settings.seed) if settings.shuffled else task
    classifier = classifier_of(base, len(task.classes), settings.seed)
    fill = base.tokenizer.pad_token_id
    fill = fill if isinstance(fill, int) else 0
    losses = train(classifier, learnt.rows["train"], fill, settings, progress=progress)
    digest = digest_of(classifier.module)
    scores = {part: _scores(classifier, learnt, part, fill, settings) for part in PARTS}
    models = {"base": base, "child": load((classifier.module, base.tokenizer), site=base.default_site)}
    layers = task_layers(models, corpus, task, settings).to_dicts() if "hidden" in base.sites else []
    found = {"digest": digest, "losses": losses, "scores": scores, "layers": layers, "versions": _versions()}
    record = {**plan, **found}
    _write(folder, base, classifier, record)
    return open_child(folder)


def _plan(base: Model, corpus: Corpus, task: Task, settings: ChildSettings) -> dict[str, Any]:
    """What decides on a child, as plain JSON."""
    plan = {
        "schema": SCHEMA,
        "base": {"name": base.name, "revision": base.revision, "digest": base.digest, "kind": base.kind},
        "corpus": {"name": corpus.name, "digest": corpus.digest, "words_digest": corpus.words_digest},
        "task": {
            "label": corpus.label,
            "level": corpus.level,
            "classes": list(task.classes),
            "items": {part: len(task.targets(part)) for part in PARTS},
            "left_out": str(task.left_out),
        },
        "settings": asdict(settings),
        "trained": [sentence_digest(corpus.sentences[row.sentence]) for row in task.rows["train"]],
    }
    plain: dict[str, Any] = json.loads(json.dumps(plan))
    return plain


def _reopened(folder: Path, plan: dict[str, Any]) -> Child:
    if not (folder / RECORD).exists():
        held = min(path.name for path in folder.iterdir())
        raise ChildError(f"{folder} is not empty (it holds {held!r}) and no child: choose another folder")
    child = open_child(folder)
    for name, free in _DECIDING.items():
        now, was = ({k: v for k, v in side[name].items() if k not in free} for side in (plan, child.record))
        for key in now | was:
            if now.get(key) != was.get(key):
                raise ChildError(
                    f"{folder} holds another child ({name}.{key} was {was.get(key)!r}, now {now.get(key)!r}): "
                    "take another folder"
                )
    return child


_DECIDING = {"base": ("name", "revision"), "corpus": ("name",), "task": (), "settings": ()}
"""What decides on a child's weights, and which parts of it are free to differ."""


def _scores(classifier: Classifier, task: Task, part: str, fill: int, settings: ChildSettings) -> dict[str, float]:
    """Accuracy in a part, by the labels it is given there: those of train are permuted where the child's were."""
    right = _hits(classifier, task.rows[part], fill, settings.batch)
    interval = accuracy_interval(right, task.sentences(part), seed=settings.seed)
    majority = np.bincount(task.targets("train"), minlength=len(task.classes)).argmax()
    chance = float((task.targets(part) == majority).mean())
    return {
        "accuracy": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "majority": chance,
        "n": len(right),
    }


def _hits(classifier: Classifier, rows: Sequence[Row], fill: int, batch: int) -> Bool[np.ndarray, " item"]:
    """Where the classifier is right."""
    device = next(classifier.parameters()).device
    right = []
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            given = {name: tensor.to(device) for name, tensor in batch_of(rows[start : start + batch], fill).items()}
            right.append((classifier(**given)["logits"].argmax(dim=1) == given["labels"]).cpu().numpy())
    return np.concatenate(right)


def _versions() -> dict[str, Any]:
    found = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    return {**found, "threads": torch.get_num_threads()}


def _write(folder: Path, base: Model, classifier: Classifier, record: dict[str, Any]) -> None:
    """Write the folder whole or not at all."""
    with _scratch_beside(folder) as part:
        classifier.module.save_pretrained(part)
        base.tokenizer.save_pretrained(part)
        head = classifier.head
        tensors = {"weight": head.weight.detach().cpu().contiguous(), "bias": head.bias.detach().cpu().contiguous()}
        save_file(tensors, part / CLASSIFIER)
        (part / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()  # empty, or it would have been refused
        durable.publish(part, folder)


@contextmanager
def _scratch_beside(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        part = Path(scratch) / "child"
        part.mkdir()
        yield part
