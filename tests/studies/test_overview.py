"""What an atlas found, in a few numbers, and one of its facts closely."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import neuronatlas as na
from neuronatlas.studies.overview import atlas_neurons, find_row, overview_of, worked_example
from tests.knowledge.planted import FACTS, planted_neurons
from tests.studies.conftest import SETTINGS, two_relations


def test_the_overview_counts_what_the_tables_hold(atlas: na.Atlas) -> None:
    found = overview_of(atlas)
    assert (found.rule, found.relations) == ("gauss-legendre", ("first", "second"))
    # The sixth fact could not be asked, and counts nowhere but among what was skipped.
    assert (found.n_facts, found.n_prompts, found.n_skipped, found.n_without) == (FACTS, 4 * FACTS, 1, 0)
    assert (found.n_neurons, found.layers, found.known) == (2 * FACTS, (FACTS, FACTS), 1.0)
    assert found.neurons_per_fact == 2
    gains = [effect.gain for effect in found.effects if effect.condition == "located"]
    assert gains == list(SETTINGS.gains)


def test_an_unfinished_atlas_has_no_overview(tmp_path: Path) -> None:
    about = {"id": "m", "digest": "d"}
    with (
        na.Atlas.create_or_resume(tmp_path / "begun", model=about, settings={"rule": "midpoint"}) as begun,
        pytest.raises(na.AtlasError, match="not finished"),
    ):
        overview_of(begun)


def test_neurons_come_back_as_a_set_of_the_model(atlas: na.Atlas, model: na.Model) -> None:
    for row in range(FACTS):
        assert atlas_neurons(atlas, model, row) == planted_neurons(model.layout(), row)
    assert len(atlas_neurons(atlas, model, FACTS)) == 0


def test_a_fact_is_found_by_its_words_in_any_selection(atlas: na.Atlas) -> None:
    facts = two_relations()
    assert [find_row(atlas, facts, index) for index in range(len(facts))] == list(range(len(facts)))
    assert find_row(atlas, facts[3:], 1) == 4
    with pytest.raises(na.AtlasError, match=r"holds no facts 'subject3' of 'first'"):
        find_row(atlas, [replace(facts[3], relation="first")], 0)


def test_the_worked_example_is_the_known_fact_that_suppression_moved_most(atlas: na.Atlas, model: na.Model) -> None:
    facts = two_relations()
    example = worked_example(model, atlas, facts, n_tokens=3)
    assert example is not None
    tables = [na.effects(model, fact, planted_neurons(model.layout(), row)) for row, fact in enumerate(facts[:FACTS])]
    means = [table.filter(gain=0.0).select("p_before", "p_after").mean().row(0) for table in tables]
    least = min(after / before for before, after in means)
    assert example.p_after / example.p_before == pytest.approx(least, rel=1e-5)
    assert (example.before[0][0], len(example.before)) == (example.fact.answer, 3)


def test_first_choices_are_those_of_the_model_with_the_neurons_suppressed(atlas: na.Atlas, model: na.Model) -> None:
    example = worked_example(model, atlas, two_relations(), n_tokens=1)
    assert example is not None
    prompt = next(p for p in example.fact.prompts if p.replace("[MASK]", "[…]") == example.prompt)
    ids = model.tokenizer(prompt, return_tensors="pt").input_ids
    place = ids[0].tolist().index(model.tokenizer.mask_token_id)
    with torch.no_grad(), na.suppress(model, example.neurons, place):
        best = torch.softmax(model.logits(ids)[0, place], dim=0).max()
    assert example.after[0][1] == pytest.approx(float(best), rel=1e-5)


def test_there_is_no_example_where_suppression_was_not_tried(model: na.Model, tmp_path: Path) -> None:
    facts = two_relations()[:2]
    settings = na.LocateSettings(gains=(2.0,))
    atlas = na.build_atlas(model, facts, tmp_path / "amplified", settings, progress=False)
    assert worked_example(model, atlas, facts) is None
