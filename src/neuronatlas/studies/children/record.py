"""A child in its folder: a language model that transformers loads, its classifier, and the record of how it was made.

- `config.json`, `model.safetensors` and the tokenizer's files: the body after fine-tuning under the base's own class,
  with the base's language-model head, so that `load` takes it and every site compares one to one with the base.
- `classifier.safetensors`: `weight` [class, d_model] and `bias` [class] of the classifier on the last hidden states.
- `child.json`: base, corpus, task, settings, digests of the sentences trained on, losses, scores, how well
  each layer tells the task, versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neuronatlas.models import Model, load
from neuronatlas.neurons import Layout
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.studies.children.reading import LAYERS
from neuronatlas.studies.children.settings import ChildError

__all__ = ["CLASSIFIER", "RECORD", "SCHEMA", "Child", "open_child", "require_same_shape", "sentence_digest"]

RECORD, CLASSIFIER = "child.json", "classifier.safetensors"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Child:
    """A fine-tuned child on disk; `record` is what its child.json holds."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The property that it was trained to tell."""
        return str(self.record["task"]["label"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it tells apart, sorted."""
        return tuple(self.record["task"]["classes"])

    @property
    def seed(self) -> int:
        """The seed that it was trained from."""
        return int(self.record["settings"]["seed"])

    @property
    def shuffled(self) -> bool:
        """Whether it is a control, trained on permuted labels."""
        return bool(self.record["settings"]["shuffled"])

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Accuracy by part: accuracy with its interval (low, high), majority, n."""
        return {part: dict(scores) for part, scores in self.record["scores"].items()}

    @property
    def layers(self) -> pl.DataFrame:
        """Accuracy of a probe for the task on each layer alone, of `base` and `child`: see `reading.task_layers`."""
        return pl.DataFrame(self.record["layers"], schema=LAYERS)

    def held_out(self, corpus: Corpus) -> Corpus:
        """The sentences of a corpus whose words it was not trained on, whatever file these come from.

        Errors: ChildError where none are left.
        """
        trained = set(self.record["trained"])
        left = [i for i, sentence in enumerate(corpus.sentences) if sentence_digest(sentence) not in trained]
        if not left:
            raise ChildError(
                f"{self.folder} was trained on every sentence of {corpus.name or 'the corpus'}: bring others"
            )
        return corpus if len(left) == len(corpus) else corpus.take(left)

    def classifier(self) -> tuple[Tensor, Tensor]:
        """Weight [class, d_model] and bias [class] of the classifier.

        Errors: ChildError when its file is missing, broken or of another shape.
        """
        path = self.folder / CLASSIFIER
        try:
            tensors = load_file(path)
            weight, bias = tensors["weight"], tensors["bias"]
        except (OSError, KeyError, SafetensorError) as error:
            raise ChildError(f"{path} holds no classifier ({type(error).__name__}): fine-tune again") from None
        if weight.ndim != 2 or weight.shape[0] != len(self.classes) or bias.shape != weight.shape[:1]:
            raise ChildError(f"{path}: weight {tuple(weight.shape)} for {len(self.classes)} classes: fine-tune again")
        return weight, bias

    def load(self, base: Model, *, device: str = "auto", dtype: str = "auto") -> Model:
        """Load its language model, and prove that it is the child of this base: neuron for neuron at every site.

        Errors: ChildError for another base, other weights than the record tells, or sites of other shapes.
        """
        if base.digest != self.record["base"]["digest"]:
            was = self.record["base"]
            raise ChildError(
                f"{self.folder} is a child of {was['name']} (digest {was['digest']}), not of {base.name} "
                f"({base.digest}): give its own base"
            )
        model = load(self.folder, device=device, dtype=dtype, site=base.default_site)
        if model.dtype == torch.float32 and model.digest != self.record["digest"]:
            raise ChildError(
                f"{self.folder} has other weights (digest {model.digest}) than it was saved with "
                f"({self.record['digest']}): fine-tune again"
            )
        require_same_shape(base, model)
        return model


def require_same_shape(base: Model, child: Model) -> None:
    """Raise ChildError unless every site of the base has as many neurons in each layer of the child."""
    for name in base.sites:
        if name not in child.sites:
            raise ChildError(
                f"{child.name} lacks the site {name!r} of its base: {child.missing.get(name, 'not found')}"
            )
        ours, theirs = _shape(base.layout(name)), _shape(child.layout(name))
        if ours != theirs:
            raise ChildError(
                f"{child.name} is no child of {base.name}: site {name!r} has layers of {theirs[0]} neurons there, "
                f"{ours[0]} here"
            )


def _shape(layout: Layout) -> tuple[object, ...]:
    return layout.widths, layout.stack, layout.experts


def sentence_digest(sentence: Sentence) -> str:
    """A digest of a sentence's characters but for spaces, which formats keep in different ways."""
    return hashlib.sha256("".join("".join(sentence.words).split()).encode()).hexdigest()[:16]


def open_child(folder: str | Path) -> Child:
    """Open the folder of a child; ChildError when it is none, or its record is broken."""
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ChildError(f"{folder} is no child: it has no {RECORD}; `neuronatlas finetune` makes one") from None
    except (OSError, ValueError) as error:
        raise ChildError(f"{path} cannot be read ({type(error).__name__}): fine-tune again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise ChildError(f"{path} has schema {found!r}, {SCHEMA} expected: fine-tune again")
    return Child(Path(folder), record)
