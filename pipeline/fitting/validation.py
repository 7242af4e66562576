"""Does a law hold: lack of fit against seed noise, and prediction of larger runs.

What the lack-of-fit test compares. Noise is measured between replicate seeds, that is between *trees*: runs of one
tree share initialisation, data order and trunk, so part of that noise is one common offset a tree, and runs of
different sizes with the same seed share the order of the data. Residuals of one seed's runs about a law therefore
scatter less than the between-seed sd. The first test, chi2 = sum over cells of (number of seeds) * (mean residual)^2 /
sd^2, uses the between-seed sd and is generous: what it rejects is wrong. The second, chi2 = r' V^-1 r with V = a tree's
common offset plus independent noise of the within-tree sd, is the strict one; both are reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.fitting.forms import Additive
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
    """The strict test of the module's docstring; None without a within-tree sd or without a spare run.

    For a tree of m runs with offset variance tau^2 and noise variance s^2, r' V^-1 r is the sum of squares about the
    tree's mean over s^2 plus m mean^2 / (s^2 + m tau^2).
    """
    if not noise.within_tree_sd:
        return None
    residuals = np.asarray(residuals, float)
    member = np.unique(np.asarray(tree), return_inverse=True)[1].reshape(-1)
    num_runs = np.bincount(member)
    mean = np.bincount(member, residuals) / num_runs
    variance = noise.within_tree_sd**2
    offset = max(noise.sd**2 - variance, 0.0)
    about_mean = float(np.sum((residuals - mean[member]) ** 2)) / variance
    of_means = float(np.sum(num_runs * mean**2 / (variance + num_runs * offset)))
    return _test(about_mean + of_means, len(residuals) - num_parameters, noise.within_tree_sd)


@dataclass(frozen=True)
class HoldOut:
    """A law fitted to runs of compute at most `threshold` (FLOPs) and tested on those above.

    `test` marks the held-out runs; `log_predicted`, `log_low`, `log_high` are ln L of their prediction and 95 %
    prediction interval (resampled laws plus a resampled training residual); `error` is ln L - ln Lhat.
    `rms_interval` is the 95 % interval of the held-out rms over resamples of the training runs.
    """

    fit: Fit
    threshold: float
    test: NDArray[np.bool_]
    log_predicted: NDArray[np.float64]
    log_low: NDArray[np.float64]
    log_high: NDArray[np.float64]
    error: NDArray[np.float64]
    rms_interval: tuple[float, float]

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
    )


def holdout_advantage(first: HoldOut, second: HoldOut, sd: float) -> tuple[float, float]:
    """(mean square error of `first` minus that of `second`, the sd of that difference due to noise in the tested runs).

    Both laws are tested on the same runs, whose noise of relative sd `sd` enters the difference only through
    2 mean(noise * (prediction of second - prediction of first)), so its sd is 2 sd rms(that) / sqrt(n).
    """
    apart = second.log_predicted - first.log_predicted
    difference = float(np.mean(first.error**2) - np.mean(second.error**2))
    return difference, float(2 * sd * np.sqrt(np.mean(apart**2) / len(apart)))


def _test(chi2: float, freedom: int, sd: float) -> LackOfFit | None:
    if freedom < 1:
        return None
    return LackOfFit(chi2, freedom, float(chi2_distribution.sf(chi2, freedom)), sd)
