"""The noise between replicate seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.points import cells


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
