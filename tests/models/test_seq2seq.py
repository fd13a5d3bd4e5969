"""Models with an encoder and a decoder: which stack is which, the sites of both, and what planted wrong ones give."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from neuronatlas.models import InterventionError, Model, ModelError, Site, SiteError, capture, load, scale, suppress
from neuronatlas.models.checking import prove_ways
from neuronatlas.models.model import ModelInputError
from neuronatlas.models.sites import prove
from neuronatlas.models.taps import Point
from neuronatlas.neurons import LayoutMismatchError
from neuronatlas.studies.sweep.toys import architectures, build, toy_tokenizer

BART = "model.{}.layers.{{}}."
PATHS = {
    "bart": (f"{BART}self_attn.out_proj", f"{BART}encoder_attn.out_proj", f"{BART}fc2"),
    "fsmt": (f"{BART}self_attn.out_proj", f"{BART}encoder_attn.out_proj", f"{BART}fc2"),
    "m2m_100": (f"{BART}self_attn.out_proj", f"{BART}encoder_attn.out_proj", f"{BART}fc2"),
    "t5": (
        "{}.block.{{}}.layer.0.SelfAttention.o",
        "{}.block.{{}}.layer.1.EncDecAttention.o",
        "{}.block.{{}}.layer.{last}.DenseReluDense.wo",
    ),
}
"""The paths of each layer's projections as the sources of the architectures have them."""

SITES = {"ffn", "attention", "cross_attention", "hidden", "encoder.ffn", "encoder.attention", "encoder.hidden"}


def module_of(name: str) -> PreTrainedModel:
    return build(next(a for a in architectures() if a.name == f"seq2seq:{name}"))


@lru_cache(maxsize=4)
def loaded(name: str) -> Model:
    return load((module_of(name), toy_tokenizer()))


def logits(model: Model) -> Tensor:
    with torch.no_grad():
        return model.logits(model.probe_ids, model.probe_decoder_ids)


@pytest.mark.parametrize("name", PATHS)
def test_the_sites_of_both_stacks_are_where_the_architecture_has_them(name: str) -> None:
    model = loaded(name)
    mixed, crossed, down = PATHS[name]
    assert model.kind == "seq2seq"
    assert set(model.sites) == SITES
    assert not model.missing
    for site, stack, path in (
        ("attention", "decoder", mixed),
        ("cross_attention", "decoder", crossed),
        ("ffn", "decoder", down),
        ("encoder.attention", "encoder", mixed),
        ("encoder.ffn", "encoder", down),
    ):
        expected = path.format(stack, last=1 if stack == "encoder" else 2)
        assert [point.path for point in model.site(site).points] == [expected.format(layer) for layer in range(4)]
        assert model.layout(site).stack == stack
    assert [block.module for block in model.blocks] == [p.module for p in model.site("hidden").points[1:]]
    assert [block.module for block in model.encoder_blocks] == [
        p.module for p in model.site("encoder.hidden").points[1:]
    ]


@pytest.mark.parametrize("name", ["bart", "t5", "led", "encoder-decoder", "t5gemma2"])
def test_every_layer_of_every_site_is_proved(name: str) -> None:
    for site in loaded(name).sites.values():
        assert [proof.width for proof in site.proofs] == list(site.widths)
        assert all(proof.error <= 1e-5 for proof in site.proofs)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_hidden_states_of_both_stacks_are_those_that_transformers_gives(name: str) -> None:
    model = loaded(name)
    ids, decoder_ids = model.probe_ids, model.probe_decoder_ids
    with torch.no_grad(), capture(model, "encoder.hidden") as below, capture(model, "hidden") as above:
        model.logits(ids, decoder_ids)
        given = model.module(input_ids=ids, decoder_input_ids=decoder_ids, output_hidden_states=True)
    for seen, states in ((below, given.encoder_hidden_states), (above, given.decoder_hidden_states)):
        assert len(seen) == len(states) == 5
        for layer in range(4):
            torch.testing.assert_close(seen[layer], states[layer], rtol=0, atol=0)


def test_logits_are_those_of_the_decoder_and_need_the_ids_of_both() -> None:
    model = loaded("t5")
    ids, decoder_ids = model.probe_ids, model.probe_decoder_ids
    assert decoder_ids is not None
    assert (ids.shape, decoder_ids.shape) == ((2, 7), (2, 5))
    with torch.no_grad():
        given = model.module(input_ids=ids, decoder_input_ids=decoder_ids).logits
    assert torch.equal(logits(model), given)
    with pytest.raises(ModelInputError, match=r"no decoder ids for .*, a seq2seq model"):
        model.logits(ids)


def test_a_model_of_one_stack_takes_no_decoder_ids(model_of: Callable[[str], Model]) -> None:
    model = model_of("bert")
    assert (model.encoder_blocks, model.probe_decoder_ids) == ((), None)
    with pytest.raises(ModelInputError, match=r"decoder ids for .*, a masked model: give token ids alone"):
        model.logits(model.probe_ids, model.probe_ids)


# Wrong sites, planted in the first layer of either stack, and refused.


def planted(model: Model, site: str) -> Iterator[tuple[str, Point]]:
    """What is not the site's first layer: other projections of its block, and layers of the other stack."""
    right, other = model.site(site).points[0], "ffn" if site.startswith("encoder.") else "encoder.ffn"
    for name in ("attention", "cross_attention", "encoder.attention"):
        yield f"the {name}'s", replace(model.site(name).points[0], layer=0)
    yield "the other stack's", model.site(other).points[0]
    yield "another layer's", replace(right, module=model.site(site).points[1].module)
    yield "the output", replace(right, side="output", width=32)
    yield "the block's", model.site("encoder.hidden" if site.startswith("encoder.") else "hidden").points[0]
    yield "the encoder's states, as cross-attention has them", _keys(model, right)


def _keys(model: Model, right: Point) -> Point:
    """What goes into the keys of the cross-attention."""
    parent = model.blocks[0].module
    path = {"bart": "encoder_attn.k_proj", "t5": "layer.1.EncDecAttention.k"}[model.module.config.model_type]
    return replace(right, module=parent.get_submodule(path), width=32)


@pytest.mark.parametrize("site", ["ffn", "encoder.ffn"])
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_planted_wrong_site_of_either_stack_is_refused(name: str, site: str) -> None:
    model = loaded(name)
    blocks, length = (model.encoder_blocks, 7) if site.startswith("encoder.") else (model.blocks, 5)
    first, *others = model.site(site).points
    accepted = []
    for what, point in planted(model, site):
        try:
            prove(model.module, Site(site, (point, *others)), lambda: logits(model), blocks, length)
            accepted.append(what)
        except SiteError as error:
            assert str(error).startswith(f"site '{site}'")
    assert accepted == []
    prove(model.module, Site(site, (first, *others)), lambda: logits(model), blocks, length)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_cross_attention_is_not_taken_for_attention_nor_the_other_way_round(name: str) -> None:
    model = loaded(name)
    for site, wrong in (("cross_attention", "attention"), ("attention", "cross_attention")):
        points = model.site(wrong).points
        with pytest.raises(SiteError, match=rf"site '{site}', layer 0 .*is not where the block"):
            prove(model.module, Site(site, points), lambda: logits(model), model.blocks)


# Interventions and captures.


@pytest.mark.parametrize("name", ["bart", "fsmt", "t5"])
@pytest.mark.parametrize("site", ["ffn", "encoder.ffn", "attention", "cross_attention", "encoder.attention"])
def test_suppressing_in_a_stack_moves_what_reads_it_and_is_restored(name: str, site: str) -> None:
    model = loaded(name)
    layout, before = model.layout(site), logits(model)
    neurons = layout.set(f"L2.U{unit}" for unit in range(0, 32, 3))
    with suppress(model, neurons), capture(model, site) as seen, capture(model, "encoder.hidden") as states:
        assert not torch.equal(logits(model), before)
    assert not seen[2][..., 0:32:3].any()
    with capture(model, "encoder.hidden") as clean:
        assert torch.equal(logits(model), before)
    moved = [not torch.equal(states[layer], clean[layer]) for layer in range(5)]
    assert moved == [False, False, False, *[site.startswith("encoder.")] * 2]


@pytest.mark.parametrize("name", ["bart", "fsmt", "led"])
def test_positions_count_in_the_sequence_of_the_site_s_own_stack(name: str) -> None:
    model = loaded(name)
    for site, length in (("ffn", 5), ("encoder.ffn", 7)):
        neurons = model.layout(site).set(["L1.U3"])
        with capture(model, site) as seen:
            logits(model)
        clean = seen[1].clone()
        with scale(model, neurons, 2.0, positions=length - 1), capture(model, site) as seen:
            logits(model)
        expected = clean.clone()
        expected[:, length - 1, 3] *= 2
        assert torch.equal(seen[1], expected)
    outside = scale(model, model.layout("ffn").set(["L1.U3"]), 2.0, positions=6)
    with pytest.raises(InterventionError, match="position 6 is outside a prompt of 5 tokens"), outside:
        logits(model)


def test_blocks_with_positions_before_rows_are_captured_rows_first() -> None:
    model = loaded("fsmt")
    kept: list[Tensor] = []
    point = model.site("encoder.ffn").points[1]
    assert point.positions_first
    handle = point.module.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with capture(model, "encoder.ffn") as seen:
        logits(model)
    handle.remove()
    assert kept[0].shape == (7, 2, 48)
    assert torch.equal(seen[1], kept[0].transpose(0, 1))


def test_neurons_of_the_two_stacks_do_not_mix() -> None:
    model = loaded("t5")
    with pytest.raises(LayoutMismatchError, match="site is"):
        _ = model.layout("ffn").set(["L0.U0"]) | model.layout("encoder.ffn").set(["L0.U0"])


def test_gradients_of_both_stacks_are_the_slopes_of_the_model() -> None:
    """Central differences of log P in float64, neuron by neuron, by a hook of PyTorch alone."""
    module = module_of("bart").double()
    model = load((module, toy_tokenizer()))
    ids, decoder_ids = model.probe_ids, model.probe_decoder_ids

    def log_p(point: Point, change: Tensor) -> Tensor:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (args[0] + change, *args[1:])

        handle = point.module.register_forward_pre_hook(hook)
        try:
            return model.logits(ids, decoder_ids)[0, 3].log_softmax(-1)[7]
        finally:
            handle.remove()

    for site, length in (("ffn", 5), ("encoder.ffn", 7)):
        point = model.site(site).points[1]
        leaf = torch.zeros(2, length, 48, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(log_p(point, leaf), [leaf])
        with torch.no_grad():
            for unit in (0, 17, 47):
                step = torch.zeros_like(leaf)
                step[0, 2, unit] = 1e-5
                numeric = (log_p(point, step) - log_p(point, -step)) / 2e-5
                assert abs(float(numeric - slope[0, 2, unit])) <= 1e-7


# Loading.


@pytest.mark.parametrize("name", ["t5", "bart", "fsmt"])
def test_a_folder_gives_the_model_that_was_saved(name: str, tmp_path: Path) -> None:
    saved = loaded(name)
    saved.module.save_pretrained(tmp_path)
    saved.tokenizer.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert (model.kind, type(model.module)) == ("seq2seq", type(saved.module))
    assert model.digest == saved.digest
    assert torch.equal(logits(model), logits(saved))


def test_a_model_listed_with_two_stacks_that_has_one_is_causal(tmp_path: Path) -> None:
    module = module_of("qwen2_audio")
    model = load((module, toy_tokenizer()))
    assert (model.kind, model.encoder_blocks, model.layout().stack) == ("causal", (), "decoder")
    module.save_pretrained(tmp_path)
    toy_tokenizer().save_pretrained(tmp_path)
    again = load(tmp_path)
    assert type(again.module) is type(module)
    assert again.digest == model.digest


def test_a_decoder_that_reads_no_encoder_leaves_the_encoder_without_sites() -> None:
    small: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    part = transformers.BertConfig(intermediate_size=48, **small)
    config = transformers.EncoderDecoderConfig(encoder=part, decoder=transformers.BertConfig(**small))
    model = load((transformers.EncoderDecoderModel(config).eval(), toy_tokenizer()))
    assert set(model.sites) == {"ffn", "attention", "hidden"}
    assert "zeroing it does not change the model's output" in model.missing["encoder.ffn"]
    with pytest.raises(SiteError, match=r"no site 'encoder\.ffn'"):
        model.site("encoder.ffn")


def test_experts_that_are_modules_of_their_own_are_refused_by_their_layer() -> None:
    with pytest.raises(SiteError, match=r"no site 'ffn': layer 3 .*experts that are modules of their own"):
        loaded("nllb-moe")
    model = load((module_of("nllb-moe"), toy_tokenizer()), site="encoder.hidden")
    assert model.site().widths == (32,) * 5


def test_an_encoder_alone_is_no_language_model() -> None:
    config = transformers.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    with pytest.raises(ModelError, match="T5EncoderModel"):
        load((transformers.T5EncoderModel(config), toy_tokenizer()))


def test_a_model_of_two_stacks_runs_whole() -> None:
    ways = prove_ways(loaded("t5"))
    assert (ways.at_answer, ways.elsewhere) == ("plain", "plain")
    assert loaded("t5").ways["head"] == "the model has two stacks of blocks"
