"""Elastic-net probes: convex, solved to a proved distance, with zeros that are zero; estimators of scikit-learn.

>>> values = np.array([[0.0, 1.0], [1.0, 1.1], [0.1, 0.9], [0.9, 1.0]])
>>> probe = ElasticNetProbe(l1=0.01, l2=0.01).fit(values, ["noun", "verb", "noun", "verb"])
>>> probe.predict([[0.05, 1.0]]).tolist(), bool(probe.gap_ <= 1e-6)
(['noun'], True)
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from neuronatlas.neurons import Layout
from neuronatlas.probing.activations import Activations
from neuronatlas.probing.columns import ProbeError, Rows, columns_of, moments
from neuronatlas.probing.losses import CrossEntropy, Loss, SquaredError
from neuronatlas.probing.solver import Penalty, Solution, Watch, solve

__all__ = ["ElasticNetProbe", "ElasticNetRegressor", "ProbeError", "path"]

MEMORY_LIMIT = 4 * 2**30
"""Standardised columns of so many bytes are held in memory; more are read from where they lie, pass by pass."""

_EXACT_BYTES = 2**25
"""Arrays of float64 up to this size are fitted in float64."""

_PRECISIONS = [np.float64, np.float32]

_ARRAYS = ("coef_", "intercept_", "mean_", "scale_", "columns_")

Inputs = Activations | ArrayLike


class _ElasticNet(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators share: standardising, solving, and the scores of new rows."""

    def __init__(
        self,
        l1: float = 1e-3,
        l2: float = 1e-3,
        *,
        tol: float = 1e-6,
        max_iter: int = 10_000,
        standardize: bool = True,
        memory_limit: int = MEMORY_LIMIT,
        device: str = "cpu",
        watch: Watch | None = None,
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.tol = tol
        self.max_iter = max_iter
        self.standardize = standardize
        self.memory_limit = memory_limit
        self.device = device
        self.watch = watch

    def _check_settings(self) -> None:
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.number) and 0 <= value < math.inf):
                raise ProbeError(f"{name} is {value!r}: a number from 0 expected")
        if not self.tol > 0 or self.max_iter < 0:
            raise ProbeError(f"tol {self.tol}, max_iter {self.max_iter}: tol above 0 and max_iter from 0 expected")

    def _solve(self, rows: Rows, loss: Loss, exact: bool, start: Any) -> None:
        n_columns = rows.shape[1]
        self.mean_: Float64[np.ndarray, " column"]
        self.scale_: Float64[np.ndarray, " column"]
        self.mean_, self.scale_ = moments(rows) if self.standardize else (np.zeros(n_columns), np.ones(n_columns))
        device = torch.device(_device(self.device))
        dtype = torch.float64 if exact and rows.shape[0] * n_columns * 8 <= _EXACT_BYTES else torch.float32
        if dtype == torch.float32:
            self.mean_ = self.mean_.astype(np.float32).astype(np.float64)  # what is taken off in fitting, exactly
        columns = columns_of(rows, self.mean_, self.scale_, dtype=dtype, device=device, limit=self.memory_limit)
        began = None
        if start is not None:
            began = torch.from_numpy(start[0]).to(device, dtype), torch.from_numpy(start[1]).to(device)
        penalty = Penalty(float(self.l1), float(self.l2))
        self._keep(solve(columns, loss, penalty, tol=self.tol, max_iter=self.max_iter, start=began, watch=self.watch))

    def save(self, file: str | Path) -> None:
        """Write settings and what was learned to one safetensors file: numbers and plain text, no pickle."""
        check_is_fitted(self, "coef_")
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS if hasattr(self, name)}
        about = {
            "estimator": type(self).__name__,
            "settings": {k: v for k, v in self.get_params().items() if k != "watch"},
            "learned": {name: getattr(self, name) for name in ("gap_", "objective_", "n_iter_", "n_features_in_")},
            "classes": self.classes_.tolist() if hasattr(self, "classes_") else None,
            "layout": asdict(self.layout_) if hasattr(self, "layout_") else None,
        }
        save_file(arrays, file, metadata={"neuronatlas-probe": json.dumps(about)})

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read what `save` wrote. ProbeError when it is not such a file, or of another kind of probe."""
        try:
            with safe_open(file, framework="np") as stored:
                about = json.loads((stored.metadata() or {})["neuronatlas-probe"])
                arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ProbeError(
                f"{file} is not a saved probe ({type(error).__name__}): a file that `save` wrote expected"
            ) from None
        if about["estimator"] != cls.__name__:
            raise ProbeError(f"{file} holds an {about['estimator']}, not an {cls.__name__}")
        probe = cls(**about["settings"])
        learned = arrays | about["learned"]
        if about["classes"] is not None:
            learned["classes_"] = np.array(about["classes"])
        if about["layout"] is not None:
            layout, experts = about["layout"], tuple(map(tuple, about["layout"].get("experts", ())))
            learned["layout_"] = Layout(**(layout | {"widths": tuple(layout["widths"]), "experts": experts}))
        for name, value in learned.items():
            setattr(probe, name, value)
        return probe

    def _keep(self, found: Solution) -> None:
        self.coef_: NDArray[np.float64] = found.weights.double().cpu().numpy()
        self.intercept_: NDArray[np.float64] = found.bias.cpu().numpy()
        self.gap_ = max(found.certificate.gap, 0.0)
        self.objective_ = found.certificate.objective
        self.n_iter_ = max(found.iterations, 1)
        if not self.gap_ <= self.tol:
            warnings.warn(
                f"the duality gap is {self.gap_:.1e} after {found.iterations} iterations, {self.tol:.0e} wanted: raise "
                "max_iter or tol, or l1 and l2",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _rows(self, values: Inputs, labels: Any) -> tuple[Rows, Any, bool]:
        """Rows and labels that go together, and whether the numbers came with double precision."""
        for name in ("layout_", "columns_"):
            if hasattr(self, name):
                delattr(self, name)
        if not isinstance(values, Activations):
            exact = np.asarray(values).dtype != np.float32
            array, labels = validate_data(self, values, labels, dtype=_PRECISIONS, y_numeric=False, multi_output=False)
            return Rows(array), labels, exact
        acts, labels = values.align(labels)
        if not len(acts):
            raise ProbeError("no row has a label: nothing to fit")
        self.layout_, self.columns_, self.n_features_in_ = acts.layout, acts.columns, acts.shape[1]
        return Rows(acts), labels, False

    def _scores(self, values: Inputs) -> Float64[np.ndarray, "row output"]:
        check_is_fitted(self, "coef_")
        rows = self._known(values)
        out = np.empty((len(rows), len(self.coef_)))
        active = np.flatnonzero(self.coef_.any(axis=0))
        weights = (self.coef_[:, active] / self.scale_[active]).T
        offset = self.intercept_ - self.mean_[active] @ weights
        for where, block in rows.chunks():
            out[where] = block[:, active] @ weights + offset
        return out

    def _known(self, values: Inputs) -> Rows:
        if not isinstance(values, Activations):
            return Rows(validate_data(self, values, dtype=_PRECISIONS, reset=False))
        if values.shape[1] != self.n_features_in_:
            raise ProbeError(f"activations of {values.shape[1]} neurons for a probe of {self.n_features_in_}")
        if hasattr(self, "layout_"):
            self.layout_.require(values.layout)
            if not np.array_equal(self.columns_, values.columns):
                raise ProbeError("these activations hold other neurons than those that the probe was fitted on")
        return Rows(values)


class ElasticNetProbe(ClassifierMixin, _ElasticNet):  # type: ignore[misc]  # scikit-learn has no types
    """Softmax regression with an elastic net: mean cross entropy + l1 |W|_1 + l2/2 |W|_2^2, the bias free.

    Columns are standardised inside (unless `standardize` is off), and W is for standardised columns. Two classes have
    one logistic row, as scikit-learn's LogisticRegression with C = 1/(N (l1 + l2)) and l1_ratio = l1/(l1 + l2). The
    objective is solved to a duality gap of at most `tol`, which bounds its distance from the optimum; a
    ConvergenceWarning tells when `max_iter` comes first. `fit` takes an array [row, column], or Activations with labels
    of its rows or of its corpus' items (None: no label). Standardised columns of at most `memory_limit` bytes are held
    in memory, more are read chunk by chunk on every pass; both give the same weights, as does every run on a device.
    Arrays of up to 32 MiB in float64 are fitted in float64, all else in float32. `watch`, if given, is called with the
    gap and the certificate on the way.

    Attributes: classes_; coef_ [class, column] (one row for two classes), in standardised units; intercept_; mean_,
    scale_ [column]; gap_, objective_, n_iter_; layout_ and columns_ (flat indices) when fitted on Activations.

    Errors: ProbeError for fewer than two classes, values that are not finite, or activations of other neurons.

    Source: Durrani, Dalvi and Sajjad 2023 (JMLR 24), section 3; the objective is the convex one, see the docs.

    >>> rng = np.random.default_rng(0)
    >>> values = rng.standard_normal((200, 5))
    >>> probe = ElasticNetProbe(l1=0.05, l2=0.001).fit(values, np.where(values[:, 2] > 0, "yes", "no"))
    >>> np.flatnonzero(probe.coef_[0]).tolist(), probe.classes_.tolist()
    ([2], ['no', 'yes'])
    """

    def fit(self, X: Inputs, y: Any, *, start: Any = None) -> Self:  # noqa: N803
        """Fit on rows X and their labels y; `start` is a pair (coef, intercept) to begin from."""
        self._check_settings()
        rows, labels, exact = self._rows(X, y)
        check_classification_targets(labels)
        labels = np.asarray(labels)
        if labels.dtype.kind == "O":
            labels = np.array(labels.tolist())
        self.classes_, found = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            only = repr(self.classes_.tolist()[0])
            raise ProbeError(f"1 class ({only}) among {len(labels)} labels: two classes or more expected")
        codes = torch.from_numpy(found.astype(np.int64)).to(_device(self.device))
        self._solve(rows, CrossEntropy.of(codes, len(self.classes_)), exact, start)
        return self

    def decision_function(self, X: Inputs) -> NDArray[np.float64]:  # noqa: N803
        """Scores [row, class]; of two classes the second's alone [row]."""
        scores = self._scores(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Inputs) -> NDArray[np.float64]:  # noqa: N803
        """Probabilities [row, class]."""
        scores = self._scores(X)
        if len(self.classes_) == 2:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return shares

    def predict(self, X: Inputs) -> NDArray[Any]:  # noqa: N803
        """The likeliest class of each row."""
        scores = self._scores(X)
        best = (scores[:, 0] > 0).astype(int) if len(self.classes_) == 2 else scores.argmax(axis=1)
        found: NDArray[Any] = self.classes_[best]
        return found


class ElasticNetRegressor(RegressorMixin, _ElasticNet):  # type: ignore[misc]  # scikit-learn has no types
    """Linear regression with an elastic net: mean squared error / 2 + l1 |W|_1 + l2/2 |W|_2^2, the bias free.

    Equals scikit-learn's ElasticNet with alpha = l1 + l2 and l1_ratio = l1/(l1 + l2) on the same standardised columns.
    Settings, attributes and errors are those of `ElasticNetProbe`; rows whose number is NaN are left out.

    >>> values = np.random.default_rng(0).standard_normal((100, 3))
    >>> ElasticNetRegressor(l1=1e-4, l2=1e-4).fit(values, 2 * values[:, 0]).score(values, 2 * values[:, 0]) > 0.999
    True
    """

    def fit(self, X: Inputs, y: Any, *, start: Any = None) -> Self:  # noqa: N803
        """Fit on rows X and their numbers y; `start` is a pair (coef, intercept) to begin from."""
        self._check_settings()
        if isinstance(X, Activations):
            numbers = np.asarray(y, dtype=np.float64)
            y = np.array([None if math.isnan(number) else number for number in numbers], dtype=object)
        rows, numbers, exact = self._rows(X, y)
        targets = torch.tensor(np.array(numbers, dtype=np.float64), device=_device(self.device))
        self._solve(rows, SquaredError.of(targets), exact, start)
        return self

    def predict(self, X: Inputs) -> NDArray[np.float64]:  # noqa: N803
        """The number of each row."""
        return self._scores(X)[:, 0]


def path(probe: _ElasticNet, X: Inputs, y: Any, l1s: Iterable[float]) -> Iterator[_ElasticNet]:  # noqa: N803
    """Fit for one l1 after the other, each from where the last ended: fastest from the largest l1 down.

    >>> values = np.random.default_rng(0).standard_normal((60, 4))
    >>> fits = path(ElasticNetProbe(), values, values[:, 0] > 0, [0.1, 0.01])
    >>> [int(np.count_nonzero(fit.coef_)) for fit in fits]
    [1, 3]
    """
    start = None
    for l1 in l1s:
        fitted = clone(probe).set_params(l1=l1).fit(X, y, start=start)
        start = fitted.coef_, fitted.intercept_
        yield fitted


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
