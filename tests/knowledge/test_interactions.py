"""Interactions: the index is the one of its definition, and planted pairs are found for what they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuronatlas as na
from neuronatlas.knowledge import effects
from neuronatlas.knowledge.coalitions import (
    Game,
    Remembered,
    balanced_orders,
    exact_interactions,
    sampled_interactions,
)
from neuronatlas.knowledge.effects import Trial
from neuronatlas.knowledge.pair_kinds import PairValues, pair_columns
from tests.knowledge.planted import planted_facts, planted_neurons
from tests.knowledge.wired import GATES, STRENGTH, wired_fact, wired_log_odds, wired_model


def table_game(values: dict[int, float]) -> Game:
    return lambda sets: np.array([[values[mask]] for mask in sets])


@st.composite
def games(draw: st.DrawFn, least: int = 2, most: int = 5) -> tuple[int, dict[int, float]]:
    players = draw(st.integers(least, most))
    values = draw(st.lists(st.floats(-10, 10), min_size=1 << players, max_size=1 << players))
    return players, dict(enumerate(values))


def by_permutations(values: dict[int, float], players: int, i: int, j: int) -> float:
    """The index by its other definition: i and j join as one, at a random place of a random order of the others."""
    found = []
    others = [k for k in range(players) if k not in (i, j)]
    for order in permutations([*others, -1]):
        before = sum(1 << k for k in order[: order.index(-1)])
        a, b = 1 << i, 1 << j
        found.append(values[before | a | b] - values[before | a] - values[before | b] + values[before])
    return math.fsum(found) / len(found)


@given(games())
def test_the_exact_index_is_the_mean_over_random_orders(game: tuple[int, dict[int, float]]) -> None:
    players, values = game
    found = exact_interactions(table_game(values), players)[:, 0]
    expected = [by_permutations(values, players, i, j) for i, j in combinations(range(players), 2)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(games())
def test_the_numbering_of_players_does_not_matter(game: tuple[int, dict[int, float]]) -> None:
    players, values = game
    turned = {sum(1 << (players - 1 - k) for k in range(players) if mask >> k & 1): v for mask, v in values.items()}
    pairs = list(combinations(range(players), 2))
    found = dict(zip(pairs, exact_interactions(table_game(values), players)[:, 0], strict=True))
    again = dict(zip(pairs, exact_interactions(table_game(turned), players)[:, 0], strict=True))
    for i, j in pairs:
        assert again[players - 1 - j, players - 1 - i] == pytest.approx(found[i, j], abs=1e-9)


@given(games(most=4), st.integers(0, 2**32 - 1))
def test_a_player_that_does_nothing_interacts_with_none_and_changes_nothing(
    game: tuple[int, dict[int, float]], seed: int
) -> None:
    players, values = game
    wider = table_game({mask: values[mask % (1 << players)] for mask in range(2 << players)})
    pairs = list(combinations(range(players + 1), 2))
    exact = dict(zip(pairs, exact_interactions(wider, players + 1)[:, 0], strict=True))
    drawn = sampled_interactions(wider, players + 1, 2, np.random.default_rng(seed))[..., 0]
    for number, (i, j) in enumerate(pairs):
        if j == players:
            assert exact[i, j] == pytest.approx(0.0, abs=1e-9)
            np.testing.assert_allclose(drawn[:, number], 0.0, atol=1e-9)
    inner = exact_interactions(table_game(values), players)[:, 0]
    np.testing.assert_allclose([exact[pair] for pair in combinations(range(players), 2)], inner, atol=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9), st.integers(0, 2**32 - 1))
def test_what_adds_up_has_no_interaction(weights: list[float], seed: int) -> None:
    players = len(weights)

    def additive(sets: Sequence[int]) -> np.ndarray:
        return np.array([[sum(w for k, w in enumerate(weights) if mask >> k & 1)] for mask in sets])

    np.testing.assert_allclose(exact_interactions(additive, players), 0.0, atol=1e-9)
    np.testing.assert_allclose(sampled_interactions(additive, players, 2, np.random.default_rng(seed)), 0.0, atol=1e-9)


@pytest.mark.parametrize("seats", [2, 4, 6, 10, 24])
def test_in_balanced_orders_every_two_are_neighbours_once(seats: int) -> None:
    orders = list(balanced_orders(seats))
    assert all(sorted(order) == list(range(seats)) for order in orders)
    neighbours = [frozenset(pair) for order in orders for pair in pairwise(order)]
    assert sorted(map(sorted, neighbours)) == [list(pair) for pair in combinations(range(seats), 2)]


@pytest.mark.parametrize("players", [5, 6])
def test_samples_are_unbiased_and_their_standard_error_is_right(players: int) -> None:
    values = dict(enumerate(np.random.default_rng(1).normal(size=1 << players)))
    exact = exact_interactions(table_game(values), players)[:, 0]
    drawn = sampled_interactions(table_game(values), players, 3000, np.random.default_rng(2))[..., 0]
    z = (drawn.mean(0) - exact) / (drawn.std(0, ddof=1) / np.sqrt(len(drawn)))
    assert np.abs(z).max() < 3.5
    assert 0.5 < np.mean(z**2) < 2.0


def test_each_set_is_asked_for_once() -> None:
    asked: list[int] = []

    def game(sets: Sequence[int]) -> np.ndarray:
        asked.extend(sets)
        return np.array([[float(mask)] for mask in sets])

    remembered = Remembered(game)
    assert remembered([3, 1, 3]).tolist() == [[3.0], [1.0], [3.0]]
    sampled_interactions(remembered, 6, 3, np.random.default_rng(0))
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("gate", GATES)
def test_planted_gates_are_named_and_have_the_interaction_of_their_closed_form(gate: str) -> None:
    model = wired_model(gate)
    found = na.interactions(model, wired_fact(gate), model.layout().set(["L0.U0", "L0.U1", "L0.U2"]))
    rows = found.pairs.filter(measure="log_odds")
    v = {mask: wired_log_odds(gate, mask) for mask in range(8)}
    for row, (i, j) in zip(rows.iter_rows(named=True), combinations(range(3), 2), strict=True):
        a, b, c = 1 << i, 1 << j, 7 - (1 << i) - (1 << j)
        alone = v[a | b] - v[a] - v[b] + v[0]
        beside = v[7] - v[a | c] - v[b | c] + v[c]
        assert row["interaction"] == pytest.approx(alone, abs=1e-5)
        assert row["shapley"] == pytest.approx((alone + beside) / 2, abs=1e-5)
        assert row["a_alone"] == pytest.approx(v[a] - v[0], abs=1e-5)
        assert row["joint"] == pytest.approx(v[a | b] - v[0], abs=1e-5)
    # The third neuron writes where nothing looks: it interacts with none.
    assert rows["kind"].to_list() == [GATES[gate], "none found", "none found"]
    assert found.whole["rest"][0] == pytest.approx(
        {"either": -STRENGTH, "both": STRENGTH, "added": 0.0}[gate], abs=1e-5
    )


def test_every_set_gets_its_own_neurons_in_shared_passes(planted: na.Model) -> None:
    fact = planted_facts()[0]
    neurons = planted_neurons(planted.layout(), 0) | planted.layout().set(["L0.U3", "L1.U20", "L1.U21"])
    found = na.interactions(planted, fact, neurons, gain=2.0)
    single = {}
    for neuron in neurons:
        table = na.effects(planted, fact, planted.layout().set([neuron]), gains=[2.0])
        single[str(neuron)] = float((table["log_odds_after"] - table["log_odds_before"]).mean())  # type: ignore[arg-type]
    matrix = found.matrix("joint", alone=True)
    np.testing.assert_allclose(np.diag(matrix), list(single.values()), atol=1e-5)
    pair = na.effects(planted, fact, planted.layout().set([*list(neurons)[:2]]), gains=[2.0])
    assert matrix[0, 1] == pytest.approx(float((pair["log_odds_after"] - pair["log_odds_before"]).mean()), abs=1e-5)  # type: ignore[arg-type]
    np.testing.assert_array_equal(matrix, matrix.T)


def test_sampling_agrees_with_all_sets_within_its_error(planted: na.Model) -> None:
    fact, neurons = planted_facts()[1], planted_neurons(planted.layout(), 1)
    more = neurons | planted.layout().set([f"L0.U{unit}" for unit in range(10, 15)])
    exact = na.interactions(planted, fact, more)
    drawn = na.interactions(planted, fact, more, exact_up_to=2, rounds=64, seed=3)
    assert (exact.way, drawn.way) == ("exact", "sampled")
    off = np.abs(drawn.pairs["shapley"].to_numpy() - exact.pairs["shapley"].to_numpy())
    assert (off <= 4 * drawn.pairs["shapley_error"].to_numpy() + 1e-5).all()
    assert drawn.pairs["interaction"].to_list() == pytest.approx(exact.pairs["interaction"].to_list(), abs=1e-6)
    again = na.interactions(planted, fact, more, exact_up_to=2, rounds=64, seed=3)
    assert again.pairs.equals(drawn.pairs)


def test_kinds_follow_their_rule() -> None:
    def kind(single: tuple[float, float], joint: float, gain: float = 0.0) -> str:
        noise = np.array([-0.01, 0.0, 0.01])
        values = PairValues(
            np.array([single[0] + noise, single[1] - noise]),
            np.array([joint + noise]),
            np.zeros((1, 3)),
            np.zeros(1),
            1e-6,
        )
        found: str = pair_columns(["a", "b"], values, "p", gain)["kind"][0]
        return found

    assert kind((-1.0, -2.0), -5.0) == kind((-1.0, -1.5), -5.0) == "redundancy"
    assert kind((0.0, 0.0), -5.0) == kind((-1.0, -1.0), -5.0) == kind((0.2, 0.1), -5.0) == "degenerate"
    assert kind((-5.0, -5.0), -5.0) == "synergy"
    assert kind((-1.0, -1.0), -2.0) == "none found"
    assert kind((-1.0, 1.0), 0.0) == "none found"
    assert kind((2.0, 1.0), 0.0) == "mixed"
    # Neurons that hold the answer down: suppressing them raises it.
    assert kind((0.0, 0.0), 5.0) == "degenerate"
    # Amplified, two that do together what each does alone are redundant.
    assert kind((3.0, 3.0), 3.0, gain=2.0) == "degenerate"
    assert kind((3.0, 1.0), 3.0, gain=2.0) == "redundancy"
    assert kind((0.0, 0.0), 3.0, gain=2.0) == "synergy"


def test_one_prompt_gives_effects_but_no_kind(planted: na.Model) -> None:
    fact = planted_facts()[0]
    single = na.Fact(fact.relation, fact.subject, fact.answer, fact.prompts[:1])
    rows = na.interactions(planted, single, planted_neurons(planted.layout(), 0)).pairs
    assert rows["kind"].to_list() == ["untested", "untested"]
    assert rows["low"].null_count() == 2


def test_answers_of_several_tokens_are_played_too() -> None:
    model = na.load(na.specimen_folder("causal"))
    record = next(f for f in na.specimen_facts(model="causal", one_word=False) if f.words == 2)
    fact = na.Fact(record.relation, record.subject, record.answer, record.prompts[:2])
    neurons = model.layout().set(["L3.U1", "L3.U2"])
    rows = na.interactions(model, fact, neurons).pairs.filter(measure="p")
    table = na.effects(model, fact, neurons, gains=[0.0])
    moved = float((table["p_after"] - table["p_before"]).mean())  # type: ignore[arg-type]
    assert rows["joint"][0] == pytest.approx(moved, abs=1e-6)


@pytest.mark.parametrize(
    ("addresses", "options", "said"),
    [
        (["L0.U0"], {}, "1 neurons have no interaction: two or more expected"),
        (["L0.U0", "L0.U1"], {"gain": 1.0}, "gain 1 changes nothing"),
        (["L0.U0", "L0.U1"], {"gain": math.inf}, "gain inf changes nothing"),
        (["L0.U0", "L0.U1"], {"rounds": 1}, "rounds 1: two or more expected"),
    ],
)
def test_what_has_no_interaction_is_refused(
    planted: na.Model, addresses: list[str], options: dict[str, float], said: str
) -> None:
    with pytest.raises(na.InterventionError, match=said):
        na.interactions(planted, planted_facts()[0], planted.layout().set(addresses), **options)  # type: ignore[arg-type]


def test_tables_of_many_facts_have_random_neurons_beside_them(planted: na.Model) -> None:
    facts = planted_facts()[:3]
    sets = [planted_neurons(planted.layout(), 0), planted_neurons(planted.layout(), 1), planted.layout().set(["L0.U4"])]
    tables = na.interaction_tables(planted, facts, sets)
    assert set(tables["interactions"]["fact"]) == {0, 1}  # the third fact has one neuron
    assert set(tables["interactions"]["condition"]) == {"located", "random"}
    summary = tables["interaction_summary"].filter(relation="all", condition="located", measure="log_odds", what="rest")
    mean = tables["interaction_sets"].filter(condition="located", measure="log_odds")["rest"].mean()
    assert summary["estimate"][0] == pytest.approx(mean)
    assert summary["n_facts"][0] == 2
    with pytest.raises(na.InterventionError, match="2 sets of neurons for 3 facts"):
        na.interaction_tables(planted, facts, sets[:2])


def test_neurons_of_another_model_are_refused(planted: na.Model) -> None:
    other = na.Layout("ffn", (30, 30), digest="another")
    with pytest.raises(na.LayoutMismatchError):
        na.interactions(planted, planted_facts()[0], other.set(["L0.U0", "L0.U1"]))


def test_a_trial_is_one_row_of_a_pass(planted: na.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sets of one shape of prompt share passes, as many as the budget lets them."""
    passes: list[int] = []

    def counting(model: na.Model, asked: list[tuple[object, Trial]]) -> list[object]:
        passes.append(len(asked))
        return run(model, asked)  # type: ignore[arg-type, return-value]

    run = effects._run_batch
    monkeypatch.setattr(effects, "_run_batch", counting)
    fact = planted_facts()[0]
    single = na.Fact(fact.relation, fact.subject, fact.answer, fact.prompts[:1])
    na.interactions(planted, single, planted.layout().set([f"L0.U{k}" for k in range(6)]))
    assert sum(passes) == 64
    assert max(passes) > 32
    assert torch.is_grad_enabled()
