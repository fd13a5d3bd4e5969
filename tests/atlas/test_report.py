import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from plotly.offline import get_plotlyjs

from neuronatlas.atlas import Atlas, AtlasError, write_report
from tests.atlas.pages import Page

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]
MakeAtlas = Callable[..., Path]


def test_a_report_asks_nothing_of_any_network(make_atlas: MakeAtlas) -> None:
    page = Page(write_report(make_atlas()))
    assert page.source.count(get_plotlyjs()) == 1
    addresses = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href", "data"}
    ]
    assert addresses
    assert all(address is not None and address.startswith("#") for address in addresses)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", page.own)
    (policy,) = (
        attributes["content"]
        for _, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_a_report_opens_with_the_main_numbers_and_their_intervals(make_atlas: MakeAtlas) -> None:
    folder = make_atlas()
    text = Page(write_report(folder)).text
    rows = Atlas.open(folder).table("summary").filter(relation="all", gain=0.0)
    for condition in ("located", "random"):
        ((change, low, high),) = (
            rows.filter(condition=condition).select("change", "change_low", "change_high") * 100
        ).iter_rows()
        digits = 0 if condition == "located" else 1
        shown = f"{change:+.{digits}f} % [{low:+.{digits}f}, {high:+.{digits}f}]"
        assert shown in text.replace(" ,", ",")
    assert "Read with care" in text


def test_sections_come_in_the_order_in_which_one_asks(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    page = Page(write_report(make_atlas(make_tables(relations=3, gains=(0.0, 0.5, 2.0)))))
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == [
        *["layers", "counts", "sharing", "effects", "relations", "neurons", "facts", "definitions", "provenance"]
    ]
    drawn = [attributes["id"] for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert drawn == [f"figure-{name}" for name in page.figures]
    assert {"layers", "sharing-by-relation", "effects", "effects-log-odds", "gains"} <= set(page.figures)


def test_every_metric_in_the_report_is_defined_there(make_atlas: MakeAtlas) -> None:
    text = Page(write_report(make_atlas())).text.lower()
    definitions = text[text.index("what the words mean") :]
    for term in (
        "p(answer)",
        "log-odds",
        "interval",
        "known",
        "completeness gap",
        "attribution score",
        "shared neurons",
    ):
        assert term in definitions
    for control in (
        "on held-out prompts",
        "random, same layers",
        "as active",
        "activation baseline",
        "another relation",
    ):
        assert control in definitions


def test_provenance_names_model_settings_versions_and_command(make_atlas: MakeAtlas) -> None:
    text = Page(write_report(make_atlas())).text
    for fact in (
        "made-up/bert",
        "0123abc",
        "5f" * 32,
        "threshold.coarse 0.2",
        "seed 7",
        "torch",
        "locate made-up/bert",
    ):
        assert fact in text


EVIL = "</script><script>alert('x')</script><b>&amp;\" {{ 7*7 }}"


def test_words_of_the_user_are_shown_and_never_run(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    tables = {
        name: frame.with_columns(
            pl.col(column).replace("capital", EVIL) for column in frame.columns if "relation" in column
        )
        for name, frame in make_tables(relations=3, facts=4).items()
    }
    tables["facts"] = tables["facts"].with_columns(subject=pl.lit(EVIL), answer=pl.lit(EVIL))
    model = {"id": EVIL, "digest": EVIL}
    page = Page(write_report(make_atlas(tables, model=model, settings={EVIL: EVIL}, command=EVIL)))
    assert "alert('x')</script>" not in page.source
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert EVIL in page.text
    labels = page.figures["relations-change-0"]["layout"]["yaxis"]["ticktext"]
    assert any(label.startswith("&lt;/script&gt;") for label in labels)


def test_equal_atlases_give_equal_bytes(
    make_atlas: MakeAtlas, make_tables: MakeTables, make_salience: MakeTables
) -> None:
    made = {"facts": make_tables(relations=3), "labels": make_salience(labels=("upos", "suffix"), layers=3, width=40)}
    folders = [make_atlas(tables, name=name) for name, tables in made.items()]
    first = [write_report(folder).read_bytes() for folder in folders]
    script = "import sys; from neuronatlas.atlas import write_report; list(map(write_report, sys.argv[1:]))"
    environment = os.environ | {"PYTHONHASHSEED": "4321", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, *map(str, folders)], check=True, env=environment)
    assert [(folder / "report.html").read_bytes() for folder in folders] == first
    assert write_report(make_atlas(make_tables(relations=3), name="another")).read_bytes() == first[0]


def test_a_report_leaves_nothing_else_behind(make_atlas: MakeAtlas) -> None:
    folder = make_atlas()
    before = {path.name for path in folder.iterdir()}
    assert write_report(str(folder)) == folder / "report.html"
    assert {path.name for path in folder.iterdir()} == before | {"report.html"}


def test_long_fact_lists_are_cut_and_the_report_says_so(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    tables = make_tables(relations=2, facts=2)
    many = pl.concat([tables["facts"].head(1)] * 501).with_columns(fact=pl.int_range(501))
    page = Page(write_report(make_atlas(tables | {"facts": many})))
    assert "The first 500 of 501 facts" in page.text
    rows = page.own[page.own.index('id="facts-table"') :].split("</table>")[0].count("<tr>")
    assert rows == 500 + 1


def test_an_atlas_without_any_neuron_still_has_a_report(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    tables = make_tables(relations=2, facts=3)
    for name in ("neurons", "coarse", "layers", "sharing", "effects", "summary"):
        tables[name] = tables[name].clear()
    tables["facts"] = tables["facts"].with_columns(n_neurons=pl.lit(0, pl.Int64))
    text = Page(write_report(make_atlas(tables))).text
    assert "No knowledge neurons were found." in text
    assert "was not measured" in text
    assert "6 facts have no neuron" in text


def test_effects_without_intervals_are_shown_without(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    tables = make_tables(relations=2, facts=3)
    for missing in (None, float("nan")):
        bare = tables["summary"].with_columns(
            pl.lit(missing, pl.Float64).alias(f"change_{end}") for end in ("low", "high")
        )
        page = Page(write_report(make_atlas(tables | {"summary": bare}, name=str(missing))))
        assert "too few facts for an interval" in page.text
        assert page.figures["effects"]["data"][0]["error_x"]["array"][0] is None


def test_one_fact_is_enough_and_claims_no_interval(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    text = Page(write_report(make_atlas(make_tables(relations=1, facts=1)))).text
    assert "too few facts for an interval" in text
    assert "There are no two facts to compare." in text


def test_an_unfinished_atlas_is_refused_with_the_command_that_goes_on(tmp_path: Path) -> None:
    with Atlas.create_or_resume(tmp_path, model={"digest": "d"}, settings={}, command="neuronatlas locate m f"):
        pass
    with pytest.raises(AtlasError, match=r"not complete yet.*run again: neuronatlas locate m f"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_table_is_named(make_atlas: MakeAtlas, make_tables: MakeTables) -> None:
    tables = make_tables(relations=1, facts=2)
    del tables["sharing"]
    with pytest.raises(AtlasError, match="no table 'sharing'"):
        write_report(make_atlas(tables))
