"""L1 fits: Huber thresholds that shrink, then the runs that the law passes through, exchanged one at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.laws.jets import variables
from pipeline.fitting.newton import Problem, descend

STAGES, SMOOTH = 10, 3
"""Thresholds, each a tenth of the one before; those after which no law is brought through its nearest runs yet."""
EXACT = 5_000
"""Runs up to which that is done."""
EXCHANGES = 60
"""Runs exchanged at most after one threshold."""
NEAR = 0.3
"""Largest change of a parameter in one correction towards the runs to pass through."""
PASSED = 1e-10
"""Residual of ln L below which a law passes through a run."""


def descend_l1(problem: Problem, theta: NDArray, w: NDArray, max_steps: int) -> tuple[NDArray, NDArray, NDArray]:
    """L1 by Huber thresholds from the median residual down by tens, until the runs that it passes through are found.

    With more than EXACT runs the last threshold still holds ten runs a parameter or more, and the fit ends there:
    its objective is then known to some 1e-6.
    """
    num_runs = len(problem.points)
    fewest = 10.0 * theta.shape[1] / num_runs if num_runs > EXACT else 0.0
    scale = max(3.0 * float(np.median(np.abs(problem.residuals(theta)))), 1e-6)
    theta, reached, w = theta.copy(), np.zeros(len(theta), bool), np.broadcast_to(w, (len(theta), num_runs))
    exact, balanced, todo = theta.copy(), reached.copy(), np.arange(len(theta))
    for stage in range(STAGES):
        if 10.0**-stage < fewest or not len(todo):
            break
        smooth = replace(problem, estimator=problem.estimator.smoothed(scale * 10.0**-stage))
        theta[todo], _, reached[todo] = descend(smooth, theta[todo], w[todo], max_steps)
        if not fewest and stage >= SMOOTH:
            exact[todo], balanced[todo] = _through_nearest(problem, theta[todo], w[todo])
            todo = todo[~balanced[todo]]
    value = problem.objective(theta, w)
    if fewest:
        return theta, value, reached
    closer = problem.objective(exact, w)
    better = balanced | (closer <= value)
    return np.where(better[:, None], exact, theta), np.where(better, closer, value), np.where(better, balanced, reached)


def _through_nearest(problem: Problem, theta: NDArray, w: NDArray) -> tuple[NDArray, NDArray]:
    """(theta, whether it is a minimum) of laws that pass through as many runs as parameters are free and inside, the
    nearest at first."""
    exact, balanced = theta.copy(), np.zeros(len(theta), bool)
    points = problem.points
    table = np.stack([points.at.ln_N, points.at.ln_D, points.log_L, *points.at.more.values()], axis=1)
    _, first, alike = np.unique(table, axis=0, return_index=True, return_inverse=True)
    within = problem.free & (theta > problem.low) & (theta < problem.high)
    for inside in np.unique(within[within.any(axis=1)], axis=0):
        rows = np.flatnonzero((within == inside).all(axis=1))
        vertices = _Vertices(problem, inside, first[alike.reshape(-1)], w[rows])
        exact[rows], balanced[rows] = vertices.lowest(theta[rows])
    return exact, balanced


@dataclass(frozen=True)
class _Vertices:
    """Laws through as many runs as parameters are `inside` (k,): an L1 minimum is one of them (Barrodale and Roberts
    1973, SIAM Journal on Numerical Analysis 10, 839, in the law's linearisation).

    `alike` (n,) is the first run that equals each, `w` (R, n) the weights.
    """

    problem: Problem
    inside: NDArray
    alike: NDArray
    w: NDArray

    def lowest(self, theta: NDArray) -> tuple[NDArray, NDArray]:
        """(theta, whether it is a minimum): from the runs nearest to each law down, one run for another at a time.

        It is one when multipliers no larger than the weights of those runs balance the pull of all others; otherwise
        the run whose multiplier is most too large is left, along the laws through the rest, for the run at which the
        objective would rise again. A law ends where that does not lower the objective.
        """
        problem, points, theta, w = self.problem, self.problem.points, theta.copy(), self.w
        distinct = np.flatnonzero(self.alike == np.arange(len(points)))
        size = np.where(w[:, distinct] > 0, np.abs(problem.residuals(theta)[:, distinct]), np.inf)
        near = distinct[np.argsort(size, axis=1, kind="stable")[:, : int(self.inside.sum())]]
        began = problem.objective(theta, w)
        balanced, best, todo = np.zeros(len(theta), bool), np.full(len(theta), np.inf), np.arange(len(theta))
        for _ in range(EXCHANGES):
            trial = self._pass_through(theta[todo], near[todo])
            value = problem.objective(trial, w[todo])
            lower = value < best[todo]
            todo, trial = todo[lower], trial[lower]
            theta[todo], best[todo] = trial, value[lower]
            if not len(todo):
                break
            balanced[todo], near[todo] = self._exchange(trial, near[todo], w[todo])
            todo = todo[~balanced[todo]]
        return theta, balanced & (best <= began)

    def _pass_through(self, theta: NDArray, near: NDArray) -> NDArray:
        """The laws (R, k) that pass through the runs `near` (R, m), by Newton's method from near ones."""
        problem, theta = self.problem, theta.copy()
        few, measured, going = problem.points.at.subset(near), problem.points.log_L[near], np.ones(len(theta), bool)
        for _ in range(8):
            jet = problem.form.log_loss(variables(theta), few)
            J = jet.gradient(theta.shape[1], near.shape)[:, self.inside]
            step = _least_squares(J.transpose(0, 2, 1), measured - np.broadcast_to(jet.value, near.shape))
            longest = np.abs(step).max(axis=1, initial=0.0)
            going &= longest <= NEAR
            theta[:, self.inside] += np.where(going[:, None], step, 0.0)
            if not (longest[going] > 1e-15).any():
                break
        return np.where(self.inside, np.clip(theta, problem.low, problem.high), theta)

    def _exchange(self, theta: NDArray, near: NDArray, w: NDArray) -> tuple[NDArray, NDArray]:
        """(whether the laws are minima, the runs to pass through next)."""
        problem, points, shape = self.problem, self.problem.points, w.shape
        jet = problem.form.log_loss(variables(theta), points.at)
        J = jet.gradient(theta.shape[1], shape)[:, self.inside]
        r = points.log_L - np.broadcast_to(jet.value, shape)
        on = np.abs(r) < PASSED
        pull = np.einsum("rkn,rn->rk", J, np.where(on, 0.0, w * np.sign(r)))
        passed = np.take_along_axis(J, near[:, None, :], axis=2)
        multipliers = _least_squares(passed, -pull)
        weighing = np.where(on, w, 0.0)
        most = np.stack([np.where(self.alike == run[:, None], weighing, 0.0).sum(axis=1) for run in near.T], axis=1)
        excess = np.abs(multipliers) - most * (1 + 1e-6)
        balanced = (excess <= 0).all(axis=1)
        rows, worst = np.arange(len(theta)), np.argmax(excess, axis=1)
        ahead = np.zeros_like(multipliers)
        ahead[rows, worst] = -np.sign(multipliers[rows, worst])
        moved = np.einsum("rkn,rk->rn", J, _least_squares(passed.transpose(0, 2, 1), ahead))
        met = np.where(on | (moved * r <= 0), np.inf, r / moved)
        order = np.argsort(met, axis=1)
        slope = np.cumsum(np.take_along_axis(2 * w * np.abs(moved), order, axis=1), axis=1)
        enters = np.argmax(slope >= excess[rows, worst][:, None], axis=1)
        near = near.copy()
        near[rows, worst] = self.alike[order[rows, enters]]
        return balanced, near


def _least_squares(matrix: NDArray, right: NDArray) -> NDArray:
    """x (R, k) nearest to matrix (R, m, k) x = right (R, m), the shortest; not a number where these are not finite."""
    sound = np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(right).all(axis=1)
    inverse = np.linalg.pinv(np.where(sound[:, None, None], matrix, 0.0))
    return np.where(sound[:, None], np.einsum("rkm,rm->rk", inverse, right), np.nan)
