"""`neuronatlas interactions` and `implicit`: what neurons do together, and to prompts that need their facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import neuronatlas as na
from tests.cli.conftest import complaint, document, run, succeed, write_facts


def test_pairs_are_told_with_random_neurons_beside_them(folder: Path, facts: Path, atlas: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "matrix.html"
    found = document("interactions", folder, facts, "--atlas", atlas, "--limit", 1, "--plot", drawn)
    assert {row["condition"] for row in found["interactions"]} == {"located", "random"}
    located = [(row["a"], row["b"]) for row in found["interactions"] if row["condition"] == "located"]
    assert ("L0.U0", "L1.U1") in located
    assert "L1.U1" in drawn.read_text(encoding="utf-8")
    text = succeed("interactions", folder, facts, "--atlas", atlas, "--limit", 1)
    assert "2 facts with two neurons or more, 2 pairs;" in text
    one = succeed("interactions", folder, facts, "--atlas", atlas, "--fact", "subject1")
    assert "1 fact with two neurons or more, 1 pair;" in one
    told = text[text.index("the pairs that interact most (") :]
    legend, table = told.split("):", 1)
    for term in ("interaction", "Shapley"):  # what is explained is a column, and the other way round
        assert f"{term}:" in legend
        assert term in table


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted facts, and others whose answers are their subjects."""
    wordings = ("word0 {} word1 [MASK]", "[MASK] word2 {}", "word3 word1 {} [MASK] word0")
    names = [f"subject{i}" for i in range(3)]
    rows = [na.Fact("first", name, f"answer{i}", [w.format(name) for w in wordings]) for i, name in enumerate(names)]
    rows += [na.Fact("leads to", f"word{i}", name, [f"word{i} [MASK]"]) for i, name in enumerate(names)]
    return write_facts(tmp_path_factory.mktemp("chained") / "facts.jsonl", rows)


def test_facts_are_asked_through_others_by_phrases_of_the_user(folder: Path, chained: Path, tmp_path: Path) -> None:
    succeed("locate", folder, chained, "-o", tmp_path / "atlas")
    bridges = tmp_path / "bridges.json"
    bridges.write_text(json.dumps({"leads to": ["{subject} word3"]}), encoding="utf-8")
    common = "implicit", folder, chained, "--atlas", tmp_path / "atlas"
    found = document(*common, "--bridges", bridges)
    assert found["counts"][0]["n_prompts"] == found["counts"][0]["n_suited"] == 6
    assert "answered right" in succeed(*common, "--bridges", bridges)
    assert "no two-hop prompt can be composed" in complaint(run(*common))
    bridges.write_text("[]", encoding="utf-8")
    assert "an object of relations, each with a list of phrases" in complaint(run(*common, "--bridges", bridges))


def test_an_atlas_of_other_facts_is_refused(folder: Path, atlas: Path, chained: Path) -> None:
    other = chained.with_name("other.jsonl")
    write_facts(other, [na.Fact("second one", "nobody", "answer0", ["word0 [MASK]"])])
    assert "of 1 fact selected from" in complaint(run("interactions", folder, other, "--atlas", atlas))


def test_neurons_can_be_named_instead_of_taken_from_an_atlas(folder: Path, facts: Path, atlas: Path) -> None:
    of_atlas = document("interactions", folder, facts, "--atlas", atlas, "--fact", "subject1")
    pairs = {(row["a"], row["b"]) for row in of_atlas["interactions"] if row["condition"] == "located"}
    members = sorted({name for pair in pairs for name in pair})
    named = document("interactions", folder, facts, "--neurons", ",".join(members), "--fact", "subject1")
    assert named == of_atlas
    again = [text for name in members for text in ("--neurons", name)]
    assert document("interactions", folder, facts, *again, "--fact", "subject1") == of_atlas
    assert run("interactions", folder, facts).exit_code == 2
    assert run("implicit", folder, facts, "--atlas", atlas, "--neurons", "L0.U0").exit_code == 2


def test_implicit_takes_neurons_of_one_fact(folder: Path, chained: Path, tmp_path: Path) -> None:
    bridges = tmp_path / "bridges.json"
    bridges.write_text(json.dumps({"leads to": ["{subject} word3"]}), encoding="utf-8")
    found = document(
        "implicit", folder, chained, "--neurons", "L0.U0,L1.U1", "--fact", "subject0", "--bridges", bridges
    )
    assert found["counts"][0]["n_facts"] <= 1
