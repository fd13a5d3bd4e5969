"""A study that is interrupted, or made an experiment at a time, ends in the bytes of one that was left alone."""

from pathlib import Path

import polars as pl
import pytest

import neuronatlas as na
from neuronatlas.atlas import Atlas, AtlasError
from neuronatlas.studies.knowledge_neurons.experiments import EXPERIMENTS
from neuronatlas.studies.knowledge_neurons.running import NEURONS, study_knowledge_neurons
from neuronatlas.studies.knowledge_neurons.settings import KnowledgeStudySettings
from neuronatlas.studies.settings import SettingsError
from tests.studies.knowledge_neurons.conftest import SETTINGS, planted_relations


def _same_bytes(found: Path, expected: Path) -> None:
    for folder in ("", NEURONS):
        names = sorted(file.name for file in (expected / folder).glob("*.parquet"))
        assert names == sorted(file.name for file in (found / folder).glob("*.parquet"))
        for name in names:
            assert (found / folder / name).read_bytes() == (expected / folder / name).read_bytes(), name


def test_a_study_interrupted_after_every_part_ends_in_the_same_bytes(
    model: na.Model, finished: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cuts = Atlas.write_part, 0

    def cut(*given: object, **named: object) -> None:
        whole(*given, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Atlas, "write_part", cut)
    while True:
        try:
            done = study_knowledge_neurons(model, planted_relations(), tmp_path / "cut", SETTINGS, progress=False)
            break
        except KeyboardInterrupt:
            cuts += 1
    assert cuts > 2 * len(EXPERIMENTS)
    assert done.state == "complete"
    _same_bytes(done.folder, finished.folder)


def test_experiments_run_one_by_one_in_any_order_end_in_the_same_bytes(
    model: na.Model, finished: Atlas, tmp_path: Path
) -> None:
    folder, last = tmp_path / "single", list(EXPERIMENTS)[-1]
    for name in reversed(EXPERIMENTS):
        part = study_knowledge_neurons(model, planted_relations(), folder, SETTINGS, only=[name], progress=False)
        if name == last:
            assert part.state == "running"
            done = part.table("experiments").filter(pl.col("done"))["experiment"].to_list()
            assert done == [last]
            page = na.write_report(folder).read_text(encoding="utf-8")
            assert "Not run yet: places" in page
    assert part.state == "complete"
    _same_bytes(folder, finished.folder)


def test_other_settings_in_the_same_folder_are_refused(model: na.Model, finished: Atlas) -> None:
    with pytest.raises(AtlasError, match=r"settings\.edits was 3, now 40"):
        study_knowledge_neurons(model, planted_relations(), finished.folder, progress=False)


def test_other_texts_in_the_same_folder_are_refused(model: na.Model, finished: Atlas, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("word0 subject1\n", encoding="utf-8")
    with pytest.raises(AtlasError, match=r"settings\.texts_digest was None, now"):
        study_knowledge_neurons(model, planted_relations(), finished.folder, SETTINGS, texts=texts, progress=False)


def test_an_experiment_that_there_is_not_is_refused_before_anything_is_written(model: na.Model, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"no experiment 'edit': expected one of {', '.join(EXPERIMENTS)}"):
        study_knowledge_neurons(model, planted_relations(), tmp_path / "none", only=["edit"], progress=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"edits": 0}, "edits 0: 1 or more"),
        ({"thresholds": (0.2, 0.1)}, "rising order"),
        ({"thresholds": (0.0, 0.1)}, "above 0"),
        ({"gains": ()}, "rising order"),
        ({"pooling": "sum"}, "pooling 'sum'"),
        ({"locate": na.LocateSettings(gains=(0.0, 1.0))}, "0 and 2 expected"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        KnowledgeStudySettings(**wrong)  # type: ignore[arg-type]
