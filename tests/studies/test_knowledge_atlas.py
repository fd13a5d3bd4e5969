"""From facts to an atlas: what the tables say is true, and nothing is lost or changed by how the work was cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.knowledge.attribution import fact_queries
from neuronatlas.neurons import Neuron
from neuronatlas.studies import knowledge_atlas, locating
from neuronatlas.studies import settings as settings_module
from tests.knowledge.planted import FACTS, planted_neurons
from tests.studies.conftest import SETTINGS, two_relations


def test_the_neurons_table_holds_the_planted_neurons_in_every_fold(atlas: na.Atlas, model: na.Model) -> None:
    table = atlas.table("neurons").filter(pl.col("rule") == "gauss-legendre")
    for fact in range(FACTS):
        for fold in ("all", "a", "b"):
            rows = table.filter((pl.col("fact") == fact) & (pl.col("fold") == fold))
            found = [Neuron(layer, unit) for layer, unit in rows.select("layer", "unit").iter_rows()]
            assert found == list(planted_neurons(model.layout(), fact))


def test_the_effects_table_is_what_effects_gives(atlas: na.Atlas, model: na.Model) -> None:
    facts, table = two_relations(), atlas.table("effects")
    for index in range(FACTS):
        neurons = planted_neurons(model.layout(), index)
        expected = na.effects(model, facts[index], neurons, gains=SETTINGS.gains)
        for condition in ("located", "held-out"):
            rows = table.filter((pl.col("fact") == index) & (pl.col("condition") == condition)).sort("gain", "prompt")
            for column in ("p_before", "p_after", "log_odds_after"):
                np.testing.assert_allclose(rows[column], expected.sort("gain", "prompt")[column], atol=1e-5)


def test_controls_barely_move_the_answer_and_a_gain_of_one_not_at_all(atlas: na.Atlas) -> None:
    summary = atlas.table("summary").filter(pl.col("relation") == "all")
    by = {(row["condition"], row["gain"]): row for row in summary.iter_rows(named=True)}
    assert by["located", 0.0]["change_high"] < -0.3
    assert by["located", 2.0]["change_low"] > 0.02
    for condition in ("random", "matched", "other-relation"):
        assert abs(by[condition, 0.0]["change"]) < 0.05
    assert all(row["change"] == pytest.approx(0, abs=1e-6) for (_, gain), row in by.items() if gain == 1.0)


def test_the_summary_is_a_ratio_of_means_with_the_unweighted_mean_over_relations(atlas: na.Atlas) -> None:
    effects = atlas.table("effects").filter((pl.col("condition") == "located") & (pl.col("gain") == 0.0))
    summary = atlas.table("summary").filter((pl.col("condition") == "located") & (pl.col("gain") == 0.0))
    changes = {row["relation"]: row["change"] for row in summary.iter_rows(named=True)}
    for relation in ("first", "second"):
        rows = effects.filter(pl.col("relation") == relation)
        before, after = rows["p_before"].to_numpy(), rows["p_after"].to_numpy()
        assert changes[relation] == pytest.approx((after - before).mean() / before.mean())
    assert changes["all"] == pytest.approx((changes["first"] + changes["second"]) / 2)
    assert bool((summary["change_low"] <= summary["change"]).all())
    assert bool((summary["change"] <= summary["change_high"]).all())


def test_prompts_that_do_not_suit_the_model_are_kept_with_the_reason(atlas: na.Atlas) -> None:
    skipped = atlas.table("skipped")
    assert skipped.select("fact", "prompt").rows() == [(FACTS, 0)]
    assert "is not in this model's vocabulary" in skipped["reason"][0]
    assert atlas.table("facts")["fact"].to_list() == list(range(FACTS))


def test_a_report_tells_of_facts_that_could_not_be_asked(atlas: na.Atlas) -> None:
    page = na.write_report(atlas.folder).read_text(encoding="utf-8")
    assert "among them all prompts of 1 fact;" in page


def test_facts_that_cannot_be_asked_change_nothing_for_the_others(model: na.Model, tmp_path: Path) -> None:
    unaskable = [na.Fact("first", f"subject{n}", "answer0 nowhere", [f"subject{n} [MASK]"]) for n in range(4)]
    facts = two_relations()[:3]
    alone, beside = (
        na.build_atlas(model, given, tmp_path / name, SETTINGS, progress=False)
        for name, given in (("alone", facts), ("beside", facts + unaskable))
    )
    for table in ("neurons", "relations", "summary", "sharing", "facts"):
        assert alone.table(table).equals(beside.table(table)), table


def test_both_folds_have_prompts_whichever_prompts_suit(model: na.Model, tmp_path: Path) -> None:
    suiting = two_relations()[0].prompts[:2]
    fact = na.Fact("first", "subject0", "answer0", [suiting[0], "word0 " * 20 + "[MASK]", suiting[1]])
    found = na.build_atlas(model, [fact], tmp_path / "gaps", SETTINGS, progress=False)
    held_out = found.table("effects").filter(pl.col("condition") == "held-out")
    assert held_out["prompt"].unique().to_list() == [0, 2]
    assert held_out["n_neurons"].to_list() == [2] * 6


def test_prompts_that_are_the_same_to_the_model_count_once(model: na.Model, tmp_path: Path) -> None:
    prompt = two_relations()[0].prompts[0]
    fact = na.Fact("first", "subject0", "answer0", [prompt, prompt.replace(" ", "  ")])
    found = na.build_atlas(model, [fact], tmp_path / "same", SETTINGS, progress=False)
    assert found.table("prompts").height == 1
    assert "the same to this model as prompt 1" in found.table("skipped")["reason"][0]


def test_layers_and_sharing_count_what_the_neurons_table_holds(atlas: na.Atlas) -> None:
    layers = atlas.table("layers").filter((pl.col("rule") == "gauss-legendre") & (pl.col("relation") == "all"))
    assert layers.select("layer", "n", "share").rows() == [(0, FACTS, 0.5), (1, FACTS, 0.5)]
    sharing = {(a, b): rest for a, b, *rest in atlas.table("sharing").rows()}
    assert sharing["first", "first"] == [3, 0.0, 0.0]
    assert sharing["first", "second"] == [6, 0.0, 0.0]


def test_the_cut_into_parts_does_not_change_a_finding(model: na.Model, atlas: na.Atlas, tmp_path: Path) -> None:
    settings = na.LocateSettings(facts_per_part=5, gains=SETTINGS.gains)
    other = na.build_atlas(model, two_relations(), tmp_path / "other", settings, progress=False)
    for table in ("neurons", "effects", "summary"):
        first, second = atlas.table(table), other.table(table)
        floats = [name for name, kind in first.schema.items() if kind == pl.Float64]
        assert first.drop(floats).equals(second.drop(floats))
        for name in floats:
            np.testing.assert_allclose(first[name].to_numpy(), second[name].to_numpy(), atol=1e-4)


def test_an_interrupted_run_is_taken_up_where_it_was(
    model: na.Model, atlas: na.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[int] = []
    real = locating.located_part

    def counted(*args: object) -> object:
        if len(worked) == 2:
            worked.append(-1)
            raise KeyboardInterrupt
        worked.append(args[1][0].index)  # type: ignore[index]
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(knowledge_atlas, "located_part", counted)
    with pytest.raises(KeyboardInterrupt):
        na.build_atlas(model, two_relations(), tmp_path / "cut", SETTINGS, progress=False)
    assert na.Atlas.open(tmp_path / "cut").state == "running"
    resumed = na.build_atlas(model, two_relations(), tmp_path / "cut", SETTINGS, progress=False)
    assert worked == [0, 2, -1, 4]
    for table in atlas.tables:
        assert (atlas.folder / f"{table}.parquet").read_bytes() == (resumed.folder / f"{table}.parquet").read_bytes()


def test_a_budget_found_under_a_limit_is_kept_with_the_atlas_and_used_again(
    model: na.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = na.LocateSettings(facts_per_part=2, gains=(0.0,), attribution_budget="1GB")
    whole = na.build_atlas(model, two_relations(), tmp_path / "whole", asked, progress=False)
    found = whole.meta["settings"]
    assert isinstance(found["attribution_budget"], int)
    assert found["effects_budget"] == 4 * found["attribution_budget"]
    real, parts = locating.located_part, []

    def cut(*args: object) -> object:
        parts.append(args)
        if len(parts) == 2:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(knowledge_atlas, "located_part", cut)
        with pytest.raises(KeyboardInterrupt):
            na.build_atlas(model, two_relations(), tmp_path / "cut", asked, progress=False)
    # Another limit, or another machine's memory, changes nothing of an atlas that was begun.
    monkeypatch.setattr(settings_module, "found_budget", lambda *_, **__: pytest.fail("the budget is there already"))
    other = replace(asked, attribution_budget="auto")
    resumed = na.build_atlas(model, two_relations(), tmp_path / "cut", other, progress=False)
    assert resumed.meta["settings"] == found
    for table in whole.tables:
        assert (whole.folder / f"{table}.parquet").read_bytes() == (resumed.folder / f"{table}.parquet").read_bytes()


def test_other_settings_facts_or_weights_in_the_same_folder_are_refused(model: na.Model, atlas: na.Atlas) -> None:
    other = na.LocateSettings(facts_per_part=2, gains=SETTINGS.gains, threshold=0.3)
    with pytest.raises(na.AtlasError, match=r"threshold was 0\.2, now 0\.3"):
        na.build_atlas(model, two_relations(), atlas.folder, other, progress=False)
    with pytest.raises(na.AtlasError, match="n_facts was 6, now 5"):
        na.build_atlas(model, two_relations()[:-1], atlas.folder, SETTINGS, progress=False)


def test_facts_none_of_which_suits_the_model_are_refused_before_anything_is_written(
    model: na.Model, tmp_path: Path
) -> None:
    with pytest.raises(na.FactError, match="none of the 1 prompts suits"):
        na.build_atlas(model, two_relations()[-1:], tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_a_facts_controls_do_not_depend_on_the_other_facts(model: na.Model, atlas: na.Atlas, tmp_path: Path) -> None:
    fewer = na.build_atlas(model, two_relations()[:3], tmp_path / "fewer", SETTINGS, progress=False)
    wanted = pl.col("condition").is_in(["random", "matched"]) & (pl.col("fact") < 2)
    first, second = (a.table("effects").filter(wanted)["p_after"].to_numpy() for a in (atlas, fewer))
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert len(fact_queries(model, two_relations()[0])) * 2 * 2 * len(SETTINGS.gains) == len(first)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"share": 0.0}, "share 0.0"),
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"gains": ()}, "gains"),
        ({"gains": (2.0, 2.0)}, "gains"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(na.SettingsError, match=said):
        na.LocateSettings(**settings)  # type: ignore[arg-type]
