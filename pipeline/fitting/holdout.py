"""Is a law right where it has not seen: prediction of larger runs.

A law is fitted to the runs below a compute threshold and predicts those above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.intervals import percentile_interval
from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import evenly
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import FEWEST_FOR_INTERVALS, NUM_STARTS, Fit, log_gradients
from pipeline.fitting.tree_noise import TreeNoise
from pipeline.fitting.uncertainty import bootstrap

LEAST_HALF_WIDTH = 1e-9
"""Half an interval of ln L below which rounding decides what lies inside."""
MOST_TRAINED, MOST_TESTED = 4_000, 500
"""Of more runs than this, so many are trained on (evenly spaced in order of N, D, L) and tested (in order of C)."""


@dataclass(frozen=True)
class HoldOut:
    """A law fitted to runs of compute at most `threshold` (FLOPs) and tested on those above, up to `until`.

    `train` and `test` mark the runs; `C` (FLOPs) and `weights` are those of the test. `log_predicted`, `log_low` and
    `log_high` are ln L of the prediction and its 95 % interval (resampled laws plus a resampled training residual);
    `error` is ln L less ln Lhat. `rms_interval` is the 95 % interval of the held-out rms over resamples of the training
    runs. Both intervals are nan without resamples. `tangent` (tested, k) is d ln Lhat of a tested run / d theta,
    `pull` (k, training) d theta / d ln L of a training run to first order.
    """

    fit: Fit
    threshold: float
    until: float
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    C: NDArray[np.float64]
    weights: NDArray[np.float64]
    log_predicted: NDArray[np.float64]
    log_low: NDArray[np.float64]
    log_high: NDArray[np.float64]
    error: NDArray[np.float64]
    rms_interval: tuple[float, float]
    tangent: NDArray[np.float64]
    pull: NDArray[np.float64]

    @property
    def influence(self) -> NDArray[np.float64]:
        """d ln Lhat of a tested run / d ln L of a training run, to first order, shape (tested, training)."""
        return self.tangent @ self.pull

    @property
    def rms(self) -> float:
        """Root mean square of ln L - ln Lhat over held-out runs, weighted."""
        return float(np.sqrt(np.average(self.error**2, weights=self.weights)))

    @property
    def mean_absolute(self) -> float:
        """Mean |ln L - ln Lhat| over held-out runs, weighted."""
        return float(np.average(np.abs(self.error), weights=self.weights))

    @property
    def bias(self) -> float:
        """Mean ln L - ln Lhat over held-out runs, weighted: positive where the law promises too much."""
        return float(np.average(self.error, weights=self.weights))

    @property
    def max(self) -> float:
        """Largest |ln L - ln Lhat| over held-out runs."""
        return float(np.max(np.abs(self.error)))

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Whether each held-out run lies in its 95 % prediction interval."""
        return self.scaled_errors <= 1

    @property
    def coverage(self) -> float:
        """Share of held-out runs inside their 95 % prediction interval."""
        return float(np.mean(self.inside))

    @property
    def scaled_errors(self) -> NDArray[np.float64]:
        """|error| over the half width of the interval on its side: above 1 outside."""
        half = np.where(self.error > 0, self.log_high - self.log_predicted, self.log_predicted - self.log_low)
        return np.abs(self.error) / np.maximum(half, LEAST_HALF_WIDTH)


def compute_quantile(runs: Runs, quantile: float) -> float:
    """The `quantile` of C over distinct cells, so that replicate seeds do not move it, FLOPs."""
    return compute_quantiles(runs, [quantile])[0]


def compute_quantiles(runs: Runs, quantiles: ArrayLike) -> list[float]:
    """Several of them at once."""
    return np.quantile(runs.C[np.unique(runs.cell, return_index=True)[1]], quantiles).tolist()


def hold_out(
    form: type[Law],
    runs: Runs,
    estimator: Estimator,
    threshold: float,
    num_resamples: int,
    seed: int,
    until: float = np.inf,
    num_starts: int = NUM_STARTS,
) -> HoldOut | None:
    """Fit to C <= `threshold` FLOPs, predict up to `until`; None when nothing is held out or no law is identified.

    Training residuals are inflated by sqrt(n / (n - k)), n cells, before they widen the interval. An adaptive
    estimator adapts to the training runs. At most MOST_TRAINED and MOST_TESTED runs are used.
    """
    below = runs.C <= threshold
    test = _thinned(~below & (runs.C <= until), MOST_TESTED, runs.C)
    train = _thinned(below, MOST_TRAINED, runs.L, runs.D, runs.N)
    if not test.any() or not train.any():
        return None
    below, above = runs.subset(train), runs.subset(test)
    fitted = below.fitted(form, estimator, num_starts)
    cell = below.cell
    num_cells = len(np.unique(cell))
    if not fitted.identified or num_cells < len(fitted.theta) + FEWEST_FOR_INTERVALS:
        return None
    log_measured = np.log(above.L)
    log_predicted = np.log(fitted.law.loss(above.N, above.D, **above.columns))
    log_low, log_high, rms = np.full(len(above), np.nan), np.full(len(above), np.nan), (np.nan, np.nan)
    if num_resamples:
        draws = bootstrap(fitted, cell, num_resamples, seed)
        log_laws = draws.log_loss(above.N, above.D, above.columns)
        spare = num_cells / (num_cells - len(fitted.theta))
        noise = np.random.default_rng(seed + 1).choice(fitted.residuals * np.sqrt(spare), size=log_laws.shape)
        log_low, log_high = draws.band(log_laws + noise, log_predicted)
        rms = percentile_interval(np.sqrt(np.average((log_measured - log_laws) ** 2, axis=1, weights=above.weights)))
    root = np.sqrt(fitted.points.weights)
    return HoldOut(
        fitted,
        threshold,
        until,
        train,
        test,
        above.C,
        above.weights,
        log_predicted,
        log_low,
        log_high,
        log_measured - log_predicted,
        rms,
        log_gradients(fitted.form, fitted.theta, fitted.points.placed(above.N, above.D, above.columns)),
        np.linalg.pinv(root[:, None] * fitted.jacobian) * root,
    )


def holdout_advantage(first: HoldOut, second: HoldOut, noise: TreeNoise) -> tuple[float, float]:
    """(mean square error of `first` minus that of `second`, the sd of that difference due to noise in the runs).

    Both laws are fitted to and tested on the same runs, whose ln L has `noise`. To first order noise e of a
    tested run moves both errors by e and noise of the training runs moves them by minus influence times e, which gives
    the gradient of the difference by ln L of every run, and so its sd.
    """
    share = first.weights / first.weights.sum()
    gradient = np.zeros(len(first.test))
    gradient[first.test] = 2 * share * (first.error - second.error)
    gradient[first.train] = 2 * (
        second.pull.T @ (second.tangent.T @ (share * second.error))
        - first.pull.T @ (first.tangent.T @ (share * first.error))
    )
    difference = float(share @ (first.error**2 - second.error**2))
    return difference, float(np.sqrt(noise.variance(gradient)))


def _thinned(chosen: NDArray[np.bool_], most: int, *keys: NDArray) -> NDArray[np.bool_]:
    """At most so many of the chosen runs, evenly spaced in order of the keys, the last one first."""
    where = np.flatnonzero(chosen)
    if len(where) <= most:
        return chosen
    kept = np.zeros_like(chosen)
    kept[where[evenly(most, *(key[where] for key in keys))]] = True
    return kept
