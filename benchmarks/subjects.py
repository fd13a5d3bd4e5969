"""The models and prompts on which rules of integration are compared: real ones where they are at hand."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import BertForMaskedLM, BertTokenizer

import neuronatlas as na
from neuronatlas.knowledge.facts import split_prompt
from neuronatlas.models.queries import Query, place_tokens, query
from neuronatlas.readers import FactFileWarning
from shapes import TINY, random_model, random_queries

__all__ = ["SUBJECTS", "Choice", "MissingSubjectError", "Subject", "asked_of_pararel", "shared_folder", "tiny"]

_SHARED = Path(__file__).resolve().parents[2] / "shared"
# Every third of ParaRel's relations, in the order of their numbers.
_RELATIONS = ("P19", "P30", "P39", "P103", "P127", "P140", "P178", "P279", "P413", "P495", "P937", "P1412")


class MissingSubjectError(RuntimeError):
    """A subject whose model or data are not on this machine."""


@dataclass(frozen=True)
class Subject:
    """A model in float64 and the prompts it is asked."""

    name: str
    model: na.Model
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Choice:
    """A subject that can be made, with how many prompts it usually has (what a few minutes allow).

    `decides` says whether the default number of nodes rests on it; otherwise it is looked at for information.
    """

    name: str
    make: Callable[[int], Subject]
    prompts: int
    decides: bool = True


def shared_folder(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, _SHARED / name))
    if not folder.is_dir():
        raise MissingSubjectError(f"no folder {folder} (set {variable})")
    return folder


def golden(count: int) -> Subject:
    """The small random BERT on which the official code's scores are known."""
    folder = shared_folder("NEURONATLAS_GOLDEN", "golden") / "knowledge-neurons"
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)
    model = na.load((BertForMaskedLM.from_pretrained(folder, dtype=torch.float64), tokenizer))
    asked = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    queries = [_query(model, entry["prompt"], entry["answer"]) for entry in asked]
    return Subject("golden", model, tuple(q for q in queries if q is not None)[:count])


def pararel(name: str, count: int) -> Subject:
    """A model trained on ParaRel, asked prompts of some of its relations."""
    folder = shared_folder("NEURONATLAS_MODELS", "models") / name
    model = na.load(folder, dtype="float64")
    data = shared_folder("NEURONATLAS_DATA", "data") / "pararel"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FactFileWarning)
        facts = na.read_facts(data / "data_all_allbags.json.gz", relations=_RELATIONS)
    asked = [(fact.relation, prompt, fact.answer) for fact in facts for prompt in fact.prompts]
    return Subject(name, model, _drawn(model, asked, count))


def asked_of_pararel(model: na.Model, count: int) -> list[Query]:
    """The first so many prompts of ParaRel that suit a model, relation by relation."""
    data = shared_folder("NEURONATLAS_DATA", "data") / "pararel"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FactFileWarning)
        facts = na.read_facts(data / "data_all_allbags.json.gz")
    asked = ((prompt, fact.answer) for fact in facts for prompt in fact.prompts)
    return list(islice(_suiting(model, asked), count))


def specimen(count: int) -> Subject:
    """The model that ships with the package."""
    if not (na.specimen_folder() / "config.json").exists():
        raise MissingSubjectError(f"no specimen in {na.specimen_folder()}")
    model = na.load(na.specimen_folder(), dtype="float64")
    asked = [(fact.relation, prompt, fact.answer) for fact in na.specimen_facts() for prompt in fact.prompts]
    return Subject("specimen", model, _drawn(model, asked, count))


def tiny(count: int) -> Subject:
    """A tiny random BERT, to see that all runs."""
    model = random_model(TINY[0], dtype=torch.float64)
    return Subject(TINY[0].name, model, tuple(random_queries(TINY[0], 6, count)))


SUBJECTS = (
    Choice("golden", golden, prompts=12),
    Choice("pararel-bert", partial(pararel, "pararel-bert"), prompts=24),
    Choice("specimen", specimen, prompts=60),
    Choice("pararel-bert-relu", partial(pararel, "pararel-bert-relu"), prompts=12, decides=False),
)


def _drawn(model: na.Model, asked: Sequence[tuple[str, str, str]], count: int, seed: int = 0) -> tuple[Query, ...]:
    """Prompts drawn at random, equally many of each relation as far as they go, those that do not suit left out."""
    rng = np.random.default_rng(seed)
    relations = list(dict.fromkeys(relation for relation, _, _ in asked))
    each = -(-count // len(relations))
    found: list[Query] = []
    for relation in relations:
        own = [(prompt, answer) for name, prompt, answer in asked if name == relation]
        shuffled = (own[index] for index in rng.permutation(len(own)))
        found += islice(_suiting(model, shuffled), each)
    kept = sorted(rng.permutation(len(found))[:count])
    return tuple(found[index] for index in kept)


def _suiting(model: na.Model, asked: Iterable[tuple[str, str]]) -> Iterator[Query]:
    for prompt, answer in asked:
        found = _query(model, prompt, answer)
        if found is not None:
            yield found


def _query(model: na.Model, prompt: str, answer: str) -> Query | None:
    left, right = split_prompt(prompt, place_tokens(model))
    try:
        return query(model, left, right, answer)
    except na.QueryError:
        return None
