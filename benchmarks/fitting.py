"""One fit of a probe in a process of its own: here, by scikit-learn's saga, or by the recipe of the papers' toolkit.

Rows are read from a folder with `rows.npy` [row, column] and `codes.npy` [row]. What it prints is JSON: seconds, this
project's objective (mean cross entropy + l1 |W|_1 + l2/2 |W|_2^2 on standardised columns), peak memory, and for the fit
here the objective and the gap after each step.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float32, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from measure import peak_memory
from neuronatlas.probing.activations import CHUNK_ROWS, Activations
from neuronatlas.probing.columns import Rows, moments
from neuronatlas.probing.probe import ElasticNetProbe
from neuronatlas.probing.solver import Certificate

Values = Float32[np.ndarray, "row column"]
Codes = Int64[np.ndarray, " row"]

_EPOCHS, _BATCH, _RATE = 10, 32, 1e-3


class OutOfTimeError(Exception):
    """The seconds that a fit was given are over."""


def fit_here(values: Values, codes: Codes, penalty: float, seconds: float) -> dict[str, object]:
    """This project's probe, to a gap of 1e-6 or until the time is over; the standardising counts."""
    curve: list[tuple[float, float, float]] = []

    def watch(gap: float, certificate: Certificate) -> None:
        curve.append((time.perf_counter() - began, certificate.objective, gap))
        if curve[-1][0] > seconds:
            raise OutOfTimeError

    probe = ElasticNetProbe(penalty, penalty, watch=watch)
    began = time.perf_counter()
    with contextlib.suppress(OutOfTimeError):
        probe.fit(Activations.of(values), codes)
    weights = int(np.count_nonzero(probe.coef_)) if hasattr(probe, "coef_") else None
    return {"curve": curve, "seconds": curve[-1][0], "objective": curve[-1][1], "weights": weights}


def fit_saga(values: Values, codes: Codes, penalty: float, seconds: float) -> dict[str, object]:
    """As many epochs of saga as the time allows; one epoch alone tells how long one lasts."""
    ready = standardised(values)
    total = 2 * penalty

    def fitted(epochs: int) -> tuple[LogisticRegression, float]:
        made = LogisticRegression(
            solver="saga", C=1 / (len(codes) * total), l1_ratio=0.5, tol=1e-12, max_iter=epochs, random_state=0
        )
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            made.fit(ready, codes)
        return made, time.perf_counter() - began

    _, one = fitted(1)
    epochs = max(1, math.ceil(seconds / one))
    probe, took = fitted(epochs)
    found = objective(ready, codes, probe.coef_, probe.intercept_, penalty)
    return {"seconds": took, "objective": found, "epochs": epochs, "weights": int(np.count_nonzero(probe.coef_))}


def fit_toolkit(values: Values, codes: Codes, penalty: float, seconds: float) -> dict[str, object]:
    """Adam over batches in their order, with the penalties as terms of the loss, the second the norm itself."""
    ready, wanted = torch.from_numpy(standardised(values)), torch.from_numpy(codes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        probe = torch.nn.Linear(ready.shape[1], int(codes.max()) + 1)
    optimiser = torch.optim.Adam(probe.parameters(), lr=_RATE)
    began = time.perf_counter()
    for _ in range(_EPOCHS):
        for start in range(0, len(ready), _BATCH):
            rows = slice(start, start + _BATCH)
            loss = torch.nn.functional.cross_entropy(probe(ready[rows]), wanted[rows])
            loss = loss + penalty * (probe.weight.abs().sum() + probe.weight.norm())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    took = time.perf_counter() - began
    coef, intercept = probe.weight.detach().numpy(), probe.bias.detach().numpy()
    found = objective(ready.numpy(), codes, coef, intercept, penalty)
    return {"seconds": took, "objective": found, "epochs": _EPOCHS, "weights": int(np.count_nonzero(coef))}


def standardised(values: Values) -> Values:
    """Columns of mean 0 and deviation 1."""
    mean, scale = moments(Rows(Activations.of(values)))
    ready = np.empty(values.shape, dtype=np.float32)
    for rows in _chunks(len(values)):
        ready[rows] = (values[rows] - mean) / scale
    return ready


def objective(ready: Values, codes: Codes, coef: np.ndarray, intercept: np.ndarray, penalty: float) -> float:
    """What this project minimises, in float64."""
    total, exact = 0.0, coef.astype(np.float64)
    for rows in _chunks(len(ready)):
        scores = ready[rows].astype(np.float64) @ exact.T + intercept
        highest = scores.max(axis=1)
        odds = np.log(np.exp(scores - highest[:, None]).sum(axis=1)) + highest
        total += float((odds - scores[np.arange(len(scores)), codes[rows]]).sum())
    return total / len(ready) + penalty * float(np.abs(exact).sum()) + penalty / 2 * float((exact**2).sum())


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK_ROWS):
        yield slice(start, start + CHUNK_ROWS)


WAYS = {"here": fit_here, "saga": fit_saga, "toolkit": fit_toolkit}


def main(
    folder: Annotated[Path, typer.Argument(help="Where rows.npy and codes.npy lie.")],
    way: Annotated[str, typer.Argument(help=f"One of {', '.join(WAYS)}.")],
    penalty: Annotated[float, typer.Argument(help="l1 and l2.")],
    seconds: Annotated[float, typer.Option(help="Time that the fit is given.")] = 600.0,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 leaves its own choice.")] = 0,
) -> None:
    """Fit once and print what came of it."""
    if threads:
        torch.set_num_threads(threads)
    values = np.load(folder / "rows.npy", mmap_mode="r")
    found = WAYS[way](values, np.load(folder / "codes.npy"), penalty, seconds)
    print(json.dumps(found | {"peak": peak_memory(), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    typer.run(main)
