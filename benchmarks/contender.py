"""A way to make many fits, timed in parts, and what its objectives are worth against ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.bfgs_autograd import DELTA
from benchmarks.chinchilla_runs import Runs
from benchmarks.stopwatch import Seconds, announced, measure

CLOSE, FAR, TIE = 1e-6, 1e-4, 1e-9
"""Relative gaps between objectives: the same minimum, another minimum, and rounding."""


@dataclass
class Contender:
    """One way to do a task of `whole` fits, `part` of them in a round, and its fits so far.

    `fit_one(i)` is fit i as (a, b, e, alpha, beta) in raw units, a = ln A, b = ln B, e = ln E. `target` is the least
    ratio of its CPU time to ours. `theta` (whole, 5) holds the fits of which `made` is true.
    """

    name: str
    whole: int
    part: int
    fit_one: Callable[[int], NDArray]
    target: float
    theta: NDArray[np.float64] = field(init=False)
    made: NDArray[np.bool_] = field(init=False)
    seconds: list[Seconds] = field(default_factory=list)
    full: Seconds | None = None

    def __post_init__(self) -> None:
        self.theta = np.full((self.whole, 5), np.nan)
        self.made = np.zeros(self.whole, bool)

    def run_part(self, number: int) -> None:
        """Adds to `seconds` what part `number` takes, scaled up to the whole task."""
        first = number * self.part
        taken = measure(lambda: self._run(range(first, first + self.part)))
        self.seconds.append(taken.times(self.whole / self.part))

    def run_whole(self) -> None:
        """Sets `full` to what the whole task takes."""
        self.full = measure(lambda: self._run(range(self.whole)))

    def _run(self, numbers: range) -> None:
        with np.errstate(all="ignore"):
            for number in announced(numbers, len(numbers), self.name):
                self.theta[number] = self.fit_one(number)
                self.made[number] = True


def objectives(theta: NDArray, runs: Runs, weights: NDArray) -> NDArray[np.float64]:
    """The Huber objective of each (a, b, e, alpha, beta), (R, 5) in raw units, at its row of run weights (R, n).

    The one judge of all contenders and of ours; infinite where a fit has come to nothing.
    """
    a, b, e, alpha, beta = (theta[:, column, None] for column in range(5))
    with np.errstate(all="ignore"):
        predicted = np.logaddexp(np.logaddexp(a - alpha * np.log(runs.N), b - beta * np.log(runs.D)), e)
        residual = np.abs(np.log(runs.L) - predicted)
        each = np.where(residual <= DELTA, residual**2 / 2, DELTA * (residual - DELTA / 2))
        return np.nan_to_num((weights * each).sum(axis=1), nan=np.inf, posinf=np.inf)


def gaps(theirs: NDArray, ours: NDArray) -> dict[str, float | int]:
    """How far objectives lie above ours, relative to ours, fit by fit."""
    gap = theirs / ours - 1
    finite = gap[np.isfinite(gap)]
    return {
        "num_compared": len(gap),
        "num_not_finite": len(gap) - len(finite),
        "median": float(np.median(gap)),
        "most": float(finite.max()),
        "least": float(finite.min()),
        "num_within_1e-6": int((np.abs(gap) <= CLOSE).sum()),
        "num_worse_by_1e-6": int((gap > CLOSE).sum()),
        "num_worse_by_1e-4": int((gap > FAR).sum()),
        "num_better_by_1e-9": int((gap < -TIE).sum()),
    }
