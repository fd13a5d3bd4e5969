"""The study of facts in several languages finds what was planted, resumes, and matches facts of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.knowledge.facts import FactError
from neuronatlas.studies.salient_neurons import shared_study
from neuronatlas.studies.salient_neurons.shared_facts import effects_of_pair
from tests.knowledge.planted import planted_facts, planted_model

LANGUAGES = {"a": slice(0, 2), "b": slice(2, 4)}
"""The wordings of the planted facts that stand for languages."""


def parallel() -> list[na.ParallelFact]:
    return na.parallel_facts_of(
        {
            name: [na.Fact("planted", fact.subject, fact.answer, fact.prompts[own]) for fact in planted_facts()]
            for name, own in LANGUAGES.items()
        }
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_interrupted_study_of_shared_facts_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, facts, was = planted_model(), parallel(), effects_of_pair
    whole = na.study_shared_facts(model, facts, tmp_path / "whole", progress=False)
    assert whole.table("shared_neurons").filter("common").height == 2 * 2 * 5  # two neurons a fact, in two languages
    assert whole.table("shared_overlaps").filter(facts="all")["jaccard"].to_list() == [1.0]
    across = whole.table("shared_effects").filter(located="a", asked="b", facts="all", kind="own")
    assert across["change_high"][0] < 0
    calls: list[str] = []

    def third_fails(*given: Any, **options: Any) -> pl.DataFrame:
        calls.append(f"{given[2]} in {given[3]}")
        if len(calls) == 3:
            raise KeyboardInterrupt
        return was(*given, **options)

    monkeypatch.setattr(shared_study, "effects_of_pair", third_fails)
    with pytest.raises(KeyboardInterrupt):
        na.study_shared_facts(model, facts, tmp_path / "again", progress=False)
    na.study_shared_facts(model, facts, tmp_path / "again", progress=False)
    assert calls == ["a in a", "b in a", "a in b", "a in b", "b in b"]
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    page = na.write_report(tmp_path / "whole").read_text("utf-8")
    for section in ("shared", "effects", "facts"):
        assert f'<section id="{section}">' in page
    with pytest.raises(na.AtlasError, match="facts_digest was"):
        na.study_shared_facts(model, facts[:3], tmp_path / "whole", progress=False)


def test_facts_of_files_are_matched_by_their_place_in_the_relation() -> None:
    own = [na.Fact("r", f"s{i}", f"a{i}", [f"s{i} [MASK]"]) for i in range(3)]
    found = na.parallel_facts_of({"en": own, "de": [own[0], own[2], own[1]]})
    assert [(one.facts["en"].answer, one.facts["de"].answer) for one in found] == [
        ("a0", "a0"),
        ("a1", "a2"),
        ("a2", "a1"),
    ]
    with pytest.raises(FactError, match="relation 'r' has 3 facts in en and 2 in de"):
        na.parallel_facts_of({"en": own, "de": own[:2]})
    with pytest.raises(FactError, match="two languages or more"):
        na.parallel_facts_of({"en": own})
