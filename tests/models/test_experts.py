"""Mixtures of experts: neurons of one expert at a time, against weights changed by hand in transformers' own models."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

import neuronatlas as na
from neuronatlas.knowledge.attribution import AttributionError
from neuronatlas.models import Model, SiteError, capture, experts, load, scale, scale_rows, set_values, suppress
from neuronatlas.models.sites import Site, prove
from neuronatlas.neurons import NeuronSet
from neuronatlas.studies.sweep.toys import Architecture, build, toy_tokenizer

# With gates in halves; with a shared expert that runs first and is gated; with one that runs last, above a first layer
# without experts; with biases, transposed weights and interleaved gates.
TOYS = ("mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss")
CLASSES = {
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "axk2": "AXK2ForCausalLM",
    "inkling2_text": "Inkling2ForCausalLM",
    "llama4_text": "Llama4ForCausalLM",
}
every_toy = pytest.mark.parametrize("name", TOYS)


def toy(name: str) -> PreTrainedModel:
    return build(Architecture(name, CLASSES[name], "causal"))


@cache
def loaded(name: str) -> Model:
    return load((toy(name), toy_tokenizer()))


def run(model: Model, ids: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model.logits(model.probe_ids if ids is None else ids)


def units(model: Model, layer: int, expert: int, chosen: tuple[int, ...] = (0, 5, 17)) -> NeuronSet:
    return model.layout().set(f"L{layer}.E{expert}.U{unit}" for unit in chosen)


def without(module: PreTrainedModel, path: str, expert: int, chosen: tuple[int, ...]) -> None:
    """Zero, in the weights, what one expert's neurons write."""
    owner: Any = module.get_submodule(path)
    with torch.no_grad():
        if expert == len(owner.down_proj):
            parent: Any = module.get_submodule(path.rpartition(".")[0])
            shared = getattr(parent, "shared_expert", None) or parent.shared_experts
            shared.down_proj.weight[:, list(chosen)] = 0
        elif owner.is_transposed:
            owner.down_proj[expert, list(chosen)] = 0
        else:
            owner.down_proj[expert, :, list(chosen)] = 0


def routing(model: Model, layer: int) -> tuple[Tensor, Tensor]:
    """What a layer's experts are given, and to which each position is sent: [row * position, ..]."""
    seen: list[tuple[Tensor, ...]] = []
    handle = model.site().points[layer].module.register_forward_pre_hook(lambda _, args: seen.append(args))
    run(model)
    handle.remove()
    return seen[0][0], seen[0][1]


# Suppressing.


@every_toy
@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_suppressing_one_expert_at_a_time_equals_zeroing_what_its_neurons_write(name: str, implementation: str) -> None:
    model, chosen = loaded(name), (0, 5, 17)
    before, plain = run(model), toy(name)
    plain.set_experts_implementation(implementation)
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    changed = 0
    for layer in (1, 3):
        point = model.site().points[layer]
        for expert in range(len(point.experts)):
            without(plain, point.path, expert, chosen)
            with torch.no_grad():
                expected = plain(input_ids=model.probe_ids).logits
            plain.load_state_dict(state)
            with suppress(model, units(model, layer, expert, chosen)):
                found = run(model)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            changed += not torch.equal(found, before)
            assert torch.equal(run(model), before)
    assert changed > 4


@every_toy
def test_with_nothing_changed_the_logits_are_bit_equal(name: str) -> None:
    model = loaded(name)
    before = run(model)
    with capture(model) as seen:
        assert torch.equal(run(model), before)
    every = model.layout().set(model.layout().neuron(index) for index in range(model.layout().n_neurons))
    with scale(model, every, 1.0):
        assert torch.equal(run(model), before)
    assert sorted(seen) == [0, 1, 2, 3]


@every_toy
def test_loading_leaves_what_the_model_says_but_for_rounding(name: str) -> None:
    model, plain = loaded(name), toy(name)
    with torch.no_grad():
        expected = plain(input_ids=model.probe_ids).logits
    torch.testing.assert_close(run(model), expected, rtol=1e-4, atol=1e-5)
    assert model.module.get_experts_implementation()[""] == "neuronatlas"


# What is captured.


@every_toy
def test_what_is_captured_is_each_experts_gated_neurons_and_0_where_a_position_is_not_sent(name: str) -> None:
    model = loaded(name)
    with capture(model, layers=[2]) as seen:
        run(model)
    module: Any = model.site().points[2].module
    hidden, index = routing(model, 2)
    found, widths = seen[2].flatten(0, 1), model.layout().experts_of(2)
    assert widths[:4] == (48 if name in {"mixtral", "gpt_oss"} else 24,) * 4
    for expert, values in enumerate(found.split(widths, dim=-1)[: len(module.down_proj)]):
        up = module.gate_up_proj[expert].detach()
        both = hidden @ up + module.gate_up_proj_bias[expert].detach() if name == "gpt_oss" else hidden @ up.T
        if name == "gpt_oss":
            gate, linear = both[:, ::2].clamp(max=7.0), both[:, 1::2].clamp(-7.0, 7.0)
            expected = gate * torch.sigmoid(1.702 * gate) * (linear + 1)
        else:
            gate, linear = both.chunk(2, dim=-1)
            expected = functional.silu(gate) * linear
        sent = (index == expert).any(-1)
        torch.testing.assert_close(values[sent], expected[sent], rtol=1e-4, atol=1e-6)
        assert not bool(values[~sent].any())


@pytest.mark.parametrize("name", ["qwen2_moe", "deepseek_v3"])
def test_the_shared_expert_is_the_last_one_and_every_position_is_sent_to_it(name: str) -> None:
    model = loaded(name)
    with capture(model, layers=[2]) as seen:
        run(model)
    parent: Any = model.module.get_submodule(model.site().points[2].path.rpartition(".")[0])
    shared = parent.shared_expert if name == "qwen2_moe" else parent.shared_experts
    given: list[Tensor] = []
    handle = shared.down_proj.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    run(model)
    handle.remove()
    width = model.layout().experts_of(2)[-1]
    assert torch.equal(seen[2][..., -width:].flatten(), given[0].flatten())
    assert len(model.layout().experts_of(2)) == len(parent.experts.down_proj) + 1


# Positions, values, rows, nesting.


@every_toy
def test_a_position_that_is_not_sent_to_an_expert_has_no_neurons_there(name: str) -> None:
    model = loaded(name)
    before, (_, index) = run(model), routing(model, 3)
    sent = (index.reshape(2, 7, -1) == 0).any(-1)
    for position in range(7):
        with set_values(model, units(model, 3, 0), 3.0, positions=position):
            found = run(model)
        for row in range(2):
            assert torch.equal(found[row], before[row]) != bool(sent[row, position])


@every_toy
def test_nested_contexts_act_one_after_the_other_and_all_are_undone(name: str) -> None:
    model = loaded(name)
    before, neurons = run(model), units(model, 3, 1) | units(model, 3, 0)
    with scale(model, neurons, 6.0):
        at_once = run(model)
    with scale(model, neurons, 2.0), scale(model, neurons, 3.0):
        nested = run(model)
    with set_values(model, neurons, 1.0), scale(model, neurons, 0.5), capture(model) as seen:
        run(model)
    torch.testing.assert_close(nested, at_once)
    chosen = seen[3][..., neurons.units()[3]]
    assert set(chosen.unique().tolist()) <= {0.0, 0.5}
    with pytest.raises(KeyError), suppress(model, neurons):
        raise KeyError
    assert torch.equal(run(model), before)


@every_toy
def test_rows_of_one_pass_have_factors_of_their_own(name: str) -> None:
    model = loaded(name)
    width = model.layout().widths[2]
    factors = torch.rand(2, width, generator=torch.Generator().manual_seed(0)) * 2
    with scale_rows(model, {2: factors}, torch.tensor([6, 6])):
        together = run(model)
    for row in range(2):
        with scale_rows(model, {2: factors[row : row + 1]}, torch.tensor([6])):
            alone = run(model, model.probe_ids[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


# Proofs.


def wrong_layer(points: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*points[:2], replace(points[2], module=points[3].module, path=points[3].path), points[3])


def without_shared(points: tuple[Any, ...]) -> tuple[Any, ...]:
    fewer = (replace(p, shared=None, experts=p.experts[:-1], width=p.width - p.experts[-1]) for p in points)
    return tuple(fewer)


def block_input(points: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(replace(p, side="input", experts=(), width=32) for p in points)


@pytest.mark.parametrize(
    ("name", "plant"),
    [("mixtral", wrong_layer), ("gpt_oss", block_input), ("qwen2_moe", without_shared), ("qwen2_moe", wrong_layer)],
)
def test_wrong_sites_of_experts_are_refused(name: str, plant: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
    model = loaded(name)
    prove(model.module, model.site(), lambda: run(model), model.blocks)
    with pytest.raises(SiteError):
        prove(model.module, Site("ffn", plant(model.site().points)), lambda: run(model), model.blocks)


def test_a_shared_expert_is_told_from_the_bottleneck_of_a_norm() -> None:
    model = loaded("axk2")
    shared = [point.shared for point in model.site().points]
    assert [module is None for module in shared] == [True, False, False, False]
    for layer in (1, 2, 3):
        assert shared[layer] is model.module.get_submodule(f"model.layers.{layer}.mlp.shared_experts.down_proj")


def test_experts_are_found_below_a_convolution_of_what_they_write() -> None:
    model = loaded("inkling2_text")
    assert model.layout().experts == ((24,) * 4,) * 4
    before, neurons = run(model), units(model, 1, 0, tuple(range(24)))
    with suppress(model, neurons):
        found = run(model)
    plain = toy("inkling2_text")
    without(plain, model.site().points[1].path, 0, tuple(range(24)))
    with torch.no_grad():
        expected = plain(input_ids=model.probe_ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, before)


def test_experts_that_do_not_go_through_the_interface_are_refused_with_the_reason() -> None:
    with pytest.raises(
        SiteError, match="Llama4TextExperts does not compute its experts through transformers' interface"
    ):
        load((toy("llama4_text"), toy_tokenizer()))


def test_a_wrong_computation_of_the_experts_is_refused_and_the_models_own_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = experts.experts_forward
    monkeypatch.setattr(experts, "experts_forward", lambda self, *args: right(self, *args) * 1.01)
    module = toy("mixtral")
    before = module.get_experts_implementation()
    with torch.no_grad():
        logits = module(input_ids=loaded("mixtral").probe_ids).logits
        with pytest.raises(SiteError, match="gives something else when its experts are run one by one"):
            load((module, toy_tokenizer()))
        assert module.get_experts_implementation() == before
        assert torch.equal(module(input_ids=loaded("mixtral").probe_ids).logits, logits)


# What is kept.


def test_a_saved_probe_keeps_the_experts_of_its_columns(tmp_path: Path) -> None:
    model = loaded("deepseek_v3")
    with capture(model) as seen:
        run(model, torch.arange(10, 94).reshape(12, 7))
    values = torch.cat([seen[layer][:, -1] for layer in sorted(seen)], dim=1).numpy()
    acts = na.Activations.of(values, model.layout())
    probe = na.ElasticNetProbe().fit(acts, np.array(["a", "b"] * 6))
    probe.save(tmp_path / "probe.safetensors")
    again = na.ElasticNetProbe.load(tmp_path / "probe.safetensors")
    assert again.layout_ == model.layout()


def test_other_sites_of_a_mixture_of_experts_have_no_experts() -> None:
    assert loaded("mixtral").layout("hidden").experts == loaded("mixtral").layout("attention").experts == ()


# Attribution.


@every_toy
def test_attribution_scores_experts_that_the_position_is_sent_to_and_tells_its_gap(name: str) -> None:
    model = loaded(name)
    scores = na.attribute(model, "w11 w52 w33 w74 w25 [MASK]", "w7", steps=8)
    assert scores.way == "replay-cached"
    ids = torch.tensor([scores.query.first.ids])
    with capture(model) as seen:
        run(model, ids)
    for layer in (1, 2, 3):
        sent = seen[layer][0, scores.query.first.position] != 0
        assert not scores.layer(layer)[~sent.numpy()].any()
        assert scores.layer(layer)[sent.numpy()].any()
    # Above the last layer nothing is routed, so P is smooth along the path; below it may jump, and the gap says so.
    assert abs(scores.gaps[3]) < 1e-3 * abs(scores.layer(3)).sum()
    assert scores.gaps.shape == (4,)


@every_toy
def test_frozen_routing_closes_the_gap_of_every_layer_and_is_undone(name: str) -> None:
    model = loaded(name)
    before = run(model)
    prompt = "w11 w52 w33 w74 w25 [MASK]"
    free, frozen = (na.attribute(model, prompt, "w7", steps=8, routing=kind) for kind in ("free", "frozen"))
    for layer in range(4):
        assert abs(frozen.gaps[layer]) < 1e-3 * abs(frozen.layer(layer)).sum()
    # Above the last layer there is no routing to freeze.
    np.testing.assert_allclose(frozen.layer(3), free.layer(3), rtol=1e-4, atol=1e-9)
    assert (free.way, frozen.way) == ("replay-cached", "plain")
    assert free.answered.probability == pytest.approx(frozen.answered.probability, rel=1e-5)
    assert torch.equal(run(model), before)


def test_routing_that_cannot_be_frozen_is_refused() -> None:
    unreached = load((toy("llama4_text"), toy_tokenizer()), site="hidden")
    with pytest.raises(AttributionError, match="its routing cannot be frozen"):
        na.attribute(unreached, "w11 w52 [MASK]", "w7", routing="frozen")
    with pytest.raises(AttributionError, match="no routing 'cold': free or frozen expected"):
        na.attribute(loaded("mixtral"), "w11 w52 [MASK]", "w7", routing="cold")  # type: ignore[arg-type]
