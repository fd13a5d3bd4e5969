"""What two atlases have in common, on atlases whose neurons are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.atlas import Atlas, AtlasError, write_report
from neuronatlas.studies.comparing.correlations import spearman
from tests.atlas.pages import write_atlas

WIDTH = 200
Sets = dict[str, list[tuple[int, int]]]


def knowledge(
    folder: Path, facts: Sets, *, layers: int = 4, widths: bool = True, digest: str = "a", **about: Any
) -> Path:
    """An atlas of facts `relation/subject` with these neurons each."""
    names = [name.split("/") for name in facts]
    frame = pl.DataFrame(
        {
            "fact": range(len(names)),
            "relation": [name[0] for name in names],
            "subject": [name[1] for name in names],
            "answer": "an answer",
            "p_mean": np.linspace(0.1, 0.9, len(names)),
            "n_neurons": [len(own) for own in facts.values()],
        }
    )
    rows = [(fact, layer, unit) for fact, own in enumerate(facts.values()) for layer, unit in own]
    neurons = pl.DataFrame(rows, schema=["fact", "layer", "unit"], orient="row").with_columns(
        rule=pl.lit("gauss-legendre"), fold=pl.lit("all")
    )
    counts = pl.DataFrame({"rule": "gauss-legendre", "relation": "all", "layer": range(layers), "n": 0})
    if widths:
        counts = counts.with_columns(width=pl.lit(WIDTH, dtype=pl.Int64))
    write_atlas(
        folder,
        {"facts": frame, "neurons": neurons, "layers": counts},
        model={"id": f"model-{digest}", "digest": digest},
        **about,
    )
    return folder


def salience(
    folder: Path,
    sets: Sets,
    *,
    layers: int = 4,
    digest: str = "a",
    site: str = "hidden",
    read: list[int] | None = None,
    told: bool = True,
) -> Path:
    """An atlas of properties with these minimal sets, and rankings that put low units first."""
    rows = [(label, 0, layer, unit) for label, own in sets.items() for layer, unit in own]
    counts = [
        (label, None, layer, sum(place == layer for place, _ in own), WIDTH)
        for label, own in sets.items()
        for layer in read or range(layers)
    ]
    ranks = [
        (label, "lca", 10 * layer + unit, layer, unit) for label in sets for layer in range(layers) for unit in range(9)
    ]
    schema = {"label": pl.String, "class": pl.String, "layer": pl.Int64, "n": pl.Int64, "width": pl.Int64}
    tables = {
        "properties": pl.DataFrame({"label": list(sets)}),
        "sets": pl.DataFrame(rows, schema=["label", "set", "layer", "unit"], orient="row"),
        "layers": pl.DataFrame(counts, schema=schema, orient="row"),
        "rankings": pl.DataFrame(ranks, schema=["label", "method", "rank", "layer", "unit"], orient="row"),
    }
    settings = {"labels": list(sets), "site": site, "layers": read}
    write_atlas(folder, tables, model={"id": f"model-{digest}", "digest": digest}, settings=settings)
    if told:
        meta = json.loads((folder / "atlas.json").read_text("utf-8"))
        meta["remembered"] = {"layer_widths": [WIDTH] * layers}
        (folder / "atlas.json").write_text(json.dumps(meta), "utf-8")
    return folder


def neurons_in(layer: int, units: range) -> list[tuple[int, int]]:
    return [(layer, unit) for unit in units]


def test_planted_overlap_is_found_with_the_chance_that_goes_with_it(tmp_path: Path) -> None:
    first = salience(tmp_path / "a", {"upos": neurons_in(1, range(20)), "number": neurons_in(2, range(30))})
    second = salience(
        tmp_path / "b", {"upos": neurons_in(1, range(15, 40)), "number": neurons_in(3, range(30))}, digest="b"
    )
    found = na.compare(first, second, progress=False)
    upos, number = found.items.filter(level="property").sort("name", descending=True).iter_rows(named=True)
    assert (upos["n_shared"], upos["n_first"], upos["n_second"]) == (5, 20, 25)
    assert upos["expected"] == 20 * 25 / (4 * WIDTH)
    assert upos["expected_in_layers"] == 20 * 25 / WIDTH
    assert upos["p_value"] < 0.001 < upos["p_in_layers"] < 0.1
    assert (number["n_shared"], number["p_value"]) == (0, 1.0)
    assert upos["q_value"] == pytest.approx(2 * upos["p_value"])


def test_neurons_that_moved_down_are_said_to_have_moved_down(tmp_path: Path) -> None:
    first = salience(tmp_path / "a", {"upos": neurons_in(3, range(40)), "number": neurons_in(1, range(40))})
    second = salience(
        tmp_path / "b", {"upos": neurons_in(0, range(40)), "number": neurons_in(1, range(40))}, digest="b"
    )
    found = na.compare(first, second, progress=False).items.filter(level="property")
    moved = dict(found.select("name", "moved").iter_rows())
    assert moved == {"upos": pytest.approx(-1.0), "number": pytest.approx(0.0)}
    assert dict(found.select("name", pl.col("q_moved") < 0.01).iter_rows()) == {"upos": True, "number": False}
    assert found["excess_first"].to_list() == [1.0, 1.0]


def test_an_atlas_compared_with_itself_agrees_wholly(tmp_path: Path) -> None:
    folder = salience(tmp_path / "a", {"upos": neurons_in(1, range(20))})
    found = na.compare(folder, folder, progress=False)
    row = found.items.row(0, named=True)
    assert (row["jaccard"], row["moved"], row["distance"], row["p_distance"]) == (1.0, 0.0, 0.0, 1.0)
    assert found.correlations["correlation"].to_list() == [1.0]
    assert found.notes == ()


def test_facts_are_matched_by_their_words_and_held_against_other_facts(tmp_path: Path) -> None:
    own = {f"capital/{n}": [(3, 10 * n + k) for k in range(3)] for n in range(6)}
    first = knowledge(tmp_path / "a", own | {"capital/only here": [(0, 0)]})
    second = knowledge(tmp_path / "b", dict(reversed(own.items())), digest="b")
    found = na.compare(first, second, progress=False).items
    facts = found.filter(level="fact")
    assert facts.height == 6
    assert facts["jaccard"].to_list() == [1.0] * 6
    relation = found.filter(level="relation").row(0, named=True)
    assert (relation["n_first"], relation["n_shared"], relation["other_jaccard"]) == (18, 18, 0.0)
    assert all(q < 1e-5 for q in facts["q_value"])


def test_models_of_other_depths_are_compared_by_depth_alone_and_it_is_said(tmp_path: Path) -> None:
    first = salience(tmp_path / "a", {"upos": neurons_in(3, range(30))}, layers=4)
    second = salience(tmp_path / "b", {"upos": neurons_in(0, range(30))}, layers=9, digest="b")
    found = na.compare(first, second, progress=False)
    assert not found.by_neuron
    assert "model-a has 4 layers and model-b has 9" in found.notes[0]
    row = found.items.row(0, named=True)
    assert (row["n_shared"], row["jaccard"], row["p_value"]) == (None, None, None)
    assert row["moved"] == pytest.approx(-1.0)
    assert found.pairs.is_empty()


def test_what_an_older_atlas_does_not_say_is_left_out_and_told(tmp_path: Path) -> None:
    facts = {"capital/1": [(0, 0), (1, 1)]}
    first, second = knowledge(tmp_path / "a", facts, widths=False), knowledge(tmp_path / "b", facts, widths=False)
    found = na.compare(first, second, progress=False)
    row = found.items.filter(level="relation").row(0, named=True)
    assert (row["n_shared"], row["jaccard"], row["expected"], row["p_value"]) == (2, 1.0, None, None)
    assert sum("does not say how many neurons" in note for note in found.notes) == 2


def test_the_comparison_is_an_atlas_with_a_report_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = salience(tmp_path / "a", {name: neurons_in(n, range(20)) for n, name in enumerate(("x", "<y>", "z"))})
    second = salience(tmp_path / "b", {name: neurons_in(n, range(9, 29)) for n, name in enumerate(("x", "<y>", "z"))})
    for name in ("one", "two"):
        na.compare(first, second, tmp_path / name, progress=False)
        report = write_report(tmp_path / name).read_text(encoding="utf-8")
    assert "&lt;y&gt;" in report
    assert "Which neurons both have" in report
    for table in Atlas.open(tmp_path / "one").tables:
        one, two = (tmp_path / name / f"{table}.parquet" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    with pytest.raises(AtlasError, match="holds no sets of neurons to compare"):
        na.compare(tmp_path / "one", first, progress=False)


def test_every_figure_of_a_comparison_can_be_printed(tmp_path: Path) -> None:
    first = salience(tmp_path / "a", {name: neurons_in(n, range(20)) for n, name in enumerate(("x", "y"))})
    second = salience(
        tmp_path / "b", {name: neurons_in(n, range(9, 29)) for n, name in enumerate(("x", "y"))}, digest="b"
    )
    na.compare(first, second, tmp_path / "compared", progress=False)
    written = na.write_figures(tmp_path / "compared", tmp_path / "figures", text=True)
    assert [path.stem for path in written] == ["overlap", "shift-main", "pairs", "flow-0", "flow-1"]
    texts = {path.stem: path.read_text(encoding="utf-8") for path in written}
    assert all("model-a" in texts[name] and "model-b" in texts[name] for name in ("shift-main", "pairs", "flow-0"))
    assert "% apart" in texts["pairs"]


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    words = salience(tmp_path / "words", {"upos": neurons_in(0, range(5))})
    others = salience(tmp_path / "others", {"number": neurons_in(0, range(5))})
    facts = knowledge(tmp_path / "facts", {"capital/1": [(0, 0)]})
    strangers = knowledge(tmp_path / "strangers", {"capital/2": [(0, 0)]})
    for pair, why in (
        ((words, others), "have no property in common: upos there, number here"),
        ((words, facts), "give two of one kind"),
        ((facts, strangers), "facts are matched by relation, subject and answer"),
    ):
        with pytest.raises(na.ComparisonError, match=why) as error:
            na.compare(*pair, progress=False)
        assert "\n" not in str(error.value)
    meta = json.loads((words / "atlas.json").read_text())
    (words / "atlas.json").write_text(json.dumps(meta | {"state": "running"}))
    with pytest.raises(na.ComparisonError, match="is not finished, so it cannot be compared; run again: neuronatlas"):
        na.compare(words, others, progress=False)


def test_rank_correlation_does_not_see_the_scale_and_needs_something_to_vary() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=300)
    found = spearman(scores, np.exp(scores + rng.normal(size=300)), seed=0)
    assert 0.5 < found.low < found.estimate < found.high < 0.9
    assert spearman(scores, np.exp(scores), seed=0).estimate == 1.0
    assert np.isnan(spearman(scores, np.ones(300), seed=0).estimate)
    # Of very many the interval is computed, not drawn: as wide as the standard error of no correlation says.
    wide = spearman(rng.normal(size=30_000), rng.normal(size=30_000), seed=0)
    assert wide.high - wide.low == pytest.approx(2 * 1.96 / 30_000**0.5, rel=0.01)


def test_an_atlas_of_some_layers_has_the_depths_of_all(tmp_path: Path) -> None:
    sets = {"upos": neurons_in(1, range(10))}
    whole = salience(tmp_path / "whole", sets, layers=5)
    some = salience(tmp_path / "some", sets, layers=5, read=[0, 1])
    found = na.compare(whole, some, progress=False)
    assert [found.first.n_layers, found.second.n_layers] == [5, 5]
    assert found.items["depth_second"][0] == pytest.approx(0.25)
    assert found.items["moved"][0] == pytest.approx(0.0)
    assert "other layers were read" in " ".join(found.notes)
    same = na.compare(some, salience(tmp_path / "same", sets, layers=5, read=[0, 1]), progress=False)
    assert same.by_neuron
    assert same.items["expected"][0] == pytest.approx(10 * 10 / (2 * WIDTH))
    old = salience(tmp_path / "old", sets, layers=5, read=[0, 1], told=False)
    assert "does not say how many there are" in " ".join(na.compare(whole, old, progress=False).notes)


def test_a_comparison_of_what_was_made_again_otherwise_is_refused(tmp_path: Path) -> None:
    first = salience(tmp_path / "first", {"upos": neurons_in(1, range(10))})
    second = salience(tmp_path / "second", {"upos": neurons_in(2, range(10))}, digest="b")
    na.compare(first, second, tmp_path / "compared", progress=False)
    na.compare(first, second, tmp_path / "compared", progress=False)
    salience(tmp_path / "again", {"upos": neurons_in(2, range(5, 15))}, digest="b")
    with pytest.raises(AtlasError, match=r"settings\.second\.sets was \w+, now"):
        na.compare(first, tmp_path / "again", tmp_path / "compared", progress=False)
    salience(tmp_path / "told", {"upos": neurons_in(2, range(10))}, digest="b", read=[0, 1, 2, 3])
    with pytest.raises(AtlasError, match=r"settings\.second\.settings\.layers was None, now"):
        na.compare(first, tmp_path / "told", tmp_path / "compared", progress=False)
