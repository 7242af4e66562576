"""Where fits start: a variable-projection map over a law's exponents.

At given exponents a law is linear in its amplitudes, which least squares then gives at once (variable projection,
Golub and Pereyra 1973; for scaling laws arXiv 2603.22339). The map scores many exponents that way, and starts are its
best places that lie apart from each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws.law import Law, log_losses
from pipeline.fitting.points import Points, evenly

MAP_SIZE = 1024
"""Exponents that the map scores."""
MAP_POINTS = 400
"""Runs that the map looks at: more are thinned evenly in order of N and D."""
APART = 0.12
"""Least distance of two starts, in units of the range of the map."""


def starting_points(form: type[Law], points: Points, num_starts: int) -> NDArray[np.float64]:
    """Centred thetas (num_starts, k), best first; the same for the same runs, in whatever order they come."""
    from scipy.stats import qmc  # a third of a second, and only a fit needs it

    points = thinned(points, MAP_POINTS)
    ranges = form.map_ranges
    unit = qmc.Halton(len(ranges), scramble=False).random(max(MAP_SIZE, num_starts) + 1)[1:]
    guess = {name: _spread(unit[:, i : i + 1], *bounds) for i, (name, bounds) in enumerate(ranges.items())}
    L = np.exp(points.log_L)
    share = points.weights / points.weights.max()

    def amplitudes(target: NDArray, columns: list[NDArray]) -> list[NDArray]:
        return _positive_amplitudes(np.atleast_2d(target), columns, share, len(unit))

    with np.errstate(all="ignore"):
        value = {name: column[:, 0] for name, column in guess.items()}
        value |= form.start(guess, L, points.at, amplitudes)
        theta = form.thetas({name: value[name] for name in form.parameters()})
        low, high = log_bounds(form, points)
        theta = np.clip(np.nan_to_num(theta, nan=0.0, posinf=50.0, neginf=-50.0), low, high)
        r = points.log_L - log_losses(form, theta, points.at)
        score = np.nan_to_num((points.weights * np.abs(r)).sum(axis=1), nan=np.inf, posinf=np.inf)
    return theta[_apart(unit, score, num_starts)]


def log_bounds(form: type[Law], points: Points) -> tuple[NDArray, NDArray]:
    """(low, high) of centred theta; amplitudes are bounded in multiples of the median measured loss."""
    low, high = [], []
    for name in form.parameters():
        bounds = np.array(form.limits[name])
        if form.signs.get(name) != "any":
            bounds = np.log(bounds * (points.typical_loss if name in form.scaled else 1.0))
        low.append(bounds[0])
        high.append(bounds[1])
    return np.array(low), np.array(high)


def thinned(points: Points, most: int) -> Points:
    """At most `most` of the runs, evenly spaced in order of (N, D, L)."""
    if len(points) <= most:
        return points
    return points.subset(evenly(most, points.log_L, points.at.ln_D, points.at.ln_N))


def _spread(unit: NDArray, low: float, high: float) -> NDArray:
    """Values spread evenly in their logarithm, or evenly where the range holds zero."""
    return low * (high / low) ** unit if low > 0 else low + (high - low) * unit


def _positive_amplitudes(target: NDArray, columns: list[NDArray], weights: NDArray, num_rows: int) -> list[NDArray]:
    """Coefficients (S,) of columns (S, n) that fit a positive target (1 or S, n) in relative least squares.

    Coefficients that come out small or negative are set to a fiftieth of what the column alone would take.
    """
    root = np.sqrt(weights)
    scaled = np.stack(
        [np.broadcast_to(root * column / target, (num_rows, target.shape[1])) for column in columns], axis=1
    )
    size = np.linalg.norm(scaled, axis=2, keepdims=True)
    unit = scaled / np.where(size > 0, size, 1.0)
    normal = np.matmul(unit, unit.transpose(0, 2, 1)) + 1e-10 * np.eye(len(columns))
    alone = unit @ root
    solved = np.linalg.solve(normal, alone[:, :, None])[:, :, 0]
    found = np.maximum(np.nan_to_num(solved), 0.02 * np.abs(alone)) / np.where(size > 0, size, 1.0)[:, :, 0]
    return [np.maximum(found[:, i], 1e-300) for i in range(len(columns))]


def _apart(unit: NDArray, score: NDArray, num_starts: int) -> NDArray[np.int64]:
    """Indices of the best scores that keep APART from each other, then of the best that are left."""
    order = np.argsort(score, kind="stable")
    kept: list[int] = []
    for index in order:
        if len(kept) == num_starts:
            break
        if not kept or np.min(np.max(np.abs(unit[kept] - unit[index]), axis=1)) >= APART:
            kept.append(int(index))
    rest = [int(index) for index in order if index not in set(kept)]
    return np.array((kept + rest)[:num_starts])
