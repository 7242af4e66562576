"""Minima of many fits at once: a damped Newton method with the exact Hessian and a safe step to fall back on.

A batch is R problems on the same runs, told apart by their weights (resamples, subsets) or their start. The Newton
matrix of sum w rho(r) is J (w rho'') J' - sum w rho' H, H the law's Hessian. It need not be positive where few runs lie
inside a Huber threshold; a step that does not lower the objective is tried again with iteratively reweighted least
squares, J (w rho' / r) J', which is always positive, and then with more damping. L1 is reached by Huber thresholds that
shrink to nothing, and ends on the runs that it passes through exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws.jets import exp, variables
from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import Points
from pipeline.fitting.starts import log_bounds

FLAT = 1e-13
"""Relative decrease still promised by a step below which a minimum counts as reached."""
BLOCK = 40_000
"""Values (problems times runs) worked on at once: arrays of that size stay in the cache."""
FEW_STEPS = 12
"""Steps after which what is not yet at a minimum is gathered into blocks of its own."""
LONGEST_STEP = 2.0
"""Largest change of any theta in one step."""
SHORTER, SHORTEST = 0.3, 0.05
"""A refused Newton step is tried so many times as long, down to about that length."""
L1_STAGES = 10
L1_EXACT = 5_000
"""Runs up to which an L1 fit is brought to its vertex."""
PASSED = 1e-10
"""Residual of ln L below which a law passes through a run."""


@dataclass(frozen=True)
class Minima:
    """Results of a batch: theta (R, k), objective (R,), and whether the minimum was reached (R,)."""

    theta: NDArray[np.float64]
    objective: NDArray[np.float64]
    reached: NDArray[np.bool_]


def minimise(
    form: type[Law],
    points: Points,
    theta: NDArray,
    estimator: Estimator,
    weights: NDArray | None = None,
    free: NDArray | None = None,
    max_steps: int = 120,
) -> Minima:
    """The minima reached from each start theta (R, k) with run weights (R, n), None for those of the points.

    `free` (k,) marks the parameters that may move, None for all. An adaptive estimator must have been adapted.
    Parameters stay inside `log_bounds`; one on its bound whose gradient points outwards is held there for the step.
    """
    low, high = log_bounds(form, points)
    free = np.ones(theta.shape[1], bool) if free is None else np.asarray(free, bool)
    theta = np.clip(theta, np.where(free, low, -np.inf), np.where(free, high, np.inf))
    solve = _least_absolute if estimator.kind == "l1" else _descend
    theta, objective, reached = theta.copy(), np.full(len(theta), np.inf), np.zeros(len(theta), bool)
    todo, steps = np.arange(len(theta)), min(FEW_STEPS, max_steps)
    while len(todo) and max_steps > 0:
        for block, seen, w in _blocks(todo, points, weights):
            problem = _Problem(form, seen, estimator, low, high, free)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a step too far is refused anyway
                theta[block], objective[block], reached[block] = solve(problem, theta[block], w, steps)
        max_steps -= steps
        # The few that need many steps go on together: a block of a few rows would cost as much as a full one.
        todo, steps = todo[~reached[todo]], max_steps
    return Minima(theta, objective, reached)


def _blocks(todo: NDArray, points: Points, weights: NDArray | None) -> Iterator[tuple[NDArray, Points, NDArray]]:
    """(problems, runs, weights of these (R, n)) of blocks of about BLOCK values, those of the fewest runs first. Where
    most runs weigh nothing in all of a block, they are left out of it."""
    if weights is not None:
        todo = todo[np.argsort(np.count_nonzero(weights[todo], axis=1), kind="stable")]
    rows = max(1, BLOCK // len(points))
    for first in range(0, len(todo), rows):
        block = todo[first : first + rows]
        if weights is None:
            yield block, points, points.weights[None]
            continue
        weighing = np.flatnonzero(weights[block].any(axis=0))
        if 2 * len(weighing) > len(points):
            yield block, points, weights[block]
        else:
            yield block, points.subset(weighing), weights[np.ix_(block, weighing)]


@dataclass(frozen=True)
class _Problem:
    form: type[Law]
    points: Points
    estimator: Estimator
    low: NDArray
    high: NDArray
    free: NDArray

    def objective(self, theta: NDArray, w: NDArray) -> NDArray:
        """sum w rho, shape (R,)."""
        return np.sum(w * self.estimator.rho(self.residuals(theta)), axis=1)

    def residuals(self, theta: NDArray) -> NDArray:
        """Measured less predicted, shape (R, n)."""
        predicted = self.form.log_loss([theta[:, i : i + 1] for i in range(theta.shape[1])], self.points.at)
        if self.estimator.space == "linear":
            return np.exp(self.points.log_L) - np.exp(predicted)
        return self.points.log_L - predicted

    def expand(self, theta: NDArray, w: NDArray, reweighted: bool) -> tuple[NDArray, NDArray, NDArray]:
        """(objective (R,), gradient (R, k), Newton or reweighted matrix (R, k, k)) at theta."""
        jet = self.form.log_loss(variables(theta), self.points.at)
        target = self.points.log_L
        if self.estimator.space == "linear":
            jet, target = exp(jet), np.exp(target)
        shape = (len(theta), len(target))
        r = target - np.broadcast_to(jet.value, shape)
        J = jet.gradient(theta.shape[1], shape)
        cost, first, second = self.estimator.expansion(r)
        value = np.einsum("rn,rn->r", np.broadcast_to(w, shape), cost)
        slope = w * first
        gradient = -np.matmul(J, slope[:, :, None])[:, :, 0]
        if reweighted:
            ratio = self.estimator.reweighting(r)
            return value, gradient, np.matmul(J * (w * ratio)[:, None, :], J.transpose(0, 2, 1))
        return value, gradient, jet.newton_matrix(w * second, slope, J)


def _descend(problem: _Problem, theta: NDArray, w: NDArray, max_steps: int) -> tuple[NDArray, NDArray, NDArray]:
    num = len(theta)
    value, gradient, matrix = problem.expand(theta, w, reweighted=True)
    scale = np.einsum("rkk->rk", matrix).copy()
    scale = np.where(scale > 0, scale, 1.0)
    damping, careful = np.full(num, 1e-6), np.ones(num, bool)
    reached, flat = np.zeros(num, bool), np.zeros(num, bool)
    low, high = np.where(problem.free, problem.low, -np.inf), np.where(problem.free, problem.high, np.inf)
    length = np.ones(num)
    todo = np.arange(num)
    for _ in range(max_steps):
        step, promised, sound = _step(
            problem, theta[todo], gradient[todo], matrix[todo], damping[todo, None] * scale[todo]
        )
        flat[todo] = (promised <= FLAT * value[todo] + 1e-28) & (damping[todo] <= 1e-2) & sound
        trial = np.clip(theta[todo] + length[todo, None] * step, low, high)
        shared = w if len(w) == 1 else w[todo]
        new_value, new_gradient, new_matrix = problem.expand(trial, shared, reweighted=False)
        better = (new_value < value[todo]) & sound
        took, refused = todo[better], todo[~better]
        theta[took], value[took], gradient[took], matrix[took] = (
            part[better] for part in (trial, new_value, new_gradient, new_matrix)
        )
        reached[todo] = flat[todo]
        damping[took] = np.maximum(damping[took] * 0.1, 1e-14)
        # A refused Newton step is tried shorter, then comes a reweighted one; a refused reweighted one, more damping.
        damping[refused] = np.where(careful[refused], np.maximum(damping[refused], 1e-9) * 10.0, damping[refused])
        shorter = ~careful[refused] & sound[~better] & (length[refused] > SHORTEST)
        length[took] = 1.0
        length[refused] = np.where(shorter, SHORTER * length[refused], 1.0)
        again = refused[~careful[refused] & ~reached[refused] & ~shorter]
        if len(again):
            matrix[again] = problem.expand(theta[again], w if len(w) == 1 else w[again], reweighted=True)[2]
        careful[took], careful[refused[~shorter]] = False, True
        todo = todo[~reached[todo] & (damping[todo] < 1e12)]
        if not len(todo):
            break
    return theta, value, reached


def _step(
    problem: _Problem, theta: NDArray, gradient: NDArray, matrix: NDArray, ridge: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """(step, decrease promised by it, whether it goes down at all), each a row a problem."""
    held = ~problem.free | ((theta <= problem.low) & (gradient > 0)) | ((theta >= problem.high) & (gradient < 0))
    g = np.where(held, 0.0, gradient)
    system = np.where(held[:, :, None] | held[:, None, :], 0.0, matrix)
    system += np.eye(theta.shape[1]) * np.where(held, 1.0, ridge)[:, None, :]
    step = -_solve(system, g)
    slope = np.einsum("rk,rk->r", step, g)
    bent = 0.5 * np.einsum("rk,rkl,rl->r", step, system, step)
    sound = (slope <= 0) & (slope + bent <= 0) & np.isfinite(slope)
    longest = np.max(np.abs(step), axis=1, keepdims=True)
    step *= np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))
    return np.where(sound[:, None], step, 0.0), -slope, sound


def _solve(system: NDArray, right: NDArray) -> NDArray:
    """Solutions of a batch; a singular one gets the least-squares solution."""
    try:
        return np.linalg.solve(system, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return np.einsum("rkl,rl->rk", np.linalg.pinv(system, hermitian=True), right)


def _least_absolute(problem: _Problem, theta: NDArray, w: NDArray, max_steps: int) -> tuple[NDArray, NDArray, NDArray]:
    """L1 by Huber thresholds from the median residual down by tens, then exactly on the runs it passes through.

    With more than L1_EXACT runs the last threshold still holds ten runs a parameter or more, and the fit ends there:
    its objective is then known to some 1e-6.
    """
    fewest = 10.0 * theta.shape[1] / len(problem.points) if len(problem.points) > L1_EXACT else 0.0
    scale = max(3.0 * float(np.median(np.abs(problem.residuals(theta)))), 1e-6)
    reached = np.zeros(len(theta), bool)
    for stage in range(L1_STAGES):
        if 10.0**-stage < fewest:
            break
        smooth = _Problem(
            problem.form,
            problem.points,
            problem.estimator.smoothed(scale * 10.0**-stage),
            problem.low,
            problem.high,
            problem.free,
        )
        theta, _, reached = _descend(smooth, theta, w, max_steps)
    value = problem.objective(theta, w)
    if fewest:
        return theta, value, reached
    exact, balanced = _through_nearest(problem, theta, w)
    closer = problem.objective(exact, w)
    better = closer <= value
    return np.where(better[:, None], exact, theta), np.where(better, closer, value), np.where(better, balanced, reached)


def _through_nearest(problem: _Problem, theta: NDArray, w: NDArray) -> tuple[NDArray, NDArray]:
    """(theta, whether it is a minimum) of laws that pass through as many near runs as parameters are free and inside.

    It is one when multipliers no larger than the weights of those runs balance the pull of all others.
    """
    exact, balanced = theta.copy(), np.zeros(len(theta), bool)
    points = problem.points
    w = np.broadcast_to(w, (len(theta), len(points)))
    table = np.stack([points.at.ln_N, points.at.ln_D, points.log_L, *points.at.more.values()], axis=1)
    distinct = np.unique(table, axis=0, return_index=True)[1]
    for row in range(len(theta)):
        inside = problem.free & (theta[row] > problem.low) & (theta[row] < problem.high)
        size = np.abs(problem.residuals(theta[row : row + 1])[0])[distinct]
        size = np.where(w[row, distinct] > 0, size, np.inf)
        near = distinct[np.argsort(size, kind="stable")[: int(inside.sum())]]
        few = points.subset(near)
        now = theta[row].copy()
        for _ in range(8):
            jet = problem.form.log_loss(variables(now[None]), few.at)
            predicted = np.broadcast_to(jet.value, (1, len(few)))[0]
            J = jet.gradient(len(now), (1, len(few)))[0][inside]
            r = few.log_L - predicted
            step = np.linalg.lstsq(J.T, r, rcond=None)[0]
            if not np.isfinite(step).all() or np.max(np.abs(step), initial=0.0) > 0.1:
                break
            now[inside] += step
        exact[row] = np.where(inside, np.clip(now, problem.low, problem.high), theta[row])
        jet = problem.form.log_loss(variables(exact[row : row + 1]), points.at)
        J = jet.gradient(len(now), (1, len(points)))[0][inside]
        r = points.log_L - np.broadcast_to(jet.value, (1, len(points)))[0]
        on = np.abs(r) < PASSED
        pull = J[:, ~on] @ (w[row, ~on] * np.sign(r[~on]))
        multipliers = np.linalg.lstsq(J[:, near], -pull, rcond=None)[0]
        most = np.array([w[row, on & (np.abs(table - table[index]).max(axis=1) == 0)].sum() for index in near])
        balanced[row] = bool(np.all(np.abs(multipliers) <= most * (1 + 1e-6)))
    return exact, balanced
