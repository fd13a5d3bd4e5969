"""Activations come from NeuroX's files and go back to them, with the words of each sentence."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations, ActivationsError
from neuronatlas.probing.corpora import Corpus, Sentence
from neuronatlas.probing.neurox_files import read_neurox, write_neurox

LAYOUT = Layout("hidden", (4, 4, 4), "encoder", "d1")
SENTENCES = [("Anna", "sleeps", "."), ("it", "rains"), ("Anna", "sleeps", "."), ("“naïve”",), ("Anna", "sleeps", ".")]


@pytest.fixture(scope="module")
def h5py() -> Any:
    return pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(
        tuple(Sentence.of(w, w, f"test, line {i}") for i, w in enumerate(SENTENCES, start=1)), "word", name="t"
    )


def acts_of(corpus: Corpus, layout: Layout = LAYOUT) -> Activations:
    values = np.random.default_rng(0).standard_normal((corpus.n_items, layout.n_neurons)).astype(np.float32)
    return replace(Activations.of(values, layout), words_digest=corpus.words_digest)


@pytest.fixture(params=[".json", ".hdf5"])
def suffix(request: pytest.FixtureRequest) -> str:
    if request.param == ".hdf5":
        pytest.importorskip("h5py")
    return str(request.param)


def test_what_is_written_is_read_back_exactly(suffix: str, corpus: Corpus, tmp_path: Path) -> None:
    acts, path = acts_of(corpus), tmp_path / f"acts{suffix}"
    assert write_neurox(acts, corpus, path) == 0
    found, words = read_neurox(path, LAYOUT)
    assert words == SENTENCES
    np.testing.assert_array_equal(found.array(), acts.array())
    assert found.layout == LAYOUT
    found.require(corpus)
    np.testing.assert_array_equal(found.chosen([7, 0, 4], [11, 2]).array(), acts.chosen([7, 0, 4], [11, 2]).array())
    assert read_neurox(path)[0].layout == Layout("hidden", (4, 4, 4), stack="")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_words_without_a_row_are_left_out_and_counted(suffix: str, corpus: Corpus, tmp_path: Path) -> None:
    acts = acts_of(corpus).chosen(rows=[0, 2, 3, 5, 6, 8, 9, 11])
    assert write_neurox(acts, corpus, tmp_path / f"acts{suffix}") == 4
    found, words = read_neurox(tmp_path / f"acts{suffix}")
    assert words == [("Anna", "."), ("it",), ("Anna", "sleeps"), ("“naïve”",), ("Anna", ".")]
    np.testing.assert_array_equal(found.array(), acts.array())


def test_a_sentence_without_any_row_keeps_its_place(suffix: str, corpus: Corpus, tmp_path: Path) -> None:
    acts = acts_of(corpus).chosen(rows=range(5, 12))
    write_neurox(acts, corpus, tmp_path / f"acts{suffix}")
    found, words = read_neurox(tmp_path / f"acts{suffix}")
    assert words == [(), (), *SENTENCES[2:]]
    np.testing.assert_array_equal(found.array(), acts.array())


def test_sentences_are_written_as_one_token(suffix: str, tmp_path: Path) -> None:
    sentences = (Sentence.of(["it", "rains"], ["yes"], "a, line 1"), Sentence.of(["no", "rain"], ["no"], "a, line 2"))
    corpus = Corpus(sentences, "weather", "sentence")
    write_neurox(acts_of(corpus), corpus, tmp_path / f"acts{suffix}")
    assert read_neurox(tmp_path / f"acts{suffix}")[1] == [("it rains",), ("no rain",)]


def test_layers_are_those_that_are_held(suffix: str, corpus: Corpus, tmp_path: Path) -> None:
    acts = acts_of(corpus).chosen(columns=LAYOUT.set(["L0.U1", "L0.U3", "L2.U0", "L2.U3"]))
    write_neurox(acts, corpus, tmp_path / f"acts{suffix}")
    found, _ = read_neurox(tmp_path / f"acts{suffix}")
    assert found.layout.widths == (2, 2)
    np.testing.assert_array_equal(found.array(), acts.array())


def test_the_forms_are_those_of_the_toolkit(h5py: Any, corpus: Corpus, tmp_path: Path) -> None:
    acts = acts_of(corpus)
    first = acts.array()[:3].reshape(3, 3, 4)
    write_neurox(acts, corpus, tmp_path / "a.json")
    line = json.loads((tmp_path / "a.json").read_text("utf-8").splitlines()[0])
    assert list(line) == ["linex_index", "features"]
    assert line["linex_index"] == 0
    assert [feature["token"] for feature in line["features"]] == list(SENTENCES[0])
    assert [layer["index"] for layer in line["features"][1]["layers"]] == [0, 1, 2]
    np.testing.assert_array_equal(np.float32(line["features"][1]["layers"][2]["values"]), first[1, 2])
    write_neurox(acts, corpus, tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert set(file) == {"0", "1", "2", "3", "4", "sentence_to_index"}
        assert file["0"].shape == (3, 3, 4)
        assert file["0"].dtype == np.float32
        np.testing.assert_array_equal(file["0"][:], first.transpose(1, 0, 2))
        index = json.loads(file["sentence_to_index"][0])
    assert index["Anna sleeps ."] == "0"
    assert index["Anna sleeps . (Occurrence 2)"] == "2"
    assert index["Anna sleeps . (Occurrence 3)"] == "4"


def test_half_precision_is_read(h5py: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("0", data=np.full((1, 2, 3), 0.5, dtype=np.float16))
        file.create_dataset(
            "sentence_to_index", data=[json.dumps({"a (Occurrence 7)": "0"})], dtype=h5py.string_dtype()
        )
    with pytest.raises(ActivationsError, match=r"a\.hdf5, sentence 0: 2 tokens, but 3 words in 'a \(Occurrence 7\)'"):
        read_neurox(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.create_dataset("0", data=np.full((1, 3, 3), 0.5, dtype=np.float16))
        file.create_dataset(
            "sentence_to_index", data=[json.dumps({"a (Occurrence 7)": "0"})], dtype=h5py.string_dtype()
        )
    found, words = read_neurox(tmp_path / "b.hdf5")
    assert words == [("a", "(Occurrence", "7)")]
    assert found.array().dtype == np.float32
    assert found.array().tolist() == [[0.5] * 3] * 3


def write_index(h5py: Any, path: Path, index: Any, datasets: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values)
        if index is not None:
            file.create_dataset("sentence_to_index", data=[json.dumps(index)], dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    ("index", "datasets", "said"),
    [
        (None, {}, r"a\.hdf5 is not an HDF5 file as NeuroX writes it: "),
        ({}, {}, r"a\.hdf5 holds no sentences$"),
        ({"a b": "0"}, {}, r"a\.hdf5 is not an HDF5 file as NeuroX writes it: "),
        ({"a": "first"}, {"first": np.ones((1, 1, 2))}, r"a\.hdf5 is not an HDF5 file as NeuroX writes it: "),
        ([1], {}, r"a\.hdf5 is not an HDF5 file as NeuroX writes it: "),
        ({"a": "0"}, {"0": np.ones((1, 2))}, r"a\.hdf5, sentence 0: values of shape \(1, 2\), \[layer, token, unit\]"),
        (
            {"a": "0", "b": "1"},
            {"0": np.ones((1, 1, 2)), "1": np.ones((1, 1, 3))},
            r"a\.hdf5, sentence 1: values of shape \(1, 1, 3\), \[layer, token, unit\] of 1 layers and 2 units",
        ),
    ],
)
def test_hdf5_of_another_form_is_refused_in_one_line(
    index: Any, datasets: dict[str, Any], said: str, h5py: Any, tmp_path: Path
) -> None:
    write_index(h5py, tmp_path / "a.hdf5", index, datasets)
    with pytest.raises(ActivationsError, match=said) as caught:
        read_neurox(tmp_path / "a.hdf5")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_hdf5_is_refused(h5py: Any, tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_text("text", "utf-8")
    with pytest.raises(ActivationsError, match=r"a\.hdf5 is not an HDF5 file as NeuroX writes it"):
        read_neurox(tmp_path / "a.hdf5")


def test_values_that_are_not_finite_are_refused_where_they_are(h5py: Any, tmp_path: Path) -> None:
    write_index(
        h5py, tmp_path / "a.hdf5", {"a": "0", "b": "1"}, {"0": np.ones((1, 1, 2)), "1": np.full((1, 1, 2), np.inf)}
    )
    found, _ = read_neurox(tmp_path / "a.hdf5")
    assert found.read(0, 1).tolist() == [[1.0, 1.0]]
    with pytest.raises(ActivationsError, match=r"a\.hdf5, sentence 1: a value is not finite$"):
        found.array()


FEATURE = '{"token": "a", "layers": [{"index": 0, "values": [1, 2]}]}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"a\.json, line 2: not a sentence as NeuroX writes it \("),
        ("[]", r"a\.json, line 2: not a sentence"),
        ('{"features": 3}', r"a\.json, line 2: not a sentence"),
        ('{"features": [{"token": "a"}]}', r"a\.json, line 2: not a sentence .*'layers'"),
        ('{"features": [{"token": "a", "layers": []}]}', r"a\.json, line 2: tokens with layers of equally many values"),
        (f'{{"features": [{FEATURE.replace("2", "NaN")}]}}', r"a\.json, line 2: a value is not finite$"),
        (
            f'{{"features": [{FEATURE.replace(", 2", "")}]}}',
            r"a\.json, line 2: layers and units \(1, 1\), but \(1, 2\)",
        ),
        (f'{{"features": [{FEATURE}, {FEATURE.replace(", 2", "")}]}}', r"a\.json, line 2: not a sentence"),
    ],
)
def test_json_of_another_form_is_refused_with_its_line(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'{{"linex_index": 0, "features": [{FEATURE}]}}\n{line}\n', "utf-8")
    with pytest.raises(ActivationsError, match=said) as caught:
        read_neurox(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["features", "token", "layers", "index", "values"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(content=JSON)
def test_any_json_is_read_or_refused(content: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content) + "\n", "utf-8")
    try:
        acts, words = read_neurox(path)
    except ActivationsError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        assert len(acts) == sum(map(len, words)) > 0


def test_other_files_and_layouts_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    acts = acts_of(corpus)
    with pytest.raises(ActivationsError, match=r"acts\.pt is no NeuroX file by its name: \.hdf5 or \.json expected"):
        write_neurox(acts, corpus, tmp_path / "acts.pt")
    with pytest.raises(ActivationsError, match=r"^there is no file .*nothing\.json$"):
        read_neurox(tmp_path / "nothing.json")
    write_neurox(acts, corpus, tmp_path / "a.json")
    with pytest.raises(ActivationsError, match=r"has 3 layers of 4 neurons, the layout \(5,\)$"):
        read_neurox(tmp_path / "a.json", Layout("hidden", (5,)))
    (tmp_path / "empty.json").write_text("\n", "utf-8")
    with pytest.raises(ActivationsError, match=r"empty\.json holds no tokens$"):
        read_neurox(tmp_path / "empty.json")


def test_what_neurox_cannot_hold_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    acts, path = acts_of(corpus), tmp_path / "a.json"
    with pytest.raises(
        ActivationsError, match=r"equally many neurons of each layer, in order; these layers hold \[1, 2\]"
    ):
        write_neurox(acts.chosen(columns=[0, 4, 5]), corpus, path)
    with pytest.raises(ActivationsError, match="rows in the order of their corpus, these are in another"):
        write_neurox(acts.chosen(rows=[1, 0]), corpus, path)
    with pytest.raises(ActivationsError, match="do not go with t, which has 2: extract anew"):
        write_neurox(acts, corpus.take([1]), path)
    assert not list(tmp_path.iterdir())


def test_without_its_package_hdf5_says_how_to_get_it(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ActivationsError, match="HDF5 files need the package h5py: pip install h5py"):
        write_neurox(acts_of(corpus), corpus, tmp_path / "a.hdf5")
    assert not list(tmp_path.iterdir())
