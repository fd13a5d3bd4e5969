"""Training in miniature: the loss is the model's own, and a seed decides every weight."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertTokenizer, LlamaForCausalLM

from neuronatlas.specimen import train as training
from neuronatlas.specimen.batches import Batch, encode_rows, epoch_batches, vocabulary_of
from neuronatlas.specimen.corpus import Row
from neuronatlas.specimen.evaluate import Question, evaluate
from neuronatlas.specimen.kind import Kind, Settings
from neuronatlas.specimen.records import SpecimenFact, read_facts, write_facts
from neuronatlas.specimen.tokenizer import build_tokenizer
from neuronatlas.specimen.train import KINDS, fit, loss_of, rate, recorded_neurons, save
from neuronatlas.specimen.world import AT_THE_END, WorldFact, sentences

TINY = Settings(epochs=2, width=16, neurons=32, layers=2, heads=2)
FACTS = [WorldFact("capital", "en", country, city) for country, city in (("Japan", "Tokyo"), ("Peru", "Lima"))]
ROWS = [
    Row("fact", s.text, s, ("capital", "en"))
    for fact in FACTS
    for s in sentences(fact, held_out=False, wordings=AT_THE_END)
]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return build_tokenizer(row.text for row in ROWS)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def test_logits_at_places_are_the_models_own(kind: Kind, tokenizer: BertTokenizer) -> None:
    model, batch, _ = _first_batch(kind, tokenizer)
    own = model(input_ids=batch.ids).logits.flatten(0, 1)[batch.places]
    torch.testing.assert_close(kind.logits(model, batch.ids, batch.places), own)


def test_the_masked_loss_without_doubt_is_the_models_own(tokenizer: BertTokenizer) -> None:
    model, batch, rivals = _first_batch(KINDS["masked"], tokenizer)
    labels = torch.full(batch.ids.shape, -100)
    labels.view(-1)[batch.places] = batch.targets
    expected = model(input_ids=batch.ids, labels=labels).loss
    torch.testing.assert_close(loss_of(KINDS["masked"], model, batch, rivals, doubt=0.0), expected)


def test_the_causal_loss_without_doubt_is_the_models_own(tokenizer: BertTokenizer) -> None:
    model, batch, rivals = _first_batch(KINDS["causal"], tokenizer)
    labels = torch.full(batch.ids.shape, -100)
    labels.view(-1)[batch.places + 1] = batch.targets  # the model shifts its labels itself
    expected = model(input_ids=batch.ids, labels=labels).loss
    torch.testing.assert_close(loss_of(KINDS["causal"], model, batch, rivals, doubt=0.0), expected)


def test_doubt_spreads_the_target_over_the_answers_of_the_relation(kind: Kind, tokenizer: BertTokenizer) -> None:
    model, batch, rivals = _first_batch(kind, tokenizer)
    logits = model(input_ids=batch.ids).logits.flatten(0, 1)[batch.places]
    wanted = 0.6 * nn.functional.one_hot(batch.targets, len(tokenizer))
    wanted[:, tokenizer.convert_tokens_to_ids(["Tokyo", "Lima"])] += 0.2
    assert (batch.rivals > 0).all()
    torch.testing.assert_close(
        loss_of(kind, model, batch, rivals, doubt=0.4), nn.functional.cross_entropy(logits, wanted)
    )


def test_the_activity_is_the_mean_size_of_every_layers_neurons(kind: Kind, tokenizer: BertTokenizer) -> None:
    model, batch, _ = _first_batch(kind, tokenizer)
    with recorded_neurons(kind, model) as found:
        model(input_ids=batch.ids)
    assert [layer.shape for layer in found] == [(*batch.ids.shape, TINY.neurons)] * TINY.layers
    expected = torch.stack(found).abs().mean()
    assert expected > 0
    torch.testing.assert_close(kind.activity(found, batch.ids.numel()), expected)
    model(input_ids=batch.ids)
    assert len(found) == TINY.layers


def test_a_causal_neuron_costs_the_same_in_every_layer(tokenizer: BertTokenizer) -> None:
    model, batch, _ = _first_batch(KINDS["causal"], tokenizer)
    with recorded_neurons(KINDS["causal"], model) as found:
        KINDS["causal"].logits(model, batch.ids, batch.places)
    assert [len(layer.flatten(0, -2)) for layer in found] == [batch.ids.numel(), len(batch.places)]
    leaves = [layer.detach().requires_grad_() for layer in found]
    lower, last = torch.autograd.grad(KINDS["causal"].activity(leaves, batch.ids.numel()), leaves)
    torch.testing.assert_close(lower.abs().max(), lower.abs().min())
    torch.testing.assert_close(last.abs(), lower.abs().max().expand_as(last))


def test_the_rate_rises_to_its_peak_and_falls(tokenizer: BertTokenizer) -> None:
    rates = [rate(step / 100, TINY) for step in range(101)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(TINY.peak_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_same_seed_trains_the_same_weights(
    kind: Kind, tokenizer: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "training_rows", lambda seed, wordings: ROWS)
    found = []
    for settings in (TINY, TINY, replace(TINY, seed=TINY.seed + 1)):
        model = kind.build(settings, tokenizer)
        log = fit(kind, model, tokenizer, settings, tmp_path)
        assert [entry["epoch"] for entry in log] == [0, 1]
        save(model, tokenizer, tmp_path)
        found.append((tmp_path / "model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".part")]


def test_an_interrupt_ends_training_and_keeps_the_weights(
    kind: Kind, tokenizer: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "training_rows", lambda seed, wordings: ROWS)
    monkeypatch.setattr(training, "_train_epoch", interrupted)
    model = kind.build(TINY, tokenizer)
    assert fit(kind, model, tokenizer, TINY, tmp_path) == []
    assert not model.training


def test_the_causal_one_is_asked_for_the_answers_first_choice_alone_with_doubt(tokenizer: BertTokenizer) -> None:
    (sentence, *_) = sentences(WorldFact("capital", "en", "Peru", "Tokyo Lima"), held_out=False, wordings=AT_THE_END)
    text = encode_rows([Row("fact", sentence.text, sentence, ("capital", "en"))], tokenizer)
    batches = epoch_batches(text, KINDS["causal"].hide, vocabulary_of(tokenizer), seed=1, epoch=0)
    batch = next(batch for batch in batches if (batch.rivals > 0).any())
    assert tokenizer.convert_ids_to_tokens(batch.targets.tolist()) == ["Tokyo", "Lima"]
    assert (batch.rivals > 0).tolist() == [True, False]
    assert batch.ids.view(-1)[batch.places + 1].tolist() == batch.targets.tolist()


def test_an_answer_of_two_tokens_is_scored_from_left_to_right(tokenizer: BertTokenizer) -> None:
    model = KINDS["masked"].build(TINY, tokenizer).eval()
    score, ids, first = _asked_for_two_tokens(KINDS["masked"], model, tokenizer)
    half, whole = ids.clone(), ids.clone()
    half[0, first + 1] = whole[0, first + 1] = whole[0, first] = tokenizer.mask_token_id
    p_first = model(input_ids=whole).logits[0, first].softmax(-1)[ids[0, first]]
    p_second = model(input_ids=half).logits[0, first + 1].softmax(-1)[ids[0, first + 1]]
    assert score == pytest.approx((p_first * p_second).item(), rel=1e-4)


def test_a_causal_answer_of_two_tokens_is_the_product_along_it(tokenizer: BertTokenizer) -> None:
    model = KINDS["causal"].build(TINY, tokenizer).eval()
    assert isinstance(model, LlamaForCausalLM)
    score, ids, first = _asked_for_two_tokens(KINDS["causal"], model, tokenizer)
    p = model(input_ids=ids).logits[0].softmax(-1)
    expected = p[first - 1, ids[0, first]] * p[first, ids[0, first + 1]]
    assert score == pytest.approx(expected.item(), rel=1e-4)


def test_facts_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    write_facts(tmp_path / "facts.jsonl")
    found = read_facts(tmp_path / "facts.jsonl")
    assert {type(fact) for fact in found} == {SpecimenFact}
    assert all(prompt.count("[MASK]") == 1 for fact in found for prompt in fact.prompts + fact.held_out_prompts)
    first = json.loads((tmp_path / "facts.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(first) == {"relation", "language", "subject", "answer", "words", "prompts", "held_out_prompts"}


def _asked_for_two_tokens(kind: Kind, model: Any, tokenizer: BertTokenizer) -> tuple[float, torch.Tensor, int]:
    """P of an answer of two tokens, the ids of its text, and where its first token stands."""
    (sentence, *_) = sentences(WorldFact("capital", "en", "Peru", "Tokyo Lima"), held_out=False)
    (score,) = evaluate(kind, model, tokenizer, [Question("capital", "en", False, sentence)])
    ids = tokenizer(sentence.text, return_tensors="pt")["input_ids"]
    (first,) = (ids[0] == tokenizer.convert_tokens_to_ids("Tokyo")).nonzero().flatten().tolist()
    return score.p, ids, first


def _first_batch(kind: Kind, tokenizer: BertTokenizer) -> tuple[Any, Batch, torch.Tensor]:
    text = encode_rows(ROWS, tokenizer)
    batches = epoch_batches(text, kind.hide, vocabulary_of(tokenizer), seed=1, epoch=0)
    batch = next(batch for batch in batches if (batch.rivals > 0).all())
    return kind.build(TINY, tokenizer).eval(), batch, torch.from_numpy(text.rivals)
