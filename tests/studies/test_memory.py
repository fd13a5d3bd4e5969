"""The tables of an atlas that show what its neurons read and write."""

from pathlib import Path

import neuronatlas as na
from tests.knowledge.planted import FACTS, planted_facts, planted_neurons
from tests.studies.conftest import two_relations


def test_every_planted_neuron_promotes_the_answer_and_fires_on_its_fact(atlas: na.Atlas, model: na.Model) -> None:
    tokens, prompts = atlas.table("value_tokens"), atlas.table("key_prompts")
    named = [str(n) for n in model.layout().set([n for i in range(FACTS) for n in planted_neurons(model.layout(), i)])]
    assert tokens["neuron"].unique(maintain_order=True).to_list() == named
    for fact in range(FACTS):
        for neuron in planted_neurons(model.layout(), fact):
            first = tokens.filter(neuron=str(neuron), direction="up", rank=1)
            assert first["token"].to_list() == [f"answer{fact}"]
            assert set(prompts.filter(neuron=str(neuron))["fact"]) == {fact}
    assert atlas.table("unread").is_empty()


def test_answers_rank_first_among_what_their_neurons_promote_and_not_among_what_others_do(atlas: na.Atlas) -> None:
    ranks = atlas.table("answer_ranks")
    assert set(ranks.filter(condition="located")["rank"]) == {1}
    assert ranks.filter(condition="random")["rank"].mean() > 2  # type: ignore[operator]
    assert ranks.filter(condition="located").height == ranks.filter(condition="random").height == 2 * FACTS


def test_the_public_functions_give_what_the_tables_hold(atlas: na.Atlas, model: na.Model) -> None:
    neurons = planted_neurons(model.layout(), 1)
    found = na.key_prompts(model, neurons, two_relations()[:FACTS], k=3)
    kept = atlas.table("key_prompts").filter(neuron=str(neurons.members[0]))
    assert found.filter(neuron=str(neurons.members[0])).equals(kept)


def test_a_site_without_value_slots_leaves_the_reason(model: na.Model, tmp_path: Path) -> None:
    settings = na.LocateSettings(site="attention")
    atlas = na.build_atlas(model, planted_facts(), tmp_path / "attention", settings, progress=False)
    assert atlas.table("value_tokens").is_empty()
    reasons = atlas.table("unread")
    assert reasons["table"].to_list() == ["value_tokens", "answer_ranks"]
    assert "neurons of site 'attention' have no value slots" in reasons["reason"][0]
    page = na.write_report(atlas.folder).read_text(encoding="utf-8")
    assert "What the neurons write was not read" in page


def test_prompts_that_cannot_be_corrupted_are_skipped_with_the_reason(model: na.Model, tmp_path: Path) -> None:
    facts = [*planted_facts()[:3], na.Fact("planted", None, "answer3", ["word0 subject3 [MASK]"])]
    settings = na.LocateSettings(rule="attribution-patching", corruption="other-subject")
    atlas = na.build_atlas(model, facts, tmp_path / "patched", settings, progress=False)
    assert atlas.table("skipped")["reason"].to_list() == [
        'no other subject suits "word0 subject3 […]" (there is none): give some, or corrupt it by noise'
    ]
    neurons = atlas.table("neurons").filter(rule="attribution-patching", fold="all")
    assert neurons.group_by("fact").len().height == 3
