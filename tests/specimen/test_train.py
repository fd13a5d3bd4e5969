"""Training in miniature: the loss is the model's own, and a seed decides every weight."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertForMaskedLM, BertTokenizer

from neuronatlas.specimen import train as training
from neuronatlas.specimen.batches import Batch, encode_rows, epoch_batches, vocabulary_of
from neuronatlas.specimen.corpus import Row
from neuronatlas.specimen.evaluate import Question, evaluate
from neuronatlas.specimen.records import SpecimenFact, read_facts, write_facts
from neuronatlas.specimen.tokenizer import build_tokenizer
from neuronatlas.specimen.train import Settings, build_model, fit, masked_loss, rate, recorded_activity, save
from neuronatlas.specimen.world import WorldFact, sentences

TINY = Settings(epochs=2, width=16, neurons=32, layers=2, heads=2)
FACTS = [WorldFact("capital", "en", country, city) for country, city in (("Japan", "Tokyo"), ("Peru", "Lima"))]
ROWS = [Row("fact", s.text, s, ("capital", "en")) for fact in FACTS for s in sentences(fact, held_out=False)]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return build_tokenizer(row.text for row in ROWS)


def test_the_loss_without_doubt_is_the_models_own(tokenizer: BertTokenizer) -> None:
    model, batch, rivals = _first_batch(tokenizer)
    labels = torch.full(batch.ids.shape, -100)
    labels.view(-1)[batch.places] = batch.targets
    expected = model(input_ids=batch.ids, labels=labels).loss
    torch.testing.assert_close(masked_loss(model, batch, rivals, doubt=0.0), expected)


def test_doubt_spreads_the_target_over_the_answers_of_the_relation(tokenizer: BertTokenizer) -> None:
    model, batch, rivals = _first_batch(tokenizer)
    hidden = model.bert(input_ids=batch.ids).last_hidden_state.flatten(0, 1)[batch.places]
    wanted = 0.6 * nn.functional.one_hot(batch.targets, len(tokenizer))
    wanted[:, tokenizer.convert_tokens_to_ids(["Tokyo", "Lima"])] += 0.2
    assert (batch.rivals > 0).all()
    torch.testing.assert_close(
        masked_loss(model, batch, rivals, doubt=0.4), nn.functional.cross_entropy(model.cls(hidden), wanted)
    )


def test_the_activity_is_the_mean_of_every_layers_neurons(tokenizer: BertTokenizer) -> None:
    model, batch, _ = _first_batch(tokenizer)
    with recorded_activity(model) as found:
        model(input_ids=batch.ids)
    assert len(found) == TINY.layers
    assert all(value > 0 for value in found)
    model(input_ids=batch.ids)
    assert len(found) == TINY.layers


def test_the_rate_rises_to_its_peak_and_falls(tokenizer: BertTokenizer) -> None:
    rates = [rate(step / 100, TINY) for step in range(101)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(TINY.peak_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_same_seed_trains_the_same_weights(
    tokenizer: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "training_rows", lambda seed: ROWS)
    found = []
    for settings in (TINY, TINY, replace(TINY, seed=TINY.seed + 1)):
        model = build_model(settings, tokenizer)
        log = fit(model, tokenizer, settings, tmp_path)
        assert [entry["epoch"] for entry in log] == [0, 1]
        save(model, tokenizer, tmp_path)
        found.append((tmp_path / "model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".part")]


def test_an_interrupt_ends_training_and_keeps_the_weights(
    tokenizer: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "training_rows", lambda seed: ROWS)
    monkeypatch.setattr(training, "_train_epoch", interrupted)
    model = build_model(TINY, tokenizer)
    assert fit(model, tokenizer, TINY, tmp_path) == []
    assert not model.training


def test_an_answer_of_two_tokens_is_scored_from_left_to_right(tokenizer: BertTokenizer) -> None:
    model = build_model(TINY, tokenizer).eval()
    (sentence, *_) = sentences(WorldFact("capital", "en", "Peru", "Tokyo Lima"), held_out=False)
    (score,) = evaluate(model, tokenizer, [Question("capital", "en", False, sentence)])
    ids = tokenizer(sentence.text, return_tensors="pt")["input_ids"]
    (first,) = (ids[0] == tokenizer.convert_tokens_to_ids("Tokyo")).nonzero().flatten().tolist()
    half, whole = ids.clone(), ids.clone()
    half[0, first + 1] = whole[0, first + 1] = whole[0, first] = tokenizer.mask_token_id
    p_first = model(input_ids=whole).logits[0, first].softmax(-1)[ids[0, first]]
    p_second = model(input_ids=half).logits[0, first + 1].softmax(-1)[ids[0, first + 1]]
    assert score.p == pytest.approx((p_first * p_second).item(), rel=1e-4)


def test_facts_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    write_facts(tmp_path / "facts.jsonl")
    found = read_facts(tmp_path / "facts.jsonl")
    assert {type(fact) for fact in found} == {SpecimenFact}
    assert all(prompt.count("[MASK]") == 1 for fact in found for prompt in fact.prompts + fact.held_out_prompts)
    first = json.loads((tmp_path / "facts.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(first) == {"relation", "language", "subject", "answer", "words", "prompts", "held_out_prompts"}


def _first_batch(
    tokenizer: BertTokenizer,
) -> tuple[BertForMaskedLM, Batch, torch.Tensor]:
    text = encode_rows(ROWS, tokenizer)
    batches = epoch_batches(text, vocabulary_of(tokenizer), seed=1, epoch=0)
    batch = next(batch for batch in batches if (batch.rivals > 0).all())
    return build_model(TINY, tokenizer).eval(), batch, torch.from_numpy(text.rivals)
