"""Does a law hold to within the noise between seeds: a test of lack of fit.

Noise is measured between replicate seeds, that is between *trees*: runs of one tree share initialisation, data order
and trunk, so part of that noise is one common offset a tree, and runs of different sizes with the same seed share the
order of the data. Residuals of one seed's runs about a law therefore scatter less than the between-seed sd. Taking
every run's noise as independent with the between-seed sd, chi2 = sum over cells of (number of seeds) * (mean
residual)^2 / sd^2, is generous: what it rejects is wrong. Taking it as a common offset of each tree plus independent
noise of the within-tree sd (`SeedNoise.of_trees`) is the strict test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, fdtrc

from pipeline.fitting.tree_noise import TreeNoise


@dataclass(frozen=True)
class LackOfFit:
    """chi2 of residuals against noise of relative sd `sd_used`, its degrees of freedom and its p.

    `noise_freedom` are the degrees of freedom from which the sd is known, None for a sd taken as exact.
    """

    chi2: float
    degrees_of_freedom: int
    p: float
    sd_used: float
    noise_freedom: int | None = None


def lack_of_fit(
    residuals: ArrayLike,
    jacobian_nk: NDArray,
    cell: NDArray,
    noise: TreeNoise,
    sd_used: float,
    noise_freedom: int | None = None,
) -> LackOfFit | None:
    """chi2 of the mean residuals m of the cells against the `noise` in ln L of the runs.

    With V the covariance of m, chi2 = min over delta of (m - J delta)' V^-1 (m - J delta): the projection makes it the
    same whatever weights the law was fitted with, to first order. With `noise_freedom` p is that of F = chi2 / freedom,
    since the sd is itself measured. None when no cell is left over after the parameters, or there is no noise.
    """
    member = np.unique(cell, return_inverse=True)[1].reshape(-1)
    freedom = int(member.max(initial=-1)) + 1 - jacobian_nk.shape[1]
    if freedom < 1 or sd_used <= 0:
        return None
    both = noise.whitened_means(member, np.column_stack([np.asarray(residuals, float), jacobian_nk]))
    whitened, tangent = both[:, 0], both[:, 1:]
    left = whitened - tangent @ np.linalg.lstsq(tangent, whitened, rcond=None)[0]
    chi2 = float(left @ left)
    p = float(fdtrc(freedom, noise_freedom, chi2 / freedom) if noise_freedom else chdtrc(freedom, chi2))
    return LackOfFit(chi2, freedom, p, sd_used, noise_freedom)
