"""Facts asked of models with an encoder and a decoder: what each reads, and whose neurons are attributed."""

from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import neuronatlas as na
from neuronatlas.models.queries import Query, QueryError, query
from neuronatlas.models.taps import Point
from neuronatlas.studies.sweep.toys import Architecture, build

ARCHITECTURES = {
    "sentinel": Architecture("t5", "T5ForConditionalGeneration", "seq2seq"),
    "mask": Architecture("bart", "BartForConditionalGeneration", "seq2seq"),
    "neither": Architecture("marian", "MarianMTModel", "seq2seq"),
}
PLACES = {
    "sentinel": {"<extra_id_0>": 97, "<extra_id_1>": 98},
    "mask": {"<mask>": 98},
    "neither": {},
}
PROMPT, ANSWER = "w11 w52 w33 w74 [MASK]", "w40 w41"


def words(how: str) -> PreTrainedTokenizerFast:
    """A tokenizer of words that closes every text and fills places in one of three ways."""
    named = {"<pad>": 0, "<s>": 2, "</s>": 3, "<unk>": 1} | PLACES[how]
    vocabulary = {f"w{n}": n for n in range(4, 97)} | named
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    masks = {"mask_token": "<mask>"} if how == "mask" else {}
    extra = list(PLACES["sentinel"]) if how == "sentinel" else []
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="</s>",
        additional_special_tokens=extra,
        **masks,
    )


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def toy(request: pytest.FixtureRequest) -> na.Model:
    """A random model of each way to fill a place, in float64."""
    return na.load((build(ARCHITECTURES[request.param]).double(), words(request.param)))


def shown(model: na.Model, asked: Query) -> list[tuple[str, str, str]]:
    """What the encoder and the decoder read at each step, and the token that is asked for."""

    def text(ids: tuple[int, ...]) -> str:
        return " ".join(model.tokenizer.convert_ids_to_tokens(list(ids)))

    return [(text(step.ids), text(step.decoder_ids), text((step.answer_id,))) for step in asked.steps]


READ = {
    "sentinel": [
        ("w11 w52 w33 w74 <extra_id_0> </s>", "<s> <extra_id_0>", "w40"),
        ("w11 w52 w33 w74 <extra_id_0> </s>", "<s> <extra_id_0> w40", "w41"),
    ],
    "mask": [
        ("w11 w52 w33 w74 <mask> </s>", "<s> w11 w52 w33 w74", "w40"),
        ("w11 w52 w33 w74 <mask> </s>", "<s> w11 w52 w33 w74 w40", "w41"),
    ],
    "neither": [
        ("w11 w52 w33 w74 </s>", "<s>", "w40"),
        ("w11 w52 w33 w74 </s>", "<s> w40", "w41"),
    ],
}


@pytest.mark.parametrize("how", list(ARCHITECTURES))
def test_the_decoder_is_asked_as_such_a_model_fills_a_place(how: str) -> None:
    model = na.load((build(ARCHITECTURES[how]), words(how)))
    asked = query(model, "w11 w52 w33 w74 ", "", ANSWER)
    assert shown(model, asked) == READ[how]
    assert [step.answer_position for step in asked.steps] == [len(step.decoder_ids) - 1 for step in asked.steps]
    inside = query(model, "w11 w52 w33 w74 ", "", ANSWER, stack="encoder")
    place = {"sentinel": "<extra_id_0>", "mask": "<mask>", "neither": "w74"}[how]
    assert {model.tokenizer.convert_ids_to_tokens(step.ids[step.position]) for step in inside.steps} == {place}


@pytest.mark.parametrize("site", ["ffn", "encoder.ffn"])
def test_neurons_of_either_stack_are_integrated_as_captum_does(toy: na.Model, site: str) -> None:
    scores = na.attribute(toy, PROMPT, ANSWER, site=site, steps=3)
    assert scores.layout.stack == ("encoder" if site.startswith("encoder") else "decoder")
    assert scores.way == "plain"
    assert scores.answered.probability == pytest.approx(probability(toy, scores.query), rel=1e-9)
    for number, token in enumerate(scores.tokens):
        for point in toy.site(site).points:
            clean = torch.from_numpy(token.activations.layer(point.layer).copy())[None]
            forward = partial(log_p_of_neurons, toy, scores.query, number, point)
            found = IntegratedGradients(forward).attribute(clean, n_steps=3, method="gausslegendre")[0]
            # T5's norms compute in float32, whatever the weights are in.
            np.testing.assert_allclose(
                token.layer(point.layer), found.detach().numpy(), atol=1e-6 * np.abs(scores.values).max()
            )


def log_p_of_neurons(model: na.Model, asked: Query, number: int, point: Point, neurons: torch.Tensor) -> torch.Tensor:
    """log P of a step's token with the neurons of a layer set, a row each."""
    step = asked.steps[number]

    def put(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        changed = args[0].clone()
        changed[:, step.position] = neurons
        return (changed, *args[1:])

    handle = point.module.register_forward_pre_hook(put)
    try:
        ids, decoder = (torch.tensor([row]).expand(len(neurons), -1) for row in (step.ids, step.decoder_ids))
        logits = model.logits(ids, decoder)
    finally:
        handle.remove()
    return logits[:, step.answer_position].log_softmax(-1)[:, step.answer_id]


def probability(model: na.Model, asked: Query) -> float:
    """P of the answer by one pass of the decoder over all of it."""
    last = asked.steps[-1]
    with torch.no_grad():
        logits = model.logits(torch.tensor([last.ids]), torch.tensor([last.decoder_ids]))[0].log_softmax(-1)
    return float(sum(logits[step.answer_position, step.answer_id] for step in asked.steps).exp())  # type: ignore[union-attr]


@pytest.mark.parametrize("site", ["ffn", "encoder.ffn"])
def test_suppressing_neurons_of_either_stack_moves_the_answer_as_zeroing_says(toy: na.Model, site: str) -> None:
    scores = na.attribute(toy, PROMPT, ANSWER, site=site, steps=2)
    everything = scores.layout.set(scores.layout.at(1, unit) for unit in range(scores.layout.widths[1]))
    fact = na.Fact("r", "w52", ANSWER, [PROMPT])
    table = na.effects(toy, fact, everything, gains=[0.0, 1.0])
    assert 2 * table["mean_log_p_after"][0] == pytest.approx(float(scores.zeroed[1]), abs=1e-6)
    assert table["p_after"][1] == pytest.approx(table["p_before"][1], rel=1e-9)
    assert len(na.locate(toy, fact, site=site).tokens) == 2


def test_the_subject_is_looked_at_in_the_encoder(toy: na.Model) -> None:
    scores = na.attribute(toy, PROMPT, ANSWER, site="encoder.ffn", position="subject", subject="w52", steps=1)
    assert [step.position for step in scores.query.steps] == [1, 1]
    with pytest.raises(QueryError, match="look at the neurons of an encoder site"):
        na.attribute(toy, PROMPT, ANSWER, position="subject", subject="w52", steps=1)


def test_neurons_of_the_two_stacks_do_not_mix(toy: na.Model) -> None:
    encoder, decoder = toy.layout("encoder.ffn").set(["L0.U1"]), toy.layout("ffn").set(["L0.U1"])
    with pytest.raises(na.LayoutMismatchError, match="site"):
        _ = encoder | decoder
    ids, decoder_ids = torch.tensor([[11, 52, 33, 3]]), torch.tensor([[2, 40]])
    with torch.no_grad():
        before = toy.logits(ids, decoder_ids)
        with na.suppress(toy, encoder), na.suppress(toy, decoder):
            both = toy.logits(ids, decoder_ids)
        assert torch.equal(toy.logits(ids, decoder_ids), before)
    assert not torch.equal(both, before)
