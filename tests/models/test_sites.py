from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import MaskedLMOutput

from neuronatlas.models import SITES, Model, ModelError, Site, SiteError, capture, load
from neuronatlas.models.sites import prove
from neuronatlas.models.taps import Point

Plant = Callable[[Model], tuple[Point, ...]]


def test_all_sites_are_found_with_the_widths_of_the_configuration(model: Model, toy: Any) -> None:
    assert set(model.sites) == set(SITES)
    assert not model.missing
    assert model.site("ffn").widths == (toy.ffn,) * toy.layers
    assert model.site("attention").widths == (toy.attention,) * toy.layers
    assert model.site("hidden").widths == (toy.hidden,) * (toy.layers + 1)


def test_neurons_are_the_inputs_of_the_projections_that_the_architecture_names(model: Model, toy: Any) -> None:
    for site, path in (("ffn", toy.ffn_path), ("attention", toy.attention_path)):
        points = model.site(site).points
        named = [model.module.get_submodule(path.format(layer)) for layer in range(toy.layers)]
        assert [point.module for point in points] == named
        assert {point.side for point in points} == {"input"}
        assert [point.path for point in points] == [path.format(layer) for layer in range(toy.layers)]


def test_every_layer_of_every_site_is_proved(model: Model) -> None:
    for site in model.sites.values():
        assert [proof.layer for proof in site.proofs] == list(range(len(site.points)))
        assert [proof.width for proof in site.proofs] == list(site.widths)
        assert all(proof.error <= 1e-5 for proof in site.proofs)


def test_hidden_is_the_hidden_states_that_transformers_gives(model: Model, toy: Any, ids: Tensor) -> None:
    with torch.no_grad(), capture(model, "hidden") as seen:
        given = model.module(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
        ).hidden_states
    # The last one of a model that normalises before its blocks is taken after its final normalisation.
    compared = toy.layers + 1 if toy.post_norm else toy.layers
    assert len(given) == len(seen) == toy.layers + 1
    for layer in range(compared):
        torch.testing.assert_close(seen[layer], given[layer], rtol=0, atol=0)
    if not toy.post_norm:
        assert not torch.equal(seen[toy.layers], given[toy.layers])


# Wrong sites, planted in the first layer, and refused.


def _first(model: Model, **changes: Any) -> tuple[Point, ...]:
    first, *others = model.site("ffn").points
    return (replace(first, **changes), *others)


def _up(model: Model) -> nn.Module:
    return model.blocks[0].ups[0][0]


def _in_wrong_order(model: Model) -> tuple[Point, ...]:
    first, second, *others = model.site("ffn").points
    return replace(first, module=second.module), replace(second, module=first.module), *others


PLANTS: dict[str, Plant] = {
    "the input of the up-projection": lambda model: _first(model, module=_up(model)),
    "the output of the up-projection, before the activation": lambda model: _first(
        model, module=_up(model), side="output"
    ),
    "the output of the down-projection": lambda model: _first(model, side="output"),
    "the input of the attention output": lambda model: _first(model, module=model.site("attention").points[0].module),
    "the neurons of another layer": lambda model: _first(model, module=model.site("ffn").points[1].module),
    "two layers the wrong way round": _in_wrong_order,
    "a module that is never called": lambda model: _first(model, module=nn.Linear(48, 32)),
    "a call that never comes": lambda model: _first(model, call=1, calls=2),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_a_planted_wrong_site_is_refused(
    name: str, plant: str, model_of: Callable[[str], Model], fingerprint: Callable[[Model], object]
) -> None:
    model = model_of(name)
    before = fingerprint(model)
    with pytest.raises(SiteError, match=r"site 'ffn', layer [01] "):
        prove(model.module, Site("ffn", PLANTS[plant](model)), lambda: model.logits(model.probe_ids))
    assert fingerprint(model) == before


def test_the_activation_before_the_gate_is_refused(model_of: Callable[[str], Model]) -> None:
    model = model_of("llama")
    points = _first(model, module=model.module.get_submodule("model.layers.0.mlp.act_fn"), side="output")
    with pytest.raises(SiteError, match=r"layer 0 .*differs from its output"):
        prove(model.module, Site("ffn", points), lambda: model.logits(model.probe_ids))


def test_neurons_that_move_nothing_are_refused(
    module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    module = module_of("bert")
    with torch.no_grad():
        module.get_parameter("bert.encoder.layer.1.output.dense.weight").zero_()
    with pytest.raises(SiteError, match=r"layer 1 .*zeroing it does not change"):
        load((module, tokenizer))


def test_a_model_that_answers_differently_each_time_is_refused(
    module_of: Callable[..., PreTrainedModel], model_of: Callable[[str], Model]
) -> None:
    site, module = model_of("bert").site("ffn"), module_of("bert").train()
    points = tuple(replace(point, module=module.get_submodule(point.path)) for point in site.points)
    ids = model_of("bert").probe_ids
    with pytest.raises(SiteError, match="writing back what was captured changes the model's output"):
        prove(module, Site("ffn", points), lambda: module(input_ids=ids).logits)


# Models that are not understood, and say why.


class Flat(transformers.BertPreTrainedModel):
    """A language model without blocks."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.words, self.out = nn.Embedding(config.vocab_size, 32), nn.Linear(32, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: Tensor, **_: Any) -> MaskedLMOutput:
        return MaskedLMOutput(logits=self.out(self.words(input_ids)))


def test_a_model_without_blocks_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ModelError, match="Flat: no stack of blocks found"):
        load((Flat(BertConfig(vocab_size=100)), tokenizer))


def test_a_module_that_is_no_language_model_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    toy: Any = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 100))
    with pytest.raises(ModelError, match="Sequential"):
        load((toy, tokenizer))


def test_a_model_without_one_feed_forward_projection_a_layer_says_so(tokenizer: PreTrainedTokenizerBase) -> None:
    small: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
    module = transformers.MambaForCausalLM(transformers.MambaConfig(**small))
    with pytest.raises(SiteError, match=r"no site 'ffn': layer 0 .*0 position-wise projections"):
        load((module, tokenizer))


def test_a_block_that_adds_in_place_is_understood(tokenizer: PreTrainedTokenizerBase) -> None:
    # Falcon adds its attention's output to what the down-projection returned, in the same memory.
    sizes: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = load((transformers.FalconForCausalLM(transformers.FalconConfig(**sizes)), tokenizer))
    assert model.site("ffn").widths == (128, 128)
    assert [point.path for point in model.site("ffn").points] == [
        f"transformer.h.{n}.mlp.dense_4h_to_h" for n in (0, 1)
    ]


def test_a_site_by_an_unknown_name_is_refused(model_of: Callable[[str], Model]) -> None:
    with pytest.raises(SiteError, match=r"no site 'nonsense'.*sites are ffn, attention, hidden"):
        model_of("bert").site("nonsense")
    with pytest.raises(SiteError, match="nonsense"):
        load((model_of("bert").module, model_of("bert").tokenizer), site="nonsense")


def test_the_default_site_is_the_one_that_was_asked_for(model_of: Callable[[str], Model]) -> None:
    model = load((model_of("bert").module, model_of("bert").tokenizer), site="attention")
    assert model.site().name == "attention"
    assert model.layout().site == "attention"
