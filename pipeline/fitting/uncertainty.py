"""Intervals by resampling runs.

The unit that is resampled is the *cell*, one (N, D) with all its seeds, or any coarser cluster that the caller names
(a model size, a tree of runs); never checkpoints of one run, which are not independent. Intervals are bias-corrected
percentiles of refits with the tail of Student's t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.intervals import corrected_interval
from pipeline.fitting.laws.law import Law, log_losses
from pipeline.fitting.minima import BLOCK, Minima
from pipeline.fitting.points import LARGE, Variables
from pipeline.fitting.refits import by_group, expanded, refit, stepped, tangent
from pipeline.fitting.solver import Fit, raw_theta
from pipeline.fitting.starts import starting_points

L1_STARTS = 3
"""General starts of each L1 refit beside the fit: resamples of few runs have several L1 minima."""
BANDWIDTH = 1.5
"""Residuals within this many medians of their size, times n^(-1/5), give L1 its density at zero."""


@dataclass(frozen=True)
class Bootstrap:
    """Refits of one law to resampled runs: `theta` (R, k) in raw units, `objective` (R,) of each refit.

    `estimate` (k,) is the fit itself in raw units, `freedom` the units resampled less the parameters. `unreached`
    counts refits that ended without a flat minimum; they are kept, not hidden. `method` says what was resampled.
    """

    form: type[Law]
    estimate: NDArray[np.float64]
    theta: NDArray[np.float64] = field(repr=False)
    objective: NDArray[np.float64] = field(repr=False)
    freedom: int
    unreached: int
    method: str

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """Parameters by name, each (R,), raw units."""
        return self.form.values(self.theta)

    def standard_errors(self) -> dict[str, float]:
        """Standard deviation of each parameter over the resamples, raw units."""
        return {name: float(draws.std(ddof=1)) for name, draws in self.values.items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % interval of each parameter, raw units."""
        at = self.form.values(self.estimate[None])
        return {name: self.interval(draws, float(at[name][0])) for name, draws in self.values.items()}

    def interval(self, draws: NDArray, estimate: float) -> tuple[float, float]:
        """The 95 % interval of any quantity from its draws (R,) and its value at the fit."""
        low, high = self.band(draws[:, None], [estimate])
        return float(low[0]), float(high[0])

    def band(self, draws: NDArray, estimate: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(low, high), each (m,): 95 % intervals of quantities from draws (R, m) and their values at the fit (m,)."""
        return corrected_interval(draws, estimate, self.freedom)

    def log_loss(self, N: ArrayLike, D: ArrayLike, columns: dict[str, ArrayLike] | None = None) -> NDArray[np.float64]:
        """ln L (L in nats/token) of every resample at points (N parameters, D tokens), shape (R, n)."""
        return log_losses(self.form, self.theta, Variables.of(N, D, columns))

    def optimal_size(self, C: ArrayLike, columns: dict[str, float] | None = None) -> NDArray[np.float64]:
        """N*(C) in parameters of every resample on C = 6 N D FLOPs, shape (R, number of C)."""
        return self.form.optimal_sizes(self.theta, np.atleast_1d(np.asarray(C, float)), columns)

    def size_exponent(self) -> NDArray[np.float64] | None:
        """The exponent a of N*(C) ~ C^a of every resample, shape (R,); None where the law has none."""
        return self.form.size_exponents(self.values)


def resample_weights(clusters: NDArray[np.int64], num_resamples: int, seed: int, fewest: int) -> NDArray[np.float64]:
    """How often each run counts in each resample, shape (R, n): whole clusters drawn with replacement.

    Draws with fewer than `fewest` distinct clusters can determine nothing and are drawn again. Raises ValueError when
    there are not that many clusters.
    """
    return np.concatenate(list(_weights(clusters, num_resamples, seed, fewest, num_resamples)))


def bootstrap(fit: Fit, clusters: ArrayLike, num_resamples: int, seed: int, unit: str = "(N, D) cells") -> Bootstrap:
    """Refits to `num_resamples` resamples of clusters of runs, named `unit` in the result, by the fit's estimator.

    Each refit starts at the fit itself and, where other starts of the fit ended elsewhere, at the best of those too.
    Tables of more than LARGE runs take one step a resample, along the gradient of its objective by the Newton matrix of
    the fit: a resample's own matrix would carry the noise of its residuals times the law's curvature. What that leaves
    out of a standard error is of relative order 1 / sqrt(n), two per cent at two thousand runs.
    """
    labels, member = np.unique(np.asarray(clusters), return_inverse=True)
    fewest = min(len(fit.theta), len(labels))
    large, member = len(fit.points) > LARGE, member.reshape(-1)
    again = _one_step(fit, member) if large else _refit
    member = np.arange(len(labels)) if large else member
    blocks = _weights(member, num_resamples, seed, fewest, max(1, 20 * BLOCK // len(fit.points)))
    found = [again(fit, w) for w in blocks]
    theta, objective, reached = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("theta", "objective", "reached")
    )
    how = "one step each" if large else "refitted"
    return Bootstrap(
        fit.form,
        raw_theta(fit.form, fit.theta[None], fit.points)[0],
        raw_theta(fit.form, theta, fit.points),
        objective,
        max(len(labels) - len(fit.theta), 1),
        int((~reached).sum()),
        f"{num_resamples} resamples of {len(labels)} {unit}, {how}; bias-corrected percentiles with Student's tail",
    )


def _weights(
    member: NDArray[np.int64], num_resamples: int, seed: int, fewest: int, rows: int
) -> Iterator[NDArray[np.float64]]:
    labels, first, member = np.unique(member, return_index=True, return_inverse=True)
    member = np.argsort(np.argsort(first))[member]  # clusters in the order in which the runs name them
    if len(labels) < fewest:
        raise ValueError(f"clusters: {len(labels)} distinct, at least {fewest} are needed to resample them")
    # The generator of published resamples (arXiv 2404.10102): the same seed and order of runs give the same draws;
    # large tables have a faster one.
    random = np.random.RandomState(seed)
    draw = random.randint if len(labels) <= LARGE else np.random.default_rng(seed).integers
    missing = num_resamples
    while missing:
        kept: list[NDArray] = []
        while len(kept) < min(rows, missing):
            count = np.bincount(draw(len(labels), size=len(labels)), minlength=len(labels))
            if fewest == 1 or len(labels) > 50 * fewest or np.count_nonzero(count) >= fewest:
                kept.append(count)
        missing -= len(kept)
        yield np.array(kept, float)[:, member]


def _refit(fit: Fit, counts: NDArray) -> Minima:
    starts = starting_points(fit.form, fit.points, L1_STARTS) if fit.estimator.kind == "l1" else ()
    return refit(fit, counts * fit.points.weights, starts)


def _one_step(fit: Fit, member: NDArray[np.int64]) -> Callable[[Fit, NDArray], Minima]:
    """A refit that takes counts of clusters (R, number of them): sums over each cluster are made once, here.

    L1 has no second derivative; its density of residuals at zero stands in, from those within a bandwidth.
    """
    points, estimator = fit.points, fit.estimator
    if estimator.kind == "l1":
        estimator = estimator.smoothed(BANDWIDTH * float(np.median(np.abs(fit.residuals))) * len(points) ** -0.2)
    gradient, matrix = expanded(fit, estimator)
    cost = points.weights * fit.estimator.rho(tangent(fit)[0])
    sums = by_group(np.column_stack([cost, gradient]), member, int(member.max()) + 1)
    slope, matrix = sums[:, 1:].sum(axis=0), matrix.sum(axis=0)

    def one_step(fit: Fit, counts: NDArray) -> Minima:
        totals = counts @ sums
        gradient = totals[:, 1:] - slope
        theta = stepped(fit, gradient, matrix[None])
        objective = totals[:, 0] + 0.5 * np.einsum("rk,rk->r", gradient, theta - fit.theta)
        return Minima(theta, objective, np.isfinite(theta).all(axis=1))

    return one_step
