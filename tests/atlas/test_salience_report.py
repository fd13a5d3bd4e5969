import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neuronatlas.atlas import AtlasError, write_report
from neuronatlas.atlas.report import KINDS
from tests.atlas.pages import Page, write_atlas
from tests.atlas.salience_tables import Recipe, salience_tables

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]
MakeAtlas = Callable[..., Path]

SMALL: dict[str, Any] = {"labels": ("upos",), "layers": 3, "width": 40, "n_described": 4}


@pytest.fixture
def report(make_atlas: MakeAtlas, make_salience: MakeTables) -> Callable[..., Page]:
    """The page of a small made-up atlas; takes the fields of the recipe, or the tables."""

    def make(tables: Tables | None = None, **recipe: Any) -> Page:
        folder = make_atlas(tables or make_salience(**(SMALL | recipe)), name="salience")
        return Page(write_report(folder))

    return make


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a made-up atlas of two properties."""
    folder = tmp_path_factory.mktemp("salience") / "atlas"
    write_atlas(folder, salience_tables(Recipe(**SMALL | {"labels": ("upos", "suffix")})))
    return Page(write_report(folder))


def test_the_tables_choose_the_report(make_atlas: MakeAtlas, make_tables: MakeTables, page: Page) -> None:
    assert "Salient neurons in made-up/bert" in page.text
    knowledge = Page(write_report(make_atlas(make_tables(relations=1, facts=2), name="facts")))
    assert "Knowledge neurons in made-up/bert" in knowledge.text
    named = " or ".join(map(repr, KINDS))
    with pytest.raises(AtlasError, match=rf"no table {named} in .*nothing to report on; it has classes"):
        write_report(make_atlas({"classes": pl.DataFrame({"label": ["upos"]})}, name="neither"))


def test_sections_come_in_the_order_in_which_one_asks(page: Page) -> None:
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    asked = ["accuracy", "ablation", "minimal", "layers", "model", "overlap", "neurons", "classes", "notes"]
    assert sections == [*asked, "definitions", "provenance"]
    drawn = [attributes["id"] for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert drawn == [f"figure-{name}" for name in page.figures]
    assert {"accuracy", "exposure", "ablation-keep-retr-0", "ablation-drop-same-1", "methods-0", "minimal"} <= set(
        page.figures
    )
    assert {"disjoint", "layers", "top-layers", "layer-probes-up-to", "class-layers-1"} <= set(page.figures)
    assert {"interventions-0", "interventions-1", "overlaps", "agreement"} <= set(page.figures)
    assert {"own-interventions-0", "own-interventions-1"} <= set(page.figures)


def test_a_report_opens_with_the_main_numbers_and_their_controls(report: Any) -> None:
    text = report(layers=7, width=256).text
    assert "Part of speech (upos) is read from 1,792 neurons with 95.0 % [94.2, 95.8] accuracy" in text
    assert "18 neurons (1.0 %) suffice." in text
    assert "always saying the most frequent class gives 17.0 %" in text.lower()
    assert "the same probe on the model with random weights gives 83.0 %" in text
    assert re.search(
        r"In the running model, replacing the top 18 neurons by their mean changes .* matched random", text
    )
    assert "Read with care" in text


def test_encoded_and_used_stand_side_by_side(page: Page) -> None:
    text = page.text
    part = text[text.index("Encoded and used, side by side") :]
    assert part.index("Probe: these alone") < part.index("Probe: without the top") < part.index("Model: P before")
    assert "it does not show that the model uses them" in text


def test_every_metric_in_the_report_is_defined_there(page: Page) -> None:
    text = page.text.lower()
    definitions = text[text.index("what the words mean") :]
    for term in (
        *("accuracy", "interval", "most frequent class", "random weights", "control task", "selectivity"),
        *("seen and unseen", "no word type shared", "ranking", "mass", "ablation", "minimal set", "disjoint sets"),
        *("redundant", "even spread", "encoded, used", "probability of the right class", "matched random neurons"),
        *("adjusted p", "jaccard", "auc", "η²", "recall", "duality gap"),
    ):
        assert term in definitions


def test_what_a_class_loses_with_its_own_neurons_stands_beside_what_all_lose_with_the_propertys(page: Page) -> None:
    drawn = list(page.figures)
    assert drawn.index("own-interventions-0") == drawn.index("interventions-0") + 1
    both = [page.figures[name]["layout"]["height"] for name in ("interventions-0", "own-interventions-0")]
    assert both[0] == both[1]
    assert "each with its own 3 neurons replaced by their mean" in page.text
    assert "When each class loses its own neurons instead" in page.text
    definitions = page.text[page.text.index("What the words mean") :]
    assert "A class's own neurons" in definitions


def test_a_neuron_unfolds_to_the_sentences_that_drive_it(page: Page) -> None:
    listing = page.own[page.own.index('id="neurons-table"') :].split("</table>")[0]
    assert listing.count("<details>") == 8
    assert listing.count("<summary>6 in context</summary>") == 8
    assert re.search(r'<span class="value">6.00</span>\w.* <b>\w+</b> \w.*line \d+\)', listing)
    (search,) = (attributes for _, attributes in page.tags if attributes.get("data-table") == "neurons-table")
    assert search["placeholder"] == "Search: neuron, property, class, word …"


def test_a_report_asks_nothing_of_any_network(page: Page) -> None:
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert addresses
    assert all(address is not None and address.startswith("#") for address in addresses)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", page.own)


EVIL = "</script><script>alert('x')</script><b>&amp;\" {{ 7*7 }}"
LONG = "a label that does not end " * 20


def test_words_of_the_user_are_shown_and_never_run(make_salience: MakeTables, report: Any) -> None:
    renamed = {"upos": EVIL, "suffix": LONG, "NOUN": EVIL, "VERB": LONG, "river": EVIL, "lca": EVIL}
    tables = {
        name: frame.with_columns(
            pl.col(column).replace(renamed) for column, kind in frame.schema.items() if kind == pl.String
        )
        for name, frame in make_salience(**SMALL | {"labels": ("upos", "suffix")}).items()
    }
    page = report(tables)
    assert "alert('x')</script>" not in page.source
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3
    assert "</script><script>alert" in page.text
    assert LONG not in page.text
    ticks = page.figures["accuracy"]["layout"]["yaxis"]["ticktext"]
    assert ticks == ["&lt;/script&gt;&lt;script&gt;alert('x')…", "a label that does not end a…"]
    assert "<script" not in str([figure["data"] for figure in page.figures.values()]).lower()


def test_one_layer_and_two_classes_are_enough(report: Any) -> None:
    page = report(labels=("feats.Number",), layers=1, width=64)
    assert "Number (feats.Number) is read from 64 neurons" in page.text
    assert "1 neuron (1.6 %) suffices." in page.text
    assert not any("layer" in name for name in page.figures)


def test_an_atlas_without_interventions_says_that_use_was_not_measured(report: Any) -> None:
    page = report(level="sentence", interventions=False)
    assert "What the model does without these neurons was not measured" in page.text
    assert not any("intervention" in name for name in page.figures)
    assert "each sentence's most frequent class" in page.text


def test_many_classes_are_all_listed_and_the_most_frequent_drawn(report: Any) -> None:
    page = report(labels=("ccg",), n_classes=300, layers=4)
    assert len(page.figures["class-layers-0"]["layout"]["yaxis"]["ticktext"]) == 20
    assert len(page.figures["interventions-0"]["layout"]["yaxis"]["ticktext"]) == 21
    assert len(page.figures["own-interventions-0"]["layout"]["yaxis"]["ticktext"]) == 21
    assert "Left out: 280 classes (not among the 20 most frequent classes)." in page.text
    rows = page.own[page.own.index('id="classes-table"') :].split("</table>")[0].count("<tr>")
    assert rows == 300 + 1


def test_a_report_needs_nothing_but_the_properties(report: Any) -> None:
    page = report({"properties": pl.DataFrame({"label": ["upos"]})})
    assert "was not measured" in page.text
    assert page.figures == {}


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_numbers_that_are_missing_are_shown_as_missing(
    make_salience: MakeTables, report: Any, missing: float | None
) -> None:
    tables = {
        name: frame.with_columns(pl.lit(missing, pl.Float64).alias(column) for column in measured(frame))
        for name, frame in make_salience(**SMALL).items()
    }
    page = report(tables)
    assert "was not measured" in page.text
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def measured(frame: pl.DataFrame) -> list[str]:
    return [column for column, kind in frame.schema.items() if kind == pl.Float64 and column != "share"]


def test_a_column_of_another_type_is_named(make_salience: MakeTables, report: Any) -> None:
    tables = make_salience(**SMALL)
    tables["classes"] = tables["classes"].with_columns(n_train=pl.lit("many"))
    with pytest.raises(AtlasError, match=r"table 'classes' has String in column 'n_train', expected Int64"):
        report(tables)
