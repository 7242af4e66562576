"""A fit made again on other weights of its runs: in full from its minima, or by one step from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws.jets import exp, variables
from pipeline.fitting.laws.law import log_losses
from pipeline.fitting.minima import Minima, minimise
from pipeline.fitting.solver import Fit, fit_points
from pipeline.fitting.starts import thinned


def refit(fit: Fit, weights: NDArray, starts: Iterable[NDArray] = ()) -> Minima:
    """The best minima for run weights (R, n), from the fit, where its other starts ended, and each of `starts` (k,)."""
    best: Minima | None = None
    for start in (fit.theta, *fit.alternatives, *starts):
        found = minimise(fit.form, fit.points, np.repeat(start[None], len(weights), axis=0), fit.estimator, weights)
        if best is None:
            best = found
            continue
        lower = found.objective < best.objective * (1 - 1e-12)
        best = Minima(
            np.where(lower[:, None], found.theta, best.theta),
            np.where(lower, found.objective, best.objective),
            np.where(lower, found.reached, best.reached),
        )
    return best


def thinned_fit(fit: Fit, most: int) -> tuple[Fit, float]:
    """(the fit to at most `most` of its runs, how many each stands for), its minimum where that of all runs is.

    The residuals that a fit to the thinned runs leaves are put on the law of the whole fit; what then moves the minimum
    is the change of the law's gradient between the two laws, a few hundredths of a standard error.
    """
    if len(fit.points) <= most:
        return fit, 1.0
    points = thinned(fit.points, most)
    few = fit_points(fit.form, points, fit.estimator)
    about = replace(points, log_L=log_losses(fit.form, fit.theta[None], points.at)[0] + few.residuals)
    share = float(fit.points.weights.sum() / points.weights.sum())
    return replace(fit, points=about).again(np.arange(len(points))), share


def tangent(fit: Fit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(residuals (n,), d predicted / d theta (n, k)) in the estimator's space: of ln L, or of L in nats/token."""
    if fit.estimator.space == "log":
        return fit.residuals, fit.jacobian
    predicted = np.exp(fit.points.log_L - fit.residuals)
    return np.exp(fit.points.log_L) - predicted, predicted[:, None] * fit.jacobian


def expanded(fit: Fit, estimator: Estimator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each run's part of the gradient (n, k) and Newton matrix (n, k, k) of a smooth estimator's objective at a fit."""
    points, k = fit.points, len(fit.theta)
    jet, measured = fit.form.log_loss(variables(fit.theta[None]), points.at), points.log_L
    if estimator.space == "linear":
        jet, measured = exp(jet), np.exp(measured)
    shape = (1, len(points))
    J = jet.gradient(k, shape)[0].T
    _, first, second = (
        points.weights * part for part in estimator.expansion(measured - np.broadcast_to(jet.value, shape)[0])
    )
    matrix = second[:, None, None] * J[:, :, None] * J[:, None, :]
    for (i, j), bend in jet.bends.items():
        part = first * np.broadcast_to(bend, shape)[0]
        matrix[:, i, j] -= part
        if i != j:
            matrix[:, j, i] -= part
    return -first[:, None] * J, matrix


def by_group(values: NDArray, member: NDArray[np.int64], num_groups: int) -> NDArray[np.float64]:
    """Sums of values (n, ...) over the runs of each group, shape (g, ...)."""
    flat = values.reshape(len(values), -1)
    sums = [np.bincount(member, column, minlength=num_groups) for column in flat.T]
    return np.stack(sums, axis=1).reshape(num_groups, *values.shape[1:])


def stepped(fit: Fit, gradient: NDArray, matrix: NDArray) -> NDArray[np.float64]:
    """Thetas (R, k) one step from the fit by gradients (R, k) and matrices (R or 1, k, k); bounds are held."""
    theta, inside = np.repeat(fit.theta[None], len(gradient), axis=0), fit.inside
    theta[:, inside] -= np.linalg.solve(matrix[:, inside][:, :, inside], gradient[:, inside, None])[:, :, 0]
    return theta
