"""Laws side by side, and the gate that a law must pass before its exponents may be printed.

In-sample criteria and hold-out disagree: on published runs BIC prefers the form that extrapolates worst. Both are
shown, and the rolling hold-out chooses; where several laws predict alike, the one of fewest parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.fitting.estimators import Estimator, robust_sd
from pipeline.fitting.holdout import HoldOut, holdout_advantage
from pipeline.fitting.laws.law import Law
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import Fit
from pipeline.fitting.tree_noise import TreeNoise
from pipeline.fitting.validation import rolling_origin

RESIDUAL_GATE = 0.05
"""Rms residual of ln L above which a form does not describe the runs, whatever the noise."""
RIVAL_GATE = 2.0
"""A form fails when a rival predicts larger runs this many times better, by more than noise can do."""


@dataclass(frozen=True)
class Scored:
    """One law on one table: its fit, BIC, and its rolling hold-out.

    `bic` is n ln(S / n) + (k + 1) ln n for least squares and 2 n ln(sum |r| / n) + (k + 1) ln n (Laplace noise) for
    the others, up to a constant common to all laws; n counts runs.
    """

    fit: Fit
    bic: float
    origins: list[HoldOut]

    @property
    def num_tested(self) -> int:
        """Runs that some origin held out."""
        return sum(len(one.error) for one in self.origins)

    @property
    def held_out(self) -> float | None:
        """Rms of ln L - ln Lhat over all runs that some origin held out; None without any."""
        if not self.origins:
            return None
        error = np.concatenate([one.error for one in self.origins])
        return float(np.sqrt(np.average(error**2, weights=np.concatenate([one.weights for one in self.origins]))))

    @property
    def largest_run_error(self) -> float | None:
        """ln L - ln Lhat of the held-out run of most compute."""
        if not self.origins:
            return None
        last = self.origins[-1]
        return float(last.error[np.argmax(last.C)])


def scored(form: type[Law], runs: Runs, estimator: Estimator, num_resamples: int, seed: int) -> Scored:
    """The law fitted, its BIC and its rolling hold-out."""
    fitted = runs.fitted(form, estimator)
    origins = rolling_origin(form, runs, estimator, num_resamples, seed) if fitted.identified else []
    return Scored(fitted, bic(fitted), origins)


def bic(fit: Fit) -> float:
    """The Bayesian information criterion of a fit (Schwarz 1978), with the noise of its estimator; lower is better."""
    n, r, w = len(fit.points), fit.residuals, fit.points.weights
    if fit.estimator.kind == "l2":
        misfit = n * np.log(max(float(np.average(r**2, weights=w)), 1e-300))
    else:
        misfit = 2 * n * np.log(max(float(np.average(np.abs(r), weights=w)), 1e-300))
    return float(misfit + (len(fit.theta) + 1) * np.log(n))


def choose(entries: list[Scored], noise: float | None = None) -> Scored | None:
    """The law of least held-out rms; among those within `noise` (relative rms of ln L) of it, of fewest parameters.

    `noise` None is one standard error of that rms, rms / sqrt(2 n) for n runs held out. Laws that could be tested on
    fewer runs than others are not compared with them. None when no law could be tested.
    """
    most = max((entry.num_tested for entry in entries), default=0)
    tested = [entry for entry in entries if entry.num_tested == most > 0]
    if not tested:
        return None
    best = min(entry.held_out for entry in tested)
    margin = best / np.sqrt(2 * most) if noise is None else noise
    return min((entry for entry in tested if entry.held_out <= best + margin), key=lambda entry: len(entry.fit.theta))


def gate(fit: Fit, own: list[HoldOut], rivals: dict[str, list[HoldOut]], p: float | None = None) -> str:
    """Why exponents of this fit must not be printed, "" where nothing speaks against them.

    Reasons: residuals above RESIDUAL_GATE, outliers of a robust fit apart; lack of fit against the noise between seeds
    (`p`) together with a rival that predicts better; a rival form that predicts the same larger runs RIVAL_GATE times
    better, by more than noise can do.
    """
    counted = fit.inliers
    rms = float(np.sqrt(np.average(fit.residuals[counted] ** 2, weights=fit.points.weights[counted])))
    if rms > RESIDUAL_GATE:
        return f"its rms residual of ln L is {100 * rms:.3g} %, above {100 * RESIDUAL_GATE:g} %"
    for name, theirs in rivals.items():
        pairs = [(a, b) for a in own for b in theirs if a.threshold == b.threshold and a.until == b.until]
        if not pairs:
            continue
        mine, other = (
            float(np.sqrt(np.mean(np.concatenate([pair[side].error for pair in pairs]) ** 2))) for side in (0, 1)
        )
        if mine > RIVAL_GATE * other and mine > 1e-6 and _beyond_noise(pairs):
            return (
                f"{name} predicts held-out larger runs {mine / max(other, 1e-12):.3g} times better "
                f"({100 * other:.3g} % against {100 * mine:.3g} % rms)"
            )
        if p is not None and p < 1e-3 and mine > other:
            return f"it leaves a lack of fit (p = {p:.1e}) and {name} predicts larger runs better"
    return ""


def _beyond_noise(pairs: list[tuple[HoldOut, HoldOut]]) -> bool:
    """Whether the first of each pair has the larger mean square error by two sds of what noise does to the difference,
    the noise being the least residual sd of the two fits. Origins share runs, so their sds are added, not squares."""
    sums = np.zeros(2)
    for mine, other in pairs:
        sd = min(robust_sd(one.fit.residuals, len(one.fit.theta)) for one in (mine, other))
        found = holdout_advantage(mine, other, TreeNoise.independent(sd, len(mine.test)))
        sums += mine.weights.sum() * np.array(found)
    return bool(sums[0] > 2 * sums[1])
