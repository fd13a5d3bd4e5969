"""An atlas of facts whose answers have several tokens keeps what was found for the whole and for each of them."""

from pathlib import Path

import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.specimen import specimen_facts, specimen_folder

FACTS = [
    na.Fact(fact.relation, fact.subject, fact.answer, fact.prompts[:4])
    for fact in specimen_facts(one_word=False)
    if fact.relation == "director" and fact.words in (1, 2)
][:6]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> na.Atlas:
    folder = tmp_path_factory.mktemp("several") / "atlas"
    settings = na.LocateSettings(rule="gauss-legendre", steps=3, share=0.7)
    return na.build_atlas(na.load(specimen_folder()), FACTS, folder, settings, progress=False)


def test_each_token_has_its_log_p_and_their_mean_is_the_prompts(atlas: na.Atlas) -> None:
    tokens = atlas.table("tokens").group_by("fact", "prompt").agg(pl.len().alias("n"), pl.mean("log_p"))
    prompts = atlas.table("prompts").filter(pl.col("tokens") > 1).join(tokens, on=["fact", "prompt"])
    assert prompts.height == 4 * sum(" " in fact.answer for fact in FACTS) > 0
    assert prompts["n"].to_list() == prompts["tokens"].to_list()
    assert prompts["log_p"].to_list() == pytest.approx(prompts["mean_log_p"].to_list())
    assert prompts["p"].log().to_list() == pytest.approx((prompts["mean_log_p"] * prompts["tokens"]).to_list())
    assert set(prompts["unit"]) == {"log P"}


def test_the_neurons_of_each_token_are_those_that_locate_finds(atlas: na.Atlas) -> None:
    model = na.load(specimen_folder())
    found = atlas.table("token_neurons")
    for index, fact in enumerate(FACTS):
        neurons = na.locate(model, fact, share=0.7, steps=3)
        of_fact = atlas.table("neurons").filter(fact=index, rule="gauss-legendre", fold="all")
        assert of_fact.select("layer", "unit").rows() == [(n.layer, n.unit) for n in neurons]
        for number, own in enumerate(neurons.tokens):
            rows = found.filter(fact=index, token=number).select("layer", "unit").rows()
            assert rows == [(n.layer, n.unit) for n in own]


def test_the_report_tells_gaps_of_such_answers_in_their_own_unit(atlas: na.Atlas, tmp_path: Path) -> None:
    page = na.write_report(atlas.folder).read_text(encoding="utf-8")
    assert "in units of log P (answers of several tokens)" in page
