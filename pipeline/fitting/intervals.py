"""95 % intervals from draws of a quantity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

PERCENTILES = (2.5, 97.5)
MOST_BIAS = 0.98
"""Largest share of draws on one side of the estimate that is corrected for."""


def percentile_interval(draws: NDArray) -> tuple[float, float]:
    """The 2.5 to 97.5 % percentiles of one quantity's draws."""
    low, high = np.percentile(draws, PERCENTILES)
    return float(low), float(high)


def corrected_interval(draws_Rm: NDArray, estimate_m: ArrayLike, freedom: int) -> tuple[NDArray, NDArray]:
    """(low, high), each (m,): bias-corrected percentiles of refits for a 95 % interval about estimates.

    With z0 = Phi^-1(share of draws below the estimate) the percentiles are Phi(2 z0 -+ t), t the 97.5 % quantile of
    Student's t of `freedom` degrees: bias correction after Efron 1981 (Canadian Journal of Statistics 9, 139), the
    Student tail after Hesterberg 2015 (arXiv 1411.5279, section 4.2). Draws that are nan are left out.
    """
    estimate = np.asarray(estimate_m, float)
    low, high = np.full(len(estimate), np.nan), np.full(len(estimate), np.nan)
    reach = stdtrit(max(freedom, 1), 0.975)
    for column, value in enumerate(estimate):
        draws = draws_Rm[:, column]
        draws = draws[np.isfinite(draws)]
        if not len(draws):
            continue
        below = np.mean(draws < value) + 0.5 * np.mean(draws == value)
        shift = 2.0 * ndtri(np.clip(below, 1 - MOST_BIAS, MOST_BIAS))
        # Of R draws the p quantile is number p (R + 1): with p R an interval would cover 2 / (R + 1) too little.
        at = 100.0 * ndtr([shift - reach, shift + reach])
        low[column], high[column] = np.percentile(draws, at, method="weibull")
    return low, high
