"""What fine-tuning does: planted shifts and kept neurons are found, chance is told, no child of another base passes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch

import neuronatlas as na
from neuronatlas.addresses import address_series
from neuronatlas.atlas.salient_study.fine_tuning import section
from neuronatlas.statistics import benjamini_hochberg
from neuronatlas.studies.children.record import Child
from neuronatlas.studies.children.settings import ChildError
from neuronatlas.studies.salient_neurons.fine_tuning import answered, compared, require_base, sources_of, unseen
from neuronatlas.studies.salient_neurons.settings import StudySettings
from neuronatlas.studies.salient_neurons.study import Source, Study

WIDTHS = (40, 40, 40, 40, 40)
LAYOUT = na.Layout("hidden", WIDTHS)


def salient(layer: int, units: range, rows: int = 400, noise: float = 0.3) -> tuple[na.Activations, list[str]]:
    """Activations in which these units of a layer, and no others, tell two classes apart."""
    rng = np.random.default_rng([layer, units.start])
    labels = rng.integers(2, size=rows)
    values = rng.normal(size=(rows, LAYOUT.n_neurons)).astype(np.float32)
    for unit in units:
        values[:, layer * 40 + unit] = labels * 2.0 - 1 + noise * rng.normal(size=rows)
    return na.Activations.of(values, LAYOUT), [("noun", "verb")[label] for label in labels]


def top(layer: int, units: range, count: int = 10) -> pl.DataFrame:
    acts, labels = salient(layer, units)
    found = na.rank(acts, labels, method="probeless", progress=False).top(count)
    return pl.DataFrame(address_series(LAYOUT, found))


def test_a_planted_shift_to_lower_layers_is_recovered_with_its_sign_and_size() -> None:
    found = compared(top(3, range(10)), top(1, range(10)), WIDTHS, seed=0, draws=500)
    assert found["moved"] == pytest.approx(-0.5)
    assert found["signed_distance"] == pytest.approx(-0.5)
    assert found["distance"] == pytest.approx(0.5)
    assert found["p_moved"] < 0.01
    assert found["n_kept"] == 0
    back = compared(top(1, range(10)), top(3, range(10)), WIDTHS, seed=0, draws=500)
    assert back["signed_distance"] == pytest.approx(0.5)


def test_the_neurons_that_were_kept_are_counted_against_chance() -> None:
    found = compared(top(2, range(10)), top(2, range(4, 14)), WIDTHS, seed=0, draws=500)
    assert (found["n_kept"], found["kept"]) == (6, 0.6)
    assert found["kept_low"] == pytest.approx(0.3)  # quantiles of ten draws of which six in ten are kept
    assert found["kept_high"] == pytest.approx(0.9)
    assert found["jaccard_low"] < found["jaccard"] == 6 / 14 < found["jaccard_high"]
    assert found["p"] < 1e-4
    assert found["kept_expected"] == pytest.approx(10 / 40)  # both sets lie in one layer of 40
    assert found["p_in_layers"] > found["p"]
    assert found["moved"] == found["distance"] == 0


def test_sets_that_have_nothing_to_do_with_each_other_overlap_and_lie_as_chance_has_it() -> None:
    rng, sets = np.random.default_rng(0), []
    for _ in range(2):
        chosen = [LAYOUT.neuron(int(index)) for index in rng.choice(200, size=40, replace=False)]
        sets.append(pl.DataFrame(address_series(LAYOUT, chosen)))
    found = compared(sets[0], sets[1], WIDTHS, seed=0, draws=500)
    assert found["p"] > 0.05
    assert found["p_distance"] > 0.05
    assert found["moved_low"] < 0 < found["moved_high"]


class Found:
    """A member of a study, its tables written by hand: its top neurons lie in one layer, in this order of units."""

    def __init__(self, source: Source, layer: int, units: range, accuracy: float, digest: str = "") -> None:
        self.source, self.name = source, source.name
        first = [layer * 40 + unit for unit in units]
        order = [*first, *(index for index in range(200) if index not in first)]
        ranking = pl.DataFrame(address_series(LAYOUT, [LAYOUT.neuron(index) for index in order]))
        about = {"label": pl.lit("upos")}
        self.tables = {
            "properties": pl.DataFrame({"label": ["upos"]}),
            "rankings": ranking.with_columns(method=pl.lit("lca"), rank=pl.int_range(pl.len()), **about),
            "sets": ranking.head(len(units)).with_columns(set=pl.lit(0), **about),
            "shuffled_layers": pl.DataFrame({"layer": range(5), "n": [2] * 5, "width": WIDTHS}).with_columns(**about),
            "measures": pl.DataFrame(
                {"label": ["upos"], "measure": ["accuracy"], "value": [accuracy], "low": [accuracy], "high": [accuracy]}
            ),
        }
        self.atlas = SimpleNamespace(meta={"model": {"digest": digest}})

    def table(self, name: str) -> pl.DataFrame:
        return self.tables[name]


def child(seed: int, *, shuffled: bool = False, base: str = "base-digest") -> Child:
    layers = [
        {"model": which, "layer": layer, "accuracy": 0.5, "low": 0.4, "high": 0.6, "chance": 0.3}
        for which in ("base", "child")
        for layer in range(5)
    ]
    record: dict[str, Any] = {
        "base": {"name": "base", "digest": base},
        "digest": f"child-{seed}",
        "task": {"label": "role", "classes": ["a", "b"]},
        "settings": {"seed": seed, "shuffled": shuffled},
        "layers": layers,
        "trained": [],
    }
    return Child(Path(f"child-{seed}{'-shuffled' if shuffled else ''}"), record)


def study() -> Study:
    def loads() -> na.Model:
        raise AssertionError("no question loads a model of its own")

    made = [
        Found(Source("base", loads), 3, range(10), 0.8, "base-digest"),
        Found(Source.of_child(child(0), "base", loads), 1, range(10), 0.9),
        Found(Source.of_child(child(1), "base", loads), 2, range(10), 0.9),
        Found(Source.of_child(child(2), "base", loads), 1, range(5, 15), 0.9),
        Found(Source.of_child(child(0, shuffled=True), "base", loads), 3, range(2, 12), 0.7),
    ]
    return Study(StudySettings(draws=200), tuple(made))  # type: ignore[arg-type]


def test_children_are_summed_up_over_their_seeds_beside_the_control() -> None:
    tables = answered(study())
    row = tables["child_seeds"].row(by_predicate=(pl.col("role") == "child") & (pl.col("of") == "top"), named=True)
    assert (row["n_seeds"], row["n_down"], row["kept"]) == (3, 3, 0.0)
    assert row["moved"] == pytest.approx((-0.5 - 0.25 - 0.5) / 3)
    assert (row["moved_least"], row["moved_most"]) == pytest.approx((-0.5, -0.25))
    assert row["accuracy_change"] == pytest.approx(0.1)
    assert (row["control_kept"], row["control_moved"]) == pytest.approx((0.8, 0.0))
    control = tables["child_seeds"].filter(pl.col("role") == "shuffled child", pl.col("of") == "top")
    assert control["control_moved"].to_list() == [None]


def test_claims_are_judged_within_layers_and_adjusted() -> None:
    tables = answered(study())
    control = tables["child_pairs"].filter(pl.col("role") == "shuffled child", pl.col("of") == "top")
    assert control["p_in_layers_adjusted"].to_list() == control["p_in_layers"].to_list()  # of a single one
    pairs = tables["child_pairs"].filter(pl.col("role") == "child", pl.col("of") == "top")
    for name in ("p", "p_in_layers", "p_distance", "p_moved"):
        found = pairs[f"{name}_adjusted"]
        assert found.to_list() == pytest.approx(benjamini_hochberg(pairs[name].to_numpy()).tolist())
    agreement = tables["child_agreement"].filter(pl.col("of") == "top")
    assert (agreement["p_in_layers_adjusted"] >= agreement["p_in_layers"]).all()
    assert agreement["p_adjusted"].is_not_null().all()


def test_what_a_probe_cannot_read_in_base_or_child_takes_no_part_and_the_report_says_so() -> None:
    whole = study()
    blind = cast(Found, whole.members[3])
    shuffled = pl.DataFrame({"label": ["upos"], "measure": ["shuffled"], "value": [0.9], "low": [0.9], "high": [0.95]})
    blind.tables["measures"] = pl.concat([blind.tables["measures"], shuffled])
    tables = answered(whole) | {"minimal_sets": pl.DataFrame({"label": ["upos"]})}
    row = tables["child_seeds"].row(by_predicate=(pl.col("role") == "child") & (pl.col("of") == "top"), named=True)
    assert (row["n_seeds"], row["n_left_out"], row["moved_least"]) == (2, 1, pytest.approx(-0.5))
    assert tables["child_pairs"].filter(model="child-2")["p_in_layers_adjusted"].is_null().all()
    assert tables["child_agreement"].filter(pl.col("read"))["other"].unique().to_list() == ["child-1"]
    found = section(tables)
    assert found is not None
    assert "1 comparison left out, where a probe reads upos no better than chance" in found.finding
    assert len(found.listings[0].rows) == 6


def test_seeds_are_compared_with_each_other_and_never_with_the_control() -> None:
    agreement = answered(study())["child_agreement"].filter(pl.col("of") == "top")
    pairs = agreement.select("model", "other", "n_shared").rows()
    assert pairs == [("child-0", "child-1", 0), ("child-0", "child-2", 5), ("child-1", "child-2", 0)]


def test_the_task_is_told_layer_by_layer_for_base_and_child() -> None:
    task = answered(study())["child_task"].filter(pl.col("model") == "child-1")
    assert task["task"].unique().to_list() == ["role"]
    assert task.select("which", "layer", "depth").rows()[5:7] == [("child", 0, 0.0), ("child", 1, 0.25)]


def test_without_children_there_is_nothing_to_say() -> None:
    alone = Study(StudySettings(), study().members[:1])
    assert [table.height for table in answered(alone).values()] == [0, 0, 0, 0]


def test_a_child_of_another_base_or_another_shape_is_refused() -> None:
    whole, loaded = study(), cast(na.Model, SimpleNamespace(dtype=torch.float32, digest="child-0"))
    require_base(whole, whole.members[1], loaded)
    member = Found(Source.of_child(child(0, base="other"), "base", whole.members[0].source.load), 1, range(10), 0.9)
    with pytest.raises(ChildError, match=r"not of base \(base-digest\): give its own base"):
        require_base(whole, member, loaded)  # type: ignore[arg-type]
    other = cast(na.Model, SimpleNamespace(dtype=torch.float32, digest="trained further"))
    with pytest.raises(ChildError, match=r"has other weights \(digest trained further\) than it was saved with"):
        require_base(whole, whole.members[1], other)
    narrow = Found(whole.members[1].source, 1, range(10), 0.9)
    narrow.tables["shuffled_layers"] = narrow.tables["shuffled_layers"].with_columns(width=pl.lit(39))
    with pytest.raises(ChildError, match="is no child of base: layers of"):
        answered(Study(StudySettings(), (whole.members[0], narrow)))  # type: ignore[arg-type]


def test_folders_of_children_are_told_from_models_and_given_their_base(tmp_path: Path) -> None:
    folder = tmp_path / "kid"
    folder.mkdir()
    record = {"schema": 1, "base": {"name": "a"}, "settings": {"shuffled": True}}
    (folder / "child.json").write_text(json.dumps(record))
    asked: list[str] = []
    found = sources_of([str(folder), "a", "b"], asked.append)  # type: ignore[arg-type]
    assert [(source.name, source.role, source.base) for source in found] == [
        ("a", "model", ""),
        ("b", "model", ""),
        ("kid", "shuffled child", "a"),
    ]
    found[2].load()
    assert asked == [str(folder)]
    assert sources_of([str(folder), "elsewhere/a"], asked.append)[1].base == "elsewhere/a"  # type: ignore[arg-type]
    with pytest.raises(ChildError, match=r"which is not among the models \(b, c\): give it as well"):
        sources_of([str(folder), "b", "c"], asked.append)  # type: ignore[arg-type]


def test_a_base_is_known_by_its_folder_however_written_and_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("kid", "bert", "moved", "other"):
        Path(name).mkdir()
    record = {"schema": 1, "base": {"name": "bert", "digest": "ab12"}, "settings": {"shuffled": False}}
    Path("kid", "child.json").write_text(json.dumps(record))

    def load(name: str) -> na.Model:
        assert name != "kid"
        return cast(na.Model, SimpleNamespace(digest="ab12" if name == "moved" else "cd34"))

    assert sources_of(["kid", "other", "./bert"], load)[2].base == "bert"
    assert sources_of(["kid", "other", "moved"], load)[2].base == "moved"
    with pytest.raises(ChildError, match=r"not among the models \(other, elsewhere\): give it as well, in the dtype"):
        sources_of(["kid", "other", "elsewhere"], load)


def test_folders_are_called_by_their_last_part_where_no_other_ends_so(tmp_path: Path) -> None:
    for name in ("one/bert", "two/bert", "two/gpt"):
        (tmp_path / name).mkdir(parents=True)
    given = [str(tmp_path / "one/bert"), str(tmp_path / "two/bert"), str(tmp_path / "two/gpt"), "hub/model"]
    names = [source.name for source in sources_of(given, lambda name: cast(na.Model, name))]
    assert names == [given[0], given[1], "gpt", "hub/model"]


def test_sentences_that_any_child_was_trained_on_are_left_out() -> None:
    from neuronatlas.studies.children.record import sentence_digest  # noqa: PLC0415

    corpus = na.corpus_of_specimen("upos", n_sentences=10)
    one, two = child(0), child(1)
    one.record["trained"].append(sentence_digest(corpus.sentences[0]))
    two.record["trained"].append(sentence_digest(corpus.sentences[3]))
    left = unseen([one, two], [corpus])[0]
    assert [sentence.source for sentence in left.sentences] == [
        sentence.source for place, sentence in enumerate(corpus.sentences) if place not in {0, 3}
    ]


def test_the_report_says_what_was_kept_and_where_it_moved_beside_the_control() -> None:
    tables = answered(study()) | {"minimal_sets": pl.DataFrame({"label": ["upos"]})}
    found = section(tables)
    assert found is not None
    text = found.finding.replace("\N{NO-BREAK SPACE}", " ")
    assert "children keep 0 % of the top neurons" in text
    assert "moves by \N{MINUS SIGN}0.42, down in 3 of 3 children" in text
    assert "trained on shuffled labels 80 % stay, moved by 0.00" in text
    assert "(by chance in the same layers 0 %; more than chance in 0 of 3)" in text
    assert "further than chance in 3" in text
    assert [plot.name for plot in found.plots] == ["child-kept", "child-moved", "child-task-0"]
    assert len(found.listings[0].rows) == 8  # four children, two kinds of sets
    assert section(answered(Study(StudySettings(), study().members[:1]))) is None
