from collections import Counter
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.neurons import Layout, LayoutMismatchError, Neuron, NeuronError, NeuronScores, NeuronSet

RAGGED = Layout(site="ffn", widths=(3, 0, 5, 1), digest="d1")
EVEN = Layout(site="ffn", widths=(4, 4, 4), digest="d1")

MIXED = Layout(site="ffn", widths=(4, 7), digest="d1", experts=((), (3, 3, 1)))


def layout_of(layers: list[tuple[int, ...] | int]) -> Layout:
    """Each layer is its width, or its experts' widths."""
    widths = tuple(layer if isinstance(layer, int) else sum(layer) for layer in layers)
    experts = tuple(() if isinstance(layer, int) else layer for layer in layers)
    return Layout("ffn", widths, experts=experts if any(experts) else ())


mixtures = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
layouts = st.lists(st.integers(0, 6) | mixtures, min_size=1, max_size=5).filter(any).map(layout_of)


@st.composite
def sets(draw: Any, count: int) -> tuple[Layout, list[set[Neuron]], list[NeuronSet]]:
    """A layout, sets of its neurons as Python's own, and the same as neuron sets."""
    layout = draw(layouts)
    every = st.sampled_from([layout.neuron(index) for index in range(layout.n_neurons)])
    plain = [draw(st.sets(every)) for _ in range(count)]
    return layout, plain, [layout.set(members) for members in plain]


# Addresses.


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.none() | st.integers(0, 10**6))
def test_an_address_reads_back_as_the_neuron(layer: int, unit: int, expert: int | None) -> None:
    neuron = Neuron(layer, unit, expert)
    assert Neuron.parse(str(neuron)) == neuron
    assert Neuron.parse(f"  {neuron}\n") == neuron


@pytest.mark.parametrize(
    "address",
    ["", "L1", "U1", "L1U1", "L-1.U1", "L1.U-1", "l1.u1", "L1.U1.", "L1.E2", "L1.U3.E2", "L1.E-2.U3", "1.1", "L1.U1.5"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(NeuronError, match=r"is not a neuron's address: expected the form L9\.U2141"):
        Neuron.parse(address)


def test_neurons_are_ordered_by_layer_then_unit_as_numbers() -> None:
    found = sorted([Neuron(10, 0), Neuron(9, 100), Neuron(9, 20)])
    assert [str(neuron) for neuron in found] == ["L9.U20", "L9.U100", "L10.U0"]


def test_neurons_of_experts_are_ordered_by_expert_before_unit() -> None:
    found = sorted(map(Neuron.parse, ["L1.E10.U0", "L1.E9.U5", "L0.U7", "L1.E9.U4"]))
    assert [str(neuron) for neuron in found] == ["L0.U7", "L1.E9.U4", "L1.E9.U5", "L1.E10.U0"]


# Layouts.


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("L1.U0", "layer 1 has experts, its neurons are written as L1.E0.U0"),
        ("L0.E0.U0", "layer 0 has no experts, its neurons are written as L0.U0"),
        ("L1.E3.U0", "layer 1 has experts 0 to 2"),
        ("L1.E2.U1", "layer 1, expert 2 has units 0 to 0"),
    ],
)
def test_an_address_that_the_layer_has_no_place_for_is_refused(address: str, reason: str) -> None:
    with pytest.raises(NeuronError, match=reason):
        MIXED.set([address])


def test_experts_that_do_not_fill_their_layer_are_refused() -> None:
    with pytest.raises(NeuronError, match="do not make layers of"):
        Layout(site="ffn", widths=(4,), experts=((2, 3),))


def test_random_controls_come_from_the_same_experts() -> None:
    found = MIXED.set(["L0.U1", "L1.E0.U0", "L1.E1.U2"]).random_like(seed=0)
    assert [(n.layer, n.expert) for n in found] == [(0, None), (1, 0), (1, 1)]
    with pytest.raises(NeuronError, match="layer 1, expert 2, has 0 other neurons, 1 are needed"):
        MIXED.set(["L1.E2.U0"]).random_like(seed=0)


@given(layouts)
def test_flat_indices_count_every_neuron_once_in_address_order(layout: Layout) -> None:
    neurons = [layout.neuron(index) for index in range(layout.n_neurons)]
    expected = []
    for n, width in enumerate(layout.widths):
        experts: list[tuple[int | None, int]] = [*enumerate(layout.experts_of(n))] or [(None, width)]
        expected += [Neuron(n, unit, expert) for expert, size in experts for unit in range(size)]
    assert neurons == expected == sorted(expected)
    assert [layout.index(neuron) for neuron in neurons] == list(range(layout.n_neurons))
    assert layout.offsets[-1] == layout.n_neurons == sum(layout.widths)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("L4.U0", "no layer 4 .*layers 0 to 3"),
        ("L1.U0", "no unit 0 .*layer 1 has no neurons"),
        ("L2.U5", "no unit 5 .*layer 2 has units 0 to 4"),
    ],
)
def test_neurons_that_the_model_does_not_have_are_refused(address: str, reason: str) -> None:
    for use in (RAGGED.set, lambda addresses: RAGGED.zeros()[addresses[0]]):
        with pytest.raises(NeuronError, match=reason):
            use([address])
    with pytest.raises(NeuronError, match="no layer -1"):
        RAGGED.index(Neuron(-1, 0))


@pytest.mark.parametrize("index", [-1, RAGGED.n_neurons, 10**9])
def test_flat_indices_outside_the_model_are_refused(index: int) -> None:
    with pytest.raises(NeuronError):
        RAGGED.neuron(index)


CHANGES: dict[str, Any] = {"site": "hidden", "stack": "decoder", "widths": (4, 4, 5), "digest": "d2"}
MIXES: dict[str, Callable[[NeuronSet, NeuronSet], object]] = {
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "minus": lambda a, b: a - b,
    "xor": lambda a, b: a ^ b,
    "subset": lambda a, b: a <= b,
    "superset": lambda a, b: a >= b,
    "overlap": lambda a, b: a.overlap(b),
    "random": lambda a, b: a.random_like(0, exclude=b),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("mix", MIXES)
def test_neurons_of_different_places_do_not_mix(name: str, mix: str) -> None:
    other = replace(EVEN, **{name: CHANGES[name]})
    with pytest.raises(LayoutMismatchError, match=f"{name} is .* here and .* there"):
        MIXES[mix](EVEN.set(["L0.U0"]), other.set(["L0.U0"]))
    assert EVEN.set(["L0.U0"]) != other.set(["L0.U0"])


# Sets.


@given(sets(3))
def test_sets_have_the_algebra_of_sets(drawn: tuple[Layout, list[set[Neuron]], list[NeuronSet]]) -> None:
    layout, (x, y, z), (a, b, c) = drawn
    assert a | b | c == layout.set(x | y | z)
    assert a & b == layout.set(x & y)
    assert a - b == layout.set(x - y)
    assert a ^ b == layout.set(x ^ y)
    assert (a <= b) == (x <= y)
    assert (a >= b) == (x >= y)
    assert a & (b | c) == (a & b) | (a & c)
    assert a - (b | c) == (a - b) & (a - c)
    assert (a ^ b) ^ b == a
    assert a | a == a == a & a


@given(sets(1))
def test_a_set_holds_its_neurons_once_in_address_order(
    drawn: tuple[Layout, list[set[Neuron]], list[NeuronSet]],
) -> None:
    layout, (plain,), (found,) = drawn
    assert list(found) == sorted(plain)
    assert len(found) == len(plain)
    assert all((layout.neuron(index) in found) == (layout.neuron(index) in plain) for index in range(layout.n_neurons))
    assert layout.set([*found, *map(str, found)]) == found
    assert NeuronSet(layout, tuple(reversed(found.members)) * 2) == found
    assert hash(layout.set(sorted(plain, reverse=True))) == hash(found)


@given(sets(1))
def test_histogram_and_units_count_every_neuron_in_its_layer(
    drawn: tuple[Layout, list[set[Neuron]], list[NeuronSet]],
) -> None:
    layout, (plain,), (found,) = drawn
    histogram = found.layer_histogram()
    assert histogram.tolist() == [sum(n.layer == layer for n in plain) for layer in range(layout.n_layers)]
    assert np.issubdtype(histogram.dtype, np.integer)
    assert [layout.at(layer, place) for layer, places in found.units().items() for place in places] == sorted(plain)
    assert all(found.units().values())


@given(sets(2))
def test_overlap_is_the_share_of_either_that_is_in_both(
    drawn: tuple[Layout, list[set[Neuron]], list[NeuronSet]],
) -> None:
    _, (x, y), (a, b) = drawn
    assert a.overlap(b) == b.overlap(a) == (len(x & y) / len(x | y) if x | y else 0)
    assert a.overlap(a) == (1 if x else 0)


@given(sets(2), st.integers(0, 5))
def test_random_neurons_are_as_many_in_the_same_layers_and_none_of_those_barred(
    drawn: tuple[Layout, list[set[Neuron]], list[NeuronSet]], seed: int
) -> None:
    layout, _, (found, barred) = drawn
    needed, taken = (Counter((n.layer, n.expert) for n in neurons) for neurons in (found, found | barred))
    free = {(n.layer, n.expert): len(layout.group(n)) - taken[n.layer, n.expert] for n in found}
    if any(free[place] < count for place, count in needed.items()):
        with pytest.raises(NeuronError, match=r"layer \d(, expert \d,)? has \d other neurons, \d are needed"):
            found.random_like(seed, barred)
        return
    control = found.random_like(seed, barred)
    assert Counter((n.layer, n.expert) for n in control) == needed
    assert not len(control & (found | barred))
    assert control == found.random_like(seed, barred)


def test_random_neurons_follow_the_seed_and_reach_every_other_neuron() -> None:
    found = EVEN.set(["L0.U0", "L2.U3"])
    controls = [found.random_like(seed) for seed in range(60)]
    reached = controls[0]
    for control in controls:
        reached = reached | control
    assert reached == EVEN.set([f"L0.U{u}" for u in (1, 2, 3)] + [f"L2.U{u}" for u in (0, 1, 2)])


def test_a_set_cannot_be_changed() -> None:
    found: Any = EVEN.set(["L0.U0"])
    with pytest.raises(FrozenInstanceError):
        found.members = ()
    with pytest.raises(FrozenInstanceError):
        found.members[0].unit = 1


# Scores.


def scores(values: list[float], layout: Layout = RAGGED) -> NeuronScores:
    return NeuronScores(layout, np.array(values, dtype=np.float64))


def test_scores_are_read_by_neuron_address_and_layer_in_ragged_models() -> None:
    found = scores([0, 1, 2, 20, 21, 22, 23, 24, 30])
    assert found["L0.U2"] == found[Neuron(0, 2)] == 2
    assert found["L2.U0"] == 20
    assert found["L3.U0"] == 30
    assert [found.layer(layer).tolist() for layer in range(4)] == [[0, 1, 2], [], [20, 21, 22, 23, 24], [30]]


def test_scores_are_a_matrix_where_all_layers_are_as_wide() -> None:
    assert scores([*range(12)], EVEN).matrix().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    with pytest.raises(NeuronError, match=r"layers have different widths \(3, 0, 5, 1\)"):
        RAGGED.zeros().matrix()


@pytest.mark.parametrize("shape", [(8,), (10,), (3, 3), ()])
def test_scores_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NeuronError, match="for 9 neurons"):
        NeuronScores(RAGGED, np.zeros(shape))


def test_scores_cannot_be_changed_and_leave_the_callers_array_as_it_was() -> None:
    values = np.zeros(9)
    found = NeuronScores(RAGGED, values)
    for view in (found.values, found.layer(2)):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1
    values[0] = 1
    assert values.tolist() == [1.0] + [0.0] * 8


@given(st.lists(st.integers(-3, 3), min_size=9, max_size=9), st.integers(0, 12))
def test_the_top_neurons_are_the_highest_and_ties_go_by_address(values: list[int], count: int) -> None:
    ranked = sorted((-value, index) for index, value in enumerate(values))
    assert scores([float(v) for v in values]).top(count) == [RAGGED.neuron(index) for _, index in ranked[:count]]


@given(st.lists(st.floats(-5, 5), min_size=9, max_size=9), st.floats(0, 1))
def test_at_least_keeps_those_within_a_share_of_the_highest(values: list[float], share: float) -> None:
    found = scores(values).at_least(share)
    highest = max(values)
    kept = [index for index, value in enumerate(values) if highest > 0 and value >= share * highest]
    assert list(found) == [RAGGED.neuron(index) for index in kept]


@pytest.mark.parametrize("values", [[0.0] * 9, [-1.0] * 9])
def test_no_neuron_is_kept_when_no_score_is_above_zero(values: list[float]) -> None:
    assert len(scores(values).at_least(0.2)) == 0


def test_the_mean_of_scores_is_taken_neuron_by_neuron() -> None:
    first, second = scores([0.0, 1, 2, 3, 4, 5, 6, 7, 8]), scores([2.0] * 9)
    assert NeuronScores.mean([first, second]).values.tolist() == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    with pytest.raises(NeuronError, match="no scores"):
        NeuronScores.mean([])
    with pytest.raises(LayoutMismatchError, match="digest"):
        NeuronScores.mean([first, NeuronScores(replace(RAGGED, digest="d2"), np.zeros(9))])
