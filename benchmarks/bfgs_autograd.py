"""The published way to fit: scipy's BFGS or L-BFGS-B with automatic gradients, as arXiv 2404.10102 does it.

Minimise the sum over runs of Huber_delta(ln L - LSE(a - alpha ln N, b - beta ln D, e)), delta = 1e-3 (arXiv
2203.15556, section 3.3), at scipy's default tolerances. Parameters are in the order (a, b, e, alpha, beta) with
a = ln A, b = ln B, e = ln E. One liberty, in favour of this baseline: the logarithms of the runs are taken once,
outside the objective.

Every `np` in this module is autograd's. With plain numpy under that name every result stays the same and a gradient
takes forty times as long, so `configuration` checks it.
"""

from __future__ import annotations

from itertools import product
from time import process_time
from timeit import repeat

import autograd.numpy as np
from autograd import grad
from scipy.optimize import OptimizeResult, approx_fprime, minimize

DELTA = 1e-3
HOFFMANN = np.array([np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28])
"""The parameters that arXiv 2203.15556 prints: the start of every bootstrap fit."""
GRADIENT_BOUND = 60.0
"""A gradient costs this many evaluations of the objective at most. Measured: 18, and 720 with plain numpy."""


def objective(params, log_N, log_D, log_L):
    """Sum of Huber_DELTA of the logarithmic residuals."""
    a, b, e, alpha, beta = params
    residual = log_L - np.log(np.exp(a - alpha * log_N) + np.exp(b - beta * log_D) + np.exp(e))
    size = np.abs(residual)
    return np.sum(np.where(size <= DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA)))


gradient = grad(objective)


def fit_from(start, log_N, log_D, log_L, method: str = "BFGS") -> OptimizeResult:
    """scipy's result from one start; repeated rows are a resample.

    BFGS is the choice of arXiv 2404.10102, L-BFGS-B that of arXiv 2203.15556 for its grid.
    """
    return minimize(objective, start, args=(log_N, log_D, log_L), jac=gradient, method=method)


def hoffmann_grid():
    """The 4,500 starts of arXiv 2203.15556, appendix D.3, shape (4500, 5).

    They come in the order of a golden-section stride through the grid, so that any stretch of them covers it evenly.
    """
    exponents, levels = (0.0, 0.5, 1.0, 1.5, 2.0), (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
    grid = np.array(list(product(levels, levels, (-1.0, -0.5, 0.0, 0.5, 1.0), exponents, exponents)))
    stride = 2779
    return grid[np.arange(len(grid)) * stride % len(grid)]


def configuration(log_N, log_D, log_L) -> dict[str, float | str]:
    """What shows that autograd is at work as it should be, measured.

    Raises ValueError when the objective does not use autograd's numpy, when its gradient is wrong, or when a gradient
    costs more than GRADIENT_BOUND evaluations of the objective.
    """
    module = objective.__globals__["np"].__name__
    if module != "autograd.numpy":
        raise ValueError(f"bfgs_autograd.objective: np is {module}, not autograd.numpy: gradients would be slow")
    runs = (log_N, log_D, log_L)
    exact, estimate = gradient(HOFFMANN, *runs), approx_fprime(HOFFMANN, objective, 1e-8, *runs)
    error = float(np.max(np.abs(exact - estimate)) / np.max(np.abs(exact)))
    if not error < 1e-3:
        raise ValueError(f"bfgs_autograd.gradient: {error:.1e} from finite differences")
    value_seconds = min(repeat(lambda: objective(HOFFMANN, *runs), timer=process_time, number=50, repeat=7)) / 50
    gradient_seconds = min(repeat(lambda: gradient(HOFFMANN, *runs), timer=process_time, number=50, repeat=7)) / 50
    cost = gradient_seconds / value_seconds
    if cost > GRADIENT_BOUND:
        raise ValueError(f"bfgs_autograd.gradient: costs {cost:.0f} evaluations, over {GRADIENT_BOUND:.0f}")
    return {
        "numpy_of_objective": module,
        "gradient_error": error,
        "value_microseconds": value_seconds * 1e6,
        "gradient_microseconds": gradient_seconds * 1e6,
        "gradient_cost_in_values": cost,
    }
