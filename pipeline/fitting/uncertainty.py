"""Intervals by resampling runs, and the noise between seeds.

The unit that is resampled is the *cell*, one (N, D) with all its seeds, or any coarser cluster that the caller names
(a model size, a tree of runs); never checkpoints of one run. Intervals are 2.5 to 97.5 % percentiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.forms import Additive, log_loss, optimal_size
from pipeline.fitting.points import cells
from pipeline.fitting.solver import Fit, minimise, raw_theta, starting_points

PERCENTILES = (2.5, 97.5)
NUM_STARTS = 2
"""General starts of each refit to a resample, beside the fit itself."""


@dataclass(frozen=True)
class Bootstrap:
    """Refits of one law to resampled runs: `theta` (R, k) are logarithmic parameters in raw units.

    `unreached` counts refits that ended without a flat minimum; they are kept, not hidden.
    """

    form: type[Additive]
    theta: NDArray[np.float64]
    unreached: int

    def standard_errors(self) -> dict[str, float]:
        """Standard deviation of each parameter over the resamples, raw units."""
        return dict(zip(self.form.parameters(), map(float, np.exp(self.theta).std(axis=0, ddof=1)), strict=True))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % percentile interval of each parameter, raw units."""
        low, high = np.percentile(np.exp(self.theta), PERCENTILES, axis=0)
        names = self.form.parameters()
        return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}

    def log_loss(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        """ln L (L in nats/token) of every resample at points (N parameters, D tokens), shape (R, n)."""
        return log_loss(self.theta, np.log(np.asarray(N, float)), np.log(np.asarray(D, float)))

    def optimal_size(self, C: ArrayLike) -> NDArray[np.float64]:
        """N*(C) in parameters of every resample on C = 6 N D FLOPs, shape (R, number of C)."""
        return optimal_size(self.theta, C)

    def size_exponent(self) -> NDArray[np.float64]:
        """The exponent a = beta / (alpha + beta) of every resample, shape (R,)."""
        alpha, beta = np.exp(self.theta[:, 2]), np.exp(self.theta[:, 4])
        return beta / (alpha + beta)


def percentile_interval(draws: NDArray) -> tuple[float, float]:
    """The 95 % percentile interval of one quantity's draws."""
    low, high = np.percentile(draws, PERCENTILES)
    return float(low), float(high)


def resample_weights(clusters: NDArray[np.int64], num_resamples: int, seed: int, fewest: int) -> NDArray[np.float64]:
    """How often each run counts in each resample, shape (R, n): whole clusters drawn with replacement.

    Draws with fewer than `fewest` distinct clusters can determine nothing and are drawn again. Raises ValueError when
    there are not that many clusters.
    """
    labels, member = np.unique(clusters, return_inverse=True)
    if len(labels) < fewest:
        raise ValueError(f"clusters: {len(labels)} distinct, at least {fewest} are needed to resample them")
    random = np.random.default_rng(seed)
    kept: list[NDArray] = []
    while len(kept) < num_resamples:
        count = np.bincount(random.integers(len(labels), size=len(labels)), minlength=len(labels))
        if np.count_nonzero(count) >= fewest:
            kept.append(count)
    return np.array(kept, float)[:, member]


def bootstrap(fit: Fit, clusters: NDArray[np.int64], num_resamples: int, seed: int) -> Bootstrap:
    """Refits to `num_resamples` resamples of clusters of runs, each from several starts, the best kept.

    Starts: the fit itself, another local minimum if there was one, and the first NUM_STARTS of the general starts.
    """
    fewest = min(len(fit.theta), len(np.unique(clusters)))
    weights = resample_weights(clusters, num_resamples, seed, fewest) * fit.points.weights
    best = minimise(fit.form, fit.points, np.repeat(fit.theta[None], num_resamples, axis=0), weights)
    theta, objective, reached = best.theta, best.objective, best.reached
    for other in (*fit.alternatives, *starting_points(fit.form, fit.points, NUM_STARTS)):
        again = minimise(fit.form, fit.points, np.repeat(other[None], num_resamples, axis=0), weights)
        better = again.objective < objective * (1 - 1e-9)
        theta = np.where(better[:, None], again.theta, theta)
        objective = np.where(better, again.objective, objective)
        reached = np.where(better, again.reached, reached)
    return Bootstrap(fit.form, raw_theta(theta, fit.points), int((~reached).sum()))


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviations of ln L between seeds (relative, no unit).

    `sd`: between independent seeds at one (N, D), pooled over cells that have at least two. `within_tree_sd`: what is
    left of it after each tree's own mean offset is removed, None when no size has two seeds at two token counts.
    """

    sd: float
    degrees_of_freedom: int
    num_cells: int
    within_tree_sd: float | None
    within_tree_degrees_of_freedom: int

    def covariance(self, tree: ArrayLike) -> NDArray[np.float64]:
        """Covariance (n, n) of ln L of runs labelled by `tree`: an offset common to each tree plus independent noise.

        Without a within-tree sd all of the noise counts as independent.
        """
        tree = np.asarray(tree)
        own = self.sd if self.within_tree_sd is None else min(self.within_tree_sd, self.sd)
        return own**2 * np.eye(len(tree)) + (self.sd**2 - own**2) * (tree[:, None] == tree)


def seed_noise(L: ArrayLike, size: ArrayLike, tokens: ArrayLike, tree: ArrayLike) -> SeedNoise | None:
    """The noise between replicate seeds, None when no cell has two.

    `size` and `tokens` label a run's cell, `tree` the trunk it branched from (one seed of one size). Runs of one tree
    share initialisation, data order and trunk, so the pooled sd measures differences *between trees*. Within a tree
    part of that is a common offset; the within-tree sd comes from the two-way layout ln L = cell + tree + residual.
    """
    log_L = np.log(np.asarray(L, float))
    cell = cells(np.unique(np.asarray(size), return_inverse=True)[1], tokens)
    member = np.unique(np.asarray(tree), return_inverse=True)[1].reshape(-1)
    repeated = np.bincount(cell)[cell] >= 2
    if not repeated.any():
        return None
    log_L, cell, member = log_L[repeated], cell[repeated], member[repeated]
    by_cell = (cell[:, None] == np.unique(cell)).astype(float)
    by_tree = (member[:, None] == np.unique(member)).astype(float)
    between = log_L - by_cell @ np.linalg.lstsq(by_cell, log_L, rcond=None)[0]
    freedom = len(log_L) - by_cell.shape[1]
    both = np.hstack([by_cell, by_tree])
    solution, _, rank, _ = np.linalg.lstsq(both, log_L, rcond=None)
    within_freedom = len(log_L) - int(rank)
    within = log_L - both @ solution
    return SeedNoise(
        sd=float(np.sqrt(between @ between / freedom)),
        degrees_of_freedom=freedom,
        num_cells=by_cell.shape[1],
        within_tree_sd=float(np.sqrt(within @ within / within_freedom)) if within_freedom > 0 else None,
        within_tree_degrees_of_freedom=max(within_freedom, 0),
    )
