"""Profiles of the objective: its least value at held values of one parameter, or of two.

A profile gives an interval that need not be symmetric and may be open, where a standard error would pretend. Its
statistic is T = 2 (S(v) - S_min) / (q s^2), q = mean rho'' and s^2 the noise of `pipeline.fitting.influence.noise`
(Schrader and Hettmansperger 1980, Biometrika 67:93); for least squares it is Delta S / s^2 with s^2 = S / (n - k). T is
held against F(1, n - k), for two parameters T / 2 against F(2, n - k); n counts cells. A threshold delta far below the
noise leaves few runs inside it, and q, which is their share, is then noisy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from pipeline.fitting.influence import objectives, thinned_with_noise
from pipeline.fitting.minima import minimise
from pipeline.fitting.points import Variables
from pipeline.fitting.refits import tangent
from pipeline.fitting.solver import Fit, raw_theta
from pipeline.fitting.starts import log_bounds

LOOK = np.array([0.4, 0.7, 0.9, 1.0, 1.15, 1.4, 1.8, 2.4, 3.5, 5.0, 8.0, 13.0, 25.0, 50.0, 100.0])
"""First distances from the estimate, in half-widths of the interval that the curvature at the minimum promises."""
ROUNDS = 3
"""Times that the bracket of an interval's end is divided by nine."""
MARGIN = 1.5
"""The profile reaches this many times as far as the interval's ends."""
MAP_SMOOTHING = 0.03
"""For L1 a map minimises Huber with this share of the median residual as delta and shows the L1 objective there."""
SWEEPS = 8
"""Times that every point of a grid tries its neighbours' parameters."""


@dataclass(frozen=True)
class Profile:
    """The least objective (m,) over all other parameters at ascending values (m,) of one, in raw units.

    `interval` is the 95 % interval round the estimate, the values whose `statistic` (m,) is below `level`; an end
    beyond the parameter's range is None. Without a statistic (L1, or no cell to spare) it is nan and the interval None.
    """

    name: str
    values: NDArray[np.float64]
    objective: NDArray[np.float64]
    statistic: NDArray[np.float64]
    interval: tuple[float | None, float | None] | None
    level: float


@dataclass(frozen=True)
class ObjectiveMap:
    """`excess` (first, second): the statistic of the least objective over the other parameters, 0 at the estimate.

    `level` bounds the joint 95 % region, 2 F(2, n - k). Without a statistic (L1, or no cell to spare) `excess` is
    S / S_min - 1 and `level` nan. Values are in raw units, in the order of theta.
    """

    first: str
    second: str
    first_values: NDArray[np.float64]
    second_values: NDArray[np.float64]
    excess: NDArray[np.float64]
    level: float


def profile(fit: Fit, name: str, num_values: int = 41) -> Profile:
    """The profile of one parameter, its values spread round the estimate half as far again as the interval reaches.

    Values are evenly spaced on each side, those of E themselves and others in theta; the estimate is one of them. Delta
    stays that of the fit. More than LARGE runs are thinned (`thinned_fit`) and the statistic scaled to all. Raises
    ValueError for a name that the law does not have, and for an amplitude whose raw value mixes with exponents of both
    N and D.
    """
    if num_values < 3:
        raise ValueError(f"num_values: {num_values} is fewer than 3")
    fit, bounds = _in_raw_units(fit, name)
    fit, scale = thinned_with_noise(fit)
    held = _Held(fit, (name,))
    known = np.isfinite(scale.per_objective)
    level = float(fdtri(1, scale.freedom, 0.95)) if known else np.nan
    half = float(np.sqrt(scale.variance * np.nan_to_num(level, nan=4.0) * held.covariance[0, 0]))
    ends = [held.crossing(scale.per_objective, level, half, bound) if known else None for bound in bounds]
    centre = float(held.estimate[0])
    far = bounds if known else (centre - half, centre + half)
    far = [edge if end is None else end for edge, end in zip(far, ends, strict=True)]
    low, high = np.clip(centre + MARGIN * (np.array(far) - centre), *bounds)
    grid = _spread(low, centre, high, num_values, exponential=name == "E")
    objective = held.solve(grid[:, None])[1]
    statistic = (objective - min(fit.objective, float(objective.min()))) * scale.per_objective
    raw = [None if end is None else float(held.raw(np.array([end]))[0]) for end in ends]
    values = held.raw(grid)
    order = np.argsort(values)
    interval = tuple(raw if values[0] <= values[-1] else raw[::-1]) if known else None
    return Profile(name, values[order], objective[order], statistic[order], interval, level)


def objective_map(
    fit: Fit, first: str | None = None, second: str | None = None, size: int = 33, reach: float = 4.0
) -> ObjectiveMap:
    """The profile over two parameters on a grid of `size` values each, for a contour figure.

    The grid reaches `reach` standard errors to each side, evenly in theta, and the estimate lies on it. None are the
    law's first two exponents, or its exponent and E. More than LARGE runs are thinned, as in `profile`.
    Raises ValueError as `profile` does, and for amplitudes that mix with exponents.
    """
    names = [name for name in (*fit.form.map_ranges, "E") if name in fit.form.parameters()]
    first = first or next(name for name in names if name != second)
    second = second or next(name for name in names if name != first)
    if first == second or size < 3:
        raise ValueError(f"first, second, size: {first}, {second}, {size}; need two parameters and at least 3 values")
    if mixed := [name for name in (first, second) if _mixes(fit, name)]:
        raise ValueError(f"name: {mixed[0]} of the law {fit.form.name} mixes with an exponent in raw units")
    fit, scale = thinned_with_noise(fit)
    held, (low, high) = _Held(fit, (first, second), smooth=True), log_bounds(fit.form, fit.points)
    error = reach * np.sqrt(scale.variance * np.diag(held.covariance))
    edges = np.clip(held.estimate + np.outer([-1.0, 0.0, 1.0], error), low[held.indices], high[held.indices])
    axes = [_spread(*three, size) for three in edges.T]
    objective = held.solve(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))[1]
    known = np.isfinite(scale.per_objective)
    level = 2.0 * float(fdtri(2, scale.freedom, 0.95)) if known else np.nan
    rise = objective - min(fit.objective, float(objective.min()))
    excess = rise * (scale.per_objective if known else 1.0 / fit.objective)
    return ObjectiveMap(first, second, held.raw(axes[0]), held.raw(axes[1], 1), excess, level)


class _Held:
    """Minima of a fit's objective with some of its parameters held."""

    def __init__(self, fit: Fit, names: tuple[str, ...], smooth: bool = False):
        self.fit, self.names = fit, names
        self.indices = [fit.form.parameters().index(name) for name in names]
        self.estimate = fit.theta[self.indices]
        delta = max(MAP_SMOOTHING * float(np.median(np.abs(tangent(fit)[0]))), 1e-9)
        self.estimator = fit.estimator.smoothed(delta) if smooth else fit.estimator
        self.free = np.ones(len(fit.theta), bool)
        self.free[self.indices] = False
        J = tangent(fit)[1] * (fit.inside | ~self.free)
        inverse = np.linalg.pinv(J.T @ (fit.points.weights[:, None] * J), rcond=1e-14, hermitian=True)
        self.covariance = inverse[np.ix_(self.indices, self.indices)]
        self.direction = np.linalg.pinv(self.covariance, hermitian=True) @ inverse[self.indices]

    def solve(self, grid: NDArray, guess: NDArray | None = None) -> tuple[NDArray, NDArray]:
        """(theta (..., k), objective (...)) at held thetas (..., number held) on a grid of one or two axes.

        Starts run along the tangent from the fit and from its other minima, then from neighbours on the grid whose
        other parameters give a lower objective.
        """
        away = (grid - self.estimate) @ self.direction
        theta, objective = self._minimise(grid, self.fit.theta + away if guess is None else guess)
        for other in self.fit.alternatives:
            found, value = self._minimise(grid, other + away)
            theta = np.where((value < objective)[..., None], found, theta)
            objective = np.minimum(value, objective)
        ways = [(shift, axis) for axis in range(objective.ndim) for shift in (1, -1)]
        for _ in range(SWEEPS):
            before = objective
            for way in ways:
                theta, objective = self._lower(grid, np.roll(theta, *way), theta, objective)
            if np.array_equal(before, objective):
                break
        return theta, objective

    def _lower(self, grid: NDArray, guess: NDArray, theta: NDArray, objective: NDArray) -> tuple[NDArray, NDArray]:
        guess[..., self.indices] = grid
        better = objectives(self.fit, guess) < objective * (1 - 1e-9)
        if better.any():
            theta, objective = theta.copy(), objective.copy()
            theta[better], objective[better] = self._minimise(grid[better], guess[better])
        return theta, objective

    def _minimise(self, grid: NDArray, guess: NDArray) -> tuple[NDArray, NDArray]:
        start = guess.copy()
        start[..., self.indices] = grid
        flat = start.reshape(-1, start.shape[-1])
        # Starts far out along a tangent may overflow a law; they end as inf, and their neighbours help them out.
        with np.errstate(all="ignore"):
            found = minimise(self.fit.form, self.fit.points, flat, self.estimator, free=self.free)
        theta = found.theta.reshape(start.shape)
        before, after = objectives(self.fit, start), objectives(self.fit, theta)
        return np.where((before < after)[..., None], start, theta), np.minimum(before, after)

    def crossing(self, per_objective: float, level: float, half: float, bound: float) -> float | None:
        """The held theta towards `bound` at which the statistic first reaches `level`, None if it never does."""
        room = bound - self.estimate[0]
        for look in (LOOK[LOOK < 3.0], np.append(LOOK, np.inf)):
            at = self.estimate[0] + np.sign(room) * np.unique(np.minimum(np.append(0.0, look * half), abs(room)))
            theta, objective = self.solve(at[:, None])
            if ((objective - self.fit.objective) * per_objective > level).any():
                break
        else:
            return None
        for left in range(ROUNDS, -1, -1):
            rise = np.sqrt(np.maximum((objective - self.fit.objective) * per_objective, 0.0)) - np.sqrt(level)
            end = max(int(np.argmax(rise > 0)), 1)
            share = np.linspace(0.0, 1.0, 10) if left else rise[end - 1] / (rise[end - 1] - rise[end])
            at = at[end - 1] + share * (at[end] - at[end - 1])
            if left:
                guess = theta[end - 1] + share[:, None] * (theta[end] - theta[end - 1])
                theta, objective = self.solve(at[:, None], guess)
        return float(at)

    def raw(self, theta: NDArray, place: int = 0) -> NDArray[np.float64]:
        """Raw values (m,) of held thetas (m,)."""
        whole = np.repeat(self.fit.theta[None], len(theta), axis=0)
        whole[:, self.indices[place]] = theta
        return self.fit.form.values(raw_theta(self.fit.form, whole, self.fit.points))[self.names[place]]


def _spread(low: float, centre: float, high: float, num: int, exponential: bool = False) -> NDArray[np.float64]:
    """`num` ascending thetas from low to high, the centre among them; evenly on each side, or evenly in e^theta."""
    ends = np.exp([low, centre, high]) if exponential else np.array([low, centre, high])
    below = round((num - 1) * (ends[1] - ends[0]) / (ends[2] - ends[0]))
    below = int(np.clip(below, low < centre, num - 1 - (centre < high)))
    both = np.concatenate([np.linspace(*ends[:2], below + 1)[:below], np.linspace(*ends[1:], num - below)])
    both = np.log(both) if exponential else both
    both[below] = centre
    return both


def _mixes(fit: Fit, name: str) -> bool:
    """Whether the raw value of a parameter depends on other thetas than its own."""
    names = fit.form.parameters()
    if name not in names:
        raise ValueError(f"name: {name!r} is no parameter of the law {fit.form.name}: {', '.join(names)}")
    moved = np.where([other == name for other in names], fit.theta, fit.theta + 0.1)
    raw = raw_theta(fit.form, np.stack([fit.theta, moved]), fit.points)[:, names.index(name)]
    return bool(abs(raw[1] - raw[0]) > 1e-9)


def _in_raw_units(fit: Fit, name: str) -> tuple[Fit, tuple[float, float]]:
    """(the fit about a centre at which the theta of `name` alone gives its raw value, the range of that theta)."""
    mixed, index = _mixes(fit, name), fit.form.parameters().index(name)
    points, centre, at, zero = fit.points, fit.points.centre, fit.points.at, np.zeros(())
    if not mixed:
        return fit, tuple(float(bound[index]) for bound in log_bounds(fit.form, points))
    for ln_N, ln_D in ((centre.ln_N, zero), (zero, centre.ln_D)):
        more = {key: value if key in Variables.labels else value + ln_D for key, value in at.more.items()}
        moved = Variables(at.ln_N + ln_N, at.ln_D + ln_D, more, 0.0)
        left = Variables(centre.ln_N - ln_N, centre.ln_D - ln_D, {}, centre.ln_flops)
        value = fit.form.values(np.concatenate([fit.theta[None], fit.alternatives]))
        theta = fit.form.thetas(fit.form.uncentred(value, Variables(ln_N, ln_D, {}, 0.0)))
        there = replace(fit, points=replace(points, at=moved, centre=left), theta=theta[0], alternatives=theta[1:])
        if not _mixes(there, name):
            return there, (theta[0, index] - 30.0, theta[0, index] + 30.0)  # any amplitude, within reason
    raise ValueError(f"name: {name} of the law {fit.form.name} mixes with exponents of both N and D in raw units")
