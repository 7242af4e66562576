"""A damped Newton method with the exact Hessian, on a batch of fits at once, and a safe step to fall back on.

A batch is R problems on the same runs, told apart by their weights (resamples, subsets) or their start. The Newton
matrix of sum w rho(r) is J (w rho'') J' - sum w rho' H, H the law's Hessian. It need not be positive where few runs lie
inside a Huber threshold; a step that does not lower the objective is tried again with iteratively reweighted least
squares, J (w rho' / r) J', which is always positive, and then with more damping.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws.jets import exp, variables
from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import Points

FLAT = 1e-13
"""Relative decrease still promised by a step below which a minimum counts as reached."""
ROUNDING = 4 * float(np.finfo(float).eps)
"""What rounding leaves unknown of a residual, in parts of what was measured or of 1."""
LONGEST_STEP = 2.0
"""Largest change of any theta in one step."""
SHORTER, SHORTEST = 0.3, 0.05
"""A refused Newton step is tried so many times as long, down to about that length."""


@dataclass(frozen=True)
class Problem:
    """Fits of a law of `form` to `points`, with the parameters that are `free` (k,) between `low` and `high` (k,)."""

    form: type[Law]
    points: Points
    estimator: Estimator
    low: NDArray
    high: NDArray
    free: NDArray

    def objective(self, theta: NDArray, w: NDArray) -> NDArray:
        """sum w rho, shape (R,)."""
        return np.sum(w * self.estimator.rho(self.residuals(theta)), axis=1)

    def rounding(self, value: NDArray, w: NDArray) -> NDArray:
        """What rounding leaves unknown of objectives `value` (R,), shape (R,): sum w |rho'| s, s that of a residual,
        by |rho'| <= 2 rho^(1/2) and, for Huber, |rho'| <= delta."""
        target = self.points.log_L if self.estimator.space == "log" else np.exp(self.points.log_L)
        s = ROUNDING * np.maximum(np.abs(target), 1.0)
        squares = np.sum(w * s**2, axis=1)
        sloped = 2 * np.sqrt(value * squares)
        if self.estimator.delta is not None:
            sloped = np.minimum(sloped, self.estimator.delta * np.sum(w * s, axis=1))
        return sloped + squares

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


def descend(problem: Problem, theta: NDArray, w: NDArray, max_steps: int) -> tuple[NDArray, NDArray, NDArray]:
    """(theta (R, k), objective (R,), whether it is a minimum (R,)) reached from `theta` by a smooth estimator, with
    weights `w` (R or 1, n)."""
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
        shared = w if len(w) == 1 else w[todo]
        unknown = FLAT * value[todo] + problem.rounding(value[todo], shared)
        flat[todo] = (promised <= unknown) & (damping[todo] <= 1e-2) & sound
        trial = np.clip(theta[todo] + length[todo, None] * step, low, high)
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
    problem: Problem, theta: NDArray, gradient: NDArray, matrix: NDArray, ridge: NDArray
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
