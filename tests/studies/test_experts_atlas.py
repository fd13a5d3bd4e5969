"""Atlases of mixtures of experts: every neuron by its expert, in tables, reports and commands."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import neuronatlas as na
from neuronatlas.addresses import address_columns, address_names, indices_in, neurons_in
from neuronatlas.atlas.provenance import AtlasError
from neuronatlas.cli.probing import _ranking
from neuronatlas.knowledge.attribution import AttributionError, fact_queries
from neuronatlas.neurons import Neuron
from neuronatlas.probing.corpora import Corpus
from neuronatlas.studies.overview import atlas_neurons, overview_of
from neuronatlas.studies.salience.building import build_salience_atlas
from neuronatlas.studies.salience.overview import salience_overview
from neuronatlas.studies.salience.settings import SalienceSettings
from neuronatlas.studies.settings import SettingsError
from neuronatlas.studies.sweep.toys import Architecture, build, toy_tokenizer
from tests.experts import FACTS, knowing, world

every_style = pytest.mark.parametrize("style", ["mixtral", "deepseek_v3"])


def toy(name: str, class_name: str) -> Any:
    return build(Architecture(name, class_name, "causal"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experts")


def atlas(folder: Path, style: str, **settings: Any) -> na.Atlas:
    """The atlas of a style with some settings, made once."""
    name = "-".join([style, *(f"{value}" for value in settings.values())])
    return na.build_atlas(knowing(style), FACTS, folder / name, na.LocateSettings(**settings), progress=False)


# Knowledge neurons.


@pytest.mark.filterwarnings("ignore:tuning did not reach")  # of two facts, which the atlas says in its own way
@every_style
def test_the_neurons_of_an_atlas_are_those_that_locate_finds_by_layer_expert_and_unit(folder: Path, style: str) -> None:
    made = atlas(folder, style)
    expected = na.locate(knowing(style), FACTS)
    for fact, neurons in enumerate(expected):
        found = atlas_neurons(made, knowing(style), fact)
        assert found.members == neurons.members
        assert len(found) > 0
    table = made.table("neurons")
    assert address_columns(table) == ["layer", "expert", "unit"]
    assert table["expert"].null_count() == (table["layer"] == 0).sum() * (style == "deepseek_v3")
    assert overview_of(made).n_neurons == len(set().union(*(set(neurons) for neurons in expected)))


def test_neurons_of_layers_without_experts_stand_beside_those_of_experts(folder: Path) -> None:
    made = atlas(folder, "deepseek_v3", threshold=0.01, share=0.7)
    table = made.table("coarse")
    assert table.filter(pl.col("expert").is_null())["layer"].unique().to_list() == [0]
    assert sorted(table.drop_nulls("expert")["layer"].unique()) == [1, 2]
    assert table.select(address_names(table))["neuron"].to_list() == list(map(str, neurons_in(table)))
    layout = knowing("deepseek_v3").layout()
    assert indices_in(table, layout).tolist() == [layout.index(neuron) for neuron in neurons_in(table)]
    page = na.write_report(made.folder).read_text(encoding="utf-8")
    assert f">{next(str(n) for n in neurons_in(made.table('neurons')) if n.layer)}<" in page


@every_style
def test_suppressing_the_neurons_of_one_expert_at_a_time_is_what_the_weights_say(folder: Path, style: str) -> None:
    """Each expert's neurons of the facts, against zeros in the very weights that they write through."""
    loaded, made = knowing(style), atlas(folder, style)
    neurons = [neuron for fact in range(len(FACTS)) for neuron in atlas_neurons(made, loaded, fact)]
    groups = {(n.layer, n.expert) for n in neurons}
    ids = torch.tensor([fact_queries(loaded, fact)[0].first.ids for fact in FACTS])
    changed = 0
    for layer, expert in groups:
        own = loaded.layout().set(n for n in neurons if (n.layer, n.expert) == (layer, expert))
        with torch.no_grad(), na.suppress(loaded, own):
            found = loaded.logits(ids)
        block: Any = loaded.module.get_submodule(f"model.layers.{layer}.mlp")
        shared = expert == len(block.experts.down_proj)
        weight = block.shared_experts.down_proj.weight if shared else block.experts.down_proj
        before = weight.detach().clone()
        with torch.no_grad():
            (weight if shared else weight[expert])[:, [n.unit for n in own]] = 0
            expected = loaded.logits(ids)
            weight.copy_(before)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        changed += not torch.equal(found, loaded.logits(ids))
    assert changed == len(groups) > 2


def test_the_effects_of_an_atlas_are_those_of_suppressing_these_very_neurons(folder: Path) -> None:
    loaded, made = knowing("mixtral"), atlas(folder, "mixtral")
    table = made.table("effects").filter(gain=0.0)
    located, control = (table.filter(condition=name) for name in ("located", "random"))
    for index, fact in enumerate(FACTS):
        expected = na.effects(loaded, fact, atlas_neurons(made, loaded, index), gains=(0.0,))
        np.testing.assert_allclose(located.filter(fact=index)["p_after"], expected["p_after"], atol=1e-5)
    fall, chance = ((rows["p_before"] - rows["p_after"]).to_numpy().mean() for rows in (located, control))
    assert fall > 10 * abs(chance)


# Routing.


def test_an_atlas_says_how_experts_were_routed_and_which_gaps_that_left(folder: Path) -> None:
    free, frozen = (atlas(folder, "deepseek_v3", routing=routing) for routing in ("free", "frozen"))
    assert [made.meta["settings"]["routing"] for made in (free, frozen)] == ["free", "frozen"]
    gaps = [made.table("prompts")["gap"].abs().to_numpy().max() for made in (free, frozen)]
    assert gaps[0] > 10 * gaps[1]
    pages = [na.write_report(made.folder).read_text(encoding="utf-8") for made in (free, frozen)]
    assert "Routing to experts was free" in pages[0]
    assert "Routing to experts was frozen to that of the unchanged run" in pages[1]
    assert all("Which experts hold them" in page for page in pages)


def test_an_atlas_of_another_routing_is_not_taken_up(folder: Path) -> None:
    made = atlas(folder, "mixtral", routing="free")
    with pytest.raises(AtlasError, match="routing"):
        na.build_atlas(knowing("mixtral"), FACTS, made.folder, na.LocateSettings(routing="frozen"), progress=False)


def test_routing_that_there_is_not_or_that_cannot_be_frozen_is_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(SettingsError, match="routing 'cold': expected free or frozen"):
        na.LocateSettings(routing="cold")  # type: ignore[arg-type]
    unreached = na.load((toy("llama4_text", "Llama4ForCausalLM"), toy_tokenizer()), site="hidden")
    fact = na.Fact("r", "w11", "w12", prompts=["w11 w52 [MASK]"])
    with pytest.raises(AttributionError, match="its routing cannot be frozen"):
        na.build_atlas(unreached, [fact], folder / "none", na.LocateSettings(site="hidden", routing="frozen"))
    assert not (folder / "none").exists()


def test_the_tables_and_settings_of_other_models_do_not_speak_of_experts(folder: Path) -> None:
    dense = na.load((toy("gpt2", "GPT2LMHeadModel"), toy_tokenizer()))
    fact = na.Fact("r", "w11", "w12", prompts=["w11 w52 [MASK]", "w61 w62 [MASK]", "w71 w72 [MASK]"])
    made = na.build_atlas(dense, [fact], folder / "dense", progress=False)
    assert not any("expert" in made.table(name).columns for name in made.tables)
    assert "routing" not in made.meta["settings"]
    assert "Which experts hold them" not in na.write_report(made.folder).read_text(encoding="utf-8")


# Salient neurons.


def spoken() -> Corpus:
    """The facts as sentences whose words are labelled by what they are."""
    kinds = {fact.subject: "country" for fact in world()} | {fact.answer: fact.relation for fact in world()}
    texts = [prompt.replace("[MASK]", fact.answer) for fact in world() for prompt in fact.prompts]
    sentences = []
    for text in texts:
        words = text.split()
        starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
        spans = tuple((start, start + len(word)) for start, word in zip(starts, words, strict=True))
        labels = tuple(kinds.get(word, "other") for word in words)
        sentences.append(na.Sentence(text, tuple(words), spans, labels, text))
    return Corpus(tuple(sentences), "kind")


def test_salient_neurons_of_experts_are_told_by_their_expert_in_every_table_and_in_the_report(folder: Path) -> None:
    settings = SalienceSettings(
        site="ffn", methods=("lca", "probeless"), ablated=(0.1, 0.5), most_sets=2, min_count=5, n_controls=9,
        class_controls=9, words_per_class=10, described=6, contexts=2,
    )  # fmt: skip
    loaded = knowing("deepseek_v3")
    made = build_salience_atlas(loaded, [spoken()], folder / "salience", settings, progress=False)
    layout = loaded.layout()
    for name in ("rankings", "sets", "neurons", "contexts"):
        table = made.table(name)
        assert address_columns(table) == ["layer", "expert", "unit"], name
        assert all(layout.index(neuron) >= 0 for neuron in neurons_in(table)), name
    ranking = made.table("rankings").filter(method="lca").sort("rank")
    assert sorted(indices_in(ranking, layout)) == list(range(layout.n_neurons))
    described = list(map(str, neurons_in(made.table("neurons").sort("rank"))))
    assert described == list(map(str, neurons_in(ranking)))[:6]
    assert [one.neuron for one in salience_overview(made).properties[0].top] == described[:5]
    page = na.write_report(made.folder).read_text(encoding="utf-8")
    assert all(name in page for name in described)


def test_ranked_and_described_neurons_have_their_expert_in_a_column() -> None:
    layout = knowing("deepseek_v3").layout()
    acts = na.Activations.of(np.random.default_rng(0).normal(size=(40, layout.n_neurons)).astype("f4"), layout)
    table = _ranking(na.rank(acts, np.array(["a", "b"] * 20), method="probeless", progress=False))
    assert table.columns == ["rank", "neuron", "layer", "expert", "unit", "score"]
    assert [str(neuron) for neuron in neurons_in(table)] == table["neuron"].to_list()
    neurons = replace(layout.set([]), members=(Neuron(0, 3), Neuron(1, 2, expert=4)))
    assert [layout.neuron(i) for i in indices_in(table.filter(pl.col("neuron").is_in(["L0.U3"])), layout)] == [
        neurons.members[0]
    ]
