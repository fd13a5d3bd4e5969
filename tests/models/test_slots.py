"""Value slots and their gradients, held to models of many kinds: what is called a slot is what its neuron writes."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import neuronatlas as na
from neuronatlas.models.asking import log_odds_of, step_logits
from neuronatlas.models.output_rows import OutputRowError, output_rows
from neuronatlas.models.queries import Step
from neuronatlas.models.slot_gradients import slot_slopes, slots_shifted
from neuronatlas.models.slots import SlotError, value_slots
from neuronatlas.studies.sweep.toys import Architecture, Kind, build, toy_tokenizer

CLASSES: dict[str, tuple[str, Kind]] = {
    "bert": ("BertForMaskedLM", "masked"),  # Linear, tied, a head with a transform
    "albert": ("AlbertForMaskedLM", "masked"),  # layers that share weights, a narrow embedding
    "electra": ("ElectraForMaskedLM", "masked"),
    "gpt2": ("GPT2LMHeadModel", "causal"),  # Conv1D
    "gpt_neox": ("GPTNeoXForCausalLM", "causal"),  # untied
    "llama": ("LlamaForCausalLM", "causal"),  # gated
    "opt": ("OPTForCausalLM", "causal"),
    "gemma2": ("Gemma2ForCausalLM", "causal"),  # logits are capped
    "mixtral": ("MixtralForCausalLM", "causal"),  # experts
    "qwen2_moe": ("Qwen2MoeForCausalLM", "causal"),  # and a shared expert
    "gpt_oss": ("GptOssForCausalLM", "causal"),  # transposed, with biases
}
every_model = pytest.mark.parametrize("name", CLASSES)


def toy(name: str) -> PreTrainedModel:
    architecture, kind = CLASSES[name]
    return build(Architecture(name, architecture, kind))


@cache
def model_of(name: str) -> na.Model:
    return na.load((toy(name), toy_tokenizer()))


def some_neurons(model: na.Model) -> na.NeuronSet:
    """Three neurons of the first layer and two of the last, of different experts where there are any."""
    layout = model.layout("ffn")
    last = layout.n_layers - 1
    first = [layout.at(0, place) for place in (0, 5, layout.widths[0] - 1)]
    return layout.set([*first, layout.at(last, 3), layout.at(last, layout.widths[last] - 2)])


def some_rows(model: na.Model) -> list[Step]:
    ids = model.probe_ids
    return [
        Step(tuple(ids[0].tolist()), int(ids[0, 1]), 6, 6),
        Step(tuple(ids[1].tolist()), int(ids[1, 2]), 3, 3),
        Step(tuple(ids[1, :5].tolist()), int(ids[0, 0]), 4, 4),
    ]


def odds(model: na.Model, row: Step) -> float:
    with torch.no_grad():
        return float(log_odds_of(step_logits(model, [row]), [row.answer_id]))


@every_model
def test_a_slot_is_what_its_neuron_writes_wherever_the_weights_keep_it(name: str) -> None:
    model = model_of(name)
    for group in value_slots(model, some_neurons(model)):
        weight = dict(model.module.named_parameters(remove_duplicate=False))[group.parameter]
        matrix = weight if group.matrix is None else weight[group.matrix]
        for slot, unit in zip(group.read(), group.units, strict=True):
            assert torch.equal(slot, matrix.select(group.axis, unit))


@every_model
def test_writing_slots_leaves_every_other_bit_of_the_model(name: str) -> None:
    model = model_of(name)
    before = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}
    digest = model.digest
    groups = value_slots(model, some_neurons(model))
    olds = [group.read() for group in groups]
    for group, old in zip(groups, olds, strict=True):
        group.write(old + 1)
    changed = {key: int((tensor != before[key]).sum()) for key, tensor in model.module.state_dict().items()}
    assert model.digest != digest
    distinct = {key.split(".")[-1] for key, count in changed.items() if count}
    assert all(changed[group.parameter] for group in groups)
    assert len({key for key, count in changed.items() if count}) >= 1, distinct
    own = {id(group.weight) for group in groups}
    names = {key for key, weight in model.module.named_parameters(remove_duplicate=False) if id(weight) in own}
    assert {key for key, count in changed.items() if count} <= names
    for group, old in zip(groups, olds, strict=True):
        group.write(old)
    assert model.digest == digest


@every_model
def test_slopes_are_those_of_weights_moved_by_hand(name: str) -> None:
    model = model_of(name)
    groups, rows = value_slots(model, some_neurons(model)), some_rows(model)
    model.module.double()
    try:
        found = slot_slopes(model, groups, rows)
        shift = torch.randn(
            found.slopes.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64
        ).reshape(-1, groups[0].width)
        step, olds = 3e-3, [group.read() for group in groups]
        ends = []
        for sign in (1, -1):
            start = 0
            for group, old in zip(groups, olds, strict=True):
                group.write(old + sign * step * shift[start : start + len(old)])
                start += len(old)
            ends.append(torch.tensor([odds(model, row) for row in rows], dtype=torch.float64))
        for group, old in zip(groups, olds, strict=True):
            group.write(old)
        expected = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(found.slopes @ shift.flatten(), expected, rtol=1e-2, atol=1e-3)
        clean = torch.tensor([odds(model, row) for row in rows], dtype=torch.float64)
        torch.testing.assert_close(found.log_odds, clean, rtol=1e-6, atol=1e-6)
    finally:
        model.module.float()


@every_model
def test_a_shift_runs_the_model_as_its_weights_would(name: str) -> None:
    model = model_of(name)
    groups, rows = value_slots(model, some_neurons(model)), some_rows(model)
    olds, start = [group.read() for group in groups], 0
    shift = torch.randn(sum(map(len, olds)), groups[0].width, generator=torch.Generator().manual_seed(1))
    with slots_shifted(groups, shift):
        shifted = [odds(model, row) for row in rows]
    for group, old in zip(groups, olds, strict=True):
        group.write(old + shift[start : start + len(old)])
        start += len(old)
    written = [odds(model, row) for row in rows]
    for group, old in zip(groups, olds, strict=True):
        group.write(old)
    assert shifted == pytest.approx(written, abs=1e-3)
    assert shifted != pytest.approx([odds(model, row) for row in rows], abs=1e-3)


def test_layers_that_share_weights_are_all_named_and_their_slot_counts_once() -> None:
    model = model_of("albert")
    layers = model.layout("ffn").n_layers
    [slots] = value_slots(model, model.layout().set(["L0.U5", "L1.U5", "L1.U6"]) - model.layout().set(["L1.U6"]))
    assert (slots.layers, slots.units) == (tuple(range(layers)), (5,))


def test_output_rows_are_the_directions_that_move_the_logits() -> None:
    for name in ("gpt2", "gpt_neox", "llama", "gemma2", "mixtral"):
        model = model_of(name)
        embedding: Any = model.module.get_output_embeddings()
        rows = output_rows(model, [11, 12])
        torch.testing.assert_close(rows, embedding.weight.detach()[[11, 12]])


@pytest.mark.parametrize("name", ["albert", "electra"])
def test_rows_of_another_width_go_through_the_projection_of_the_head(name: str) -> None:
    options = {"embedding_size": 16, "hidden_size": 32}
    module: Any = toy(name)
    config = type(module.config)(**{**module.config.to_dict(), **options})
    model = na.load((type(module)(config), toy_tokenizer()))
    held: Any = model.module
    head = held.predictions if name == "albert" else held.generator_predictions
    expected = held.get_output_embeddings().weight[[11]] @ head.dense.weight
    torch.testing.assert_close(output_rows(model, [11]), expected.detach())
    assert output_rows(model, [11]).shape == (1, 32)


def test_logits_that_do_not_come_from_the_output_embedding_are_refused() -> None:
    model = model_of("bert")
    embedding: Any = model.module.get_output_embeddings()
    held = embedding.__class__
    try:
        embedding.__class__ = _Narrowed
        with pytest.raises(OutputRowError, match="not its output embedding times what that is given"):
            output_rows(model, [11])
    finally:
        embedding.__class__ = held
    with pytest.raises(OutputRowError, match="no token 100"):
        output_rows(model, [100])


class _Narrowed(nn.Linear):
    """An output embedding that does not look at half of what it is given."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden * (torch.arange(hidden.shape[-1]) % 2))


class _Scaled(nn.Linear):
    """A projection that does not give what its weights say."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 1.5 * super().forward(hidden)


def test_what_is_not_proved_is_refused() -> None:
    model = model_of("llama")
    down = model.blocks[0].ffn
    assert down is not None
    neurons = model.layout().set(["L0.U1"])
    held = down.module.__class__
    try:
        down.module.__class__ = _Scaled
        with pytest.raises(SlotError, match=r"L0\.U1 is not what its unit activation adds"):
            value_slots(model, neurons)
    finally:
        down.module.__class__ = held
    quantised = torch.nn.utils.parametrize
    quantised.register_parametrization(down.module, "weight", nn.Identity())
    try:
        with pytest.raises(SlotError, match="computed from others"):
            value_slots(model, neurons)
    finally:
        quantised.remove_parametrizations(down.module, "weight")
    with pytest.raises(SlotError, match="'hidden' have no value slots"):
        value_slots(model, model.layout("hidden").set(["L0.U1"]))


def test_weights_that_something_else_uses_too_are_refused() -> None:
    module: Any = toy("gpt_neox")
    layers = module.gpt_neox.layers
    layers[1].mlp.dense_4h_to_h.weight = layers[0].mlp.dense_4h_to_h.weight
    shared = na.load((module, toy_tokenizer()))
    [slots] = value_slots(shared, shared.layout().set(["L1.U4"]))
    assert slots.layers == (0, 1)
    module.register_parameter("spare", layers[0].mlp.dense_4h_to_h.weight)
    with pytest.raises(SlotError, match=r"L1.U4 are also those of \.?spare"):
        value_slots(shared, shared.layout().set(["L1.U4"]))
