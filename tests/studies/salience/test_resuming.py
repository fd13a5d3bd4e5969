"""A study of salient neurons goes on where it was, and is refused where it could only go wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import neuronatlas as na
from neuronatlas.probing.corpora import Corpus, CorpusError
from neuronatlas.probing.examples import ExamplesError
from neuronatlas.studies.salience import building
from neuronatlas.studies.salience.building import STAGES, Stage, build_salience_atlas
from neuronatlas.studies.salience.property import Property
from neuronatlas.studies.salience.settings import SalienceSettings
from tests.probing.planted_property import planted_corpus
from tests.studies.salience.labelled_text import FAST, of_sentences, two_properties

ROOT = Path(__file__).parents[3]


def bytes_of(atlas: na.Atlas) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(atlas.folder.iterdir()) if path.name != "report.html"}


def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.studies.salience.killing", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("6 kills")
    expected = bytes_of(na.Atlas.open(tmp_path / "undisturbed"))
    killed = sorted(tmp_path.glob("killed-*"))
    assert killed
    for folder in killed:
        assert na.Atlas.open(folder).state == "complete"
        assert bytes_of(na.Atlas.open(folder)) == expected


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_a_run_interrupted_in_any_stage_repeats_only_that_stage(
    stage: str, model: na.Model, atlas: na.Atlas, tmp_path: Path
) -> None:
    worked: list[tuple[str, str]] = []

    def spied(one: Stage) -> Stage:
        def work(given: Property) -> object:
            worked.append((given.label, one.name))
            if worked.count((given.label, stage)) == 1 and (given.label, one.name) == ("kind", stage):
                raise KeyboardInterrupt
            return one.work(given)

        return replace(one, work=work)  # type: ignore[arg-type]

    cut, stages = tmp_path / "cut", tuple(map(spied, STAGES))
    with pytest.raises(KeyboardInterrupt):
        build_salience_atlas(model, two_properties(), cut, FAST, stages=stages, progress=False)
    assert na.Atlas.open(cut).state == "running"
    resumed = build_salience_atlas(model, two_properties(), cut, FAST, stages=stages, progress=False)
    again = [step for step in worked if worked.count(step) > 1]
    assert again == [("kind", stage)] * 2
    assert bytes_of(resumed) == bytes_of(atlas)


def test_a_finished_study_is_opened_and_not_made_again(
    model: na.Model, atlas: na.Atlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "extract", None)
    opened = build_salience_atlas(model, two_properties(), atlas.folder, FAST, progress=False)
    assert opened.table("properties").equals(atlas.table("properties"))


def test_other_settings_or_labels_in_the_same_folder_are_refused(model: na.Model, atlas: na.Atlas) -> None:
    with pytest.raises(na.AtlasError, match=r"settings\.delta was 0\.01, now 0\.02"):
        build_salience_atlas(model, two_properties(), atlas.folder, replace(FAST, delta=0.02), progress=False)
    with pytest.raises(na.AtlasError, match="labels was"):
        build_salience_atlas(model, two_properties()[:1], atlas.folder, FAST, progress=False)
    with pytest.raises(na.AtlasError, match="corpus_digest was"):
        build_salience_atlas(model, two_properties(61), atlas.folder, FAST, progress=False)


def alone(label: str) -> Corpus:
    return planted_corpus(60).relabelled(label, lambda s: [label] * len(s.words))


@pytest.mark.parametrize(
    ("corpora", "error", "said"),
    [
        ([], CorpusError, "no corpora"),
        ([planted_corpus(60), planted_corpus(60)], CorpusError, "'planted' was given twice"),
        ([planted_corpus(60), alone("x").take(range(50))], CorpusError, "their sentences are not the same"),
        ([planted_corpus(60), of_sentences()], CorpusError, "one is of words, one of sentences"),
        ([planted_corpus(60), alone("x")], ExamplesError, "'x' has 1 of the two classes"),
        ([planted_corpus(2)], ExamplesError, "of the two classes"),
    ],
)
def test_text_that_cannot_be_probed_is_refused_before_anything_is_written(
    corpora: list[Corpus], error: type[ValueError], said: str, model: na.Model, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as caught:
        build_salience_atlas(model, corpora, tmp_path / "none", FAST, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_a_folder_of_something_else_is_refused(model: na.Model, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(na.AtlasError, match="neither empty nor an atlas"):
        build_salience_atlas(model, two_properties(), tmp_path, FAST, progress=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"l1": -1.0}, "l1 -1.0"),
        ({"l2": float("nan")}, "l2 nan"),
        ({"delta": 1.0}, "delta 1.0"),
        ({"shares": (0.5, 0.5, 0.5)}, "shares"),
        ({"ablated": ()}, "ablated"),
        ({"min_count": 0}, "min_count 0"),
        ({"search": "luck"}, "no search 'luck': one of dev, ablation expected"),
        ({"pooling": "middle"}, "no pooling 'middle'"),
        ({"methods": ("lca", "x")}, "methods 'lca', 'x'"),
        ({"methods": ("probeless",)}, "lca"),
        ({"replacements": ("one",)}, "replacements 'one'"),
        ({"replaced": 1.5}, "replaced 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(na.SettingsError, match=said) as caught:
        SalienceSettings(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
