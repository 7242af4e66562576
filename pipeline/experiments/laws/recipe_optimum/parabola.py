"""A parabola in the logarithm of a dial: where the loss is lowest, and what another value costs, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import fdtri, stdtrit

from pipeline.experiments.verdict import LEVEL

DEPTH = 0.08
"""Part of the loss above the lowest of a sweep up to which a parabola is trusted to have its shape."""
GRID = 801
"""Places between the ends of a sweep at which a bound is looked for."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """ln loss over x = ln (dial / study's value), ascending and with the study's value 0: one row of `losses` a seed.

    `variance` is that of one ln loss about its seed's own level, with `freedom` degrees of freedom (see `noise`). What
    the parabola misses of the means is counted as noise where it is larger than that. An optimum is looked for between
    the outermost fitted points.
    """

    x: np.ndarray
    losses: np.ndarray
    variance: float
    freedom: int

    @cached_property
    def means(self) -> np.ndarray:
        """ln loss at every x, the mean over seeds."""
        return self.losses.mean(axis=0)

    @cached_property
    def fitted(self) -> np.ndarray:
        """Which points the parabola is fitted to: those around the lowest mean that lie within DEPTH of it, and always
        its two neighbours and all between it and the study's value."""
        least, own = int(np.argmin(self.means)), int(np.argmin(np.abs(self.x)))
        near = self.means - self.means[least] <= DEPTH
        near[[max(least - 1, 0), min(least + 1, len(near) - 1)]] = True
        near[min(least, own) : max(least, own) + 1] = True
        low = high = least
        while low > 0 and near[low - 1]:
            low -= 1
        while high + 1 < len(near) and near[high + 1]:
            high += 1
        low, high = (low, high) if high - low > 1 else (max(0, high - 2), max(2, high))
        return (np.arange(len(near)) >= low) & (np.arange(len(near)) <= high)

    @cached_property
    def coefficients(self) -> np.ndarray:
        """(level, slope, curvature / 2) of the least-squares parabola through the fitted means."""
        return np.linalg.lstsq(self._design, self.means[self.fitted], rcond=None)[0]

    @cached_property
    def covariance(self) -> np.ndarray:
        """That of slope and half the curvature; the level of a seed is none of its business."""
        spread = self.variance / len(self.losses)
        left = int(self.fitted.sum()) - 3
        if left:
            missed = self.means[self.fitted] - self._design @ self.coefficients
            spread = max(spread, float(missed @ missed) / left)
        return spread * np.linalg.inv(self._design.T @ self._design)[1:, 1:]

    @cached_property
    def quantile(self) -> float:
        """Student's t of a two-sided interval."""
        return float(stdtrit(self.freedom, (1 + LEVEL) / 2))

    @cached_property
    def optimum(self) -> float:
        """x of the lowest point of the parabola within the sweep."""
        _, slope, half = self.coefficients
        vertex = -slope / (2 * half) if half > 0 else np.nan
        ends = self.x[self.fitted][[0, -1]]
        return float(vertex if ends[0] <= vertex <= ends[1] else min(ends, key=self.height))

    @property
    def lowest(self) -> float:
        """ln loss of the parabola at the optimum."""
        return float(self.coefficients[0] + self.height(self.optimum))

    @cached_property
    def optimum_error(self) -> float:
        """Standard error of `optimum`, by the delta method; infinite where there is no optimum."""
        if not self.bracketed:
            return np.inf
        _, slope, half = self.coefficients
        along = np.array([-1 / (2 * half), slope / (2 * half**2)])
        return float(np.sqrt(along @ self.covariance @ along))

    @cached_property
    def bracketed(self) -> bool:
        """Whether the parabola has its lowest point inside the sweep, and no end of the sweep lies lower than all that
        is inside by more than the noise of a difference."""
        if self.optimum in self.x[self.fitted][[0, -1]]:
            return False
        noise = self.quantile * np.sqrt(2 * self.variance / len(self.losses))
        return bool(self.means[[0, -1]].min() >= self.means[1:-1].min() - noise)

    def regret(self, x: float) -> float:
        """Loss at x above the lowest of the sweep, in parts of the lowest."""
        return float(np.expm1(self.height(x) - self.height(self.optimum)))

    def regret_interval(self, x: float) -> tuple[float, float]:
        """The 95 % interval of `regret`: the largest over the sweep of both ends of the interval of what a move from x
        saves, which is linear in the coefficients, so that it also holds where the regret is zero. The lower end takes
        the best of all moves, so it wants Scheffe's band, in which all of them lie at once (1953, doi
        10.1093/biomet/40.1-2.87); the upper end that of the one right move."""
        places = np.linspace(*self.x[self.fitted][[0, -1]], GRID)
        moves = np.stack([x - places, x * x - places * places])
        saved = self.coefficients[1:] @ moves
        error = np.sqrt(np.einsum("ik,ij,jk->k", moves, self.covariance, moves))
        all_at_once = np.sqrt(2 * fdtri(2, self.freedom, LEVEL))
        low, high = (max(0.0, float(np.max(saved + k * error))) for k in (-all_at_once, self.quantile))
        return float(np.expm1(low)), float(np.expm1(high))

    @property
    def _design(self) -> np.ndarray:
        return np.vander(self.x[self.fitted], 3, increasing=True)

    def height(self, x: float | np.ndarray) -> float | np.ndarray:
        """ln loss of the parabola above its level at the study's value."""
        _, slope, half = self.coefficients
        return x * (slope + x * half)


def noise(losses: np.ndarray) -> tuple[float, int]:
    """(variance, degrees of freedom) of one ln loss, from `losses` with a row a seed and a column a setting: what is
    left when the level of every seed and of every setting is taken out. Columns with a missing loss are left out."""
    known = losses[:, np.isfinite(losses).all(axis=0)]
    freedom = (known.shape[0] - 1) * (known.shape[1] - 1)
    if freedom <= 0:
        return np.inf, 0
    left = known - known.mean(axis=0) - known.mean(axis=1, keepdims=True) + known.mean()
    return float((left**2).sum() / freedom), freedom
