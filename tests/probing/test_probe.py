"""The probe against other people's solvers, its own certificate, and what it promises of runs and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float64
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import CHUNK_ROWS, Activations
from neuronatlas.probing.probe import ElasticNetProbe, ElasticNetRegressor, ProbeError, path
from neuronatlas.probing.solver import Penalty

Values = Float64[np.ndarray, "row column"]


@parametrize_with_checks([ElasticNetProbe(), ElasticNetRegressor()])  # type: ignore[untyped-decorator]
def test_the_probes_are_estimators_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def problem(rows: int, columns: int, classes: int, seed: int = 0) -> tuple[Values, np.ndarray]:
    """Correlated columns, some of which carry the class."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((rows, columns)) @ (np.eye(columns) + 0.3 * rng.standard_normal((columns, columns)))
    scores = mixed[:, : 2 * classes] @ rng.standard_normal((2 * classes, classes)) * 0.5
    return mixed * 3 + 1, (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)


def standardised(values: Values) -> Values:
    found: Values = (values - values.mean(axis=0)) / values.std(axis=0)
    return found


def objective(probe: ElasticNetProbe, values: Values, codes: np.ndarray, coef: Values, intercept: Values) -> float:
    scores = standardised(values) @ coef.T + intercept
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(codes)), codes]
    return float(losses.mean() + probe.l1 * np.abs(coef).sum() + probe.l2 / 2 * (coef**2).sum())


def saga(probe: ElasticNetProbe, values: Values, codes: np.ndarray) -> LogisticRegression:
    total = probe.l1 + probe.l2
    fit = LogisticRegression(
        solver="saga", C=1 / (len(codes) * total), l1_ratio=probe.l1 / total, tol=1e-10, max_iter=20_000, random_state=0
    )
    return fit.fit(standardised(values), codes)


@pytest.mark.parametrize(("rows", "columns", "classes"), [(120, 12, 2), (150, 10, 3), (200, 20, 5)])
@pytest.mark.parametrize(("l1", "l2"), [(1e-2, 1e-2), (3e-2, 1e-3)])
def test_objective_and_support_equal_those_of_saga(rows: int, columns: int, classes: int, l1: float, l2: float) -> None:
    values, codes = problem(rows, columns, classes)
    probe = ElasticNetProbe(l1, l2, tol=1e-10).fit(values, codes)
    other = saga(probe, values, codes)
    ours = objective(probe, values, codes, probe.coef_, probe.intercept_)
    theirs = objective(probe, values, codes, other.coef_, other.intercept_)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours == pytest.approx(probe.objective_, rel=1e-9)
    differs = (probe.coef_ != 0) != (np.abs(other.coef_) > 1e-9)
    scores = standardised(values) @ probe.coef_.T + probe.intercept_
    shares = 1 / (1 + np.exp(-scores)) if classes == 2 else np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    targets = (codes == 1)[:, None] if classes == 2 else np.eye(classes)[codes]
    slack = l1 - np.abs((shares - targets).T @ standardised(values) / rows + l2 * probe.coef_)
    assert (np.abs(slack[differs]) < 1e-3 * l1).all()


@pytest.mark.filterwarnings("ignore:.*faster on contiguous arrays")  # skglm's own compilation
def test_one_class_against_the_rest_equals_skglm() -> None:
    skglm = pytest.importorskip("skglm", reason="skglm is not installed")
    values, codes = problem(200, 12, 3)
    rest = (codes == 0).astype(int)
    ours = ElasticNetProbe(2e-2, 0.0, tol=1e-9).fit(values, rest)
    theirs = skglm.SparseLogisticRegression(alpha=2e-2, tol=1e-9, fit_intercept=True).fit(standardised(values), rest)
    assert np.allclose(ours.coef_, theirs.coef_, atol=1e-4)
    assert np.array_equal(ours.coef_ != 0, theirs.coef_ != 0)


def test_regression_equals_scikit_learns() -> None:
    values, _ = problem(150, 12, 3)
    numbers = values[:, 0] - 2 * values[:, 1] + np.random.default_rng(1).standard_normal(150)
    ours = ElasticNetRegressor(0.1, 0.05, tol=1e-12).fit(values, numbers)
    theirs = ElasticNet(alpha=0.15, l1_ratio=0.1 / 0.15, tol=1e-12).fit(standardised(values), numbers)
    assert np.allclose(ours.coef_[0], theirs.coef_, atol=1e-6)
    assert np.array_equal(ours.coef_[0] != 0, theirs.coef_ != 0)


@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 4),
    iterations=st.integers(0, 60),
    l2=st.sampled_from([0.0, 1e-3, 1e-1]),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_gap_bounds_the_distance_from_the_optimum(seed: int, classes: int, iterations: int, l2: float) -> None:
    values, codes = problem(60, 8, classes, seed)
    codes[:classes] = np.arange(classes)
    early = ElasticNetProbe(1e-2, l2, tol=1e-12, max_iter=iterations).fit(values, codes)
    late = ElasticNetProbe(1e-2, l2, tol=1e-9).fit(values, codes)
    assert early.objective_ - late.objective_ <= early.gap_ + 1e-9


def test_weights_are_the_same_in_memory_and_streamed_and_on_every_run() -> None:
    values, codes = problem(CHUNK_ROWS + 300, 40, 4)
    acts = Activations.of(values)
    held = ElasticNetProbe(5e-3, 1e-3).fit(acts, codes)
    again = ElasticNetProbe(5e-3, 1e-3).fit(acts, codes)
    streamed = ElasticNetProbe(5e-3, 1e-3, memory_limit=0).fit(acts, codes)
    assert held.coef_.tobytes() == again.coef_.tobytes() == streamed.coef_.tobytes()
    assert held.intercept_.tobytes() == streamed.intercept_.tobytes()
    assert held.gap_ <= 1e-6
    assert 0 < np.count_nonzero(held.coef_) < held.coef_.size


def test_planted_columns_are_found_and_random_labels_give_chance() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((600, 50))
    codes = np.where(values[:, 7] + values[:, 31] > 0, "yes", "no")
    probe = ElasticNetProbe(3e-2, 1e-3).fit(values[:400], codes[:400])
    assert set(np.flatnonzero(probe.coef_[0])) == {7, 31}
    assert probe.score(values[400:], codes[400:]) > 0.9
    shuffled = rng.permutation(codes)
    chance = ElasticNetProbe(1e-2, 1e-3).fit(values[:400], shuffled[:400]).score(values[400:], shuffled[400:])
    assert abs(chance - 0.5) < 0.12


def test_beyond_the_largest_slope_all_weights_are_zero_and_the_path_opens_there() -> None:
    values, codes = problem(150, 10, 3)
    slopes = np.abs((np.eye(3)[codes] - np.bincount(codes) / len(codes)).T @ standardised(values)) / len(codes)
    fits = list(path(ElasticNetProbe(l2=1e-3), values, codes, [slopes.max() * 1.001, slopes.max() * 0.9, 1e-3]))
    assert [bool(fit.coef_.any()) for fit in fits] == [False, True, True]
    alone = ElasticNetProbe(1e-3, 1e-3).fit(values, codes)
    assert fits[-1].objective_ == pytest.approx(alone.objective_, abs=2e-6)


def test_a_probe_is_saved_without_pickle_and_read_back(tmp_path: Path) -> None:
    values, codes = problem(80, 6, 3)
    layout = Layout(site="hidden", widths=(3, 3), digest="d1")
    names = np.array(["a", "b", "c"])[codes]
    probe = ElasticNetProbe(1e-2, 1e-3).fit(Activations.of(values, layout), names)
    probe.save(tmp_path / "probe.safetensors")
    found = ElasticNetProbe.load(tmp_path / "probe.safetensors")
    assert found.get_params() == probe.get_params()
    assert found.layout_ == layout
    assert np.array_equal(found.predict(values.astype(np.float32)), probe.predict(values.astype(np.float32)))
    with pytest.raises(ProbeError, match="holds an ElasticNetProbe, not an ElasticNetRegressor"):
        ElasticNetRegressor.load(tmp_path / "probe.safetensors")
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(ProbeError, match="is not a saved probe"):
        ElasticNetProbe.load(tmp_path / "other")


def test_labels_may_be_those_of_the_corpus_and_words_without_one_are_left_out() -> None:
    values, codes = problem(80, 6, 2)
    labels = np.array(["no", "yes"], dtype=object)[codes]
    some = labels.copy()
    some[::4] = None
    probe = ElasticNetProbe(1e-2, 1e-3).fit(Activations.of(values), some)
    kept = np.arange(80) % 4 != 0
    alone = ElasticNetProbe(1e-2, 1e-3).fit(Activations.of(values[kept]), labels[kept])
    assert np.array_equal(probe.coef_, alone.coef_)


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        ([[1.0], [np.nan], [2.0]], ["a", "b", "a"], "neuron L0.U0 has NaN or infinity"),
        ([[1.0], [2.0]], ["a", "a"], r"1 class \('a'\) among 2"),
        ([[1.0], [2.0]], [None, None], "no row has a label"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(values: Any, labels: Any, said: str) -> None:
    with pytest.raises(ProbeError, match=said) as refusal:
        ElasticNetProbe().fit(Activations.of(values), np.array(labels, dtype=object))
    assert "\n" not in str(refusal.value)


def test_a_fit_that_ends_early_says_how_far_it_may_be_off() -> None:
    values, codes = problem(100, 10, 3)
    with pytest.warns(ConvergenceWarning, match="the duality gap is"):
        probe = ElasticNetProbe(1e-4, 1e-4, max_iter=3).fit(values, codes)
    assert probe.gap_ > probe.tol


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ProbeError, match="l1 is -1"):
        ElasticNetProbe(l1=-1).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ProbeError, match="tol 0"):
        ElasticNetProbe(tol=0).fit([[0.0], [1.0]], [0, 1])


def test_without_an_l2_single_precision_is_solved_to_the_gap_as_well() -> None:
    values, codes = problem(400, 60, 20)
    probe = ElasticNetProbe(1e-3, 0.0).fit(values.astype(np.float32), codes)
    assert probe.gap_ <= 1e-6


@given(
    weights=st.lists(st.sampled_from([0.0, 0.0, 0.5, -0.3, 1.2, 2.0]), min_size=3, max_size=7),
    l1=st.sampled_from([0.0, 0.01, 0.3]),
    l2=st.sampled_from([0.0, 0.02, 0.5]),
)
def test_weights_are_evened_to_the_cheapest_that_give_the_same_probabilities(
    weights: list[float], l1: float, l2: float
) -> None:
    penalty, column = Penalty(l1, l2), torch.tensor(weights, dtype=torch.float64)[:, None]
    found = penalty.evened(column)
    shift = (column - found)[:, 0]
    assert torch.allclose(shift, shift[:1].expand(len(shift)))
    best = minimize_scalar(lambda c: penalty.value(column - c), bounds=(-3, 3), options={"xatol": 1e-9})
    assert penalty.value(found) <= best.fun + 1e-9
