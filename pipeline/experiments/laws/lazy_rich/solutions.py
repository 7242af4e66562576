"""The solutions that a diagonal linear network w = u^2 - v^2 can end in, and its two trainings.

The least L1 norm is a linear program, the interpolant of initial weights alpha a convex dual, the boundary between
them a root. The training is that of the weights u and v themselves: a stiff integration of the flow, or plain steps.
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, linprog


def relative(w: np.ndarray, reference: np.ndarray) -> float:
    """|w - reference| / |reference|."""
    return float(np.linalg.norm(w - reference) / np.linalg.norm(reference))


def sparsest(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The w of least L1 norm with X w = y, by linear programming in its positive and negative parts."""
    parts = linprog(np.ones(2 * X.shape[1]), A_eq=np.hstack([X, -X]), b_eq=y, bounds=(0, None)).x
    return parts[: X.shape[1]] - parts[X.shape[1] :]


def interpolant(X: np.ndarray, y: np.ndarray, alpha: float | np.ndarray) -> np.ndarray:
    """w_Q, by Newton's method on the dual, led from large initial weights, where it is linear, down to `alpha`."""
    lead = max(1.0, 3 / np.min(alpha))
    scale = 2 * (lead * alpha * np.ones(X.shape[1])) ** 2
    nu = np.linalg.solve((X * scale) @ X.T, y)
    for factor in np.geomspace(lead, 1, int(3 * np.log(lead)) + 2):
        scale = 2 * (factor * alpha * np.ones(X.shape[1])) ** 2
        for _ in range(100):
            slack = y - X @ (scale * np.sinh(X.T @ nu))
            if np.linalg.norm(slack) < 1e-11 * np.linalg.norm(y):
                break
            move = np.linalg.solve((X * (scale * np.cosh(X.T @ nu))) @ X.T, slack)
            nu = nu + move / max(1.0, np.abs(X.T @ move).max())
    return scale * np.sinh(X.T @ nu)


def boundary(X: np.ndarray, y: np.ndarray, rich: np.ndarray, lazy: np.ndarray) -> float:
    """The alpha whose interpolant is as far from `rich` as from `lazy`; nan where there is none above 1e-5."""

    def nearer_lazy(log_alpha: float) -> float:
        w = interpolant(X, y, np.exp(log_alpha))
        return float(np.linalg.norm(w - rich) - np.linalg.norm(w - lazy))

    low, high = np.log(1e-5), np.log(100)
    return (
        float(np.exp(brentq(nearer_lazy, low, high, xtol=1e-6))) if nearer_lazy(low) < 0 < nearer_lazy(high) else np.nan
    )


def gradient_flow(X: np.ndarray, y: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) at the end of the flow, by a stiff integrator, once |X w - y| < 1e-7 |y|."""
    d, pull, curvature = X.shape[1], 2 * X.T / len(y), 4 * X.T @ X / len(y)

    def velocity(_: float, z: np.ndarray) -> np.ndarray:
        g = pull @ (X @ (z[:d] ** 2 - z[d:] ** 2) - y)
        return np.concatenate([-g * z[:d], g * z[d:]])

    def jacobian(_: float, z: np.ndarray) -> np.ndarray:
        signed, g = np.concatenate([z[:d], -z[d:]]), pull @ (X @ (z[:d] ** 2 - z[d:] ** 2) - y)
        return -np.outer(signed, signed) * np.tile(curvature, (2, 2)) - np.diag(np.concatenate([g, -g]))

    def fitted(_: float, z: np.ndarray) -> float:
        return float(np.linalg.norm(X @ (z[:d] ** 2 - z[d:] ** 2) - y) / np.linalg.norm(y) - 1e-7)

    fitted.terminal = True
    solved = solve_ivp(velocity, (0, 1e12), np.full(2 * d, alpha), "LSODA", jac=jacobian, events=fitted, rtol=1e-7,
                       atol=1e-10 * alpha)  # fmt: skip
    return solved.y[:d, -1], solved.y[d:, -1]


def gradient_descent(X: np.ndarray, y: np.ndarray, alpha: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) once |X w - y| < 1e-6 |y|; nan where that is not reached by time 2000, or never will be."""
    u, v = np.full(X.shape[1], alpha), np.full(X.shape[1], alpha)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(int(2000 / rate)):
            error = X @ (u**2 - v**2) - y
            distance = np.linalg.norm(error) / np.linalg.norm(y)
            if distance < 1e-6:
                return u, v
            if not np.isfinite(distance):
                break
            step = 2 * rate / len(y) * (X.T @ error)
            u, v = u - step * u, v + step * v
    return np.full_like(u, np.nan), np.full_like(v, np.nan)
