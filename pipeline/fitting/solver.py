"""One law fitted to runs: a map of starts, batched Newton from several, and a status that never pretends.

Logarithms of N and D are centred before fitting, which takes the condition number of the normal equations of a typical
table from 1e6 to 1e3. An optimiser's own report of success is never used: a fit is called converged when the decrease
still promised is negligible, no parameter lies on its bound and the runs tell the parameters apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.fitting.estimators import L2, Estimator, Huber, outlying
from pipeline.fitting.laws.jets import variables
from pipeline.fitting.laws.law import Law, log_losses
from pipeline.fitting.minima import Minima, minimise
from pipeline.fitting.points import LARGE, Points, Variables, centred_points
from pipeline.fitting.starts import log_bounds, starting_points, thinned

NUM_STARTS = 8
AGREEMENT = 1e-6
"""Two starts agree when their objectives differ by less than this relative amount."""
CONDITION_LIMIT = 1e8
"""Above this condition number of J'J (columns scaled to unit length) the parameters are not told apart by the runs."""
COLLINEAR = 0.999
"""Correlation of ln N and ln D from which on the design has one direction only (arXiv 2605.08541)."""
NARROWEST_RATIO = 2.0
"""Factor that D / N must span: below it the difference of two exponents rests on noise."""
FEWEST_SPARE = 1
"""Distinct (N, D) beyond the number of parameters without which a fit is an interpolation and nothing is said."""
MOST_OUTLYING = 0.1
"""The largest share of runs that may be left out as outliers."""
FEWEST_FOR_INTERVALS = 3
"""Distinct (N, D) beyond the number of parameters that an interval needs."""
LOOK = 1_000
ADAPTATIONS = 30
FRESH = 3
"""Starts from which an adapted estimator begins anew, beside the minima of squares."""


@dataclass(frozen=True)
class Fit:
    """A fitted law with what is needed to trust it.

    `theta` are centred parameters on the scale of the fit, `residuals` ln L - ln Lhat a run, `estimator` has its delta
    set, `status` is one of converged, bound:<parameter>, not_converged, not_identified; `reason` says why when it is
    not converged. `alternatives` are thetas of other starts that ended elsewhere, best first.
    """

    form: type[Law]
    points: Points
    estimator: Estimator
    theta: NDArray[np.float64]
    objective: float
    residuals: NDArray[np.float64]
    status: str
    reason: str
    agreeing_starts: int
    num_starts: int
    condition_number: float
    alternatives: NDArray[np.float64] = field(repr=False)

    @property
    def law(self) -> Law:
        """The law in raw units: N in parameters, D in tokens."""
        return raw_laws(self.form, self.theta[None], self.points)[0]

    @property
    def identified(self) -> bool:
        """Whether the parameters may be quoted."""
        return self.status != "not_identified"

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which parameters (k,) lie inside their allowed range, not on its edge."""
        low, high = log_bounds(self.form, self.points)
        return (self.theta > low) & (self.theta < high)

    @property
    def rms(self) -> float:
        """Root mean square of ln L - ln Lhat over the runs, weighted as in the fit."""
        return float(np.sqrt(np.average(self.residuals**2, weights=self.points.weights)))

    @property
    def inliers(self) -> NDArray[np.bool_]:
        """The runs (n,) that say whether the law describes the table: of a robust estimator those that are not
        `outlying`. All, where these are more than MOST_OUTLYING of the runs: then it is the law that misses."""
        out = outlying(self.residuals, len(self.theta))
        robust = self.estimator.kind != "l2" and out.mean() <= MOST_OUTLYING
        return ~out if robust else np.ones_like(out)

    @property
    def max(self) -> float:
        """Largest |ln L - ln Lhat| over the runs."""
        return float(np.max(np.abs(self.residuals)))

    @property
    def jacobian(self) -> NDArray[np.float64]:
        """d ln Lhat / d theta at the runs, shape (n, k)."""
        return log_gradients(self.form, self.theta, self.points.at)

    def again(self, kept: NDArray) -> Fit:
        """The same law fitted to the runs `kept` (mask or indices) from this minimum alone, with this estimator."""
        points = self.points.subset(kept)
        found = minimise(self.form, points, self.theta[None], self.estimator)
        return _best(self.form, points, self.estimator, found, 1, 1, self.alternatives[:0])


def fit(
    form: type[Law],
    N: ArrayLike,
    D: ArrayLike,
    L: ArrayLike,
    estimator: Estimator | None = None,
    weights: ArrayLike | None = None,
    columns: dict[str, ArrayLike] | None = None,
    num_starts: int = NUM_STARTS,
) -> Fit:
    """The law of `form` of least sum of weight * rho over runs (N parameters, D tokens, L nats/token).

    `estimator` None is Huber with adaptive delta; `weights` None counts every run once, `cell_weights` every (N, D)
    once; `columns` are those that the law names. Never raises for a design that cannot tell the parameters apart: its
    status is then not_identified. Raises ValueError for values that are not finite and positive.
    """
    missing = [name for name in form.columns if name not in (columns or {})]
    if missing:
        raise ValueError(f"{missing[0]}: the law {form.name} needs this column")
    needed = {name: columns[name] for name in form.columns} if columns else {}
    points = centred_points(N, D, L, weights, needed)
    return fit_points(form, points, estimator or Huber(), num_starts)


def fit_points(form: type[Law], points: Points, estimator: Estimator, num_starts: int = NUM_STARTS) -> Fit:
    """The same of runs that are already centred; of more than LARGE, starts are compared and delta adapted on LOOK."""
    starts = starting_points(form, points, num_starts)
    look = thinned(points, LOOK) if len(points) > LARGE else points
    minima = minimise(form, look, starts, L2 if estimator.adaptive else estimator)
    if estimator.adaptive:
        estimator = _adapt(form, look, minima.theta[np.argmin(minima.objective)], estimator)
        # The best starts also from where they are: one wrong run may have drawn the minima of squares to itself.
        again = np.concatenate([minima.theta, starts[:FRESH]])
        minima = minimise(form, look, again, estimator).folded(len(starts))
    agreeing = _agreeing(minima.objective, len(look), estimator)
    order = np.argsort(minima.objective, kind="stable")
    elsewhere = minima.theta[[index for index in order if not agreeing[index]][:1]]
    best = minima if len(look) == len(points) else minimise(form, points, minima.theta[order[:1]], estimator)
    return _best(form, points, estimator, best, int(agreeing.sum()), len(starts), elsewhere)


def _best(
    form: type[Law],
    points: Points,
    estimator: Estimator,
    found: Minima,
    agreeing: int,
    num_starts: int,
    others: NDArray,
) -> Fit:
    least = int(np.argmin(found.objective))
    theta = found.theta[least]
    condition, status, reason = _diagnose(form, points, theta, bool(found.reached[least]))
    return Fit(
        form=form,
        points=points,
        estimator=estimator,
        theta=theta,
        objective=float(found.objective[least]),
        residuals=points.log_L - log_losses(form, theta[None], points.at)[0],
        status=status,
        reason=reason,
        agreeing_starts=agreeing,
        num_starts=num_starts,
        condition_number=condition,
        alternatives=others,
    )


def raw_laws(form: type[Law], theta_Rk: NDArray, points: Points) -> list[Law]:
    """The laws in raw units (N in parameters, D in tokens) of centred thetas."""
    value = form.uncentred(form.values(theta_Rk), points.centre)
    return [form(**{name: float(value[name][row]) for name in form.parameters()}) for row in range(len(theta_Rk))]


def raw_theta(form: type[Law], theta_Rk: NDArray, points: Points) -> NDArray[np.float64]:
    """Thetas in raw units of centred ones, shape (R, k)."""
    return form.thetas(form.uncentred(form.values(theta_Rk), points.centre))


def log_gradients(form: type[Law], theta: NDArray, at: Variables) -> NDArray[np.float64]:
    """d ln L / d theta at centred variables `at`, shape (n, k)."""
    jet = form.log_loss(variables(theta[None]), at)
    return jet.gradient(len(theta), (1, len(at)))[0].T


def _adapt(form: type[Law], points: Points, theta: NDArray, estimator: Estimator) -> Estimator:
    """An adaptive estimator with delta at its fixed point: that of the residuals of the fit with that delta."""
    adapted = estimator
    for _ in range(ADAPTATIONS):
        r = points.log_L - log_losses(form, theta[None], points.at)[0]
        if estimator.space == "linear":
            r = np.exp(points.log_L) - np.exp(points.log_L - r)
        last, adapted = adapted, estimator.adapted(r, points.weights, len(theta))
        if last.delta and abs(adapted.delta / last.delta - 1.0) < 1e-3:
            return last
        theta = minimise(form, points, theta[None], adapted).theta[0]
    return adapted


def _agreeing(objective: NDArray, num_points: int, estimator: Estimator) -> NDArray[np.bool_]:
    """Which objectives are the least, up to AGREEMENT and to what rounding leaves of a table without noise."""
    rounding = 1e-12 if estimator.kind == "l1" else 1e-20
    return objective <= objective.min() * (1 + AGREEMENT) + rounding * num_points


def _diagnose(form: type[Law], points: Points, theta: NDArray, reached: bool) -> tuple[float, str, str]:
    names = form.parameters()
    low, high = log_bounds(form, points)
    bound = [name for name, value, a, b in zip(names, theta, low, high, strict=True) if value <= a or value >= b]
    J = log_gradients(form, theta, points.at)
    free = np.sqrt(points.weights)[:, None] * J[:, [name not in bound for name in names]]
    free = free / np.maximum(np.linalg.norm(free, axis=0), 1e-300)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(free.T @ free), 0.0))[::-1] if free.shape[1] else np.ones(1)
    condition = float((singular[0] / singular[-1]) ** 2) if singular[-1] > 0 else np.inf
    where = {"N": points.at.ln_N, "D": points.at.ln_D, "C": points.at.ln_C}
    for name, needed in form.levels.items():
        distinct = len(np.unique(np.round(where[name], 12)))
        if distinct < needed:
            return condition, "not_identified", f"{distinct} distinct {name}; the law {form.name} needs {needed}"
    num_cells = int(points.cell.max()) + 1
    needed = len(names) + FEWEST_SPARE
    if num_cells < needed:
        return condition, "not_identified", f"{num_cells} distinct (N, D), {len(names)} parameters need {needed}"
    if len(form.levels) == 2:
        correlation = abs(float(np.corrcoef(points.at.ln_N, points.at.ln_D)[0, 1]))
        if correlation > COLLINEAR:
            return (
                condition,
                "not_identified",
                f"ln N and ln D are collinear (correlation {correlation:.5f}): D/N hardly varies, and size and data "
                "cannot be told apart",
            )
        ratio = points.at.ln_D - points.at.ln_N
        span = float(np.exp(ratio.max() - ratio.min()))
        if span < NARROWEST_RATIO:
            return (
                condition,
                "not_identified",
                f"ln N and ln D are collinear: D/N varies by a factor of {span:.3g} only ({NARROWEST_RATIO:g} needed)",
            )
    if condition > CONDITION_LIMIT:
        return condition, "not_identified", f"condition number {condition:.1e} is above {CONDITION_LIMIT:.0e}"
    if bound:
        return condition, f"bound:{bound[0]}", f"{', '.join(bound)} ended on the edge of its allowed range"
    if not reached:
        return condition, "not_converged", "no start reached a flat minimum"
    return condition, "converged", ""
