"""Edits: what they write, that undoing gives every bit back, in any order or not at all, and what is saved of them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoTokenizer

import neuronatlas as na
from neuronatlas.knowledge.edits import SlotChange, apply_edit
from neuronatlas.models.history import History
from neuronatlas.models.slots import Slots, value_slots
from neuronatlas.neurons import LayoutMismatchError
from tests.knowledge.planted import planted_facts, planted_model, planted_neurons


@pytest.fixture
def model() -> na.Model:
    return planted_model()


@pytest.fixture(scope="module")
def shared() -> na.Model:
    """A model that many examples edit and must give back as it was, its slots found once."""
    model = planted_model()
    SLOTS.update((address, value_slots(model, model.layout().set([address]))[0]) for address in ADDRESSES)
    return model


ADDRESSES = [f"L{layer}.U{unit}" for layer in (0, 1) for unit in range(4)]
SLOTS: dict[str, Slots] = {}


def bits(model: na.Model) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.module.state_dict().items()}


def top(model: na.Model, fact: na.Fact) -> set[str]:
    return {na.attribute(model, p, fact.answer, rule="activation").answered.top_token for p in fact.prompts}


def moved(model: na.Model, addresses: list[str], by: float) -> na.Edit:
    """An edit that adds a number to slots."""
    slots = value_slots(model, model.layout().set(addresses))
    return apply_edit(model, "move", {"about": f"by {by}"}, slots, [group.read() + by for group in slots])


def test_update_changes_a_planted_fact_and_no_other(model: na.Model) -> None:
    facts = planted_facts()
    edit = na.update(model, facts[1], "answer3", neurons=planted_neurons(model.layout(), 1))
    assert [top(model, fact) for fact in facts] == [{"answer0"}, {"answer3"}, *({f"answer{i}"} for i in (2, 3, 4))]
    edit.undo()
    assert [top(model, fact) for fact in facts] == [{f"answer{i}"} for i in range(5)]


@pytest.mark.parametrize("rule", na.UPDATE_RULES)
def test_update_writes_the_formula_of_its_rule(model: na.Model, rule: str) -> None:
    neurons = planted_neurons(model.layout(), 1)
    rows = model.module.get_output_embeddings().weight.detach().numpy()
    words = model.tokenizer.get_vocab()
    old, new = rows[words["answer1"]], rows[words["answer3"]]
    edit = na.update(model, planted_facts()[1], "answer3", neurons=neurons, rule=rule, weaken=0.5, promote=3.0)
    for change in edit.changes:
        before = change.before.numpy()
        length = np.linalg.norm(before, axis=1, keepdims=True)
        expected = {
            "printed": before - 0.5 * old + 3.0 * new,
            "normalised": before + length * (3.0 * new / np.linalg.norm(new) - 0.5 * old / np.linalg.norm(old)),
        }[rule]
        np.testing.assert_allclose(change.after.numpy(), expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(change.slots.read().numpy(), change.after.numpy())


def test_neurons_that_more_than_a_tenth_of_the_relation_shares_are_left_out(model: na.Model) -> None:
    layout = model.layout()
    others = [layout.set(["L0.U2"]), layout.set(["L0.U2", "L1.U3"]), *[layout.set([])] * 8]
    edit = na.update(model, planted_facts()[1], "answer3", neurons=planted_neurons(layout, 1), relation=others)
    assert [str(neuron) for neuron in edit.neurons] == ["L1.U3"]  # 1 of 10 is not more than a tenth, 2 are
    assert edit.settings["left_out"] == ["L0.U2"]


def test_erase_empties_the_most_frequent_slots_of_a_relation(model: na.Model) -> None:
    layout = model.layout()
    sets = [layout.set(["L0.U2", "L1.U3"]), layout.set(["L1.U3", "L0.U4"]), layout.set(["L0.U4", "L0.U2"])]
    edit = na.erase(model, sets, count=2)
    assert [str(neuron) for neuron in edit.neurons] == ["L0.U2", "L0.U4"]  # all three have two facts: ties by address
    assert edit.diff()["norm_after"].to_list() == [0.0, 0.0]
    whole = na.erase(model, model.layout().set(["L1.U3"]))
    assert float(value_slots(model, model.layout().set(["L1.U3"]))[0].read().abs().max()) == 0
    whole.undo()
    edit.undo()


ACTIONS = st.lists(
    st.tuples(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3), st.integers(1, 9), st.integers(0, 5)),
    max_size=4,
)


@settings(max_examples=60)
@given(actions=ACTIONS)
def test_any_sequence_of_edits_and_undos_ends_in_the_same_bits(
    shared: na.Model, actions: list[tuple[list[str], int, int]]
) -> None:
    before, digest = bits(shared), shared.digest
    _walk(shared, SLOTS, actions, lambda: bits(shared))
    assert bits(shared) == before
    assert shared.digest == digest


def test_a_thousand_random_sequences_of_edits_and_undos_end_in_the_same_bits() -> None:
    rng, bare = np.random.default_rng(0), Bare()
    slots = {f"L{n.layer}.U{n.unit}": bare.slots(n) for n in (na.Neuron(i, j) for i in (0, 1) for j in range(4))}
    before, undone, refused = bare.state(), 0, 0
    for _ in range(1000):
        actions = [
            (rng.choice(ADDRESSES, size=rng.integers(1, 4)).tolist(), int(rng.integers(1, 9)), int(rng.integers(0, 5)))
            for _ in range(rng.integers(1, 6))
        ]
        found = _walk(bare, slots, actions, bare.state)
        undone, refused = undone + found[0], refused + found[1]
        assert bare.state() == before
    assert min(undone, refused) > 200  # both happened, often


class Bare:
    """All of a model that edits see: two layers' weights, a digest of them, and a history."""

    def __init__(self) -> None:
        self.layers = [torch.nn.Linear(4, 3, bias=False) for _ in range(2)]
        generator = torch.Generator().manual_seed(0)
        for layer in self.layers:
            layer.weight.data = torch.randn(3, 4, generator=generator)
        self.history = History()

    def state(self) -> bytes:
        return b"".join(layer.weight.detach().numpy().tobytes() for layer in self.layers)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.state()).hexdigest()

    def slots(self, neuron: na.Neuron) -> Slots:
        layer = self.layers[neuron.layer]
        return Slots(
            f"{neuron.layer}", layer, cast("torch.nn.Parameter", layer.weight), None, 1, (neuron,), (neuron.layer,)
        )


def _walk(
    model: Any, slots: dict[str, Slots], actions: list[tuple[list[str], int, int]], state: Callable[[], object]
) -> tuple[int, int]:
    """Make edits, undo some on the way where nothing later stands on them, and all that are left at the end."""
    live: list[na.Edit] = []
    undone = refused = 0
    for addresses, by, undo in actions:
        groups = [slots[address] for address in sorted(set(addresses))]
        live.append(apply_edit(model, "move", {}, groups, [group.read() + by / 7 for group in groups]))
        if undo >= len(live):
            continue
        wanted, now = live[undo], state()
        if any(set(wanted.neurons) & set(other.neurons) for other in live[undo + 1 :]):
            with pytest.raises(na.EditError, match="undo that one first"):
                wanted.undo()
            assert state() == now
            refused += 1
        else:
            wanted.undo()
            live.remove(wanted)
            undone += 1
    assert na.live_edits(model) == tuple(live)
    for edit in reversed(live):
        edit.undo()
    return undone, refused


def test_edits_that_share_no_slot_come_undone_in_any_order(model: na.Model) -> None:
    before = bits(model)
    first, second = moved(model, ["L0.U1"], 1.0), moved(model, ["L0.U2"], 2.0)
    between = bits(model)
    first.undo()
    assert bits(model) != between
    second.undo()
    assert bits(model) == before


def test_negative_zeros_come_back_as_such(model: na.Model) -> None:
    [slots] = value_slots(model, model.layout().set(["L0.U1"]))
    slots.write(-torch.zeros(1, slots.width))
    before = bits(model)
    edit = apply_edit(model, "move", {}, [slots], [torch.zeros(1, slots.width)])  # equal as numbers, not as bits
    assert bits(model) != before
    edit.undo()
    assert bits(model) == before


def test_neurons_stay_good_through_edits_and_not_through_other_changes(model: na.Model) -> None:
    facts, layout = planted_facts(), model.layout()
    neurons = [planted_neurons(layout, i) for i in range(5)]
    first = na.update(model, facts[0], "answer1", neurons=neurons[0])
    second = na.update(model, facts[1], "answer2", neurons=neurons[1])
    first.undo()
    third = na.update(model, facts[2], "answer4", neurons=neurons[2])
    assert [top(model, fact) for fact in facts] == [
        {a} for a in ("answer0", "answer2", "answer4", "answer3", "answer4")
    ]
    with torch.no_grad():
        next(model.module.parameters())[5, 5] += 1.0
    before = bits(model)
    with pytest.raises(LayoutMismatchError, match="digest"):
        na.update(model, facts[3], "answer0", neurons=neurons[3])
    assert bits(model) == before
    third.undo()  # its own slots are as it left them
    second.undo()


def test_a_slot_that_something_else_changed_is_not_undone(model: na.Model) -> None:
    edit = moved(model, ["L0.U1"], 1.0)
    with torch.no_grad():
        edit.changes[0].slots.weight[0, 1] += 1.0
    before = bits(model)
    with pytest.raises(na.EditError, match="changed by something else"):
        edit.undo()
    assert bits(model) == before


@pytest.fixture
def untouched(model: na.Model) -> Iterator[na.Model]:
    before = bits(model)
    yield model
    assert bits(model) == before
    assert na.live_edits(model) == ()


def test_the_old_answer_is_no_new_one(untouched: na.Model) -> None:
    with pytest.raises(na.EditError, match="the new answer of fact 'subject1' is the old one: 'answer1'"):
        na.update(untouched, planted_facts()[1], " answer1")


def test_an_answer_the_model_cannot_say_is_refused(untouched: na.Model) -> None:
    with pytest.raises(na.QueryError, match="'elsewhere'"):
        na.update(untouched, planted_facts()[1], "elsewhere", neurons=planted_neurons(untouched.layout(), 1))


def test_answers_of_several_tokens_are_for_the_exact_edit(untouched: na.Model) -> None:
    with pytest.raises(na.EditError, match=r"2 tokens for this model.*exact_update"):
        na.update(untouched, planted_facts()[1], "answer2 word1", neurons=planted_neurons(untouched.layout(), 1))


def test_a_neuron_that_does_not_exist_is_refused(untouched: na.Model) -> None:
    with pytest.raises(na.NeuronError, match=r"no unit 400 for L0\.U400"):
        na.update(untouched, planted_facts()[1], "answer2", neurons=untouched.layout().set(["L0.U400"]))


def test_neurons_of_another_model_are_refused(untouched: na.Model) -> None:
    other = replace(untouched.layout(), digest="another").set(["L0.U2"])
    with pytest.raises(LayoutMismatchError, match="digest"):
        na.erase(untouched, other)


def test_no_neurons_rules_and_counts_that_are_none(untouched: na.Model) -> None:
    none = untouched.layout().set([])
    with pytest.raises(na.EditError, match="no neurons to edit for fact 'subject1'"):
        na.update(untouched, planted_facts()[1], "answer2", neurons=none)
    with pytest.raises(na.EditError, match="no neurons to erase"):
        na.erase(untouched, none)
    with pytest.raises(na.EditError, match="count is 0"):
        na.erase(untouched, [none], count=0)
    with pytest.raises(na.EditError, match="no rule 'guess' of updating: expected one of normalised, printed"):
        na.update(untouched, planted_facts()[1], "answer2", rule="guess")


def test_values_that_are_not_finite_are_refused(untouched: na.Model) -> None:
    slots = value_slots(untouched, untouched.layout().set(["L0.U1", "L0.U2"]))
    with pytest.raises(na.EditError, match=r"slot of L0\.U2 is not finite"):
        apply_edit(untouched, "move", {}, slots, [torch.tensor([[1.0] * 48, [float("inf")] * 48])])


def test_an_edit_that_changes_nothing_is_none(untouched: na.Model) -> None:
    with pytest.raises(na.EditError, match="would change nothing"):
        moved(untouched, ["L0.U1"], 0.0)


def test_an_edit_is_undone_once(model: na.Model) -> None:
    edit = moved(model, ["L0.U1"], 1.0)
    edit.undo()
    with pytest.raises(na.EditError, match=r"this edit \(move of 1 value slots: by 1.0\) was undone already"):
        edit.undo()
    with pytest.raises(na.EditError, match="nothing of it to save"):
        edit.save("anywhere")


def test_diff_says_what_changed(model: na.Model) -> None:
    edit = na.update(model, planted_facts()[1], "answer3", neurons=planted_neurons(model.layout(), 1))
    table = edit.diff()
    assert table["neuron"].to_list() == ["L0.U2", "L1.U3"]
    assert table["layers"].to_list() == [[0], [1]]
    assert table["parameter"].to_list() == [f"bert.encoder.layer.{n}.output.dense.weight" for n in (0, 1)]
    assert table["norm_before"].to_list() == pytest.approx([1.0, 1.0])
    assert table["change"].to_list() == pytest.approx([65**0.5] * 2)  # 8 towards one answer, 1 away from another
    assert table.schema["cosine"] == pl.Float64
    assert edit.size == pytest.approx(130**0.5)


def test_a_saved_edit_is_a_model_that_transformers_loads(model: na.Model, tmp_path: Path) -> None:
    fact = planted_facts()[1]
    first = na.erase(model, model.layout().set(["L0.U29"]) | model.layout().set(["L0.U12"]))
    edit = na.update(model, fact, "answer3", neurons=model.layout().set(["L0.U2", "L1.U3"]))
    folder = edit.save(tmp_path / "deep" / "edited")
    plain, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(fact.prompts[0], return_tensors="pt").input_ids
    with torch.no_grad():
        logits, expected = plain(input_ids=ids).logits, model.logits(ids)
    assert torch.equal(logits, expected)
    place = int((ids[0] == tokenizer.mask_token_id).nonzero())
    assert tokenizer.convert_ids_to_tokens([int(logits[0, place].argmax())]) == ["answer3"]
    record = json.loads((folder / "neuronatlas-edits.json").read_text("utf-8"))
    assert [entry["kind"] for entry in record["edits"]] == ["erase", "update"]
    told = record["edits"][1]
    assert (told["digest_before"], told["digest_after"]) == edit.digests == (first.digests[1], model.digest)
    assert told["settings"]["about"] == "planted of subject1: answer1 -> answer3"
    assert [slot["neuron"] for slot in told["slots"]] == ["L0.U2", "L1.U3"]
    assert sorted(path.name for path in tmp_path.joinpath("deep").iterdir()) == ["edited"]
    with pytest.raises(na.EditError, match="exists: give a folder that does not"):
        edit.save(folder)


def test_edits_read_back_are_undone_to_the_first_models_bits(model: na.Model, tmp_path: Path) -> None:
    before, digest = bits(model), model.digest
    na.erase(model, model.layout().set(["L0.U2"]))
    folder = na.update(model, planted_facts()[1], "answer3", neurons=model.layout().set(["L0.U4", "L1.U3"])).save(
        tmp_path / "edited"
    )
    again = na.load(folder)
    first, second = na.read_edits(again, folder)
    assert isinstance(second.changes[0], SlotChange)
    assert second.diff().equals(na.live_edits(model)[1].diff())
    second.undo()
    first.undo()
    assert bits(again) == before
    assert again.digest == digest


def test_a_record_is_refused_where_it_does_not_fit(model: na.Model, tmp_path: Path) -> None:
    edit = na.erase(model, model.layout().set(["L0.U2"]))
    folder = edit.save(tmp_path / "edited")
    with pytest.raises(na.EditError, match="has 1 edits already"):
        na.read_edits(model, folder)
    with pytest.raises(na.EditError, match="are not those saved with the record"):
        na.read_edits(planted_model(), folder)
    with pytest.raises(na.EditError, match=r"it has no neuronatlas-edits\.json"):
        na.read_edits(planted_model(), tmp_path)
    record = folder / "neuronatlas-edits.json"
    record.write_text(record.read_text("utf-8").replace('"schema": 1', '"schema": 9'), encoding="utf-8")
    with pytest.raises(na.EditError, match="of version 9: 1 expected"):
        na.read_edits(na.load(folder), folder)
    record.write_text("{", encoding="utf-8")
    with pytest.raises(na.EditError, match="cannot be read"):
        na.read_edits(na.load(folder), folder)
