"""The specimens as they ship: small enough, of the world they say, and as good as promised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertTokenizer,
)

import neuronatlas as na
from neuronatlas.models.queries import query
from neuronatlas.specimen import SPECIMENS, SpecimenError, SpecimenFact, specimen_facts, specimen_folder
from neuronatlas.specimen.evaluate import answer_probabilities, fact_questions
from neuronatlas.specimen.records import read_facts, world_records
from neuronatlas.specimen.train import KINDS
from neuronatlas.specimen.world import reporting_relations

# The share of answers that are right, on trained and on held-out wordings; see docs/specimen.md for why they differ.
PROMISED = {"masked": (0.95, 0.80), "causal": (0.95, 0.70)}
LOADERS = {"masked": AutoModelForMaskedLM, "causal": AutoModelForCausalLM}


@pytest.fixture(params=SPECIMENS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_specimen_that_can_be_trained_ships() -> None:
    assert tuple(KINDS) == SPECIMENS


def test_a_specimen_that_there_is_not_is_refused() -> None:
    with pytest.raises(SpecimenError, match="no specimen 'gpt': 'masked' or 'causal' expected"):
        specimen_folder("gpt")


def test_the_weights_take_at_most_twelve_megabytes(name: str) -> None:
    assert (specimen_folder(name) / "model.safetensors").stat().st_size <= 12_000_000


def test_its_facts_are_those_of_the_world(name: str) -> None:
    assert read_facts(specimen_folder(name) / "facts.jsonl") == tuple(world_records(KINDS[name].wordings))


def test_every_one_word_answer_is_one_token(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(specimen_folder(name))
    facts = [fact for language in ("en", "de", "es") for fact in specimen_facts(model=name, language=language)]
    assert not {fact.answer for fact in facts if len(tokenizer.tokenize(fact.answer)) != 1}


def test_facts_are_given_by_language_and_by_default_with_answers_of_one_word(name: str) -> None:
    assert {fact.language for fact in specimen_facts(model=name, language="es")} == {"es"}
    assert {fact.words for fact in specimen_facts(model=name)} == {1}
    assert {fact.words for fact in specimen_facts(model=name, one_word=False)} > {1, 2}


def test_it_knows_its_facts_with_doubt(name: str) -> None:
    right, p = _asked(name, held_out=False)
    assert right >= PROMISED[name][0]
    assert 0.5 < p < 0.75


def test_it_knows_its_facts_in_wordings_it_has_never_seen(name: str) -> None:
    right, _ = _asked(name, held_out=True)
    assert right >= PROMISED[name][1]


def _asked(name: str, *, held_out: bool) -> tuple[float, float]:
    """Top-1 and P(answer) over every 25th prompt."""
    model = LOADERS[name].from_pretrained(specimen_folder(name)).eval()
    tokenizer = BertTokenizer.from_pretrained(specimen_folder(name))
    assert model.dtype == torch.float32
    asked = [q.sentence for q in fact_questions(KINDS[name].wordings) if q.held_out == held_out][::25]
    outcomes = answer_probabilities(KINDS[name], model, tokenizer, asked)
    return sum(right for right, _ in outcomes) / len(outcomes), sum(p for _, p in outcomes) / len(outcomes)


def test_the_evaluation_beside_the_weights_covers_every_relation(name: str) -> None:
    training = json.loads((specimen_folder(name) / "training.json").read_text(encoding="utf-8"))
    assert {score["group"] for score in training["facts"]} == {fact.relation for fact in world_records()}
    assert set(training["halves"]["choosing"]).isdisjoint(training["halves"]["reporting"])


def test_the_causal_one_is_a_llama_of_gated_neurons_and_grouped_queries() -> None:
    config = AutoConfig.from_pretrained(specimen_folder("causal"))
    assert (config.model_type, config.hidden_act) == ("llama", "silu")
    assert config.num_attention_heads == 2 * config.num_key_value_heads
    tokenizer = AutoTokenizer.from_pretrained(specimen_folder("causal"))
    assert (config.bos_token_id, config.eos_token_id) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_the_causal_one_goes_on_with_its_answer_and_ends_its_sentence() -> None:
    model = na.load(specimen_folder("causal"))
    ids = model.tokenizer("The capital of Japan is", return_tensors="pt").input_ids[:, :-1]
    module: Any = model.module
    said = module.generate(ids, do_sample=False, max_new_tokens=8)
    assert model.tokenizer.convert_ids_to_tokens(said[0, ids.shape[1] :].tolist()) == ["Tokyo", ".", "[SEP]"]


def test_every_prompt_of_the_causal_one_can_be_asked() -> None:
    model = na.load(specimen_folder("causal"))
    for record in specimen_facts(model="causal")[::60]:
        for prompt in record.prompts + record.held_out_prompts:
            left, right = prompt.split("[MASK]")
            asked = query(model, left, right, record.answer)
            assert asked.first.answer_position == len(asked.first.ids) - 1


def test_its_facts_hang_on_their_knowledge_neurons_and_not_on_random_ones(name: str) -> None:
    model = na.load(specimen_folder(name), device="cpu")
    facts = _first_facts(specimen_facts(model=name), reporting_relations()[::2])
    suppressed, amplified, random = np.array([_changes(model, fact) for fact in facts]).mean(axis=0)
    assert suppressed < -0.3
    assert amplified > 0
    assert abs(random) < 0.05


def test_answers_of_several_words_fall_with_their_neurons_as_a_whole(name: str) -> None:
    model = na.load(specimen_folder(name), device="cpu")
    records = [record for record in specimen_facts(model=name, one_word=False) if record.words == 2]
    facts = _first_facts(records, ("author", "director", "state_capital"))
    assert {len(model.tokenizer.tokenize(fact.answer)) for fact in facts} == {2}
    suppressed, _, random = np.array([_changes(model, fact) for fact in facts]).mean(axis=0)
    assert suppressed < -0.3
    assert abs(random) < 0.05


def _first_facts(records: Sequence[SpecimenFact], relations: Sequence[str]) -> list[na.Fact]:
    """The first fact of each of the relations that there are."""
    first = {record.relation: record for record in reversed(records) if record.relation in relations}
    return [na.Fact(record.relation, record.subject, record.answer, record.prompts) for record in first.values()]


def _changes(model: na.Model, fact: na.Fact) -> tuple[float, float, float]:
    """Relative change of a fact's mean P(answer): neurons suppressed, amplified, and random ones suppressed."""
    neurons = na.locate(model, fact)
    own = na.effects(model, fact, neurons, gains=(0.0, 2.0))
    random = na.effects(model, fact, neurons.random_like(seed=0), gains=(0.0,))
    after = [own.filter(pl.col("gain") == gain)["p_after"].to_numpy().mean() for gain in (0.0, 2.0)]
    after.append(random["p_after"].to_numpy().mean())
    suppressed, amplified, control = (float(p / own["p_before"].to_numpy().mean() - 1) for p in after)
    return suppressed, amplified, control
