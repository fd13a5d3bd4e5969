"""The promises kept by a real pretrained model."""

import pytest
import torch
from torch import Tensor

from neuronatlas.models import Model, capture, suppress
from neuronatlas.models.answers import read_answers
from neuronatlas.models.gradients import Path as Integral
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.heads import answer_logits
from neuronatlas.models.queries import query
from neuronatlas.models.replay import FullReplay
from neuronatlas.models.ways import Plain, Prompts
from neuronatlas.neurons import Layout


def test_its_neurons_are_found(stories: Model) -> None:
    assert stories.kind == "causal"
    assert stories.layout() == Layout("ffn", (172,) * 5, "decoder", stories.digest)
    assert stories.site("attention").widths == (64,) * 5
    assert stories.site("hidden").widths == (64,) * 6
    assert stories.max_length == 512


def test_it_goes_on_as_it_was_trained_to(stories: Model) -> None:
    asked = query(stories, "Once upon a ", "", "time")
    with torch.no_grad():
        logits = answer_logits(stories, torch.tensor([asked.first.ids]), torch.tensor([asked.first.answer_position]))
    answered = read_answers(stories, [asked.first], logits)[0]
    assert answered.is_top
    assert answered.top_token == "▁time"
    assert answered.probability > 0.9


def scores_of(path: Integral) -> Tensor:
    """All layers' scores in a row, since errors are told relative to the largest of them."""
    return torch.cat([h * gradient for h, gradient in zip(path.neurons, path.gradients, strict=True)], dim=1)


@pytest.mark.parametrize("left", ["Once upon a ", "Once upon a time, there was a little girl named "])
def test_replay_gives_the_gradients_of_plain_reruns(left: str, stories: Model) -> None:
    asked = query(stories, left, ".", "time" if left.endswith("a ") else "L")
    place = torch.tensor([asked.first.position])
    prompts = Prompts(torch.tensor([asked.first.ids]), place, place, torch.tensor([asked.first.answer_id]))
    plain = path_gradients(stories, prompts, [0.2, 0.8], [0.5, 0.5], way=Plain)
    for found in (
        path_gradients(stories, prompts, [0.2, 0.8], [0.5, 0.5]),
        path_gradients(stories, prompts, [0.2, 0.8], [0.5, 0.5], way=FullReplay),
    ):
        scores, expected = scores_of(found), scores_of(plain)
        assert float((scores - expected).abs().max() / expected.abs().max()) <= 1e-5
        torch.testing.assert_close(found.zeroed, plain.zeroed, rtol=1e-5, atol=0)
    assert stories.ways["replay-cached"] == ""


def test_an_intervention_changes_it_and_leaves_it_as_it_was(stories: Model) -> None:
    ids = torch.tensor([query(stories, "Once upon a ", "", "time").first.ids])
    neurons = stories.layout().set(f"L{layer}.U{unit}" for layer in range(5) for unit in range(0, 172, 7))
    with torch.no_grad():
        clean, digest = stories.logits(ids), stories.digest
        with suppress(stories, neurons), capture(stories) as seen:
            assert not torch.equal(stories.logits(ids), clean)
        assert all(not seen[layer][..., ::7].any() for layer in range(5))
        assert torch.equal(stories.logits(ids), clean)
    assert stories.digest == digest
