"""Best learning rate and batch size of each (N, D) from a sweep, and their power laws in N and D.

In a cell, all runs of one (N, D), the loss is a quadratic in ln(learning rate), in ln(batch), or in both with their
product, fitted by least squares through the levels around the smallest loss; the optimum is its stationary point:

    L = c + g' u + u' H u / 2,   u* = -H^-1 g

A smallest loss at an edge of the sweep, a quadratic that is not convex and a stationary point outside the levels used
are refused with a reason. Over the accepted cells the laws are least squares on the logarithms:

    rate*(N, D) = k N^a D^b,   batch*(N, D) = k N^a D^b

arXiv 2503.04715 finds this law for the learning rate, and for the batch with D and hardly any N; arXiv 2401.02954
writes power laws in C alone, the case a = b on C = 6 N D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from pipeline.fitting.intervals import PERCENTILES, percentile_interval
from pipeline.fitting.points import cells, positive_columns

FEWEST_LEVELS = 3
"""Levels of a variable that count as a sweep in a cell: three determine a parabola."""
REACH = 2
"""Levels on either side of the smallest loss that the quadratic goes through."""
EXCESS = 0.001
"""Relative loss excess at which flatness is measured."""
COLLINEAR = 1e-6
"""Smallest relative singular value of (ln N, ln D) about their means at which both exponents are told apart."""


@dataclass(frozen=True)
class Optimum:
    """One cell: N parameters, D tokens, and the learning rate, batch (tokens) and loss (nats/token) of its optimum.

    `learning_rate_flatness` is the factor by which the learning rate may be off, the batch being best, for a loss
    0.1 % above the least: exp(sqrt(2 * 0.001 L* / H)) with H the curvature in its logarithm; so too for the batch. A
    variable that the cell does not sweep has None; all are None when `reason` says why the cell was refused.
    """

    N: float
    D: float
    learning_rate: float | None
    batch: float | None
    loss: float | None
    learning_rate_flatness: float | None
    batch_flatness: float | None
    reason: str


@dataclass(frozen=True)
class RateLaw:
    """value = k N^a D^b, the 95 % intervals of a and b, the residual sd of ln value and the number of cells.

    An exponent is None when its variable does not vary; k then holds its part. Intervals are None without residual
    degrees of freedom.
    """

    k: float
    a: float | None
    b: float | None
    a_interval: tuple[float, float] | None
    b_interval: tuple[float, float] | None
    residual_sd: float | None
    num_cells: int

    def value(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        """The learning rate, or the batch in tokens, at N parameters and D tokens, which broadcast."""
        return self.k * np.asarray(N, float) ** (self.a or 0.0) * np.asarray(D, float) ** (self.b or 0.0)


@dataclass(frozen=True)
class Rates:
    """The optimum of every cell and both laws; a law that is None has its reason in `refused`, by variable."""

    cells: list[Optimum]
    learning_rate: RateLaw | None
    batch: RateLaw | None
    refused: dict[str, str]


def rates(
    N: ArrayLike, D: ArrayLike, learning_rate: ArrayLike, batch: ArrayLike, L: ArrayLike, num_resamples: int, seed: int
) -> Rates:
    """Optima and laws of a sweep: N parameters, D tokens, learning rate, batch (tokens), L nats/token, one row a run.

    A variable counts as swept when a cell has three levels of it or more; the other's law is then conditional on the
    values used. Intervals of the exponents resample the cells' residuals. Raises ValueError for a value that is not
    finite and positive (leave diverged runs out), or when neither variable is swept.
    """
    N, D, learning_rate, batch, L = positive_columns(N=N, D=D, learning_rate=learning_rate, batch=batch, L=L)
    u, cell = np.log(np.column_stack([learning_rate, batch])), cells(N, D)
    groups = [np.flatnonzero(cell == label) for label in range(cell.max() + 1)]
    swept = [max(len(np.unique(u[here, axis])) for here in groups) >= FEWEST_LEVELS for axis in (0, 1)]
    if not any(swept):
        raise ValueError(f"learning_rate, batch: no (N, D) has {FEWEST_LEVELS} levels of either")
    found = [_optimum(float(N[here[0]]), float(D[here[0]]), u[here], L[here], np.array(swept)) for here in groups]
    laws, refused = {}, {}
    for axis, name in enumerate(("learning_rate", "batch")):
        if not swept[axis]:
            laws[name], refused[name] = None, f"no (N, D) has {FEWEST_LEVELS} levels of {name}"
            continue
        kept = [one for one in found if not one.reason]
        table = np.log([[one.N, one.D, getattr(one, name)] for one in kept]).reshape(-1, 3)
        laws[name], why = _law(table, num_resamples, np.random.default_rng([seed, axis]))
        refused |= {name: why} if why else {}
    return Rates(found, laws["learning_rate"], laws["batch"], refused)


def _optimum(N: float, D: float, u: NDArray, L: NDArray, swept: NDArray) -> Optimum:
    """The optimum of one cell; u is (ln learning rate, ln batch), shape (runs, 2)."""
    names, mixed = np.array(["learning rate", "batch"]), [len(np.unique(column)) > 1 for column in u[:, ~swept].T]
    if any(mixed):
        return Optimum(N, D, *[None] * 5, f"mixes values of the {names[~swept][0]}, which is not swept")
    point, flatness, loss, reason = _minimum(u[:, swept], L, names[swept])
    both = np.full((2, 2), np.nan)
    if not reason:
        both[:, swept] = np.exp(point), np.exp(flatness)
    values = [None if np.isnan(value) else float(value) for value in both.ravel()]
    return Optimum(N, D, values[0], values[1], None if reason else loss, values[2], values[3], reason)


def _minimum(u: NDArray, L: NDArray, names: NDArray) -> tuple[NDArray, NDArray, float, str]:
    """(u*, half-width in ln units at EXCESS, L*, "") of u (runs, variables), or a reason with nothing else."""
    nothing = np.empty(0), np.empty(0), np.nan
    points, member = np.unique(u, axis=0, return_inverse=True)
    member = member.reshape(-1)
    least = points[np.argmin(np.bincount(member, L) / np.bincount(member))]
    near = np.ones(len(u), bool)
    for axis, name in enumerate(names):
        levels = np.unique(u[:, axis])
        if len(levels) < FEWEST_LEVELS:
            return *nothing, f"{len(levels)} levels of the {name}, {FEWEST_LEVELS} are needed"
        at = int(np.searchsorted(levels, least[axis]))
        if at in (0, len(levels) - 1):
            return *nothing, f"the smallest loss is at the {'smallest' if at == 0 else 'largest'} {name}"
        first, last = levels[max(0, at - REACH)], levels[min(len(levels) - 1, at + REACH)]
        near &= (u[:, axis] >= first) & (u[:, axis] <= last)
    centred, low, high = u[near] - least, u[near].min(axis=0) - least, u[near].max(axis=0) - least
    pairs = [(i, j) for i in range(len(names)) for j in range(i, len(names))]
    basis = np.column_stack([np.ones(near.sum()), centred, *(centred[:, i] * centred[:, j] for i, j in pairs)])
    coefficients, _, rank, _ = np.linalg.lstsq(basis, L[near], rcond=None)
    if rank < basis.shape[1]:
        return *nothing, f"{near.sum()} runs around the smallest loss do not determine a quadratic"
    gradient, H = coefficients[1 : 1 + len(names)], np.zeros((len(names), len(names)))
    for (i, j), value in zip(pairs, coefficients[1 + len(names) :], strict=True):
        H[i, j] += value
        H[j, i] += value
    if np.linalg.eigvalsh(H)[0] <= 0:
        return *nothing, "the quadratic is not convex"
    step = -np.linalg.solve(H, gradient)
    if (step < low).any() or (step > high).any():
        return *nothing, "the optimum of the quadratic lies outside the levels it was fitted to"
    loss = float(coefficients[0] + gradient @ step / 2)
    return least + step, np.sqrt(2 * EXCESS * loss / np.diag(H)), loss, ""


def _law(table: NDArray, num_resamples: int, random: np.random.Generator) -> tuple[RateLaw | None, str]:
    """(law, "") or (None, reason) from (ln N, ln D, ln value), shape (cells, 3)."""
    centre = table.mean(axis=0) if len(table) else np.zeros(3)
    x, y = table[:, :2] - centre[:2], table[:, 2] - centre[2]
    varies = np.abs(x).max(axis=0, initial=0.0) > COLLINEAR
    design, num_coefficients = x[:, varies], 1 + varies.sum()
    if not varies.any():
        return None, f"neither N nor D varies over the {len(table)} accepted cells"
    singular = np.linalg.svd(design, compute_uv=False)
    if len(table) < num_coefficients or singular[-1] <= COLLINEAR * singular[0]:
        return None, f"N and D vary together over the {len(table)} accepted cells; their exponents cannot be told apart"
    solve = np.linalg.pinv(design)
    slopes = solve @ y
    residuals, freedom = y - design @ slopes, len(table) - num_coefficients
    exponents, intervals = [None, None], [None, None]
    sd = float(np.sqrt(residuals @ residuals / freedom)) if freedom else None
    if freedom and num_resamples:
        draws = solve @ residuals[random.integers(0, len(y), (len(y), num_resamples))]
        draws *= _expansion(len(y), freedom)
    for index, axis in enumerate(np.flatnonzero(varies)):
        exponents[axis] = float(slopes[index])
        if freedom and num_resamples:
            intervals[axis] = percentile_interval(slopes[index] + draws[index])
    k = float(np.exp(centre[2] - slopes @ centre[:2][varies]))
    return RateLaw(k, *exponents, *intervals, sd, len(table)), ""


def _expansion(num_cells: int, freedom: int) -> float:
    """The factor that widens bootstrap deviations for few cells: t / z times sqrt(n / (n - k)) (arXiv 1411.5279)."""
    upper = PERCENTILES[1] / 100
    return float(stdtrit(freedom, upper) / ndtri(upper) * np.sqrt(num_cells / freedom))
