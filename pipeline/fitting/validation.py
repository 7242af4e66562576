"""Does a law hold: lack of fit against seed noise, and prediction of larger runs.

What the lack-of-fit test compares. Noise is measured between replicate seeds, that is between *trees*: runs of one
tree share initialisation, data order and trunk, so part of that noise is one common offset a tree, and runs of
different sizes with the same seed share the order of the data. Residuals of one seed's runs about a law therefore
scatter less than the between-seed sd. Taking every run's noise as independent with the between-seed sd, chi2 = sum
over cells of (number of seeds) * (mean residual)^2 / sd^2, is generous: what it rejects is wrong. Taking it as a common
offset of each tree plus independent noise of the within-tree sd (`SeedNoise.covariance`) is the strict test. Both are
reported. Neither knows of the uncertainty of the sd itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.fitting.forms import Additive, log_loss_gradient
from pipeline.fitting.points import cells
from pipeline.fitting.solver import Fit, fit
from pipeline.fitting.uncertainty import PERCENTILES, bootstrap


@dataclass(frozen=True)
class LackOfFit:
    """chi2 of residuals against noise of relative sd `sd_used`, its degrees of freedom and its p."""

    chi2: float
    degrees_of_freedom: int
    p: float
    sd_used: float


def lack_of_fit(
    residuals: ArrayLike, jacobian_nk: NDArray, cell: NDArray, covariance: NDArray, sd_used: float
) -> LackOfFit | None:
    """chi2 of the mean residuals m of the cells against the `covariance` (n, n) of ln L of the runs.

    chi2 = min over delta of (m - J delta)' V^-1 (m - J delta): the projection makes it the same whatever weights the
    law was fitted with, to first order. None when no cell is left over after the parameters, or V is not positive.
    """
    member = np.unique(cell, return_inverse=True)[1].reshape(-1)
    num_seeds = np.bincount(member)
    freedom = len(num_seeds) - jacobian_nk.shape[1]
    if freedom < 1 or sd_used <= 0:
        return None
    mean = (member == np.arange(len(num_seeds))[:, None]) / num_seeds[:, None]
    half = np.linalg.cholesky(mean @ covariance @ mean.T)
    whitened = np.linalg.solve(half, mean @ np.asarray(residuals, float))
    tangent = np.linalg.solve(half, mean @ jacobian_nk)
    left = whitened - tangent @ np.linalg.lstsq(tangent, whitened, rcond=None)[0]
    chi2 = float(left @ left)
    return LackOfFit(chi2, freedom, float(chi2_distribution.sf(chi2, freedom)), sd_used)


@dataclass(frozen=True)
class HoldOut:
    """A law fitted to runs of compute at most `threshold` (FLOPs) and tested on those above.

    `test` marks the held-out runs, `weights` are theirs; `log_predicted`, `log_low`, `log_high` are ln L of their
    prediction and 95 % prediction interval (resampled laws plus a resampled training residual); `error` is ln L less
    ln Lhat. `rms_interval` is the 95 % interval of the held-out rms over resamples of the training runs. `influence`
    (tested, training) is d ln Lhat of a tested run / d ln L of a training run, to first order.
    """

    fit: Fit
    threshold: float
    test: NDArray[np.bool_]
    weights: NDArray[np.float64]
    log_predicted: NDArray[np.float64]
    log_low: NDArray[np.float64]
    log_high: NDArray[np.float64]
    error: NDArray[np.float64]
    rms_interval: tuple[float, float]
    influence: NDArray[np.float64]

    @property
    def rms(self) -> float:
        """Root mean square of ln L - ln Lhat over held-out runs, weighted."""
        return float(np.sqrt(np.average(self.error**2, weights=self.weights)))

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
    weights: NDArray | None = None,
) -> HoldOut | None:
    """Fit below the `quantile` of compute C (FLOPs), predict above it; None when the law is not identified below.

    The quantile is over distinct (N, D), so that replicate seeds do not move it. Training residuals
    are inflated by sqrt(n / (n - k)), n cells, before they widen the interval.
    """
    cell, weights = cells(N, D), np.ones(len(N)) if weights is None else weights
    threshold = float(np.quantile(C[np.unique(cell, return_index=True)[1]], quantile))
    test = C > threshold
    if not test.any() or test.all():
        return None
    fitted = fit(form, N[~test], D[~test], L[~test], num_starts, weights[~test])
    if not fitted.identified:
        return None
    draws = bootstrap(fitted, cell[~test], num_resamples, seed)
    log_laws = draws.log_loss(N[test], D[test])
    num_cells = len(np.unique(cell[~test]))
    spare = num_cells / (num_cells - len(fitted.theta))
    noise = np.random.default_rng(seed + 1).choice(fitted.residuals * np.sqrt(spare), size=log_laws.shape)
    log_low, log_high = np.percentile(log_laws + noise, PERCENTILES, axis=0)
    log_predicted, log_measured = np.log(fitted.law.loss(N[test], D[test])), np.log(L[test])
    rms = np.percentile(np.sqrt(np.average((log_measured - log_laws) ** 2, axis=1, weights=weights[test])), PERCENTILES)
    return HoldOut(
        fitted,
        threshold,
        test,
        weights[test],
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
    share = first.weights / first.weights.sum()
    gradient = np.zeros(len(first.test))
    gradient[first.test] = 2 * share * (first.error - second.error)
    gradient[~first.test] = 2 * (
        second.influence.T @ (share * second.error) - first.influence.T @ (share * first.error)
    )
    difference = float(share @ (first.error**2 - second.error**2))
    return difference, float(np.sqrt(gradient @ covariance @ gradient))


def _influence(fitted: Fit, N: NDArray, D: NDArray) -> NDArray[np.float64]:
    points = fitted.points
    root = np.sqrt(points.weights)
    tested = log_loss_gradient(fitted.theta[None], np.log(N) - points.x_centre, np.log(D) - points.y_centre)[1][0]
    return tested @ np.linalg.pinv(root[:, None] * fitted.jacobian) * root
