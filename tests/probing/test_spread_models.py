"""Activations of models that are offloaded, in half precision too, are those of the whole model."""

from pathlib import Path

import numpy as np
import pytest

import neuronatlas as na
from neuronatlas.probing.corpora import Corpus, Sentence

pytest.importorskip("accelerate", reason="accelerate is not installed")
TEXTS = ["Once upon a time there was a cat .", "The sun was warm .", "Tom ran to the big tree ."]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("site", ["hidden", "ffn"])
def test_what_is_extracted_does_not_depend_on_where_weights_lie(
    models_dir: Path, tmp_path: Path, dtype: str, site: str
) -> None:
    folder = models_dir / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no model stories260K in {models_dir}")
    sentences = [Sentence.of(text.split(), [str(len(word)) for word in text.split()], "test") for text in TEXTS]
    corpus = Corpus(tuple(sentences), label="length")
    whole = na.load(folder, dtype=dtype)
    spread = na.load(folder, dtype=dtype, device_map={"": "disk"}, offload_folder=tmp_path / "away")
    assert spread.digest == whole.digest
    found, expected = (na.extract(model, corpus, site, progress=False) for model in (spread, whole))
    assert found.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    edited, plain = (
        na.extract(m, corpus, site, folder=tmp_path / n, progress=False) for m, n in ((spread, "a"), (whole, "b"))
    )
    np.testing.assert_array_equal(np.asarray(edited), np.asarray(plain))
