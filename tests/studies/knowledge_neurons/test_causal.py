"""The study on a causal model that was trained: all experiments on a few facts."""

from pathlib import Path

import neuronatlas as na
from neuronatlas.atlas.knowledge_study import findings_of
from neuronatlas.studies.demo import facts_of_specimen
from neuronatlas.studies.knowledge_neurons.selecting import spread_facts
from tests.atlas.pages import Page

SETTINGS = na.KnowledgeStudySettings(
    sampled=1, edits=1, judged=3, draws=1, thresholds=(0.1, 0.2), gains=(0.0, 2.0), facts_per_part=2
)


def test_a_causal_model_that_knows_its_facts_is_studied_whole(tmp_path: Path) -> None:
    model = na.load(na.specimen_folder("causal"))
    every = facts_of_specimen("causal", relations=("capital", "capital_of", "currency"))
    study = na.study_knowledge_neurons(
        model, spread_facts(every, 3), tmp_path / "study", SETTINGS, background=every, progress=False
    )
    told = study.table("experiments")
    assert told["done"].all()
    refused = dict(told.drop_nulls("refused").select("experiment", "refused").iter_rows())
    assert set(findings_of(study)) == set(told["experiment"]) - set(refused)
    assert not refused
    asked = study.table("implicit_counts").filter(kind="two-hop").row(0, named=True)
    assert asked["n_prompts"] >= asked["n_suited"] >= asked["n_right"]
    tested = study.table("implicit_effects").filter(kind="two-hop")
    assert tested["prompt"].n_unique() == asked["n_tested"]
    changes = dict(study.table("gain_sweep").filter(relation="all", gain=0.0).select("condition", "change").iter_rows())
    assert changes["located"] < changes["random"]
    measures = study.table("update_measures").filter(measure="success rate")
    assert dict(measures.select("method", "after").iter_rows())["exact"] == 1.0
    text = Page(na.write_report(study.folder)).text
    assert "Read with care" in text
    assert "3 relations only" in text
