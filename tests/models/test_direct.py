"""Direct paths: what a neuron does to the logits while everything that others write is held, in any architecture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.models.conftest import Toy
from torch import Tensor, nn

from neuronatlas.models import Model, load
from neuronatlas.models.calls import hooks
from neuronatlas.models.direct import DirectError, direct_gradients, direct_maps, direct_paths, output_embedding
from neuronatlas.models.gradients import path_gradients
from neuronatlas.models.heads import log_probability
from neuronatlas.models.queries import Step
from neuronatlas.models.slots import value_slots
from neuronatlas.models.ways import Prompts
from neuronatlas.neurons import Neuron

PLACE, ANSWER, UNIT = 8, 7, 3
# A head of its own between the blocks and the embedding, norms behind the projections, shared layers, two widths.
MAPPED = ("albert", "bert", "electra", "gemma3", "gpt2", "llama", "modernbert", "opt")


def steps() -> list[Step]:
    ids = torch.randint(5, 100, (2, PLACE + 1), generator=torch.Generator().manual_seed(1)).tolist()
    return [Step(tuple(row), ANSWER, PLACE, PLACE) for row in ids]


def asked(model: Model) -> Prompts:
    return Prompts.of(steps(), model.device, log_probability)


@contextmanager
def only_written(model: Model, toy: Toy, layer: int, change: Callable[[nn.Module, Tensor], Tensor]) -> Iterator[None]:
    """Hold what all attention and feed-forward modules give, by the paths that transformers' source has them under.

    The feed-forward one of a layer gives what `change` makes of itself and its recorded input.
    """
    paths = [path.format(n) for n in range(toy.layers) for path in (toy.attention_path, toy.ffn_path)]
    recorded: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in paths}

    def keep(path: str) -> Callable[..., None]:
        return lambda _module, args, out: recorded[path].append((args[0].detach(), out.detach()))

    modules = {path: model.module.get_submodule(path) for path in paths}
    with torch.no_grad(), hooks([m.register_forward_hook(keep(path)) for path, m in modules.items()]):
        model.logits(asked(model).ids)
    passed = dict.fromkeys(paths, 0)

    def hold(path: str) -> Callable[..., Any]:
        def give(module: nn.Module, *_: Any) -> Tensor:
            number = passed[path]
            passed[path] += 1
            given, out = recorded[path][number]
            shared = len(recorded[path]) > 1
            mine = path == toy.ffn_path.format(layer) and (number == layer if shared else True)
            return change(module, given) if mine else out

        return give

    # A hook's result takes the place of what the module gave.
    with hooks([m.register_forward_hook(hold(path)) for path, m in modules.items()]):
        yield


def nudged(toy: Toy, model: Model, layer: int, by: float) -> Tensor:
    """Logits at the answer's place when one neuron is changed there and all that others write is held."""
    place = model.layout().place(Neuron(layer, UNIT))

    def change(module: nn.Module, given: Tensor) -> Tensor:
        new = given.reshape(2, PLACE + 1, -1).clone()
        new[:, PLACE, place] += by
        found: Tensor = module.forward(new.reshape(given.shape))
        return found

    with torch.no_grad(), only_written(model, toy, layer, change):
        return model.logits(asked(model).ids)[:, PLACE].double()


@pytest.fixture
def exact(model: Model) -> Iterator[Model]:
    """The model in float64, where differences can be taken."""
    model.module.double()
    yield model
    model.module.float()


def test_gradients_are_what_changing_a_neuron_does_when_all_others_are_held(
    exact: Model, toy: Toy, architecture: str
) -> None:
    found = direct_gradients(exact, asked(exact))
    answers = asked(exact).answers
    for layer in (0, toy.layers - 1):
        # Some norms compute in float32 whatever they are given: a smaller step would be lost in their rounding.
        step = 3e-3
        up, down = (log_probability(nudged(toy, exact, layer, by), answers) for by in (step, -step))
        expected = (up - down) / (2 * step)
        mine = found.gradients[layer][:, UNIT]
        largest = found.gradients[layer].abs().max()
        assert bool(((mine - expected).abs() <= 1e-3 * largest).all()), (architecture, layer)


def test_in_the_last_layer_the_direct_paths_are_all_paths(model: Model) -> None:
    direct = direct_gradients(model, asked(model)).gradients[-1]
    every = path_gradients(model, asked(model), [1.0], [1.0]).gradients[-1]
    torch.testing.assert_close(direct, every, rtol=1e-3, atol=float(1e-4 * every.abs().max()))


@pytest.mark.parametrize("name", MAPPED)
def test_maps_carry_a_value_slot_to_the_logits(
    name: str, model_of: Callable[[str], Model], toys: dict[str, Toy]
) -> None:
    model, toy = model_of(name), toys[name]
    model.module.double()
    try:
        maps, rows = direct_maps(model, steps()), output_embedding(model).weight.detach()
        for layer in (0, toy.layers - 1):
            [slots] = value_slots(model, model.layout().set([Neuron(layer, UNIT)]))
            rise = rows @ maps[layer] @ slots.read()[0]
            expected = ((nudged(toy, model, layer, 3e-3) - nudged(toy, model, layer, -3e-3)) / 6e-3).mean(0)
            torch.testing.assert_close(rise, expected, rtol=0, atol=float(1e-3 * expected.abs().max()))
    finally:
        model.module.float()


def test_values_stay_and_nothing_is_left_behind(
    model: Model, ids: Tensor, fingerprint: Callable[[Model], object]
) -> None:
    before, clean = fingerprint(model), model.logits(ids)
    with direct_paths(model):
        assert torch.equal(model.logits(ids), clean)
    direct_gradients(model, asked(model))
    assert fingerprint(model) == before


def test_a_matrix_that_writes_past_the_projections_is_named(module_of: Callable[..., Any], tokenizer: Any) -> None:
    model = load((module_of("llama"), tokenizer))
    block: Any = model.blocks[1].module
    block.adapter = nn.Linear(32, 32)
    block.register_forward_hook(lambda module, args, out: out + module.adapter(args[0]))
    with pytest.raises(DirectError, match=r"model\.layers\.1\.adapter\.weight writes to the residual stream past"):
        direct_gradients(model, asked(model))


def test_places_and_sites_without_direct_paths_are_refused(model_of: Callable[[str], Model]) -> None:
    model = model_of("bert")
    elsewhere = Prompts.of([Step(step.ids, ANSWER, PLACE, 2) for step in steps()], model.device)
    with pytest.raises(DirectError, match="from its own place alone"):
        direct_gradients(model, elsewhere)
    with pytest.raises(DirectError, match="site 'hidden' have no direct paths"):
        direct_gradients(model, asked(model), "hidden")
