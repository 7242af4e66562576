"""A strong conventional fit: scipy's SLSQP with a gradient written by hand, on centred logarithms, warm-started.

The objective is that of bfgs_autograd, each run counted `weights` times. Parameters are in the order (a, b, e, alpha,
beta), a and b at the mean of ln N and of ln D.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from benchmarks.bfgs_autograd import DELTA

TOLERANCE = 1e-12
"""On objective / DELTA, a number near 1. The fastest of six tolerances and two scales whose fits lie within 1e-9 of the
best; at scipy's default, 1e-6, they stop early."""


def objective_and_gradient(
    params: NDArray, x: NDArray, y: NDArray, log_L: NDArray, weights: NDArray
) -> tuple[float, NDArray]:
    """Weighted sum of Huber_DELTA of the logarithmic residuals at centred x = ln N and y = ln D, and its gradient.

    With f = LSE(a - alpha x, b - beta y, e) and p its softmax, df = (p1, p2, p3, -x p1, -y p2).
    """
    a, b, e, alpha, beta = params
    size_term, data_term, E = np.exp(a - alpha * x), np.exp(b - beta * y), np.exp(e)
    total = size_term + data_term + E
    residual = log_L - np.log(total)
    slope = np.clip(residual, -DELTA, DELTA)
    value = weights @ (slope * (residual - 0.5 * slope))
    pull = -weights * slope / total
    size_pull, data_pull = pull * size_term, pull * data_term
    return value, np.array([size_pull.sum(), data_pull.sum(), E * pull.sum(), -(size_pull @ x), -(data_pull @ y)])


def fit_from(start: NDArray, x: NDArray, y: NDArray, log_L: NDArray, weights: NDArray) -> OptimizeResult:
    """scipy's result from one start, its `fun` being objective / DELTA."""
    runs = (x, y, log_L, weights / DELTA)
    return minimize(objective_and_gradient, start, args=runs, jac=True, method="SLSQP", options={"ftol": TOLERANCE})
