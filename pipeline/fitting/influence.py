"""What each run does to a fit: the change of every parameter, and of a target's loss, when the run is left out.

The analogue of Cook's distance (Cook 1977, Technometrics 19:15) for a fit by minimising: D = d' J'WJ d / (k s^2), d the
change of theta and s^2 the variance that the residuals show; for linear least squares it is Cook's own. A D near 1
moves theta to the edge of about its 50 % region.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.estimators import MAD_TO_SD
from pipeline.fitting.laws.law import log_losses
from pipeline.fitting.minima import BLOCK
from pipeline.fitting.points import LARGE
from pipeline.fitting.refits import by_group, expanded, refit, stepped, tangent, thinned_fit
from pipeline.fitting.solver import CONDITION_LIMIT, Fit, raw_theta
from pipeline.fitting.uncertainty import Bootstrap

MANY_GROUPS, MANY_RUNS = 400, 10_000
"""With more groups than this, or from this many runs on, each group takes one Newton step from the fit: what that
leaves out is of order 1 / n^2."""


@dataclass(frozen=True)
class Noise:
    """The noise that a fit's residuals show.

    `variance`: s^2 of ln L (of L in a linear space), so that theta has the covariance s^2 (J'WJ)^-1. `per_objective`:
    what a rise of the objective is multiplied by to be a statistic (`pipeline.fitting.profile`), nan where there is
    none. `freedom`: cells less parameters.
    """

    variance: float
    per_objective: float
    freedom: int


@dataclass(frozen=True)
class Influence:
    """Effects of leaving groups of runs out, the largest first: by |target_change| if there is a target, else by cook.

    `label` (g,) of the group; `change` (g, k) of the parameters `names` in raw units, and `target_change` (g,) of ln L
    at the target, both refit less fit, in standard errors where `in_errors`; `cook` (g,) the analogue of Cook's
    distance. A group without which the runs do not tell the parameters apart has changes nan and cook inf, and comes
    first.
    """

    label: NDArray
    names: tuple[str, ...]
    change: NDArray[np.float64]
    target_change: NDArray[np.float64] | None
    cook: NDArray[np.float64]
    in_errors: bool
    method: str


def influence(
    fit: Fit,
    groups: ArrayLike | None = None,
    target: tuple[float, float] | None = None,
    draws: Bootstrap | None = None,
    **columns: float,
) -> Influence:
    """What leaving each group out does; `groups` (n,) are labels of the runs, None for each run by its number.

    `target` is (N parameters, D tokens) with the law's further `columns`; with `draws` changes are in units of their
    standard errors. Delta is that of the fit throughout. Refits are exact for at most 400 groups. Raises ValueError for
    labels of the wrong number, and for L1 with more groups, since it has no Newton step.
    """
    labels = np.arange(len(fit.points)) if groups is None else np.asarray(groups)
    if labels.shape != (len(fit.points),):
        raise ValueError(f"groups: shape {labels.shape}, but the fit has {len(fit.points)} runs")
    label, member = np.unique(labels, return_inverse=True)
    exact = len(label) <= MANY_GROUPS and len(fit.points) < MANY_RUNS
    if not exact and fit.estimator.kind == "l1":
        raise ValueError(f"groups: {len(label)} groups of {len(fit.points)} runs are too many to refit by L1")
    information = by_group(_information(fit), member, len(label))
    theta = _refits(fit, member, len(label)) if exact else _steps(fit, member, len(label))
    theta[~_told_apart(information.sum(axis=0) - information)] = np.nan
    moved = theta - fit.theta
    cook = np.einsum("gk,kl,gl->g", moved, information.sum(axis=0), moved) / (len(fit.theta) * noise(fit).variance)
    cook = np.where(np.isnan(cook), np.inf, cook)

    raw = raw_theta(fit.form, np.concatenate([fit.theta[None], theta]), fit.points)
    names = fit.form.parameters()
    value = np.stack([fit.form.values(raw)[name] for name in names], axis=1)
    change = value[1:] - value[0]
    if draws is not None:
        change = change / np.array([draws.standard_errors()[name] for name in names])
    target_change = None
    if target is not None:
        place = ([target[0]], [target[1]], {name: [number] for name, number in columns.items()})
        at = fit.points.placed(*place)
        log_L = log_losses(fit.form, np.concatenate([fit.theta[None], theta]), at)[:, 0]
        target_change = log_L[1:] - log_L[0]
        if draws is not None:
            target_change = target_change / draws.log_loss(*place)[:, 0].std(ddof=1)
    size = cook if target_change is None else np.nan_to_num(np.abs(target_change), nan=np.inf)
    order = np.argsort(-size, kind="stable")
    return Influence(
        label[order],
        names,
        change[order],
        None if target_change is None else target_change[order],
        cook[order],
        draws is not None,
        f"{len(label)} groups left out in turn, {'refitted' if exact else 'one Newton step each'}",
    )


def noise(fit: Fit) -> Noise:
    """The noise of a fit over n cells: s^2 = K^2 mean rho'^2 / (mean rho'')^2 * n / (n - k) (Huber 1981, section 7.6).

    K = 1 + k / n * var rho'' / (mean rho'')^2 corrects for small n. A cell, one (N, D) with its seeds, enters with its
    weighted mean of rho': seeds share the law's error there. For least squares on single runs s^2 is S / (n - k). For
    L1, s^2 is pi / 2 times that of Gaussian noise of the same MAD.
    """
    r, _ = tangent(fit)
    w = fit.points.weights
    cell = fit.points.cell
    num_cells = int(cell.max()) + 1
    freedom = num_cells - len(fit.theta)
    small, q = num_cells / max(freedom, 1), 0.0
    if fit.estimator.kind != "l1":
        _, first, second = fit.estimator.expansion(r)
        q = float(np.average(second, weights=w))
    if q == 0:
        return Noise(0.5 * np.pi * (MAD_TO_SD * float(np.median(np.abs(r)))) ** 2 * small, np.nan, freedom)
    score = np.bincount(cell, w * first) ** 2 / np.bincount(cell, w)
    K = 1.0 + len(fit.theta) / num_cells * float(np.average((second / q - 1.0) ** 2, weights=w))
    variance = max(K**2 * float(score.mean()) / q**2 * small, float(np.finfo(float).tiny))
    return Noise(variance, 2.0 / (q * variance) if freedom > 0 else np.nan, freedom)


def thinned_with_noise(fit: Fit) -> tuple[Fit, Noise]:
    """(the fit to at most LARGE of its runs, the noise of all of them in units of its objective)."""
    few, share = thinned_fit(fit, LARGE)
    scale = noise(fit)
    return few, replace(scale, variance=scale.variance / share, per_objective=scale.per_objective * share)


def objectives(fit: Fit, theta: NDArray) -> NDArray[np.float64]:
    """The fit's objective at thetas (..., k), shape (...); inf where the law overflows."""
    measured, flat = fit.points.log_L, theta.reshape(-1, theta.shape[-1])
    with np.errstate(all="ignore"):
        predicted = log_losses(fit.form, flat, fit.points.at)
        if fit.estimator.space == "linear":
            measured, predicted = np.exp(measured), np.exp(predicted)
        total = fit.estimator.rho(measured - predicted) @ fit.points.weights
    return np.where(np.isfinite(total), total, np.inf).reshape(theta.shape[:-1])


def _information(fit: Fit) -> NDArray:
    """W J J' of each run, shape (n, k, k)."""
    J = tangent(fit)[1]
    return fit.points.weights[:, None, None] * J[:, :, None] * J[:, None, :]


def _told_apart(information: NDArray) -> NDArray[np.bool_]:
    """Whether each J'WJ (g, k, k), columns scaled, tells all parameters apart."""
    size = np.sqrt(np.maximum(np.einsum("gkk->gk", information), 1e-300))
    eigenvalues = np.linalg.eigvalsh(information / (size[:, :, None] * size[:, None, :]))
    return eigenvalues[:, -1] < CONDITION_LIMIT * eigenvalues[:, 0]


def _refits(fit: Fit, member: NDArray, num_groups: int) -> NDArray:
    rows, theta = max(1, 20 * BLOCK // len(member)), []
    for first in range(0, num_groups, rows):
        left_out = np.arange(first, min(first + rows, num_groups))
        theta.append(refit(fit, fit.points.weights * (member != left_out[:, None])).theta)
    return np.concatenate(theta)


def _steps(fit: Fit, member: NDArray, num_groups: int) -> NDArray:
    """One Newton step from the fit on the objective without each group; a parameter on its bound stays there."""
    parts = (by_group(part, member, num_groups) for part in expanded(fit, fit.estimator))
    return stepped(fit, *(part.sum(axis=0) - part for part in parts))
