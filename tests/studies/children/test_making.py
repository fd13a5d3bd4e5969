"""Fine-tuned children: the same bytes, a base left alone, a control that learns nothing, and no other base's child."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import neuronatlas as na
from neuronatlas.studies.children.making import train_child
from neuronatlas.studies.children.record import Child, open_child, require_same_shape
from neuronatlas.studies.children.settings import ChildError, ChildSettings
from tests.knowledge.planted import planted_model

SETTINGS = ChildSettings(epochs=5, rate=2e-3, min_count=30)


@pytest.fixture(scope="module")
def base() -> na.Model:
    return na.load(na.specimen_folder())


@pytest.fixture(scope="module")
def corpus() -> na.Corpus:
    return na.corpus_of_specimen("role", n_sentences=100)


@pytest.fixture(scope="module")
def child(base: na.Model, corpus: na.Corpus, tmp_path_factory: pytest.TempPathFactory) -> Child:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    return train_child(base, corpus, tmp_path_factory.mktemp("children") / "child", SETTINGS, progress=False)


@pytest.fixture
def copied(child: Child, tmp_path: Path) -> Child:
    shutil.copytree(child.folder, tmp_path / "copy")
    return open_child(tmp_path / "copy")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_input_gives_the_same_bytes_and_leaves_base_and_random_state_alone(
    base: na.Model, corpus: na.Corpus, child: Child, tmp_path: Path
) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the state that must not move
    torch.manual_seed(5)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index] # noqa: NPY002
    digest = base.digest
    again = train_child(base, corpus, tmp_path / "again", SETTINGS, progress=False)
    assert files(again.folder) == files(child.folder)
    assert base.digest == digest
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index] # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_child_is_a_language_model_that_compares_with_its_base_neuron_for_neuron(
    base: na.Model, child: Child
) -> None:
    loaded = na.load(child.folder)
    assert loaded.digest == child.record["digest"] != base.digest
    assert set(loaded.sites) == set(base.sites)
    for site in base.sites:
        ours, theirs = base.layout(site), loaded.layout(site)
        assert replace(theirs, digest=ours.digest) == ours
    fact = na.Fact("capital", "France", "Paris", ["The capital of France is [MASK]."])
    assert na.attribute(loaded, fact.prompts[0], fact.answer).values.any()


def test_the_language_model_head_is_the_bases_but_for_what_it_shares_with_the_embeddings(
    base: na.Model, child: Child
) -> None:
    ours, theirs = base.module.state_dict(), na.load(child.folder).module.state_dict()
    moved = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    head = {name for name in ours if not name.startswith("bert.")}
    assert moved & head <= {"cls.predictions.decoder.weight"}
    assert any(name.startswith("bert.encoder.layer.0") for name in moved)


def test_the_child_learns_its_task_and_every_layer_is_asked_for_it(child: Child) -> None:
    test = child.scores["test"]
    assert test["low"] > test["majority"] + 0.2
    layers = child.layers
    assert layers["model"].unique(maintain_order=True).to_list() == ["base", "child"]
    top = layers.filter(layer=4).rows_by_key("model", named=True, unique=True)
    assert top["child"]["accuracy"] > top["base"]["accuracy"]


def test_a_child_of_shuffled_labels_tells_nothing(base: na.Model, corpus: na.Corpus, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    control = train_child(base, corpus, tmp_path / "c", replace(SETTINGS, shuffled=True), progress=False)
    assert control.shuffled
    test = control.scores["test"]
    assert test["low"] <= test["majority"] + 0.05
    assert control.record["losses"][-1] < control.record["losses"][0]


def test_another_seed_is_another_child(base: na.Model, corpus: na.Corpus, child: Child, tmp_path: Path) -> None:
    other = train_child(base, corpus, tmp_path / "o", replace(SETTINGS, epochs=1, seed=1), progress=False)
    assert other.record["trained"] != child.record["trained"]
    assert other.record["digest"] != child.record["digest"]


def test_a_causal_model_has_children_too(corpus: na.Corpus, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    base = na.load(na.specimen_folder("causal"))
    made = train_child(base, corpus, tmp_path / "c", replace(SETTINGS, epochs=2, rate=4e-3), progress=False)
    assert made.load(base).kind == "causal"
    assert made.scores["test"]["low"] > made.scores["test"]["majority"]


def test_a_folder_with_the_same_child_is_opened_and_one_with_another_is_refused(
    base: na.Model, corpus: na.Corpus, copied: Child
) -> None:
    before = files(copied.folder)
    assert train_child(base, corpus, copied.folder, SETTINGS).record == copied.record
    assert files(copied.folder) == before
    with pytest.raises(ChildError, match=r"another child \(settings.epochs was 5, now 6\): take another folder"):
        train_child(base, corpus, copied.folder, replace(SETTINGS, epochs=6))
    (copied.folder / "child.json").unlink()
    with pytest.raises(ChildError, match=r"is not empty \(it holds '\w+\.\w+'\) and no child: choose another"):
        train_child(base, corpus, copied.folder, SETTINGS)


def test_the_classifier_lies_beside_the_model_and_says_what_it_said(
    base: na.Model, corpus: na.Corpus, child: Child
) -> None:
    weight, bias = child.classifier()
    assert weight.shape == (len(child.classes), 64)
    model = child.load(base)
    acts = na.extract(model, corpus, "hidden", layers=[4], progress=False)
    said = (torch.from_numpy(acts.array()) @ weight.T + bias).argmax(dim=1)
    held = child.held_out(corpus)
    places = [corpus.sentences.index(sentence) for sentence in held.sentences]
    rows = [row for row, item in enumerate(acts.items) if corpus.sentence_of[item] in set(places)]
    labels = corpus.labels[acts.items]
    right = [child.classes[said[row]] == labels[row] for row in rows if labels[row] in child.classes]
    expected = sum(child.scores[part]["accuracy"] * child.scores[part]["n"] for part in ("dev", "test"))
    assert sum(right) == round(expected)


def test_no_sentence_that_was_trained_on_is_held_out_whatever_file_it_comes_from(
    corpus: na.Corpus, child: Child
) -> None:
    longer = na.corpus_of_specimen("upos", n_sentences=200)
    held = child.held_out(longer)
    parts = child.record["task"]["items"]
    assert len(held) == 200 - len(child.record["trained"])
    assert parts["train"] > parts["test"]
    with pytest.raises(ChildError, match="was trained on every sentence"):
        child.held_out(
            corpus.take([i for i, s in enumerate(corpus.sentences) if s not in child.held_out(corpus).sentences])
        )


def test_a_child_is_refused_beside_another_base(child: Child, base: na.Model) -> None:
    with pytest.raises(ChildError, match=r"is a child of .* give its own base"):
        child.load(na.load(na.specimen_folder("causal")))
    with pytest.raises(ChildError, match=r"is no child of .*: site 'ffn' has layers of \(30, 30\) neurons there"):
        require_same_shape(base, planted_model())


def test_other_weights_than_were_saved_are_refused(base: na.Model, copied: Child) -> None:
    base.module.save_pretrained(copied.folder)
    with pytest.raises(ChildError, match="has other weights"):
        copied.load(base)


@pytest.mark.parametrize(("content", "told"), [("{", "cannot be read"), ("[]", "schema 'list'"), ("{}", "schema None")])
def test_a_broken_record_is_told_in_one_line(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "child.json").write_text(content)
    with pytest.raises(ChildError, match=told) as fault:
        open_child(tmp_path)
    assert "\n" not in str(fault.value)


def test_a_broken_classifier_is_told_in_one_line(copied: Child) -> None:
    (copied.folder / "classifier.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ChildError, match="holds no classifier"):
        copied.classifier()


def test_the_record_holds_no_time_and_no_path(child: Child) -> None:
    text = (child.folder / "child.json").read_text()
    assert str(child.folder) not in text
    assert not {"time", "runtime", "date"} & set(json.loads(text))


def test_without_accelerate_one_line_says_what_to_install(
    base: na.Model, corpus: na.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuronatlas.studies.children.making.find_spec", lambda _name: None)
    with pytest.raises(ChildError, match=r"pip install 'neuronatlas\[train\]'"):
        train_child(base, corpus, tmp_path / "child", SETTINGS)
    assert not (tmp_path / "child").exists()
