"""Does a law hold: lack of fit against seed noise, and prediction of larger runs.

What the lack-of-fit test compares. Noise is measured between replicate seeds, that is between *trees*: runs of one
tree share initialisation, data order and trunk, so part of that noise is one common offset a tree, and runs of
different sizes with the same seed share the order of the data. Residuals of one seed's runs about a law therefore
scatter less than the between-seed sd. The first test, chi2 = sum over cells of (number of seeds) * (mean residual)^2 /
sd^2, uses the between-seed sd and is generous: what it rejects is wrong. The second, chi2 = r' V^-1 r with V a tree's
common offset plus independent noise of the within-tree sd, is the strict one; both are reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.fitting.forms import Additive, log_loss_gradient
from pipeline.fitting.solver import Fit, fit
from pipeline.fitting.uncertainty import PERCENTILES, SeedNoise, bootstrap, cells


@dataclass(frozen=True)
class LackOfFit:
    """chi2 of residuals against noise of relative sd `sd_used`, its degrees of freedom and its p."""

    chi2: float
    degrees_of_freedom: int
    p: float
    sd_used: float


def lack_of_fit(residuals: ArrayLike, cell: NDArray, num_parameters: int, sd: float) -> LackOfFit | None:
    """The generous test of the module's docstring; None when no cell is left over after the parameters."""
    residuals = np.asarray(residuals, float)
    num_seeds = np.bincount(cell)
    kept = num_seeds > 0
    mean = np.bincount(cell, residuals)[kept] / num_seeds[kept]
    return _test(float(num_seeds[kept] @ mean**2) / sd**2, int(kept.sum()) - num_parameters, sd)


def lack_of_fit_in_trees(
    residuals: ArrayLike, tree: NDArray, num_parameters: int, noise: SeedNoise
) -> LackOfFit | None:
    """The strict test of the module's docstring; None without a within-tree sd or without a spare run."""
    if not noise.within_tree_sd:
        return None
    residuals = np.asarray(residuals, float)
    chi2 = float(residuals @ np.linalg.solve(noise.covariance(tree), residuals))
    return _test(chi2, len(residuals) - num_parameters, noise.within_tree_sd)


@dataclass(frozen=True)
class HoldOut:
    """A law fitted to runs of compute at most `threshold` (FLOPs) and tested on those above.

    `test` marks the held-out runs; `log_predicted`, `log_low`, `log_high` are ln L of their prediction and 95 %
    prediction interval (resampled laws plus a resampled training residual); `error` is ln L - ln Lhat.
    `rms_interval` is the 95 % interval of the held-out rms over resamples of the training runs. `influence` (tested,
    training) is d ln Lhat of a tested run / d ln L of a training run, to first order.
    """

    fit: Fit
    threshold: float
    test: NDArray[np.bool_]
    log_predicted: NDArray[np.float64]
    log_low: NDArray[np.float64]
    log_high: NDArray[np.float64]
    error: NDArray[np.float64]
    rms_interval: tuple[float, float]
    influence: NDArray[np.float64]

    @property
    def rms(self) -> float:
        """Root mean square of ln L - ln Lhat over held-out runs."""
        return float(np.sqrt(np.mean(self.error**2)))

    @property
    def max(self) -> float:
        """Largest |ln L - ln Lhat| over held-out runs."""
        return float(np.max(np.abs(self.error)))

    @property
    def coverage(self) -> float:
        """Share of held-out runs inside their 95 % prediction interval."""
        measured = self.log_predicted + self.error
        return float(np.mean((measured >= self.log_low) & (measured <= self.log_high)))


def hold_out(
    form: type[Additive],
    N: NDArray,
    D: NDArray,
    L: NDArray,
    C: NDArray,
    quantile: float,
    num_resamples: int,
    seed: int,
    num_starts: int = 64,
) -> HoldOut | None:
    """Fit below the `quantile` of compute C (FLOPs), predict above it; None when the law is not identified below.

    The quantile is over distinct (N, D), so that replicate seeds do not move it. Training residuals
    are inflated by sqrt(n / (n - k)) before they widen the interval.
    """
    cell = cells(N, D)
    threshold = float(np.quantile(C[np.unique(cell, return_index=True)[1]], quantile))
    test = C > threshold
    if not test.any() or test.all():
        return None
    fitted = fit(form, N[~test], D[~test], L[~test], num_starts)
    if not fitted.identified:
        return None
    draws = bootstrap(fitted, cell[~test], num_resamples, seed)
    log_laws = draws.log_loss(N[test], D[test])
    spare = len(fitted.residuals) / (len(fitted.residuals) - len(fitted.theta))
    noise = np.random.default_rng(seed + 1).choice(fitted.residuals * np.sqrt(spare), size=log_laws.shape)
    log_low, log_high = np.percentile(log_laws + noise, PERCENTILES, axis=0)
    log_predicted, log_measured = np.log(fitted.law.loss(N[test], D[test])), np.log(L[test])
    rms = np.percentile(np.sqrt(np.mean((log_measured - log_laws) ** 2, axis=1)), PERCENTILES)
    return HoldOut(
        fitted,
        threshold,
        test,
        log_predicted,
        log_low,
        log_high,
        log_measured - log_predicted,
        (float(rms[0]), float(rms[1])),
        _influence(fitted, N[test], D[test]),
    )


def holdout_advantage(first: HoldOut, second: HoldOut, covariance: NDArray) -> tuple[float, float]:
    """(mean square error of `first` minus that of `second`, the sd of that difference due to noise in the runs).

    Both laws are fitted to and tested on the same runs, whose ln L has `covariance` (n, n). To first order noise e of a
    tested run moves both errors by e and noise of the training runs moves them by minus influence times e, which gives
    the gradient g of the difference by ln L of every run; the sd is sqrt(g' covariance g).
    """
    difference = float(np.mean(first.error**2) - np.mean(second.error**2))
    gradient = np.zeros(len(first.test))
    gradient[first.test] = first.error - second.error
    gradient[~first.test] = second.influence.T @ second.error - first.influence.T @ first.error
    gradient *= 2 / len(first.error)
    return difference, float(np.sqrt(gradient @ covariance @ gradient))


def _influence(fitted: Fit, N: NDArray, D: NDArray) -> NDArray[np.float64]:
    points = fitted.points
    J = log_loss_gradient(fitted.theta[None], points.x, points.y)[1][0]
    tested = log_loss_gradient(fitted.theta[None], np.log(N) - points.x_centre, np.log(D) - points.y_centre)[1][0]
    return tested @ np.linalg.pinv(J)


def _test(chi2: float, freedom: int, sd: float) -> LackOfFit | None:
    if freedom < 1:
        return None
    return LackOfFit(chi2, freedom, float(chi2_distribution.sf(chi2, freedom)), sd)
