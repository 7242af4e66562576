"""Noise of runs that share trunks: an offset common to each tree, and noise of each run's own.

A table of n runs has an n x n covariance, of which only two numbers and a label a run are ever stored. What is asked of
it, the variance of a sum and the whitening of cell means, takes time in proportion to n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TreeNoise:
    """ln L of runs labelled by `tree` (n,): sd `own` independent in each run, sd `shared` in common to a tree."""

    own: float
    shared: float
    tree: NDArray

    @classmethod
    def independent(cls, sd: float, num_runs: int) -> TreeNoise:
        """Noise of `num_runs` runs that have nothing in common."""
        return cls(sd, 0.0, np.arange(num_runs))

    def variance(self, weights: NDArray) -> float:
        """The variance of the sum of weights (n,) times ln L."""
        total = self.own**2 * float(weights @ weights)
        if self.shared:
            by_tree = np.bincount(_codes(self.tree), weights)
            total += self.shared**2 * float(by_tree @ by_tree)
        return total

    def whitened_means(self, cell: NDArray[np.int64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of the columns (n, m) over cells, as rows whose squares sum to m' V^-1 m, V the means' covariance.

        `cell` (n,) counts from zero. With X the offsets' part of the means in units of their own noise, V is
        (I + X X') in these units, and m' V^-1 m the least |m - X u|^2 + |u|^2: a cell has a row of the first, a tree
        one of u. Raises ValueError unless runs have noise of their own.
        """
        if not self.own > 0:
            raise ValueError(f"own: {self.own} is not a positive sd")
        count = np.bincount(cell)
        root = np.sqrt(count) / self.own
        means = np.stack([np.bincount(cell, column) for column in columns.T], axis=1) / count[:, None]
        means *= root[:, None]
        if not self.shared:
            return means
        from scipy.sparse import coo_array, eye_array
        from scipy.sparse.linalg import splu

        share = self.shared * (root / count)[cell]
        X = coo_array((share, (cell, _codes(self.tree)))).tocsc()
        u = splu((eye_array(X.shape[1]) + X.T @ X).tocsc()).solve(X.T @ means)
        return np.concatenate([means - X @ u, u])


def _codes(labels: NDArray) -> NDArray[np.int64]:
    return np.unique(labels, return_inverse=True)[1].reshape(-1)
