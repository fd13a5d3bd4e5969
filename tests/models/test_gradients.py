from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronatlas.models import Model, load, suppress
from neuronatlas.models.cached import CachedReplay
from neuronatlas.models.gradients import Path, _disproof, choose_way, path_gradients
from neuronatlas.models.heads import answer_logits
from neuronatlas.models.replay import FullReplay
from neuronatlas.models.ways import Plain, Prompts, Way, WayError
from neuronatlas.models.whole import WholeReplay

NODES, WEIGHTS = [0.0, 0.3, 0.7, 1.0], [0.1, 0.4, 0.3, 0.2]
Fingerprint = Callable[[Model], object]
ModelOf = Callable[[str], Model]


def prompts_for(model: Model, ids: Tensor, position: int | None = None) -> Prompts:
    """Prompts that ask for the model's second choice, with neurons at the answer's place or at `position`."""
    rows, length = ids.shape
    places = torch.full((rows,), length - 1) if model.kind == "causal" else torch.arange(rows) * 2 + 3
    with torch.no_grad():
        answers = model.logits(ids)[torch.arange(rows), places].topk(2).indices[:, 1]
    return Prompts(ids, places if position is None else torch.full_like(places, position), places, answers)


def largest_error(found: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The worst layer's largest difference, relative to the layer's largest value where that is not 0."""
    differences = torch.stack([(f - r).abs().max() for f, r in zip(found, right, strict=True)])
    scales = torch.stack([r.abs().max() for r in right])
    return float((differences / torch.where(scales > 0, scales, 1)).max())


def assert_same(found: Path, right: Path, tolerance: float = 1e-5) -> None:
    assert largest_error(found.gradients, right.gradients) <= tolerance
    assert largest_error(found.neurons, right.neurons) <= tolerance
    assert largest_error([found.clean_logits], [right.clean_logits]) <= tolerance
    assert largest_error(list(found.zeroed), list(right.zeroed)) <= tolerance


def by_hand(model: Model, path: str, layer: int, prompts: Prompts, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Neurons, gradient of the path, and P with the neurons at 0, of one prompt: one full run a node, plain hooks."""
    module, seen = model.module.get_submodule(path.format(layer)), []
    ids, where = prompts.ids[row : row + 1], prompts.positions[row]

    def probability(values: Tensor | None) -> Tensor:
        def hook(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if values is None:
                seen.append(args[0][0, where].detach())
                return None
            changed = args[0].clone()
            changed[0, where] = values
            return (changed, *args[1:])

        handle = module.register_forward_pre_hook(hook)
        logits = model.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        handle.remove()
        found: Tensor = logits[0, prompts.answer_positions[row]].softmax(0)[prompts.answers[row]]
        return found

    with torch.no_grad():
        probability(None)
        zeroed = probability(torch.zeros_like(seen[0]))
    total = torch.zeros_like(seen[0])
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        values = (node * seen[0]).requires_grad_()
        total += weight * torch.autograd.grad(probability(values), values)[0]
    return seen[0], total, zeroed


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("position", [None, 2])
def test_gradients_are_those_of_hooks_written_by_hand(
    name: str, position: int | None, model_of: ModelOf, toys: Any, ids: Tensor
) -> None:
    model = model_of(name)
    prompts = prompts_for(model, ids, position)
    found = path_gradients(model, prompts, NODES, WEIGHTS)
    for layer in range(toys[name].layers):
        for row in (0, 2):
            neurons, gradient, zeroed = by_hand(model, toys[name].ffn_path, layer, prompts, row)
            assert largest_error([found.neurons[layer][row]], [neurons]) <= 1e-5
            assert largest_error([found.gradients[layer][row]], [gradient]) <= 1e-5
            assert found.zeroed[layer, row] == pytest.approx(float(zeroed), rel=1e-5)


@pytest.mark.parametrize("position", [None, 4], ids=["at the answer", "elsewhere"])
def test_replay_gives_the_gradients_of_plain_reruns(model: Model, toy: Any, position: int | None, ids: Tensor) -> None:
    prompts = prompts_for(model, ids, position)
    plain = path_gradients(model, prompts, NODES, WEIGHTS, way=Plain)
    chosen = path_gradients(model, prompts, NODES, WEIGHTS)
    assert_same(chosen, plain)
    if toy.replays:
        assert_same(path_gradients(model, prompts, NODES, WEIGHTS, way=FullReplay), plain)


@pytest.mark.parametrize(
    "nodes", [4, 30, 70], ids=["few rows", "more rows than the window", "more rows than positions"]
)
def test_cached_replay_gives_the_gradients_of_plain_reruns(
    causal_architecture: str, nodes: int, model_of: ModelOf, toys: Any, ids: Tensor
) -> None:
    model, path = model_of(causal_architecture), [(i + 0.5) / nodes for i in range(nodes)]
    prompts = prompts_for(model, ids)[:2]
    plain = path_gradients(model, prompts, path, [1 / nodes] * nodes, way=Plain)
    chosen = path_gradients(model, prompts, path, [1 / nodes] * nodes)
    assert_same(chosen, plain)
    # GPT-Neo masks by an index of its own, so that packed rows need not see what a row alone sees.
    if toys[causal_architecture].replays and causal_architecture != "gpt-neo":
        assert chosen.way == "replay-cached"


def test_an_architecture_that_defeats_replay_is_run_again_in_full(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bloom")
    refused = dict.fromkeys(("replay-cached", "replay-stepped", "replay", "replay-whole"), "planted")
    model = replace(model, ways=refused)
    assert path_gradients(model, prompts_for(model, ids), [0.5], [1.0]).way == "plain"


# Both compute in float64 throughout; Llama's norm, for one, goes through float32.
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_ways_agree_to_the_last_digits_in_float64(
    name: str, module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, ids: Tensor
) -> None:
    model = load((module_of(name).double(), tokenizer))
    prompts = prompts_for(model, ids)
    plain = path_gradients(model, prompts, NODES, WEIGHTS, way=Plain)
    ways: list[type[Way]] = [FullReplay, CachedReplay] if model.kind == "causal" else [FullReplay]
    for way in ways:
        assert_same(path_gradients(model, prompts, NODES, WEIGHTS, way=way), plain, tolerance=1e-13)
    assert plain.gradients[0].dtype == torch.float64


def test_gradients_are_as_exact_where_the_model_is_almost_sure(
    module_of: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, ids: Tensor
) -> None:
    places, answers = torch.tensor([3]), torch.tensor([30])
    prompts = Prompts(ids[:1], places, places, answers)
    found = []
    for dtype in (torch.float32, torch.float64):
        module: Any = module_of("bert")
        with torch.no_grad():
            module.cls.predictions.decoder.bias[30] = 14
        found.append(path_gradients(load((module.to(dtype), tokenizer)), prompts, NODES, WEIGHTS))
    certain = found[1].clean_logits.softmax(1)[0, 30]
    assert 1e-5 < 1 - certain < 1e-3
    assert largest_error(found[0].gradients, found[1].gradients) <= 1e-5


@pytest.mark.parametrize("way", [Plain, FullReplay, CachedReplay])
@pytest.mark.parametrize("budget", [1, 40, 150])
def test_results_do_not_depend_on_the_budget(way: type[Way], budget: int, model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("qwen2")
    prompts = prompts_for(model, ids[:, :9])
    whole = path_gradients(model, prompts, NODES, WEIGHTS, way=way)
    assert_same(path_gradients(model, prompts, NODES, WEIGHTS, way=way, budget=budget), whole)


@pytest.mark.parametrize("name", ["bert", "albert", "modernbert", "gpt2", "gemma3", "bloom"])
def test_results_do_not_depend_on_the_other_prompts(name: str, model_of: ModelOf, ids: Tensor) -> None:
    model = model_of(name)
    prompts = prompts_for(model, ids)
    together = path_gradients(model, prompts, NODES, WEIGHTS)
    for row in range(len(prompts)):
        alone = path_gradients(model, prompts[row : row + 1], NODES, WEIGHTS)
        assert largest_error(alone.gradients, [g[row : row + 1] for g in together.gradients]) <= 1e-5
        assert largest_error(list(alone.zeroed), list(together.zeroed[:, row : row + 1])) <= 1e-5


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_prompts_of_one_and_two_tokens_are_served(name: str, model_of: ModelOf) -> None:
    model = model_of(name)
    for length in (1, 2):
        ids = torch.arange(20, 20 + length)[None]
        prompts = Prompts(ids, torch.tensor([length - 1]), torch.tensor([length - 1]), torch.tensor([30]))
        assert_same(
            path_gradients(model, prompts, NODES, WEIGHTS), path_gradients(model, prompts, NODES, WEIGHTS, way=Plain)
        )


def test_zeroed_is_the_probability_with_a_layer_suppressed(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("roberta")
    prompts, layout, rows = prompts_for(model, ids), model.layout(), torch.arange(3)
    found = path_gradients(model, prompts, NODES, WEIGHTS).zeroed
    for layer in range(layout.n_layers):
        neurons = layout.set(f"L{layer}.U{unit}" for unit in range(layout.widths[layer]))
        with torch.no_grad(), suppress(model, neurons, prompts.positions):
            logits = model.logits(prompts.ids)[rows, prompts.answer_positions]
        torch.testing.assert_close(found[layer], logits.softmax(1)[rows, prompts.answers], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["bert", "gpt2", "bloom"])
def test_without_nodes_there_are_neurons_but_no_integral(name: str, model_of: ModelOf, ids: Tensor) -> None:
    model = model_of(name)
    prompts = prompts_for(model, ids)
    found = path_gradients(model, prompts, [], [])
    assert all(bool((gradient == 0).all()) for gradient in found.gradients)
    assert bool(found.zeroed.isnan().all())
    assert_logits = model.logits(ids)[torch.arange(3), prompts.answer_positions]
    torch.testing.assert_close(found.clean_logits, assert_logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("site", ["attention", "hidden"])
def test_other_sites_are_served_by_plain_reruns(site: str, model_of: ModelOf, toys: Any, ids: Tensor) -> None:
    model = model_of("bert")
    prompts = prompts_for(model, ids)
    found = path_gradients(model, prompts, NODES, WEIGHTS, site=site)
    assert found.way == "plain"
    # What enters block 1 is what block 0 gave, and the attention outputs are found by their names.
    path, layer = (toys["bert"].attention_path, 1) if site == "attention" else ("bert.encoder.layer.{}", 1)
    neurons, gradient, _ = by_hand(model, path, layer, prompts, 0)
    assert largest_error([found.neurons[layer][0]], [neurons]) <= 1e-5
    assert largest_error([found.gradients[layer][0]], [gradient]) <= 1e-5


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_inside_an_intervention_the_changed_model_is_attributed(
    name: str, model_of: ModelOf, toys: Any, ids: Tensor
) -> None:
    model = model_of(name)
    prompts = prompts_for(model, ids)
    undisturbed = path_gradients(model, prompts, NODES, WEIGHTS)
    with suppress(model, model.layout().set(["L0.U3", "L0.U4"])):
        found = path_gradients(model, prompts, NODES, WEIGHTS)
        neurons, gradient, zeroed = by_hand(model, toys[name].ffn_path, 2, prompts, 1)
    assert found.way == "plain"
    assert found.neurons[0][:, 3:5].count_nonzero() == 0
    assert largest_error([found.neurons[2][1]], [neurons]) <= 1e-5
    assert largest_error([found.gradients[2][1]], [gradient]) <= 1e-5
    assert found.zeroed[2, 1] == pytest.approx(float(zeroed), rel=1e-5)
    assert largest_error(found.gradients, undisturbed.gradients) > 1e-3
    assert path_gradients(model, prompts, NODES, WEIGHTS).way == undisturbed.way != "plain"


@pytest.mark.parametrize("way", [Plain, FullReplay, CachedReplay])
def test_attribution_leaves_the_model_as_it_was(
    way: type[Way], model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of("gpt2")
    frozen = list(model.module.parameters())[::2]
    for parameter in frozen:
        parameter.requires_grad_(False)
    before = fingerprint(model)
    path_gradients(model, prompts_for(model, ids), NODES, WEIGHTS, way=way)
    assert fingerprint(model) == before
    for parameter in frozen:
        parameter.requires_grad_(True)


@pytest.mark.parametrize("way", [Plain, FullReplay, CachedReplay])
def test_attribution_that_fails_leaves_the_model_as_it_was(
    way: type[Way], model_of: ModelOf, fingerprint: Fingerprint, ids: Tensor
) -> None:
    model = model_of("gpt2")
    prompts, before = prompts_for(model, ids), fingerprint(model)
    no_such_token = Prompts(prompts.ids, prompts.positions, prompts.answer_positions, torch.full((3,), 10**6))
    with pytest.raises(RuntimeError):
        path_gradients(model, no_such_token, NODES, WEIGHTS, way=way)
    assert fingerprint(model) == before


def test_attribution_works_where_gradients_are_switched_off(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("bert")
    prompts = prompts_for(model, ids)
    right = path_gradients(model, prompts, NODES, WEIGHTS)
    with torch.no_grad():
        found = path_gradients(model, prompts, NODES, WEIGHTS)
    assert_same(found, right, tolerance=0)


def test_the_same_call_gives_the_same_bits(model_of: ModelOf, ids: Tensor) -> None:
    model = model_of("gpt2")
    prompts = prompts_for(model, ids)
    first, second = (path_gradients(model, prompts, NODES, WEIGHTS) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.gradients, second.gradients, strict=True))


@pytest.mark.parametrize(("name", "position"), [("bert", None), ("gpt2", 4)])
def test_cached_replay_refuses_prompts_whose_last_position_is_not_changed(
    name: str, position: int | None, model_of: ModelOf, ids: Tensor
) -> None:
    model = model_of(name)
    prompts = prompts_for(model, ids, position)
    with pytest.raises(WayError, match="not the last one of a causal prompt"):
        CachedReplay(model, prompts)
    assert choose_way(model, prompts).name == "replay"


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("kind", [FullReplay, WholeReplay])
def test_a_way_that_is_wrong_for_other_places_than_the_answers_is_disproved(
    kind: type[FullReplay | WholeReplay], name: str, model_of: ModelOf
) -> None:
    class Wrong(kind):  # type: ignore[misc, valid-type]
        name = "wrong"

        def gradients(self, layers: Sequence[int], values: Any, chosen: slice) -> Any:
            readings, slopes = super().gradients(layers, values, chosen)
            elsewhere = (self.prompts.positions != self.prompts.answer_positions)[chosen].reshape(-1, 1, 1)
            return readings, [slope * torch.where(elsewhere, 1.01, 1.0) for slope in slopes]

    assert _disproof(kind, model_of(name)) == ""
    assert "gradients of layer 0 differ by" in _disproof(Wrong, model_of(name))


def test_the_head_at_one_place_gives_the_logits_of_the_whole_pass(
    model: Model, fingerprint: Fingerprint, ids: Tensor
) -> None:
    before, places = fingerprint(model), torch.tensor([12, 5, 0])
    with torch.no_grad():
        whole = model.logits(ids)[torch.arange(3), places]
        assert largest_error([answer_logits(model, ids, places)], [whole]) <= 1e-5
    assert fingerprint(model) == before


@pytest.mark.parametrize("site", ["ffn", "hidden"])
def test_the_head_at_one_place_sees_interventions_once(site: str, model_of: ModelOf, ids: Tensor) -> None:
    model, places = model_of("bert"), torch.tensor([12, 5, 0])
    last = len(model.site(site).points) - 1
    with torch.no_grad(), suppress(model, model.layout(site).set([f"L{last}.U{unit}" for unit in range(0, 30, 3)])):
        whole = model.logits(ids)[torch.arange(3), places]
        assert largest_error([answer_logits(model, ids, places)], [whole]) <= 1e-5
