"""`neuronatlas compare` and `neuronatlas figures`."""

from pathlib import Path

import neuronatlas as na
from tests.cli.conftest import complaint, document, run, succeed


def test_compare_tells_in_words_and_as_json_what_the_library_finds(atlas: Path, tmp_path: Path) -> None:
    found = document("compare", atlas, atlas, "-o", tmp_path / "compared")
    items = na.compare(atlas, atlas, progress=False).items
    assert found["comparison"] == items.to_dicts()
    assert found["by_neuron"] is True
    assert Path(found["report"]).is_file()
    row = next(row for row in found["comparison"] if row["level"] == "relation")
    assert row["n_shared"] == row["n_first"] == row["n_second"]
    assert row["expected"] < 1
    assert row["p_value"] < 0.001
    text = succeed("compare", atlas, atlas)
    assert "Of 10 neurons of the first atlas 10 (100 %) are in the second" in text
    assert "none lies at another depth" in text
    assert succeed("info", tmp_path / "compared").endswith("chance could have it.")
    assert succeed("report", tmp_path / "compared") == found["report"]


def test_compare_says_in_one_line_what_is_wrong(atlas: Path, tmp_path: Path) -> None:
    assert "does not exist" in complaint(run("compare", atlas, tmp_path / "nothing"))


def test_figures_writes_them_and_names_them(atlas: Path, tmp_path: Path) -> None:
    found = document("figures", atlas, "-o", tmp_path, "--format", "pdf", "--only", "layers")
    assert found["figures"] == [str(tmp_path / f"{name}.pdf") for name in ("layers", "layers-by-relation")]
    assert all(Path(name).read_bytes().startswith(b"%PDF") for name in found["figures"])
    several = document("figures", atlas, "-o", tmp_path, "--only", "layers-by,sharing")["figures"]
    assert several == document("figures", atlas, "-o", tmp_path, "--only", "layers-by", "--only", "sharing")["figures"]
    assert [Path(name).stem for name in several] == ["layers-by-relation", "sharing"]
    assert "begins with 'x'" in complaint(run("figures", atlas, "-o", tmp_path, "--only", "layers,x"))
    assert (
        complaint(run("figures", atlas, "-o", tmp_path, "--format", "gif")) == "error: 'gif' is none of svg, pdf, png"
    )
