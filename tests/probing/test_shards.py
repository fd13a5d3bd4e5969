"""A folder of activations is whole, resumable to the byte, and read without being loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from neuronatlas import durable
from neuronatlas.models import Model
from neuronatlas.probing import extraction
from neuronatlas.probing.activations import ActivationsError
from neuronatlas.probing.corpora import Corpus
from neuronatlas.probing.extraction import extract
from neuronatlas.probing.shards import ShardFolder, Shards, open_activations
from tests.probing.folders import Killed, contents, run


def test_a_folder_holds_what_memory_would(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    found, expected = (
        run(model, corpus, tmp_path / "a"),
        extract(model, corpus, "hidden", layers=[0, 2], progress=False),
    )
    np.testing.assert_allclose(found.array(), expected.array(), rtol=0, atol=1e-5)
    for name in ("layout", "n_items", "words_digest", "model", "notes"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("items", "columns"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    found.require(corpus, model)


def test_a_shard_holds_whole_sentences_in_the_corpus_order(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    run(model, corpus, tmp_path, dtype="bfloat16")
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert [shard["sentences"] for shard in manifest["shards"]] == [[0, 1], [1, 2], [2, 5], [5, 6], [6, 8], [8, 9]]
    assert [shard["rows"] for shard in manifest["shards"]] == [3, 13, 10, 11, 5, 6]
    assert manifest["shards"][4]["items"] == [37, 41]
    assert manifest["state"] == "complete"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.json",
        *(f"shard-{index:05d}.safetensors" for index in range(6)),
    ]
    stored = load_file(tmp_path / "shard-00002.safetensors")
    assert stored["activations"].dtype == torch.bfloat16
    assert stored["items"].tolist() == list(range(16, 26))


def test_a_complete_folder_is_opened_without_running_the_model(
    model: Model, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(model, corpus, tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(extraction, "pooled", refuse)
    before = contents(tmp_path)
    relabelled = replace(corpus.relabelled("length", lambda s: [str(len(w)) for w in s.words]), name="another name")
    for settings in ({}, {"shard_rows": 3}, {"batch_tokens": 7}):
        again = run(model, relabelled, tmp_path, **settings)
        np.testing.assert_array_equal(again.array(), first.array())
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pooling": "first"}, "pooling was last, now first"),
        ({"dtype": "float16"}, "dtype was float32, now float16"),
        ({"layers": [0, 1]}, r"columns was \[\[0, 64\], \[128, 192\]\], now \[\[0, 128\]\]"),
    ],
)
def test_other_settings_are_refused_with_what_differs(
    settings: dict[str, Any], said: str, model: Model, corpus: Corpus, tmp_path: Path
) -> None:
    run(model, corpus, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ActivationsError, match=f"holds activations made otherwise: {said}; choose another folder"):
        run(model, corpus, tmp_path, **settings)
    with pytest.raises(ActivationsError, match=r"made otherwise: corpus\.words_digest was .*corpus\.items was 49, now"):
        run(model, corpus.take([0]), tmp_path)
    assert contents(tmp_path) == before


def test_an_unfinished_folder_is_only_taken_up_as_it_was_begun(
    model: Model, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ShardFolder, "finish", stop)
        with pytest.raises(Killed):
            run(model, corpus, tmp_path)
    with pytest.raises(ActivationsError, match=r"made otherwise: run\.shard_rows was 10, now 11; "):
        run(model, corpus, tmp_path, shard_rows=11)
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    manifest["run"]["versions"]["torch"] = "1.0"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ActivationsError, match=r"made otherwise: run\.versions\.torch was 1\.0, now "):
        run(model, corpus, tmp_path)


def test_folders_of_others_are_left_alone(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(
        ActivationsError, match=r"is neither empty nor a folder of activations \(it holds 'notes.txt'\)"
    ):
        run(model, corpus, tmp_path)
    with pytest.raises(ActivationsError, match="is a file: give a folder"):
        run(model, corpus, tmp_path / "notes.txt")
    with pytest.raises(ActivationsError, match=r"holds no activations: a folder with manifest\.json expected"):
        open_activations(tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_only_one_process_writes_to_a_folder(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    tmp_path.joinpath("manifest.json").unlink(missing_ok=True)
    lock = durable.FolderLock(tmp_path / "activations.lock")
    try:
        with pytest.raises(ActivationsError, match=r"^another run \(process \d+\) is writing to .*: wait for it, or"):
            run(model, corpus, tmp_path)
    finally:
        lock.release()
    run(model, corpus, tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "shard-00001.safetensors").unlink(), "shard-00001.safetensors is missing: "),
        (lambda folder: (folder / "shard-00001.safetensors").write_bytes(b"x" * 99), r"safetensors is damaged \("),
        (
            lambda folder: (folder / "shard-00001.safetensors").write_bytes(
                (folder / "shard-00000.safetensors").read_bytes()
            ),
            r"holds \[3, 128\] values of F32, \[13, 128\] of F32 expected",
        ),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"manifest\.json is damaged \(JSONDecodeError"),
        (lambda folder: (folder / "manifest.json").write_text('{"state": []}'), r"manifest\.json is damaged \("),
        (lambda folder: (folder / "manifest.json").write_text("[1]"), r"manifest\.json is damaged \("),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    damage: Any, said: str, model: Model, corpus: Corpus, tmp_path: Path
) -> None:
    run(model, corpus, tmp_path)
    damage(tmp_path)
    with pytest.raises(ActivationsError, match=said) as caught:
        open_activations(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_manifest_of_another_version_is_refused(model: Model, corpus: Corpus, tmp_path: Path) -> None:
    run(model, corpus, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}), "utf-8")
    with pytest.raises(ActivationsError, match="has schema 2, this version reads 1"):
        open_activations(tmp_path)


@pytest.fixture(scope="module", params=["memory", "files"])
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shards, Any]:
    """The same rows in pieces of any size, one of them empty, and in one array."""
    folder = tmp_path_factory.mktemp("shards")
    values = torch.arange(60, dtype=torch.bfloat16).reshape(12, 5)
    sizes = [4, 0, 1, 5, 2]
    pieces: list[torch.Tensor | Path] = list(values.split(sizes))
    if request.param == "files":
        for index, piece in enumerate(values.split(sizes)):
            path = folder / f"{index}.safetensors"
            save_file({"activations": piece.clone()}, path)
            pieces[index] = path
    return Shards(pieces, sizes, 5), values.float().numpy()


COLUMNS = st.none() | st.lists(st.integers(0, 4), max_size=6)


@given(rows=st.slices(12), columns=COLUMNS)
def test_slices_are_read_across_borders(shards: Any, rows: slice, columns: list[int] | None) -> None:
    source, values = shards
    chosen = None if columns is None else np.array(columns, dtype=int)
    found = source.read(rows, chosen)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values[rows] if chosen is None else values[rows][:, chosen])


@given(rows=st.lists(st.integers(0, 11), max_size=15), columns=COLUMNS)
def test_rows_are_read_in_any_order(shards: Any, rows: list[int], columns: list[int] | None) -> None:
    source, values = shards
    places = np.array(rows, dtype=int)
    chosen = None if columns is None else np.array(columns, dtype=int)
    expected = values[places] if chosen is None else values[np.ix_(places, chosen)]
    np.testing.assert_array_equal(source.read(places, chosen), expected)
    assert source.shape == (12, 5)
