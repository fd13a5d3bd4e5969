"""A study that was interrupted ends in the bytes of one that was not, and reads each model where it sees the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

import neuronatlas as na
from neuronatlas.studies.salient_neurons import questions
from neuronatlas.studies.salient_neurons.settings import moderate
from tests.handwritten import word_tokenizer
from tests.probing.planted_property import VOCABULARY, planted_corpus, planted_model

SETTINGS = na.StudySettings(moderate(most_sets=1, most_classes=2, ablated=(0.1,), site="ffn"), draws=100)


def studied(folder: Path) -> na.Atlas:
    return na.salient_study(
        [na.Source("planted", planted_model)], [planted_corpus(60)], folder, SETTINGS, progress=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_interrupted_study_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = studied(tmp_path / "whole")
    *before, last = questions.QUESTIONS

    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(questions, "QUESTIONS", (*before, replace(last, work=interrupted)))
        with pytest.raises(KeyboardInterrupt):
            studied(tmp_path / "again")
    assert na.Atlas.open(tmp_path / "again").state == "running"
    studied(tmp_path / "again")
    found = contents(tmp_path / "again")
    assert found == contents(whole.folder)
    assert sum(name.endswith(".parquet") for name in found) > 20


def test_a_study_of_other_settings_is_refused(tmp_path: Path) -> None:
    studied(tmp_path)
    other = replace(SETTINGS, top=0.2)
    with pytest.raises(na.AtlasError, match=r"top was 0\.05, now 0\.2"):
        na.salient_study([na.Source("planted", planted_model)], [planted_corpus(60)], tmp_path, other, progress=False)


def test_a_finished_study_is_not_given_for_other_weights_or_other_sentences(tmp_path: Path) -> None:
    words = {"texts": [planted_corpus(60)], "languages": {"other": [planted_corpus(60, seed=1)]}}

    def again(model: Any = planted_model, **changed: Any) -> na.Atlas:
        given = words | changed
        sources = [na.Source("planted", model)]
        return na.salient_study(
            sources, given["texts"], tmp_path, SETTINGS, languages=given["languages"], progress=False
        )

    first = again()
    assert again().meta == first.meta
    with pytest.raises(na.AtlasError, match=r"0-planted is an atlas made otherwise: model\.digest was"):
        again(lambda: planted_model(0.02))
    with pytest.raises(na.AtlasError, match=r"settings\.models\.language: planted \(other\) was \w+, now"):
        again(languages={"other": [planted_corpus(60, seed=2)]})
    with pytest.raises(na.AtlasError, match=r"settings\.models\.model: planted was \w+, now"):
        again(texts=[planted_corpus(60, seed=2)])


def test_text_that_no_probe_can_be_fitted_on_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    sources, good = [na.Source("planted", planted_model)], planted_corpus(60)
    one_class = good.take([index for index in range(60) if index % 2])
    with pytest.raises(na.ExamplesError, match="two classes that a probe needs"):
        na.salient_study(sources, [one_class], tmp_path / "study", SETTINGS)
    with pytest.raises(na.ExamplesError, match="two classes that a probe needs"):
        na.salient_study(sources, [good], tmp_path / "study", SETTINGS, languages={"other": [one_class]})
    assert not (tmp_path / "study").exists()


def test_languages_need_names_of_their_own_and_the_same_properties(tmp_path: Path) -> None:
    sources, text = [na.Source("planted", planted_model)], planted_corpus(60)
    for name, texts, why in (
        ("base", [text], "two languages are called 'base'"),
        ("de", [replace(text, label="kind")], "has the properties kind: planted expected, in this order"),
        ("de", [], "has the properties : planted expected"),
    ):
        with pytest.raises(na.SettingsError, match=why):
            na.salient_study(sources, [text], tmp_path / "study", SETTINGS, languages={name: texts})
    assert not (tmp_path / "study").exists()


def encoder_decoder() -> na.Model:
    torch.manual_seed(5)
    sizes: dict[str, Any] = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
    ids: dict[str, Any] = {"decoder_start_token_id": 0, "pad_token_id": 0}
    module = T5ForConditionalGeneration(T5Config(vocab_size=len(VOCABULARY), **sizes, **ids)).eval()
    return na.load((module, word_tokenizer(VOCABULARY)))


def test_models_of_any_kinds_stand_side_by_side(tmp_path: Path) -> None:
    sources = [na.Source("masked", planted_model), na.Source("both", encoder_decoder)]
    atlas = na.salient_study(sources, [planted_corpus(60)], tmp_path, SETTINGS, progress=False)
    assert atlas.table("members").select("model", "kind", "site").rows() == [
        ("masked", "masked", "ffn"),
        ("both", "seq2seq", "encoder.ffn"),
    ]
    pairs = atlas.table("model_pairs")
    assert pairs["distance"].is_not_null().all()
    page = na.write_report(tmp_path).read_text("utf-8")
    assert "How architectures differ" in page


def test_no_model_and_the_same_model_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(na.SettingsError, match="at least one"):
        na.salient_study([], [planted_corpus(60)], tmp_path / "none", SETTINGS)
    twice = [na.Source("planted", planted_model)] * 2
    with pytest.raises(na.SettingsError, match="given twice"):
        na.salient_study(twice, [planted_corpus(60)], tmp_path / "twice", SETTINGS)
    assert not list(tmp_path.iterdir())
