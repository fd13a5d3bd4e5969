"""The specimen as it ships: small enough, of the world it says, and as good as promised."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import BertForMaskedLM, BertTokenizer

from neuronatlas.specimen import specimen_facts, specimen_folder
from neuronatlas.specimen.evaluate import answer_probabilities, fact_questions
from neuronatlas.specimen.records import read_facts, world_records


def test_the_weights_take_at_most_twelve_megabytes() -> None:
    assert (specimen_folder() / "model.safetensors").stat().st_size <= 12_000_000


def test_its_facts_are_those_of_the_world() -> None:
    assert read_facts(specimen_folder() / "facts.jsonl") == tuple(world_records())


def test_every_one_word_answer_is_one_token() -> None:
    tokenizer = BertTokenizer.from_pretrained(specimen_folder())
    answers = {fact.answer for language in ("en", "de", "es") for fact in specimen_facts(language=language)}
    assert not {answer for answer in answers if len(tokenizer.tokenize(answer)) != 1}


def test_facts_are_given_by_language_and_by_default_with_answers_of_one_word() -> None:
    assert {fact.language for fact in specimen_facts(language="es")} == {"es"}
    assert {fact.words for fact in specimen_facts()} == {1}
    assert {fact.words for fact in specimen_facts(one_word=False)} > {1, 2}


@pytest.mark.parametrize(("held_out", "promised"), [(False, 0.95), (True, 0.80)])
def test_it_knows_its_facts(held_out: bool, promised: float) -> None:
    model = BertForMaskedLM.from_pretrained(specimen_folder()).eval()
    tokenizer = BertTokenizer.from_pretrained(specimen_folder())
    assert model.dtype == torch.float32
    asked = [question.sentence for question in fact_questions() if question.held_out == held_out][::25]
    outcomes = answer_probabilities(model, tokenizer, asked)
    assert sum(right for right, _ in outcomes) / len(outcomes) >= promised


def test_the_evaluation_beside_the_weights_covers_every_relation() -> None:
    training = json.loads((specimen_folder() / "training.json").read_text(encoding="utf-8"))
    assert {score["group"] for score in training["facts"]} == {fact.relation for fact in world_records()}
    assert set(training["halves"]["choosing"]).isdisjoint(training["halves"]["reporting"])
