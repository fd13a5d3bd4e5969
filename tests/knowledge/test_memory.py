"""Neurons as a memory: what value slots write, which prompts and texts keys match."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuronatlas as na
from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.knowledge.extremes import Extremes, Placed
from neuronatlas.knowledge.memory import ValueReader, spread_steps
from tests.knowledge.planted import FACTS, planted_facts, planted_neurons


@pytest.mark.parametrize("fact", range(FACTS))
def test_planted_value_slots_promote_the_planted_answer_most(planted: na.Model, fact: int) -> None:
    table = na.value_tokens(planted, planted_neurons(planted.layout(), fact), planted_facts(), k=2)
    first = table.filter(direction="up", rank=1)
    assert first["token"].to_list() == [f"answer{fact}"] * 2
    assert bool((first["rise"] > 0).all())
    assert f"answer{fact}" not in table.filter(direction="down")["token"]


@pytest.mark.parametrize("fact", range(FACTS))
def test_planted_keys_match_the_prompts_of_their_fact(planted: na.Model, fact: int) -> None:
    found = na.key_prompts(planted, planted_neurons(planted.layout(), fact), planted_facts(), k=4)
    assert set(found["fact"]) == {fact}
    assert found["rank"].to_list() == [1, 2, 3, 4] * 2
    for _, group in found.group_by("neuron"):
        assert group["activation"].is_sorted(descending=True)


def test_keys_match_texts_at_the_token_where_they_fire(planted: na.Model) -> None:
    texts = ["word0 word1", "word0 subject3 [MASK]", "word2 subject1 [MASK] word3", "subject3 word1"]
    found = na.key_texts(planted, planted_neurons(planted.layout(), 3), texts, k=1, progress=False)
    assert found.select("token", "line", "text").unique().rows() == [("[MASK]", 2, texts[1])]


def test_without_norms_or_a_head_a_rise_is_the_embedding_times_the_slot(stories: na.Model) -> None:
    """Of a Llama whose final norm is the only bend, the rise at a state is the gradient of the logits there."""
    layout = stories.layout()
    neurons = layout.set(["L0.U3", f"L{layout.n_layers - 1}.U5"])
    fact = na.Fact("story", None, "park", ["Lily and Tom went to the [MASK]."])
    [asked] = fact_queries(stories, fact).values()
    reader = ValueReader.at(stories, [asked.first])
    rises = dict(reader.rises(neurons))
    last = neurons.members[-1]
    ids = torch.tensor([asked.first.ids])
    step, logits = 1e-2, []
    for by in (step, -step):
        with na.capture(stories) as seen, torch.no_grad():
            stories.logits(ids)
        value = float(seen[last.layer][0, -1, last.unit])
        with na.set_values(stories, layout.set([last]), value + by, positions=-1), torch.no_grad():
            logits.append(stories.logits(ids)[0, -1].double())
    measured = (logits[0] - logits[1]) / (2 * step)
    measured -= measured.mean()
    torch.testing.assert_close(rises[last], measured, rtol=0, atol=float(2e-3 * measured.abs().max()))


def test_states_are_spread_over_the_prompts(planted: na.Model) -> None:
    queries = [(i, q) for i, fact in enumerate(planted_facts()) for q in fact_queries(planted, fact).values()]
    chosen = spread_steps(queries, most=5)
    assert chosen == [queries[index][1].first for index in (0, 4, 8, 12, 16)]


def test_neurons_that_write_no_value_slot_are_refused(planted: na.Model) -> None:
    with pytest.raises(ValueError, match="have no value slots"):
        na.value_tokens(planted, planted.layout("hidden").set(["L0.U1"]), planted_facts())
    with pytest.raises(na.QueryError, match="no prompt suits"):
        na.value_tokens(planted, planted.layout().set(["L0.U1"]), [])


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 8)), max_size=40), st.integers(1, 6))
def test_extremes_are_those_of_sorting_everything(values: list[tuple[int, int]], k: int) -> None:
    of_text = {text: value for value, text in reversed(values)}
    stream = [Placed(float(of_text[text]), index, str(text), 0) for index, (_, text) in enumerate(values)]
    seen, sifted = Extremes(k), Extremes(k)
    for placed in stream:
        seen.add(placed)
    for start in range(0, len(stream), 7):
        part = stream[start : start + 7]
        for row in sifted.wanted(np.array([placed.value for placed in part])):
            sifted.add(part[row])
    assert list(sifted.ranked()) == list(seen.ranked())
    first = list({placed.text: placed for placed in reversed(stream)}.values())
    for name, sign in (("top", -1), ("bottom", 1)):
        expected = sorted(first, key=lambda placed: (sign * placed.value, placed.index))[:k]
        assert [placed for direction, placed in seen.ranked() if direction == name] == expected


def test_tables_have_a_row_a_rank_whatever_the_neurons(planted: na.Model) -> None:
    neurons = planted.layout().set(["L0.U0", "L1.U25"])
    table = na.value_tokens(planted, neurons, planted_facts()[0], k=3)
    assert table.group_by("neuron", "direction").agg(pl.col("rank").sort()).height == 4
    assert table["neuron"].unique(maintain_order=True).to_list() == list(map(str, neurons))


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_to_show_is_refused(planted: na.Model, k: int) -> None:
    neurons, facts = planted_neurons(planted.layout(), 0), planted_facts()
    said = rf"^k is {k}: how many to show of each neuron, 1 or more, expected$"
    with pytest.raises(na.TextError, match=said):
        na.key_texts(planted, neurons, ["word0"], k=k, progress=False)
    with pytest.raises(na.TextError, match=said):
        na.key_prompts(planted, neurons, facts, k=k)
    with pytest.raises(na.TextError, match=said):
        na.value_tokens(planted, neurons, facts, k=k)
