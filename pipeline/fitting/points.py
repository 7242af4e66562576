"""Runs as the solver wants them: centred logarithms, and the cells and weights that replicate seeds call for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Points:
    """Runs ready for fitting: ln N and ln D minus their means, ln L in ln(nats/token), weights, and the means."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    log_L: NDArray[np.float64]
    weights: NDArray[np.float64]
    x_centre: float
    y_centre: float

    def __len__(self) -> int:
        return len(self.x)


def centred_points(N: ArrayLike, D: ArrayLike, L: ArrayLike, weights: ArrayLike | None = None) -> Points:
    """The runs as centred logarithms; each counts `weights` times in the objective, None for once.

    Raises ValueError when a value is not finite and positive.
    """
    columns = {"N": np.asarray(N, float), "D": np.asarray(D, float), "L": np.asarray(L, float)}
    columns["weights"] = np.ones(len(columns["N"])) if weights is None else np.asarray(weights, float)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"N, D, L, weights: different numbers of runs {lengths}")
    if not lengths["N"]:
        raise ValueError("N, D, L: no runs to fit")
    for name, values in columns.items():
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            raise ValueError(f"{name}: run {wrong[0]} is {values[wrong[0]]}; must be finite and positive")
    x, y = np.log(columns["N"]), np.log(columns["D"])
    means = float(x.mean()), float(y.mean())
    return Points(x - means[0], y - means[1], np.log(columns["L"]), columns["weights"], *means)


def cells(N: ArrayLike, D: ArrayLike) -> NDArray[np.int64]:
    """A label for each run, the same for runs of equal (N, D)."""
    pairs = np.stack([np.asarray(N, float), np.asarray(D, float)], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def cell_weights(N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
    """One over the number of seeds at each run's (N, D), so that every (N, D) counts once in a fit.

    Without it, the sizes chosen for replicate seeds would count several times and bend a law that is not exact.
    """
    cell = cells(N, D)
    return 1.0 / np.bincount(cell)[cell]
