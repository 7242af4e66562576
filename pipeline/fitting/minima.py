"""Minima of many fits at once, in blocks that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws.law import Law
from pipeline.fitting.least_absolute import descend_l1
from pipeline.fitting.newton import Problem, descend
from pipeline.fitting.points import Points
from pipeline.fitting.starts import log_bounds

BLOCK = 40_000
"""Values (problems times runs) worked on at once: arrays of that size stay in the cache."""
MOST_STEPS = 1000
"""Steps of a fit: where exponents are small or E is near zero, valleys are curved and long."""
FEW_STEPS, ROUND = 12, 120
"""Steps after which what is not yet at a minimum is gathered into blocks of its own, at first and then."""
WORTH_A_ROUND = 1e-4
"""Relative decrease in a round without which a fit is given up: its valley is flat, as with a parameter to spare."""


@dataclass(frozen=True)
class Minima:
    """Results of a batch: theta (R, k), objective (R,), and whether the minimum was reached (R,)."""

    theta: NDArray[np.float64]
    objective: NDArray[np.float64]
    reached: NDArray[np.bool_]

    def folded(self, num: int) -> Minima:
        """The first `num` rows; where row num + i is lower than row i, that one in its place."""
        more = len(self.objective) - num
        rows = np.arange(num)
        rows[:more] += np.where(self.objective[num:] < self.objective[:more], num, 0)
        return Minima(self.theta[rows], self.objective[rows], self.reached[rows])


def minimise(
    form: type[Law],
    points: Points,
    theta: NDArray,
    estimator: Estimator,
    weights: NDArray | None = None,
    free: NDArray | None = None,
    max_steps: int = MOST_STEPS,
) -> Minima:
    """The minima reached from each start theta (R, k) with run weights (R, n), None for those of the points.

    `free` (k,) marks the parameters that may move, None for all. An adaptive estimator must have been adapted.
    Parameters stay inside `log_bounds`; one on its bound whose gradient points outwards is held there for the step.
    """
    low, high = log_bounds(form, points)
    free = np.ones(theta.shape[1], bool) if free is None else np.asarray(free, bool)
    theta = np.clip(theta, np.where(free, low, -np.inf), np.where(free, high, np.inf))
    solve = descend_l1 if estimator.kind == "l1" else descend
    theta, objective, reached = theta.copy(), np.full(len(theta), np.inf), np.zeros(len(theta), bool)
    todo, steps = np.arange(len(theta)), min(FEW_STEPS, max_steps)
    while len(todo) and max_steps > 0:
        before = objective.copy()
        for block, seen, w in _blocks(todo, points, weights):
            problem = Problem(form, seen, estimator, low, high, free)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a step too far is refused anyway
                theta[block], objective[block], reached[block] = solve(problem, theta[block], w, steps)
        max_steps -= steps
        # The few that need many steps go on together: a block of a few rows would cost as much as a full one.
        falling = before[todo] - objective[todo] > WORTH_A_ROUND * objective[todo]
        todo, steps = todo[~reached[todo] & falling], min(ROUND, max_steps)
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
