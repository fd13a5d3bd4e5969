from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.stats import wasserstein_distance

from neuronatlas.atlas import AtlasError
from neuronatlas.atlas.matrices import overlap_matrix, tree_of
from neuronatlas.atlas.slopes import apart, layer_flows, ribbons_of, slopes

GROUPS = {"a": 0, "b": 1, "c": 0, "d": 1, "e": 0}
counts = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=12).filter(
    lambda rows: all(map(any, zip(*rows, strict=True)))
)


def pairs_of_groups() -> pl.DataFrame:
    pairs = list(combinations(GROUPS, 2))
    alike = [0.8 if GROUPS[a] == GROUPS[b] else 0.1 for a, b in pairs]
    return pl.DataFrame({"first": [a for a, _ in pairs], "second": [b for _, b in pairs], "jaccard": alike})


def test_like_sets_stand_side_by_side() -> None:
    order = tree_of(pairs_of_groups()).names
    assert [GROUPS[name] for name in order] in ([0, 0, 0, 1, 1], [1, 1, 0, 0, 0])


def test_branches_join_at_the_distances_of_average_linkage() -> None:
    pairs = pairs_of_groups()
    heights = sorted(max(heights) for _, heights in tree_of(pairs).lines)
    assert heights == pytest.approx(sorted(linkage(1 - pairs["jaccard"].to_numpy(), method="average")[:, 2]))
    assert max(heights) == pytest.approx(cophenet(linkage(1 - pairs["jaccard"].to_numpy(), method="average")).max())


def test_the_matrix_shows_every_pair_at_both_places_with_a_star_where_it_counts() -> None:
    pairs = pairs_of_groups().with_columns(n_shared=4, expected=1.5, q_value=pl.col("jaccard").lt(0.5).cast(pl.Float64))
    figure = overlap_matrix(pairs, spelled={"a": "<Alpha>"})
    heat, tree = figure.data
    cells = np.array(heat.z, dtype=float)
    assert np.array_equal(cells, cells.T, equal_nan=True)
    assert np.isnan(np.diag(cells)).all()
    assert "&lt;Alpha&gt;" in figure.layout.yaxis.ticktext
    assert {text for row in heat.text for text in row} == {"", "80*", "10"}
    assert any("4 shared, 1.5 by chance, q = 0" in text for row in heat.hovertext for text in row)
    assert len(tree.x) == 5 * 4  # four arches of four points and a break


def test_two_sets_need_no_tree_and_twice_the_same_pair_is_refused() -> None:
    pair = pl.DataFrame({"first": ["a"], "second": ["b"], "jaccard": [0.3]})
    assert len(overlap_matrix(pair).data) == 1
    with pytest.raises(AtlasError, match="'a' and 'b' stand twice"):
        tree_of(pl.concat([pairs_of_groups(), pair]))
    with pytest.raises(AtlasError, match=r"is 1.5: a share from 0 to 1 expected"):
        tree_of(pl.concat([pair.with_columns(jaccard=pl.lit(1.5)), pair.with_columns(second=pl.lit("c"))]))


@given(counts)
def test_ribbons_carry_everything_by_the_least_way(rows: list[tuple[int, int]]) -> None:
    first, second = zip(*rows, strict=True)
    layers = pl.DataFrame({"layer": range(len(rows)), "first": first, "second": second})
    ribbons = ribbons_of(layers)
    for side, own in (("left", first), ("right", second)):
        for layer, n in enumerate(own):
            carried = sum(ribbon.share for ribbon in ribbons if getattr(ribbon, side) == layer)
            assert carried == pytest.approx(100 * n / sum(own), abs=1e-6)
    way = sum(ribbon.share * abs(ribbon.right - ribbon.left) for ribbon in ribbons)
    places = range(len(rows))
    assert way / 100 == pytest.approx(wasserstein_distance(places, places, first, second), abs=1e-6)


def test_kept_neurons_stay_in_their_layer() -> None:
    layers = pl.DataFrame({"layer": [0, 1], "first": [5, 5], "second": [10, 0], "shared": [5, 0]})
    kept, moved = ribbons_of(layers)
    assert (kept.left, kept.right, kept.share, kept.kept) == (0, 0, 50.0, True)
    assert (moved.left, moved.right, moved.share, moved.kept) == (1, 0, 50.0, False)
    names = [trace.name for trace in layer_flows(layers, "base", "child").data if trace.name]
    assert names == ["The same neurons", "Lower"]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_names_are_moved_apart_in_their_order(places: list[float]) -> None:
    moved = apart(sorted(places), 0.5)
    assert all(b - a >= 0.5 - 1e-9 for a, b in pairwise(moved))
    if len(places) == 1:
        assert moved == pytest.approx(places)


def test_slopes_tell_up_from_down_and_both_from_chance() -> None:
    rows = pl.DataFrame(
        {"name": ["a", "b", "c<"], "first": [0.1, 0.9, 0.5], "second": [0.9, 0.1, 0.6], "q_value": [0.01, 0.02, 0.6]}
    )
    figure = slopes(rows, "base", "child", "Mean depth")
    drawn = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert drawn == {"Lower": [0.9, 0.1], "Higher": [0.1, 0.9], "Not told from chance": [0.5, 0.6]}
    assert {note.text for note in figure.layout.annotations} == {"a", "b", "c&lt;"}
