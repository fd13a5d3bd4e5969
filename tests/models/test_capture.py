from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from neuronatlas.models import InterventionError, Model, SiteError, capture, scale
from neuronatlas.models.heads import answer_logits

ModelOf = Callable[[str], Model]
Fingerprint = Callable[[Model], object]


def given_to(model: Model, path: str, ids: Tensor) -> list[Tensor]:
    """What a module got at each of its calls, by a plain hook; [row, position, unit]."""
    seen: list[Tensor] = []
    hook = model.module.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.no_grad():
        model.module(input_ids=ids, attention_mask=torch.ones_like(ids))
    hook.remove()
    return [values.reshape(*ids.shape, -1) for values in seen]


@pytest.mark.parametrize("site", ["ffn", "attention"])
def test_capture_gives_what_a_plain_hook_on_the_named_module_sees(
    site: str, model: Model, toy: Any, ids: Tensor
) -> None:
    with torch.no_grad(), capture(model, site) as seen:
        model.logits(ids)
    path = toy.ffn_path if site == "ffn" else toy.attention_path
    by_layer = [given_to(model, path.format(layer), ids) for layer in range(toy.layers)]
    # Layers that share one module call it once each.
    right = by_layer[0] if "{}" not in path else [calls[0] for calls in by_layer]
    assert sorted(seen) == list(range(toy.layers))
    for layer in range(toy.layers):
        assert torch.equal(seen[layer], right[layer])


def test_neurons_of_bert_are_its_intermediate_outputs(model_of: ModelOf, ids: Tensor) -> None:
    model, seen_by_hand = model_of("bert"), []
    module = model.module.get_submodule("bert.encoder.layer.1.intermediate")
    hook = module.register_forward_hook(lambda _module, _args, output: seen_by_hand.append(output))
    with torch.no_grad(), capture(model, layers=[1]) as seen:
        model.logits(ids)
    hook.remove()
    assert torch.equal(seen[1], seen_by_hand[0])


def test_neurons_of_gpt2_are_taken_after_the_activation(model_of: ModelOf, ids: Tensor) -> None:
    model, before = model_of("gpt2"), []
    mlp: Any = model.module.get_submodule("transformer.h.1.mlp")
    hook = mlp.c_fc.register_forward_hook(lambda _module, _args, output: before.append(output))
    with torch.no_grad(), capture(model, layers=[1]) as seen:
        model.logits(ids)
    hook.remove()
    assert torch.equal(seen[1], mlp.act(before[0]))
    assert not torch.equal(seen[1], before[0])


def test_neurons_of_llama_are_taken_after_the_gate(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("llama")
    mlp: Any = model.module.get_submodule("model.layers.2.mlp")
    entered = given_to(model, "model.layers.2.mlp", ids)[0]
    with torch.no_grad(), capture(model, layers=[2]) as seen:
        model.logits(ids)
        by_hand = silu(entered @ mlp.gate_proj.weight.T) * (entered @ mlp.up_proj.weight.T)
    torch.testing.assert_close(seen[2], by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "albert", "llama"])
def test_capture_leaves_the_output_and_the_model_as_they_were(
    name: str, model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of(name)
    before = fingerprint(model)
    with torch.no_grad():
        clean = model.logits(ids)
        with capture(model), capture(model, "hidden"), capture(model, "attention"):
            assert torch.equal(model.logits(ids), clean)
    assert fingerprint(model) == before


def test_capture_holds_the_latest_pass(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("albert")
    with torch.no_grad(), capture(model) as alone:
        model.logits(ids[:1])
    with torch.no_grad(), capture(model) as seen:
        model.logits(ids)
        model.logits(ids[:1])
    assert seen[2].shape[0] == 1
    assert all(torch.equal(seen[layer], alone[layer]) for layer in range(3))


def test_capture_of_some_layers_gives_those_alone(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("albert")
    with torch.no_grad(), capture(model) as every:
        model.logits(ids)
    with torch.no_grad(), capture(model, layers=[2, 0]) as some:
        model.logits(ids)
    assert sorted(some) == [0, 2]
    assert torch.equal(some[0], every[0])
    assert torch.equal(some[2], every[2])


def test_capture_inside_an_intervention_sees_what_it_does(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bert")
    with torch.no_grad(), capture(model, layers=[0]) as clean:
        model.logits(ids)
    with torch.no_grad(), scale(model, model.layout().set(["L0.U7"]), 3.0), capture(model, layers=[0]) as scaled:
        model.logits(ids)
    assert torch.equal(scaled[0][..., 7], 3 * clean[0][..., 7])
    assert torch.equal(scaled[0][..., 8:], clean[0][..., 8:])


def test_the_head_on_single_positions_leaves_captures_and_interventions_alone(model_of: ModelOf, ids: Tensor) -> None:
    """Its blocks are stand-ins, of which nothing is to be seen or changed once more."""
    model, places = model_of("bert"), torch.tensor([3, 4, 5])
    assert model.ways["head"] == ""
    neurons = model.layout("hidden").set(["L3.U5"])
    with torch.no_grad(), scale(model, neurons, 3.0), capture(model, "hidden") as whole:
        right = model.logits(ids)[torch.arange(3), places]
    with torch.no_grad(), scale(model, neurons, 3.0), capture(model, "hidden") as seen:
        found = answer_logits(model, ids, places)
    assert all(torch.equal(seen[layer], whole[layer]) for layer in range(4))
    torch.testing.assert_close(found, right)


@pytest.mark.parametrize("layer", [3, -1])
def test_a_layer_that_is_not_there_is_refused(layer: int, model_of: ModelOf) -> None:
    refused = pytest.raises(InterventionError, match=f"no layer {layer}: site 'ffn' has layers 0 to 2")
    with refused, capture(model_of("bert"), layers=[0, layer]):
        pytest.fail("entered")


def test_a_site_that_is_not_there_is_refused(model_of: ModelOf) -> None:
    with pytest.raises(SiteError, match="no site 'gate'"), capture(model_of("bert"), "gate"):
        pytest.fail("entered")
