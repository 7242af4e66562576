"""Which runs to do next, and what a planned study can be expected to say before anything is paid for.

Both linearise the law: ln L at a point x is j(x)' theta, j = d ln L / d theta, with noise of a known sd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from pipeline.fitting.estimators import L2
from pipeline.fitting.influence import noise
from pipeline.fitting.laws.law import Law
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.solver import Fit, fit, log_gradients
from pipeline.fitting.starts import thinned

DRIFT_SD = 0.003
"""Default sd of the law's own error in ln L, gathered over one e-fold of C (see `next_runs`)."""
DESIGN_RUNS = 1_000
"""Runs of the fit that a choice looks at: more are thinned, each then counting for several."""


@dataclass(frozen=True)
class Candidate:
    """A run worth doing: N parameters, D tokens, C FLOPs, 6 N D unless costs were given.

    `error_before` and `error_after` are the expected standard errors of ln L at the target without and with it, given
    the runs chosen before it; `cut_per_flop` is the cut of the variance over C; `total_flops` counts it and those
    before it.
    """

    N: float
    D: float
    C: float
    error_before: float
    error_after: float
    cut_per_flop: float
    total_flops: float


@dataclass(frozen=True)
class Expected:
    """What a planned study of `num_runs` runs and `C` FLOPs in all would say of an assumed law.

    `relative_error` is the expected standard error of ln |parameter| (of the parameter itself where its sign is free);
    `standard_error` and the 95 % `half_width` are in raw units by the delta method; `target_error` and
    `target_half_width` are those of ln L at the target. `freedom` counts distinct (N, D) less parameters. When the
    design does not identify the law, `reason` says why and errors are inf.
    """

    num_runs: int
    C: float
    freedom: int
    relative_error: dict[str, float]
    standard_error: dict[str, float]
    half_width: dict[str, float]
    target_error: float
    target_half_width: float
    condition_number: float
    identified: bool
    reason: str


def next_runs(
    fit: Fit,
    noise_sd: float,
    candidates_N: ArrayLike,
    candidates_D: ArrayLike,
    target_N: float,
    target_D: float,
    budget_flops: float | None = None,
    num_runs: int = 20,
    N_min: float | None = None,
    D_min: float | None = None,
    drift_sd: float = DRIFT_SD,
    cost_power: float = 0.4,
    columns: dict[str, ArrayLike] | None = None,
    target_columns: dict[str, float] | None = None,
    costs: ArrayLike | None = None,
) -> list[Candidate]:
    """At most `num_runs` runs, in order, that cut the variance of ln L at the target most for their cost C^cost_power.

    Candidates are pairs of N and D, broadcast against each other; one may be chosen again, with another seed. C is what
    a candidate costs, in FLOPs: `costs`, 6 N D by default. Each step takes the greatest
    (j_t' S j_c)^2 / (noise_sd^2 + j_c' S j_c) / C^cost_power, S the covariance of theta (sequential V-optimal design:
    Fedorov 1972), and updates S. cost_power 0.4 is that of arXiv 2604.22753; 1 is the cut per
    FLOP, for which a very large number of the smallest runs is best. The choice stops at `budget_flops` in all. Only
    candidates of at least `N_min` parameters and `D_min` tokens count.

    The law is not exact: its error is a random walk in ln C that starts at the target and gathers a variance of
    drift_sd^2 an e-fold, so that runs of one scale share it and many tiny ones cannot average it away. The default is
    below what hold-outs of published runs show (1 % at four e-folds, noise and parameter errors included); 0 trusts the
    law. Runs of the fit have noise_sd^2 over their weight. Raises ValueError when a number is not positive, the fit
    does not identify the law, or no candidate is left.
    """
    _positive(noise_sd=noise_sd, target_N=target_N, target_D=target_D)
    columns, target_columns = _columns(fit.form, columns, target_columns)
    if not fit.identified:
        raise ValueError(f"fit: {fit.form.name} is not identified: {fit.reason}")
    N, D, *more = np.broadcast_arrays(
        *(np.asarray(value, float) for value in (candidates_N, candidates_D, *columns.values()))
    )
    C = np.broadcast_to(FLOPS_PER_PARAMETER_TOKEN * N * D if costs is None else np.asarray(costs, float), N.shape)
    _positive(candidates_N=N, candidates_D=D, costs=C)
    kept = (N >= (N_min or 0.0)) & (D >= (D_min or 0.0))
    if not kept.any():
        raise ValueError(
            f"candidates_N, candidates_D: none of {N.size} has N >= {N_min or 0:g} and D >= {D_min or 0:g}"
        )
    N, D, C = N[kept], D[kept], C[kept]
    wanted = {name: np.append(column[kept], target_columns[name]) for name, column in zip(columns, more, strict=True)}
    points = thinned(fit.points, DESIGN_RUNS)
    variance = noise_sd**2 * points.weights.sum() / fit.points.weights.sum() / points.weights
    asked = points.placed(np.append(N, target_N), np.append(D, target_D), wanted)
    J, J_asked = (log_gradients(fit.form, fit.theta, at)[:, fit.inside] for at in (points.at, asked))
    ln_C_known, ln_C_asked = points.at.ln_C - asked.ln_C[-1], asked.ln_C - asked.ln_C[-1]
    known = _drift(ln_C_known, ln_C_known, drift_sd) + np.diag(variance)
    P = _posterior(
        J, J_asked, known, _drift(ln_C_asked, ln_C_known, drift_sd), _drift(ln_C_asked, ln_C_asked, drift_sd)
    )
    chosen: list[Candidate] = []
    spent = 0.0
    while len(chosen) < num_runs:
        cut = P[-1, :-1] ** 2 / (noise_sd**2 + np.diag(P)[:-1])
        affordable = spent + C <= (np.inf if budget_flops is None else budget_flops)
        if not affordable.any():
            break
        best = int(np.argmax(np.where(affordable, cut / C**cost_power, -np.inf)))
        before = P[-1, -1]
        P = P - np.outer(P[:, best], P[best]) / (noise_sd**2 + P[best, best])
        spent += float(C[best])
        errors = [float(np.sqrt(max(value, 0.0))) for value in (before, P[-1, -1])]
        chosen.append(
            Candidate(float(N[best]), float(D[best]), float(C[best]), *errors, float(cut[best] / C[best]), spent)
        )
    return chosen


def expected_interval(
    law: Law,
    N: ArrayLike,
    D: ArrayLike,
    noise_sd: float,
    target_N: float,
    target_D: float,
    columns: dict[str, ArrayLike] | None = None,
    target_columns: dict[str, float] | None = None,
) -> Expected:
    """The errors that least squares on planned runs (N parameters, D tokens, each (n,)) would have if `law` were true.

    The covariance of theta is noise_sd^2 (J'J)^-1, intervals take Student's t with n - k degrees of freedom, n distinct
    (N, D) (Seber and Wild 1989, ch. 5). It is linear: beyond a relative error of about 0.3 real intervals are
    wider and skewed. Whether the design identifies the law is what `pipeline.fitting.solver.fit` says of its noise-free
    losses. Raises ValueError for values that are not finite and positive.
    """
    _positive(noise_sd=noise_sd, target_N=target_N, target_D=target_D)
    columns, target_columns = _columns(type(law), columns, target_columns)
    N, D = np.asarray(N, float), np.asarray(D, float)
    exact = fit(type(law), N, D, law.loss(N, D, **columns), L2, columns=columns)
    names, k = law.parameters(), len(law.parameters())
    freedom = noise(exact).freedom
    identified = exact.identified and freedom > 0
    relative, target = np.full(k, np.inf), np.inf
    if identified:
        J = law.gradient(N, D, **columns)
        size = np.linalg.norm(J, axis=0)
        half = np.linalg.inv(np.linalg.qr(J / size, mode="r")) / size[:, None]
        relative = noise_sd * np.linalg.norm(half, axis=1)
        j = law.gradient([target_N], [target_D], **{name: [value] for name, value in target_columns.items()})
        target = noise_sd * float(np.linalg.norm(j[0] @ half))
    quantile = float(stdtrit(max(freedom, 1), 0.975))
    raw = {
        name: float(error if law.signs.get(name) == "any" else error * abs(getattr(law, name)))
        for name, error in zip(names, relative, strict=True)
    }
    return Expected(
        num_runs=len(N),
        C=float(np.sum(FLOPS_PER_PARAMETER_TOKEN * N * D)),
        freedom=freedom,
        relative_error=dict(zip(names, map(float, relative), strict=True)),
        standard_error=raw,
        half_width={name: quantile * error for name, error in raw.items()},
        target_error=target,
        target_half_width=quantile * target,
        condition_number=exact.condition_number,
        identified=identified,
        reason=exact.reason,
    )


def _columns(
    form: type[Law], columns: dict[str, ArrayLike] | None, target_columns: dict[str, float] | None
) -> tuple[dict[str, ArrayLike], dict[str, float]]:
    """The columns that the law needs, of the runs and of the target."""
    for given in (columns or {}, target_columns or {}):
        if missing := [name for name in form.columns if name not in given]:
            raise ValueError(f"{missing[0]}: the law {form.name} needs this column of the runs and of the target")
    return {name: columns[name] for name in form.columns}, {name: target_columns[name] for name in form.columns}


def _positive(**numbers: ArrayLike) -> None:
    for name, values in numbers.items():
        wrong = [value for value in np.ravel(values) if not (np.isfinite(value) and value > 0)]
        if wrong:
            raise ValueError(f"{name}: {wrong[0]} is not a positive number")


def _drift(here: NDArray, there: NDArray, sd: float) -> NDArray[np.float64]:
    """Covariance of the law's error at distances in ln C from the target: a random walk to each side of it."""
    same_side = np.sign(here)[:, None] == np.sign(there)
    return sd**2 * np.where(same_side, np.minimum(np.abs(here)[:, None], np.abs(there)), 0.0)


def _posterior(J: NDArray, J_asked: NDArray, known: NDArray, across: NDArray, asked: NDArray) -> NDArray[np.float64]:
    """Covariance of the mean of ln L where asked, given the known runs, with nothing known of theta before.

    Universal kriging: mean j' theta, the law's error a process of covariances `known` (noise included), `across` and
    `asked` (Cressie 1993, section 3.4).
    """
    weights = np.linalg.solve(known, np.hstack([J, across.T]))
    information = J.T @ weights[:, : J.shape[1]]
    left = J_asked - across @ weights[:, : J.shape[1]]
    scale = np.sqrt(np.diag(information))
    S = np.linalg.inv(information / np.outer(scale, scale)) / np.outer(scale, scale)
    return asked - across @ weights[:, J.shape[1] :] + left @ S @ left.T
