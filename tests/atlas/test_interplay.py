"""The matrix of pairs shows every pair twice, with the sign of its kind, and is fit for a page of either kind."""

import numpy as np
import polars as pl

from neuronatlas.atlas.knowledge.interplay import pair_matrix

KINDS = ("redundancy", "synergy", "none found")


def test_every_pair_has_its_value_and_the_sign_of_its_kind() -> None:
    pairs = pl.DataFrame(
        {
            "measure": ["log_odds"] * 3 + ["p"] * 3,
            "a": ["L0.U1", "L0.U1", "L2.U3"] * 2,
            "b": ["L2.U3", "L3.U5", "L3.U5"] * 2,
            "a_alone": [-1.0, -1.0, -2.0] * 2,
            "b_alone": [-2.0, -0.5, -0.5] * 2,
            "joint": [-4.0, -1.0, -2.5] * 2,
            "interaction": [-1.0, 0.5, 0.0] * 2,
            "shapley": [-0.9, 0.4, 0.0] * 2,
            "kind": KINDS * 2,
        }
    )
    figure = pair_matrix(pairs)
    (drawn,) = figure.data
    cells = np.array(drawn.z, dtype=float)
    np.testing.assert_array_equal(cells, cells.T)
    assert cells[0].tolist()[1:] == [-1.0, 0.5]
    assert np.isnan(np.diag(cells)).all()
    assert [drawn.text[0][1], drawn.text[0][2], drawn.text[1][2]] == ["\N{MINUS SIGN}", "+", ""]
    assert drawn.zmin == -drawn.zmax == -1.0
    assert figure.layout.yaxis.ticktext[0] == "L0.U1 (\N{MINUS SIGN}1.00)"
    assert "Shapley" in drawn.hovertext[0][1]
    assert pair_matrix(pairs, "p", "shapley").data[0].z[0][1] == -0.9
