"""Least squares on ln L: many deterministic starts, a batched damped Gauss-Newton, a status that never pretends.

The estimator is L2 on logarithmic residuals: minimise sum over runs of weight * (ln L - ln Lhat)^2, always a sum and
never a mean. Logarithms of N and D are centred before fitting, which takes the condition number of the normal
equations of a typical table from 1e6 to 1e3. One call minimises a whole batch of problems (starts, resamples or
subsets, told apart by their weights) on the same points, so a thousand resamples cost about as much as ten fits.
An optimiser's own report of success is never used: a fit is called converged when its remaining Gauss-Newton decrease
is negligible, no parameter lies on its bound and the normal equations are well conditioned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc

from pipeline.fitting.forms import Additive, log_loss, log_loss_gradient, shift_centre
from pipeline.fitting.points import Points, centred_points

ESTIMATOR = "L2 on ln L (sum of squared logarithmic residuals)"
AGREEMENT = 1e-6
"""Two starts agree when their objectives differ by less than this relative amount."""
CONDITION_LIMIT = 1e8
"""Above this condition number of J'J (columns scaled to unit length) the parameters are not told apart by the runs."""
FEWEST_SPARE = 3
"""Distinct (N, D) beyond the number of parameters below which residuals say nothing and no number is given."""
FLAT = 1e-13
"""Relative decrease still promised by a Gauss-Newton step below which a minimum counts as reached."""


@dataclass(frozen=True)
class Minima:
    """Results of a batch: theta (R, k), objective (R,), and whether the minimum was reached (R,)."""

    theta: NDArray[np.float64]
    objective: NDArray[np.float64]
    reached: NDArray[np.bool_]


@dataclass(frozen=True)
class Fit:
    """A fitted law with what is needed to trust it.

    `theta` are centred logarithmic parameters, `residuals` ln L - ln Lhat a run, `status` one of converged,
    bound:<parameter>, not_converged, not_identified; `reason` says why when it is not converged. `alternatives` are
    thetas of other starts that ended elsewhere, best first.
    """

    form: type[Additive]
    points: Points
    theta: NDArray[np.float64]
    objective: float
    residuals: NDArray[np.float64]
    status: str
    reason: str
    agreeing_starts: int
    num_starts: int
    condition_number: float
    alternatives: NDArray[np.float64]

    @property
    def law(self) -> Additive:
        """The law in raw units: N in parameters, D in tokens."""
        return raw_laws(self.form, self.theta[None], self.points)[0]

    @property
    def identified(self) -> bool:
        """Whether the parameters may be quoted."""
        return self.status != "not_identified"

    @property
    def rms(self) -> float:
        """Root mean square of ln L - ln Lhat over the runs, weighted as in the fit."""
        return float(np.sqrt(np.average(self.residuals**2, weights=self.points.weights)))

    @property
    def jacobian(self) -> NDArray[np.float64]:
        """d ln Lhat / d theta at the runs, shape (n, k)."""
        return log_loss_gradient(self.theta[None], self.points.x, self.points.y)[1][0]

    @property
    def max(self) -> float:
        """Largest |ln L - ln Lhat| over the runs."""
        return float(np.max(np.abs(self.residuals)))


def fit(
    form: type[Additive],
    N: ArrayLike,
    D: ArrayLike,
    L: ArrayLike,
    num_starts: int = 64,
    weights: ArrayLike | None = None,
) -> Fit:
    """The law of `form` of least sum of weight * (ln L - ln Lhat)^2 over runs (N parameters, D tokens, L nats/token).

    `weights` None counts every run once; `cell_weights` counts every (N, D) once. Never
    raises for a design that cannot tell the parameters apart: its status is then not_identified.
    """
    points = centred_points(N, D, L, weights)
    minima = minimise(form, points, starting_points(form, points, num_starts))
    order = np.argsort(minima.objective, kind="stable")
    best = order[0]
    floor = 1e-20 * len(points)
    agreeing = minima.objective <= minima.objective[best] * (1 + AGREEMENT) + floor
    theta = minima.theta[best]
    log_L, J = log_loss_gradient(theta[None], points.x, points.y)
    condition, status, reason = _diagnose(form, points, theta, J[0], bool(minima.reached[best]))
    elsewhere = [index for index in order if not agreeing[index]]
    return Fit(
        form=form,
        points=points,
        theta=theta,
        objective=float(minima.objective[best]),
        residuals=points.log_L - log_L[0],
        status=status,
        reason=reason,
        agreeing_starts=int(agreeing.sum()),
        num_starts=len(order),
        condition_number=condition,
        alternatives=minima.theta[elsewhere[:1]],
    )


def starting_points(form: type[Additive], points: Points, num_starts: int) -> NDArray[np.float64]:
    """Centred thetas (num_starts, k) spread over exponents, E and q by a Halton sequence, always the same ones.

    For each (E, alpha, beta, q) the sizes of the two terms are the least-squares solution of
    (L - E)^q = A^q N^(-alpha q) + B^q D^(-beta q), linear in A^q and B^q, kept positive.
    """
    k = len(form.parameters())
    unit = qmc.Halton(4, scramble=False).random(num_starts + 1)[1:]
    L = np.exp(points.log_L)
    E = 0.98 * L.min() * unit[:, 0:1]
    alpha, beta = (0.05 * (1.2 / 0.05) ** unit[:, column : column + 1] for column in (1, 2))
    q = 0.6 * (4.0 / 0.6) ** unit[:, 3:4] if k == 6 else np.ones((num_starts, 1))
    target = (L - E) ** q
    u, v = np.exp(-alpha * q * points.x) / target, np.exp(-beta * q * points.y) / target
    uu, vv, uv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    determinant = uu * vv - uv**2 + 1e-9 * uu * vv
    size_term = (vv * u.sum(1) - uv * v.sum(1)) / determinant
    data_term = (uu * v.sum(1) - uv * u.sum(1)) / determinant
    size_term = np.maximum(size_term, 0.02 * u.sum(1) / uu)
    data_term = np.maximum(data_term, 0.02 * v.sum(1) / vv)
    columns = [E[:, 0], size_term ** (1 / q[:, 0]), alpha[:, 0], data_term ** (1 / q[:, 0]), beta[:, 0], q[:, 0]]
    low, high = log_bounds(form, points)
    return np.clip(np.log(np.stack(columns[:k], axis=1)), low, high)


def minimise(
    form: type[Additive], points: Points, theta: NDArray, weights: NDArray | None = None, max_steps: int = 400
) -> Minima:
    """The minima reached from each start theta (R, k) with run weights (R, n), None for those of the points.

    Damped Gauss-Newton (Levenberg-Marquardt) with Marquardt's scaling, kept inside the box of `log_bounds`; a
    parameter on its bound whose gradient points outwards is held there for the step.
    """
    low, high = log_bounds(form, points)
    theta = np.clip(theta, low, high)
    weights = np.tile(points.weights, (len(theta), 1)) if weights is None else weights
    objective = _objective(theta, points, weights)
    reached = np.zeros(len(theta), bool)
    damping = np.full(len(theta), 1e-3)
    for _ in range(max_steps):
        todo = np.flatnonzero(~reached)
        if not len(todo):
            break
        now, w = theta[todo], weights[todo]
        log_L, J = log_loss_gradient(now, points.x, points.y)
        WJ = J * w[:, :, None]
        gradient = np.einsum("rnk,rn->rk", WJ, log_L - points.log_L)
        normal = np.matmul(WJ.transpose(0, 2, 1), J)
        held = ((now <= low) & (gradient > 0)) | ((now >= high) & (gradient < 0))
        gradient = np.where(held, 0.0, gradient)
        normal = np.where(held[:, :, None] | held[:, None, :], 0.0, normal)
        diagonal = np.einsum("rkk->rk", normal)
        scale = np.where(diagonal > 0, diagonal, 1.0)
        eye = np.eye(theta.shape[1])
        damped = normal + eye * ((damping[todo, None] * scale) + np.where(held, 1.0, 1e-15 * scale))[:, None, :]
        step = np.clip(-np.linalg.solve(damped, gradient[:, :, None])[:, :, 0], -2.0, 2.0)
        promised = -np.einsum("rk,rk->r", step, gradient)
        trial = np.clip(now + step, low, high)
        value = _objective(trial, points, w)
        better = value <= objective[todo]
        flat = (promised <= FLAT * objective[todo] + 1e-26) & (damping[todo] <= 1e-2)
        stuck = damping[todo] > 1e14
        theta[todo[better]], objective[todo[better]] = trial[better], value[better]
        damping[todo] = np.where(better, np.maximum(damping[todo] * 0.2, 1e-12), damping[todo] * 5.0)
        reached[todo[flat]] = True
        damping[todo[stuck & ~flat]] = 1e-3
        if np.all(stuck | flat):
            break
    return Minima(theta, objective, reached)


def log_bounds(form: type[Additive], points: Points) -> tuple[NDArray, NDArray]:
    """(low, high) of centred theta: E, and the terms at the centre, in multiples of the least measured loss."""
    unit = np.array([np.exp(points.log_L.min())] * 2 + [1.0] + [np.exp(points.log_L.min())] + [1.0] * 2)
    unit = unit[: len(form.low)]
    return np.log(unit * form.low), np.log(unit * form.high)


def raw_laws(form: type[Additive], theta_Rk: NDArray, points: Points) -> list[Additive]:
    """The laws in raw units (N in parameters, D in tokens) of centred thetas."""
    return [form(*map(float, values)) for values in np.exp(raw_theta(theta_Rk, points))]


def raw_theta(theta_Rk: NDArray, points: Points) -> NDArray[np.float64]:
    """Logarithmic parameters in raw units of centred thetas (R, k)."""
    return shift_centre(theta_Rk, points.x_centre, points.y_centre)


def _objective(theta: NDArray, points: Points, weights: NDArray) -> NDArray:
    return np.einsum("rn,rn->r", weights, (log_loss(theta, points.x, points.y) - points.log_L) ** 2)


def _diagnose(
    form: type[Additive], points: Points, theta: NDArray, J: NDArray, reached: bool
) -> tuple[float, str, str]:
    names = form.parameters()
    low, high = log_bounds(form, points)
    bound = [name for name, value, a, b in zip(names, theta, low, high, strict=True) if value <= a or value >= b]
    free = np.sqrt(points.weights)[:, None] * J[:, [name not in bound for name in names]]
    free = free / np.maximum(np.linalg.norm(free, axis=0), 1e-300)
    singular = np.linalg.svd(free, compute_uv=False)
    enough = len(singular) == free.shape[1] and singular[-1] > 0
    condition = float((singular[0] / singular[-1]) ** 2) if enough else np.inf
    cells = len(np.unique(np.stack([points.x, points.y]), axis=1).T)
    needed = len(names) + FEWEST_SPARE
    if cells < needed:
        return condition, "not_identified", f"{cells} distinct (N, D), {len(names)} parameters need {needed}"
    for name, values in (("N", points.x), ("D", points.y)):
        distinct = len(np.unique(values))
        if distinct < 3:
            return condition, "not_identified", f"{distinct} distinct {name}; a power law with an offset needs 3"
    if condition > CONDITION_LIMIT:
        return condition, "not_identified", f"condition number {condition:.1e} is above {CONDITION_LIMIT:.0e}"
    if bound:
        return condition, f"bound:{bound[0]}", f"{', '.join(bound)} ended on the edge of its allowed range"
    if not reached:
        return condition, "not_converged", "no start reached a flat minimum"
    return condition, "converged", ""
