"""The whole study with several languages: where a model reads them, and what an interruption costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import neuronatlas as na
from neuronatlas.studies.salient_neurons import languages
from tests.probing.planted_property import planted_corpus, planted_model
from tests.studies.test_salient_study import SETTINGS, encoder_decoder


def test_a_model_with_two_stacks_reads_several_languages_where_its_encoder_does(tmp_path: Path) -> None:
    both = encoder_decoder()
    other = {"other": [planted_corpus(40, seed=1)]}
    atlas = na.salient_study(
        [na.Source("both", lambda: both)], [planted_corpus(40)], tmp_path, SETTINGS, languages=other, progress=False
    )
    assert atlas.table("members")["site"].to_list() == ["encoder.ffn"] * 2
    moved = atlas.table("transfer")
    assert moved.select("trained", "tested").rows() == list(product(["base", "other"], repeat=2))
    assert moved["random_weights"].is_not_null().all()


def test_a_killed_study_of_languages_loses_one_property_at_most_and_leaves_no_activations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, other = planted_corpus(60), planted_corpus(60, seed=1)
    texts = [text, replace(text, label="again")]
    told: dict[str, Any] = {"languages": {"other": [other, replace(other, label="again")]}, "language": "first"}
    asked, was = list[str](), languages._halves

    def second_fails(found: Any, label: str, settings: Any) -> Any:
        asked.append(label)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return was(found, label, settings)

    def studied(folder: Path) -> na.Atlas:
        sources = [na.Source("planted", planted_model)]
        return na.salient_study(sources, texts, folder, SETTINGS, progress=False, **told)

    monkeypatch.setattr(languages, "_halves", second_fails)
    with pytest.raises(KeyboardInterrupt):
        studied(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("languages")]
    atlas = studied(tmp_path)
    assert asked == ["planted", "again", "again"]
    assert set(atlas.table("transfer")["trained"]) == {"first", "other"}
    assert atlas.table("transfer")["random_weights"].is_not_null().all()
    assert atlas.table("language_halves").height == 4
    assert atlas.table("language_pairs").filter(of="top")["label"].to_list() == ["planted", "again"]
    assert '<section id="languages">' in na.write_report(tmp_path).read_text("utf-8")
