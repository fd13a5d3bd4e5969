import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import (
    InterventionError,
    Model,
    SiteError,
    amplify,
    capture,
    load,
    scale,
    scale_rows,
    set_values,
    suppress,
)
from neuronatlas.neurons import LayoutMismatchError, NeuronSet

ModelOf = Callable[[str], Model]
Fingerprint = Callable[[Model], object]
Intervene = Callable[[Model], AbstractContextManager[Model]]

ADDRESSES = ["L0.U1", "L0.U40", "L1.U0", "L1.U47"]


def some(model: Model, site: str = "ffn") -> NeuronSet:
    return model.layout(site).set(ADDRESSES if site == "ffn" else ["L0.U1", "L2.U31"])


def run(model: Model, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.logits(ids)


def changed_by_hand(
    model: Model, path: str, ids: Tensor, change: Callable[[Tensor], None], layers: tuple[int, ...] = (0, 1)
) -> Tensor:
    """Logits with the inputs of the named modules changed in place by a plain hook."""

    def hook(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = args[0].clone()
        change(values.view(*ids.shape, -1))
        return (values, *args[1:])

    handles = [model.module.get_submodule(path.format(layer)).register_forward_pre_hook(hook) for layer in layers]
    logits = run(model, ids)
    for handle in handles:
        handle.remove()
    return logits


# Each changes the first layers of any toy, for three rows.
INTERVENTIONS: dict[str, Intervene] = {
    "scale": lambda model: scale(model, some(model), 3.0),
    "scale at a position": lambda model: scale(model, some(model), -1.5, positions=2),
    "suppress": lambda model: suppress(model, some(model)),
    "amplify": lambda model: amplify(model, some(model)),
    "set_values": lambda model: set_values(model, some(model), 2.0),
    "scale_rows": lambda model: scale_rows(model, {1: torch.full((3, 48), 2.0)}, torch.tensor([1, 2, 3])),
    "attention": lambda model: suppress(model, some(model, "attention")),
    "hidden": lambda model: amplify(model, some(model, "hidden")),
}


@pytest.mark.parametrize("name", ["bert", "albert", "llama"])
@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_the_model_is_bit_equal_afterwards(
    intervention: str, name: str, model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of(name)
    before, clean = fingerprint(model), run(model, ids)
    with INTERVENTIONS[intervention](model):
        assert not torch.equal(run(model, ids), clean)
    assert torch.equal(run(model, ids), clean)
    assert fingerprint(model) == before


@pytest.mark.parametrize("name", ["bert", "albert"])
@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_the_model_is_bit_equal_when_the_body_raises(
    intervention: str, name: str, model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of(name)
    before, clean = fingerprint(model), run(model, ids)

    def interrupted() -> None:
        run(model, ids)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), INTERVENTIONS[intervention](model):
        interrupted()
    assert torch.equal(run(model, ids), clean)
    assert fingerprint(model) == before


@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_the_model_is_bit_equal_when_a_pass_breaks_half_way(
    intervention: str, model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of("albert")
    before, clean = fingerprint(model), run(model, ids)
    with INTERVENTIONS[intervention](model):
        changed = run(model, ids)
        with pytest.raises(IndexError):
            run(model, torch.full_like(ids, 10**6))
        assert torch.equal(run(model, ids), changed)
    assert torch.equal(run(model, ids), clean)
    assert fingerprint(model) == before


def test_suppressing_equals_zeroing_by_a_plain_hook(model: Model, toy: Any, ids: Tensor) -> None:
    units = [0, 5, 33]
    if "{}" in toy.ffn_path:
        neurons = [f"L{layer}.U{unit}" for layer in (0, 1) for unit in units]
    else:
        neurons = [f"L{layer}.U{unit}" for layer in range(toy.layers) for unit in units]

    def zero(values: Tensor) -> None:
        values[..., units] = 0

    with suppress(model, model.layout().set(neurons)):
        found = run(model, ids)
    assert torch.equal(found, changed_by_hand(model, toy.ffn_path, ids, zero, (0, 1) if "{}" in toy.ffn_path else (0,)))
    assert not torch.equal(found, run(model, ids))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_each_row_has_its_own_position(name: str, model_of: ModelOf, toys: Any, ids: Tensor) -> None:
    model, path = model_of(name), toys[name].ffn_path

    def triple(values: Tensor) -> None:
        for row, position in enumerate((2, 12, 0)):
            values[row, position, 4] *= 3

    by_hand = changed_by_hand(model, path, ids, triple)
    neurons = model.layout().set(["L0.U4", "L1.U4"])
    for positions in (torch.tensor([2, 12, 0]), torch.tensor([2, -1, -13])):
        with scale(model, neurons, 3.0, positions):
            assert torch.equal(run(model, ids), by_hand)


def test_one_position_serves_all_rows(model_of: ModelOf, toys: Any, ids: Tensor) -> None:
    model = model_of("bert")

    def zero(values: Tensor) -> None:
        values[:, 12, 4] = 0

    by_hand = changed_by_hand(model, toys["bert"].ffn_path, ids, zero)
    for position in (12, -1, torch.tensor([12])):
        with suppress(model, model.layout().set(["L0.U4", "L1.U4"]), position):
            assert torch.equal(run(model, ids), by_hand)


def test_rows_scaled_together_equal_rows_scaled_alone(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bert")
    factors = torch.rand(3, 48, generator=torch.Generator().manual_seed(0)) * 3
    positions = torch.tensor([4, 0, 12])
    with scale_rows(model, {0: factors, 2: factors.flip(0)}, positions), capture(model) as seen:
        together = run(model, ids)
    with capture(model) as clean:
        run(model, ids)
    for row, position in enumerate(positions):
        assert torch.equal(seen[0][row, position], clean[0][row, position] * factors[row])
        alone = scale_rows(model, {0: factors[[row]], 2: factors[[2 - row]]}, positions[[row]])
        with alone:
            torch.testing.assert_close(run(model, ids[[row]])[0], together[row], rtol=1e-5, atol=1e-5)


def test_values_go_to_neurons_in_address_order(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("llama")
    neurons = model.layout().set(["L1.U0", "L0.U40", "L1.U47", "L0.U1"])
    with set_values(model, neurons, torch.tensor([1.0, 2.0, 3.0, 4.0]), positions=5), capture(model) as seen:
        run(model, ids)
    found = [float(seen[neuron.layer][row, 5, neuron.unit]) for row in range(3) for neuron in neurons]
    assert found == [1.0, 2.0, 3.0, 4.0] * 3
    assert [str(neuron) for neuron in neurons] == ["L0.U1", "L0.U40", "L1.U0", "L1.U47"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_setting_the_values_that_are_there_changes_nothing(
    dtype: torch.dtype, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, ids: Tensor
) -> None:
    module: Any = module_of("bert")
    model = load((module.to(dtype), tokenizer))
    with capture(model) as seen:
        clean = run(model, ids[:1])
    neurons = some(model)
    values = torch.stack([seen[neuron.layer][0, 3, neuron.unit] for neuron in neurons])
    with set_values(model, neurons, values, positions=3):
        assert torch.equal(run(model, ids[:1]), clean)


# Nesting.


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2"])
def test_nested_gains_multiply(name: str, model_of: ModelOf, ids: Tensor) -> None:
    model = model_of(name)
    with scale(model, some(model), 6.0):
        sixfold = run(model, ids)
    with scale(model, some(model), 3.0):
        threefold = run(model, ids)
        with scale(model, some(model), 2.0):
            assert torch.equal(run(model, ids), sixfold)
        assert torch.equal(run(model, ids), threefold)


def test_the_inner_intervention_acts_on_what_the_outer_one_left(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bert")
    with set_values(model, some(model), 2.0), scale(model, some(model), 3.0), capture(model) as seen:
        run(model, ids)
    assert bool((seen[0][..., [1, 40]] == 6).all())
    with scale(model, some(model), 3.0), set_values(model, some(model), 2.0), capture(model) as seen:
        run(model, ids)
    assert bool((seen[0][..., [1, 40]] == 2).all())


def test_interventions_at_different_sites_nest(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bert")
    clean = run(model, ids)
    with suppress(model, some(model)):
        outer = run(model, ids)
        with suppress(model, some(model, "attention")), suppress(model, some(model, "hidden")):
            assert not torch.equal(run(model, ids), outer)
            assert model.intervened_sites == ["ffn", "attention", "hidden"]
        assert torch.equal(run(model, ids), outer)
    assert torch.equal(run(model, ids), clean)


def test_gain_one_and_the_empty_set_change_nothing(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("gpt2")
    clean = run(model, ids)
    with scale(model, some(model), 1.0), suppress(model, model.layout().set([])):
        assert torch.equal(run(model, ids), clean)


# Layers that share their weights.


def test_layers_that_share_weights_are_changed_one_at_a_time(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("albert")
    with capture(model) as clean:
        untouched = run(model, ids)
    outputs = []
    for layer in range(3):
        with suppress(model, model.layout().set([f"L{layer}.U5"])), capture(model) as seen:
            outputs.append(run(model, ids))
        zero = [not bool(seen[other][..., 5].any()) for other in range(3)]
        assert zero == [other == layer for other in range(3)]
        assert all(torch.equal(seen[below], clean[below]) for below in range(layer))
    assert len({output.numpy().tobytes() for output in [untouched, *outputs]}) == 4


def test_hidden_layers_that_share_weights_are_changed_one_at_a_time(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("albert")
    for layer in range(4):
        with suppress(model, model.layout("hidden").set([f"L{layer}.U5"])), capture(model, "hidden") as seen:
            run(model, ids)
        assert [not bool(seen[other][..., 5].any()) for other in range(4)] == [other == layer for other in range(4)]


# What makes no sense is refused, and the model stays as it was.


@pytest.mark.parametrize("gain", [math.nan, math.inf, -math.inf])
def test_a_gain_that_is_not_finite_is_refused(gain: float, model_of: ModelOf, fingerprint: Fingerprint) -> None:
    model = model_of("bert")
    before = fingerprint(model)
    for intervene in (scale, amplify, set_values):
        with pytest.raises(InterventionError, match="finite"), intervene(model, some(model), gain):
            pytest.fail("entered")
    values = torch.tensor([1.0, gain, 1.0, 1.0])
    with pytest.raises(InterventionError, match="finite"), set_values(model, some(model), values):
        pytest.fail("entered")
    assert fingerprint(model) == before


@pytest.mark.parametrize("count", [0, 3, 5])
def test_values_that_are_not_one_a_neuron_are_refused(count: int, model_of: ModelOf) -> None:
    model = model_of("bert")
    refused = pytest.raises(InterventionError, match=rf"\({count},\) values for 4 neurons")
    with refused, set_values(model, some(model), torch.ones(count)):
        pytest.fail("entered")


@pytest.mark.parametrize("position", [13, -14, torch.tensor([0, 1, 13])])
@pytest.mark.parametrize("name", ["bert", "albert"])
def test_a_position_outside_the_prompt_is_refused(
    name: str, position: Any, model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of(name)
    before, clean = fingerprint(model), run(model, ids)
    refused = pytest.raises(InterventionError, match=r"position -?1\d is outside a prompt of 13 tokens")
    with scale(model, some(model), 2.0, position), refused:
        run(model, ids)
    assert fingerprint(model) == before
    assert torch.equal(run(model, ids), clean)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_positions_that_are_not_one_a_row_are_refused(count: int, model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bert")
    refused = pytest.raises(InterventionError, match=f"{count} positions for 3 rows")
    with suppress(model, some(model), torch.zeros(count, dtype=torch.long)), refused:
        run(model, ids)


def test_neurons_of_another_model_site_or_state_are_refused(
    model_of: ModelOf, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    model, other = model_of("bert"), model_of("roberta")
    with pytest.raises(LayoutMismatchError, match="digest"), suppress(model, some(other)):
        pytest.fail("entered")
    wider = replace(model.layout(), widths=(99, 99, 99))
    with pytest.raises(LayoutMismatchError, match="widths"), suppress(model, wider.set(["L0.U98"])):
        pytest.fail("entered")
    with pytest.raises(SiteError, match="no site 'gate'"), suppress(model, replace(wider, site="gate").set([])):
        pytest.fail("entered")
    changing = load((module_of("bert"), tokenizer))
    neurons = some(changing)
    with torch.no_grad():
        next(changing.module.parameters()).add_(1)
    with pytest.raises(LayoutMismatchError, match="digest"), suppress(changing, neurons):
        pytest.fail("entered")


ROWS: dict[str, tuple[dict[int, Tensor], list[int]]] = {
    "a layer that is not there": ({3: torch.ones(3, 48)}, [0, 0, 0]),
    "a negative layer": ({-1: torch.ones(3, 48)}, [0, 0, 0]),
    "another width": ({0: torch.ones(3, 47)}, [0, 0, 0]),
    "another number of rows": ({0: torch.ones(2, 48)}, [0, 0, 0]),
    "a factor that is not finite": ({0: torch.full((3, 48), math.nan)}, [0, 0, 0]),
    "a position outside": ({0: torch.ones(3, 48)}, [0, 13, 0]),
    "another number of positions": ({0: torch.ones(3, 48)}, [0, 0]),
}


@pytest.mark.parametrize("case", ROWS)
def test_factors_that_make_no_sense_are_refused(
    case: str, model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model, (factors, positions) = model_of("bert"), ROWS[case]
    before = fingerprint(model)
    with pytest.raises(InterventionError), scale_rows(model, factors, torch.tensor(positions)):
        run(model, ids)
    assert fingerprint(model) == before
