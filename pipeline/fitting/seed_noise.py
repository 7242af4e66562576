"""The noise between replicate seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.points import cells
from pipeline.fitting.tree_noise import TreeNoise


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviations of ln L between seeds (relative, no unit).

    `sd`: between independent seeds at one (N, D), pooled over cells that have at least two; `degrees_of_freedom` are
    those from which it is known, fewer than runs less cells where a tree's runs move together (Satterthwaite 1946, doi
    10.2307/3002019). `within_tree_sd`: what is left of it after each tree's own mean offset is removed, None when no
    size has two seeds at two token counts.
    """

    sd: float
    degrees_of_freedom: int
    num_cells: int
    within_tree_sd: float | None
    within_tree_degrees_of_freedom: int

    def of_trees(self, tree: ArrayLike) -> TreeNoise:
        """The noise in ln L of runs labelled by `tree`: an offset common to each tree plus independent noise.

        Without a within-tree sd all of the noise counts as independent.
        """
        own = self.sd if self.within_tree_sd is None else min(self.within_tree_sd, self.sd)
        return TreeNoise(own, float(np.sqrt(self.sd**2 - own**2)), np.asarray(tree))


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
    log_L = log_L[repeated]
    cell, member = (np.unique(labels[repeated], return_inverse=True)[1].reshape(-1) for labels in (cell, member))
    count = np.bincount(cell)
    between = log_L - (np.bincount(cell, log_L) / count)[cell]
    freedom = len(log_L) - len(count)
    within, within_freedom = _two_way(between, cell, member)
    whole, left = float(between @ between), float(within @ within)
    return SeedNoise(
        sd=float(np.sqrt(whole / freedom)),
        degrees_of_freedom=_effective(whole, freedom, left, within_freedom),
        num_cells=len(count),
        within_tree_sd=float(np.sqrt(left / within_freedom)) if within_freedom > 0 else None,
        within_tree_degrees_of_freedom=max(within_freedom, 0),
    )


def _effective(whole: float, freedom: int, left: float, within_freedom: int) -> int:
    """Degrees of freedom of the sum of squares `whole`, of which `left` is within trees and the rest between them."""
    between, trees = whole - left, freedom - within_freedom
    if within_freedom <= 0 or trees <= 0 or not whole > 0:
        return max(freedom, 1)
    return max(1, int(whole**2 / (left**2 / within_freedom + between**2 / trees)))


def _two_way(centred: NDArray, cell: NDArray[np.int64], tree: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
    """(residuals of centred = cell + tree, their degrees of freedom) of values (n,) that have mean zero in each cell.

    Means of cells taken off the trees' indicators leave normal equations of one row a tree, which fix the offsets of
    trees that share cells up to a constant: the first of each such group is held at zero.
    """
    from scipy.sparse import block_array, coo_array, diags_array
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import splu

    table = coo_array((np.ones(len(cell)), (cell, tree))).tocsr()
    num_groups, group = connected_components(block_array([[None, table], [table.T, None]]), directed=False)
    num_cells, num_trees = table.shape
    held = np.unique(group[num_cells:], return_index=True)[1]
    free = np.setdiff1d(np.arange(num_trees), held)
    offset = np.zeros(num_trees)
    if len(free):
        count = np.bincount(cell)
        normal = diags_array(np.bincount(tree).astype(float)) - table.T @ diags_array(1.0 / count) @ table
        offset[free] = splu(normal.tocsc()[free][:, free].tocsc()).solve(np.bincount(tree, centred)[free])
    moved = offset[tree]
    left = centred - moved + (np.bincount(cell, moved) / np.bincount(cell))[cell]
    return left, len(centred) - (num_cells + num_trees - num_groups)
