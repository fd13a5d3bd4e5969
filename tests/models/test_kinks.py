"""Models whose neurons have kinks are told from smooth ones, since they need a finer integral."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import Model, capture, load, set_values, suppress
from neuronatlas.models.batching import choose_way
from neuronatlas.models.direct import direct_paths
from neuronatlas.models.gradients import gradients_refused, path_gradients
from neuronatlas.models.kinks import has_kinks
from neuronatlas.models.output_rows import output_rows
from neuronatlas.models.slots import value_slots
from neuronatlas.models.ways import Prompts


@pytest.mark.parametrize("activation", ["relu", "relu2", "gelu", "gelu_new", "silu"])
def test_only_relu_and_its_kin_count_as_kinked(
    activation: str, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    model = load((module_of("bert", hidden_act=activation), tokenizer))
    assert has_kinks(model) == activation.startswith("relu")


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_proofs_are_of_the_model_and_not_of_what_an_intervention_makes_of_it(
    name: str, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Position 9 is none of the seven tokens that proofs run on, and neurons of 0.5 are never 0."""

    def proved(model: Model) -> object:
        slots = value_slots(model, model.layout().set(["L1.U2"]))[0].read()
        with direct_paths(model):
            choose_way(model)
            return has_kinks(model), gradients_refused(model), slots, output_rows(model, [7])

    models = [load((module_of(name, hidden_act="relu", activation_function="relu"), tokenizer)) for _ in range(2)]
    layout = models[1].layout()
    everything = layout.set(layout.at(layer, place) for layer in range(3) for place in range(layout.widths[layer]))
    clean = proved(models[0])
    with set_values(models[1], everything, 0.5, positions=9), capture(models[1]) as seen:
        found = proved(models[1])
        assert not seen
        assert models[1].intervened_sites == ["ffn"]
    models[1].ways.pop("kinks")
    with set_values(models[1], everything, 0.5):
        assert has_kinks(models[1])
    assert str(found) == str(clean)
    assert models[1].ways.pop("equal batches") == ""
    assert models[1].ways.items() <= models[0].ways.items()


def test_a_prompt_is_attributed_under_an_intervention_that_only_it_is_long_enough_for(
    module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    model, ids = load((module_of("bert"), tokenizer)), torch.arange(5, 18)[None]
    prompts = Prompts(ids, torch.tensor([3]), torch.tensor([3]), torch.tensor([20]))
    with suppress(model, model.layout().set(["L0.U1"]), positions=9):
        found = path_gradients(model, prompts, [0.5], [1.0])
        assert torch.equal(found.clean_logits[0], model.logits(ids)[0, 3])
    assert not torch.equal(found.clean_logits[0], model.logits(ids)[0, 3])
