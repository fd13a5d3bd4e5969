"""The NeuroX toolkit's activation files, read and written: HDF5 (`.hdf5`) and JSON lines (`.json`).

HDF5 has one dataset a sentence, "0", "1", ..., of [layer, token, unit], and `sentence_to_index`, a JSON text that gives
the dataset of each sentence (its words joined by spaces; a sentence seen before has " (Occurrence 2)" added). JSON has
one object a line: `linex_index` and `features`, a list of tokens, each with `token` and `layers` of `index` and
`values`. All layers are equally wide. Format as of fdalvi/NeuroX 1.0, `data/writer.py` and `data/loader.py`.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from neuronatlas import durable
from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations, ActivationsError, InMemory, Source
from neuronatlas.probing.corpora import Corpus

__all__ = ["read_neurox", "write_neurox"]

_INDEX = "sentence_to_index"
_OCCURRENCE = re.compile(r" \(Occurrence \d+\)$")

Indices = Int[np.ndarray, " index"]
Words = list[tuple[str, ...]]
SentenceValues = Float32[np.ndarray, "layer token unit"]


def read_neurox(path: str | Path, layout: Layout | None = None) -> tuple[Activations, Words]:
    """Read activations and the words of each sentence from a NeuroX file; of HDF5, values are read when asked for.

    The file does not say of which model and site it is: give the `layout` if it is to be used with that model, else the
    layers are those of the file at site `hidden`. Labels go with the words in a `Corpus` of `Sentence.of(words, ...)`.

    Errors: ActivationsError for a file that is not of this form and for values that are not finite (in HDF5, once they
    are read), with the line or the sentence, and for HDF5 without the package h5py.
    """
    path = Path(path)
    if not path.is_file():
        raise ActivationsError(f"there is no file {path}")
    source, words, (n_layers, n_units) = _read_hdf5(path) if _is_hdf5(path) else _read_json(path)
    layout = layout or Layout("hidden", (n_units,) * n_layers, stack="")
    if layout.widths != (n_units,) * n_layers:
        raise ActivationsError(f"{path} has {n_layers} layers of {n_units} neurons, the layout {layout.widths}")
    rows = sum(map(len, words))
    columns, items = np.arange(layout.n_neurons), np.arange(rows)
    return Activations(source, layout, columns, items, rows, model=path.name), words


def write_neurox(acts: Activations, corpus: Corpus, path: str | Path) -> int:
    """Write activations of a corpus for NeuroX; returns how many items had no row and so are left out.

    Sentences that carry the label themselves are written as one token. The file is there whole or not at all.

    Errors: ActivationsError for activations of another corpus, layers that hold different numbers of neurons, rows out
    of the corpus's order, and a path that ends neither in .hdf5 nor in .json.
    """
    path = Path(path)
    acts.require(corpus)
    n_layers = _layers_held(acts)
    if (np.diff(acts.items) <= 0).any():
        raise ActivationsError("NeuroX files hold rows in the order of their corpus, these are in another")
    write = _write_hdf5 if _is_hdf5(path) else _write_json
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary, _sentences(acts, corpus, n_layers))
        durable.publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return acts.n_items - len(acts)


def _is_hdf5(path: Path) -> bool:
    if path.suffix not in {".hdf5", ".json"}:
        raise ActivationsError(f"{path} is no NeuroX file by its name: .hdf5 or .json expected at its end")
    return path.suffix == ".hdf5"


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise ActivationsError("NeuroX's HDF5 files need the package h5py: pip install h5py") from None


class _Datasets:
    """Rows of an HDF5 file, read from it when asked for."""

    def __init__(self, file: Any, path: Path, names: Sequence[str]) -> None:
        self._file, self._path, self._names = file, path, list(names)
        lengths = [file[name].shape[1] for name in names]
        self._bounds = np.array([0, *accumulate(lengths)])
        n_layers, _, n_units = file[names[0]].shape
        self._n_columns = n_layers * n_units

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self._bounds[-1]), self._n_columns

    def read(self, rows: slice | Indices, columns: Indices | None) -> Float32[np.ndarray, "row column"]:
        """Some rows, in the order given, and all columns or some."""
        asked = np.arange(self.shape[0])[rows]
        block = np.empty((len(asked), self._n_columns if columns is None else len(columns)), dtype=np.float32)
        sentence_of = np.searchsorted(self._bounds, asked, side="right") - 1
        for sentence in np.unique(sentence_of).tolist():
            there = np.flatnonzero(sentence_of == sentence)
            values = np.asarray(self._file[self._names[sentence]], dtype=np.float32)
            if not np.isfinite(values).all():
                raise ActivationsError(f"{self._path}, sentence {self._names[sentence]}: a value is not finite")
            flat = values.transpose(1, 0, 2).reshape(values.shape[1], -1)
            taken = flat[asked[there] - self._bounds[sentence]]
            block[there] = taken if columns is None else taken[:, columns]
        return block


def _read_hdf5(path: Path) -> tuple[Source, Words, tuple[int, int]]:
    try:
        file = _h5py().File(path, "r")
        index = json.loads(file[_INDEX][0])
        named = {name: sentence for sentence, name in index.items()}
        names = sorted(named, key=int)
        shapes = [file[name].shape for name in names]
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ActivationsError(f"{path} is not an HDF5 file as NeuroX writes it: {reason}") from None
    if not names:
        raise ActivationsError(f"{path} holds no sentences")
    for name, shape in zip(names, shapes, strict=True):
        if len(shape) != 3 or shape[::2] != shapes[0][::2]:
            expected = f" of {shapes[0][0]} layers and {shapes[0][2]} units" if len(shapes[0]) == 3 else ""
            raise ActivationsError(
                f"{path}, sentence {name}: values of shape {shape}, [layer, token, unit]{expected} expected"
            )
    words = [_words(path, name, named[name], shape[1]) for name, shape in zip(names, shapes, strict=True)]
    return _Datasets(file, path, names), words, shapes[0][::2]


def _words(path: Path, name: str, sentence: str, count: int) -> tuple[str, ...]:
    """The words of a sentence, by their number: " (Occurrence 2)" may be its own or added."""
    for text in (_OCCURRENCE.sub("", sentence), sentence):
        words = tuple(text.split(" ")) if text else ()
        if len(words) == count:
            return words
    if count == 1:
        return (_OCCURRENCE.sub("", sentence),)
    raise ActivationsError(f"{path}, sentence {name}: {count} tokens, but {len(words)} words in {sentence!r}")


def _read_json(path: Path) -> tuple[Source, Words, tuple[int, int]]:
    words: Words = []
    blocks: list[Float32[np.ndarray, "token layer unit"]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            tokens, values = _parsed(line, f"{path}, line {number}")
            words.append(tokens)
            if not tokens:
                continue
            if blocks and values.shape[1:] != blocks[0].shape[1:]:
                found, before = values.shape[1:], blocks[0].shape[1:]
                raise ActivationsError(f"{path}, line {number}: layers and units {found}, but {before} before")
            blocks.append(values)
    if not blocks:
        raise ActivationsError(f"{path} holds no tokens")
    _, n_layers, n_units = blocks[0].shape
    return InMemory(np.concatenate(blocks).reshape(-1, n_layers * n_units)), words, (n_layers, n_units)


def _parsed(line: str, where: str) -> tuple[tuple[str, ...], Float32[np.ndarray, "token layer unit"]]:
    try:
        features = json.loads(line)["features"]
        tokens = tuple(str(feature["token"]) for feature in features)
        values = np.array([[layer["values"] for layer in f["layers"]] for f in features], dtype=np.float32)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ActivationsError(f"{where}: not a sentence as NeuroX writes it ({reason})") from None
    if tokens and (values.ndim != 3 or not values.size):
        raise ActivationsError(f"{where}: tokens with layers of equally many values expected")
    if not np.isfinite(values).all():
        raise ActivationsError(f"{where}: a value is not finite")
    return tokens, values


def _layers_held(acts: Activations) -> int:
    layout = acts.layout
    held = np.diff(np.searchsorted(acts.columns, layout.offsets))
    held = held[held > 0]
    if (np.diff(acts.columns) <= 0).any() or len(set(held.tolist())) != 1:
        raise ActivationsError(
            f"NeuroX files hold equally many neurons of each layer, in order; these layers hold {held.tolist()}"
        )
    return len(held)


def _sentences(acts: Activations, corpus: Corpus, n_layers: int) -> Iterator[tuple[tuple[str, ...], SentenceValues]]:
    """Each sentence's words that have a row, and their values."""
    n_units = len(acts.columns) // n_layers
    bounds = np.searchsorted(corpus.sentence_of[acts.items], np.arange(len(corpus) + 1))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        values = acts.read(start, stop).reshape(stop - start, n_layers, n_units).transpose(1, 0, 2)
        yield tuple(corpus.items[acts.items[start:stop]]), values


def _write_hdf5(path: Path, sentences: Iterator[tuple[tuple[str, ...], SentenceValues]]) -> None:
    h5py = _h5py()
    index: dict[str, str] = {}
    with h5py.File(path, "w") as file:
        for number, (words, values) in enumerate(sentences):
            file.create_dataset(str(number), data=values)
            text = " ".join(words)
            name, count = text, 1
            while name in index:
                count += 1
                name = f"{text} (Occurrence {count})"
            index[name] = str(number)
        written = file.create_dataset(_INDEX, (1,), dtype=h5py.special_dtype(vlen=str))
        written[0] = json.dumps(index)


def _write_json(path: Path, sentences: Iterator[tuple[tuple[str, ...], SentenceValues]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, (words, values) in enumerate(sentences):
            features = [
                {
                    "token": word,
                    "layers": [
                        {"index": layer, "values": [float(f"{value:.9g}") for value in units]}
                        for layer, units in enumerate(values[:, token].tolist())
                    ],
                }
                for token, word in enumerate(words)
            ]
            file.write(json.dumps({"linex_index": number, "features": features}) + "\n")
