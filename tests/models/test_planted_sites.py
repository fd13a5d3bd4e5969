"""Wrong sites, planted in ten architectures with widths that tell the truth, are refused; the right one is not."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import pytest
import torch
from torch import nn

from neuronatlas.models import Model, Site, SiteError, load
from neuronatlas.models.calls import Call, first_tensor, record_calls
from neuronatlas.models.sites import prove
from neuronatlas.models.taps import Point
from neuronatlas.studies.sweep.toys import Architecture, architectures, build, toy_tokenizer

NAMES = (
    "causal:falcon",
    "causal:gemma2",
    "causal:gpt2",
    "causal:llama",
    "causal:opt",
    "causal:phi3",
    "masked:bert",
    "masked:modernbert",
    "masked:nomic_bert",
    "masked:xmod",
)
"""ReLU, GELU and SiLU; with a gate of its own, in one matrix with the rest, and without; an adapter."""


@lru_cache(maxsize=1)
def loaded(name: str) -> Model:
    wanted: Architecture = next(a for a in architectures() if a.name == name)
    return load((build(wanted), toy_tokenizer()))


def try_point(model: Model, point: Point) -> None:
    _, *others = model.site("ffn").points
    prove(model.module, Site("ffn", (point, *others)), lambda: model.logits(model.probe_ids))


def calls_in_block(model: Model) -> Iterator[tuple[str, Call]]:
    """Every call of a module without children in the first block, with the module's path."""
    block = model.blocks[0].module
    leaves = {m: path for path, m in block.named_modules() if not any(True for _ in m.children())}
    calls: list[Call] = []
    with torch.no_grad(), record_calls(list(leaves), calls):
        model.logits(model.probe_ids)
    yield from ((leaves[call.module], call) for call in calls)


def wrong_points(model: Model) -> Iterator[tuple[str, Point]]:
    """What stands before the activation, the gate alone, what is as wide as the model, and another layer's."""
    right = model.site("ffn").points[0]
    side: Literal["input", "output"]
    for path, call in calls_in_block(model):
        for side, tensor in (("input", call.hidden), ("output", first_tensor(call.output))):
            if tensor is not None and (call.module, side) != (right.module, right.side) and tensor.is_floating_point():
                yield f"{side} of {path}", replace(right, module=call.module, side=side, width=tensor.shape[-1])
    yield "another layer's", replace(right, module=model.site("ffn").points[1].module)
    yield "its path alone is right", replace(right, module=nn.Linear(right.width, 32))
    attention = model.site("attention").points[0]
    yield "the attention's", replace(attention, layer=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_other_tensor_of_a_block_is_refused_as_its_neurons(name: str) -> None:
    model = loaded(name)
    planted = dict(wrong_points(model))
    assert len(planted) >= 10
    accepted = []
    for what, point in planted.items():
        try:
            try_point(model, point)
            accepted.append(what)
        except SiteError as error:
            assert "\n" not in str(error)
    assert accepted == []


@pytest.mark.parametrize("name", NAMES)
def test_the_right_site_is_proved_again(name: str) -> None:
    model = loaded(name)
    try_point(model, model.site("ffn").points[0])


@pytest.mark.parametrize("name", ["causal:llama", "masked:bert"])
def test_hidden_states_of_another_block_are_refused(name: str) -> None:
    model = loaded(name)
    points = list(model.site("hidden").points)
    points[2] = replace(points[2], module=points[3].module)
    with pytest.raises(SiteError, match=r"site 'hidden', layer \d"):
        prove(model.module, Site("hidden", tuple(points)), lambda: model.logits(model.probe_ids))
