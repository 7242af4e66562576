"""IsoFLOP minima without any law (approach 2 of arXiv 2203.15556), from a grid of sizes by tokens or from budgets.

`isoflop` interpolates the loss of each size in (ln D, ln L) at D = C / (6 N), inside the measured range of D only;
`isoflop_runs` takes runs that were trained at given budgets. The minimum over N is the vertex of a least-squares
parabola in ln N through the sizes around the smallest loss, or the minimum of an Akima interpolation
(arXiv 2406.19146). Akima needs five sizes a budget and follows noise; a parabola needs three but is biased when the
sizes lie off-centre (arXiv 2603.22339). Budgets whose minimum is at an edge are refused, as are parabolas that open
downwards and vertices outside the sizes used; every refusal carries its reason.

The interval of the exponent resamples noise in the manner of arXiv 2406.19146: every run's ln L receives fresh noise
and the minima are found again. Leaving runs out instead would tear holes into the curves that are interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from pipeline.fitting.budgets import shared_budgets
from pipeline.fitting.intervals import percentile_interval
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN, positive_columns

FEWEST_SIZES = 3
"""Sizes that must reach a budget before a minimum is looked for: three determine a parabola."""
FEWEST_FOR_AKIMA = 5
"""With fewer sizes every slope of an Akima interpolation rests on extrapolated end slopes."""
WINDOW = 5
"""Sizes nearest to the smallest loss that a parabola goes through."""
SLACK = 1e-9
"""Relative slack of D at the ends of a curve, for the rounding of floats."""


@dataclass(frozen=True)
class Slice:
    """One budget: C (FLOPs), sizes N (parameters) that reach it, their loss there (nats/token), the optimum.

    `N_star` is None when refused; `reason` then says why.
    """

    C: float
    N: NDArray[np.float64]
    loss: NDArray[np.float64]
    N_star: float | None
    reason: str


@dataclass(frozen=True)
class IsoFlop:
    """All budgets, and the exponent a of N*(C) ~ C^a with its 95 % interval; None with fewer than three minima.

    `spreads` says for runs at given budgets by how much the ln C of each budget's runs differ.
    """

    slices: list[Slice]
    exponent: float | None
    interval: tuple[float, float] | None
    spreads: list[float] = field(default_factory=list)

    @property
    def minima(self) -> list[Slice]:
        """The budgets whose minimum was accepted."""
        return [part for part in self.slices if part.N_star is not None]

    @property
    def refused(self) -> list[Slice]:
        """The budgets whose minimum was refused."""
        return [part for part in self.slices if part.N_star is None]


def isoflop(
    N: ArrayLike, D: ArrayLike, L: ArrayLike, noise_sd: ArrayLike, num_resamples: int, seed: int, num_budgets: int = 12
) -> IsoFlop:
    """The isoFLOP minima of a table of runs (N parameters, D tokens, L nats/token) and the exponent of N*(C).

    The exponent is a least-squares slope of ln N* on ln C over accepted minima. `noise_sd` is the sd of one run's ln L,
    for all runs or one each; the mean over the seeds of a point has less. Raises ValueError for a value not positive.
    """
    N, D, L = positive_columns(N=N, D=D, L=L)
    sizes, curves = _curves(N, D, np.log(L), _noise(noise_sd, len(N)))
    if len(sizes) < FEWEST_SIZES:
        return IsoFlop([], None, None)
    budgets, random = _budgets(sizes, curves, num_budgets), np.random.default_rng(seed)
    noisy = ((log_D, _with_resamples(mean, sd, num_resamples, random)) for log_D, mean, sd in curves)
    values = _interpolate(sizes, noisy, budgets, 1 + num_resamples)
    tables = [(sizes[here], values[here, index]) for index, here in enumerate(~np.isnan(values[:, :, 0]).T)]
    return _judged(budgets, tables, "parabola")


def isoflop_runs(
    C: ArrayLike, N: ArrayLike, L: ArrayLike, noise_sd: ArrayLike, num_resamples: int, seed: int, method: str = "akima"
) -> IsoFlop:
    """The isoFLOP minima of runs at given budgets (C FLOPs, N parameters, L nats/token) and the exponent of N*(C).

    `method` finds the minimum in a budget: "akima" or "parabola", as above. Runs of one size and budget are seeds and
    their ln L is averaged; `shared_budgets` says which C are one budget. The exponent is a least-squares slope of ln N*
    on ln C over accepted minima, every one with the same weight; arXiv 2406.19146 calls that its basic fit. `noise_sd`
    is the sd of one run's ln L, for all runs or one each when noise depends on the loss. Raises ValueError for an
    unknown method or a value that is not positive.
    """
    if method not in MINIMA:
        raise ValueError(f"method: {method!r} is not one of {sorted(MINIMA)}")
    C, N, L = positive_columns(C=C, N=N, L=L)
    noise, random, tables = _noise(noise_sd, len(C)), np.random.default_rng(seed), []
    budgets = shared_budgets(C)
    for here in budgets:
        sizes, log_L, sd = _means(N[here], np.log(L[here]), noise[here])
        tables.append((sizes, _with_resamples(log_L, sd, num_resamples, random)))
    found = _judged(np.array([np.median(C[here]) for here in budgets]), tables, method)
    return replace(found, spreads=[float(np.ptp(np.log(C[here]))) for here in budgets])


def parabola_minimum(log_N: NDArray, log_L: NDArray, window: int = WINDOW) -> tuple[float, str]:
    """(ln N*, "") or (nan, reason): the vertex of the parabola through the sizes nearest to the smallest loss."""
    order = np.argsort(log_N)
    (vertex,), (reason,) = _parabola_minima(log_N[order], log_L[order, None], window)
    return float(vertex), str(reason)


def _noise(noise_sd: ArrayLike, num_runs: int) -> NDArray:
    noise = np.asarray(noise_sd, float)
    if noise.shape not in ((), (num_runs,)) or not (np.isfinite(noise) & (noise >= 0)).all():
        raise ValueError(f"noise_sd: {noise_sd!r} is not one number or one for each of {num_runs} runs, zero or more")
    return np.broadcast_to(noise, (num_runs,))


def _with_resamples(log_L: NDArray, sd: NDArray, num_resamples: int, random: np.random.Generator) -> NDArray:
    """ln L (points, 1 + resamples): as measured, then with fresh noise."""
    return log_L[:, None] + sd[:, None] * np.insert(random.standard_normal((len(sd), num_resamples)), 0, 0.0, axis=1)


def _means(x: NDArray, log_L: NDArray, noise: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Rising distinct x, the mean ln L over the seeds at each, and the sd of that mean."""
    values, member = np.unique(x, return_inverse=True)
    count = np.bincount(member)
    return values, np.bincount(member, log_L) / count, np.sqrt(np.bincount(member, noise**2)) / count


def _curves(N: NDArray, D: NDArray, log_L: NDArray, noise: NDArray) -> tuple[NDArray, list[tuple[NDArray, ...]]]:
    """Sizes with at least three token counts, and for each its (ln D, mean ln L over seeds, its sd), D rising."""
    sizes, curves = [], []
    order = np.argsort(N, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(N[order])) + 1):
        size = N[here[0]]
        tokens, mean, sd = _means(D[here], log_L[here], noise[here])
        if len(tokens) >= 3:
            sizes.append(size)
            curves.append((np.log(tokens), mean, sd))
    return np.array(sizes), curves


def _budgets(sizes: NDArray, curves: list[tuple[NDArray, ...]], num_budgets: int) -> NDArray:
    """Budgets even in ln C between the first and the last that FEWEST_SIZES sizes reach; all of the range if none."""
    ends = (
        np.array([(log_D[0], log_D[-1]) for log_D, *_ in curves]) + np.log(FLOPS_PER_PARAMETER_TOKEN * sizes)[:, None]
    )
    low, high = np.sort(ends, axis=0).T
    first, last = low[FEWEST_SIZES - 1], high[-FEWEST_SIZES]
    if first >= last:
        first, last = low[0], high[-1]
    return np.exp(np.linspace(first, last, num_budgets))


def _interpolate(
    sizes: NDArray, curves: Iterable[tuple[NDArray, NDArray]], budgets: NDArray, num_columns: int
) -> NDArray:
    """ln L (sizes, budgets, columns) on C = 6 N D, nan outside the measured D of a size."""
    table = np.full((len(sizes), len(budgets), num_columns), np.nan)
    for row, (size, (log_D, log_L)) in enumerate(zip(sizes, curves, strict=True)):
        wanted = np.log(budgets / (FLOPS_PER_PARAMETER_TOKEN * size))
        inside = (wanted >= log_D[0] - SLACK) & (wanted <= log_D[-1] + SLACK)
        # A spline is linear in what it goes through: one of unit vectors serves all columns.
        table[row, inside] = CubicSpline(log_D, np.eye(len(log_D)))(np.clip(wanted[inside], *log_D[[0, -1]])) @ log_L
    return table


def _edge(which: NDArray, last: int) -> NDArray:
    """The reason for each column whose smallest loss is at entry 0 or `last`, else an empty string."""
    at = "the smallest loss is at the {} size that reaches it"
    return np.select([which == 0, which == last], [at.format("smallest"), at.format("largest")], "").astype(object)


def _parabola_minima(log_N: NDArray, log_L: NDArray, window: int = WINDOW) -> tuple[NDArray, NDArray]:
    """(ln N* or nan, reason or "") for each column of ln L (sizes, columns), sizes rising."""
    least = np.argmin(log_L, axis=0)
    reasons, vertices = _edge(least, len(log_N) - 1), np.full(log_L.shape[1], np.nan)
    start = np.clip(least - window // 2, 0, max(0, len(log_N) - window))
    for first in np.unique(start[reasons == ""]):
        columns = np.flatnonzero((start == first) & (reasons == ""))
        x, y = log_N[first : first + window], log_L[first : first + window, columns]
        curvature, slope, _ = np.linalg.lstsq(np.vander(x - x.mean(), 3), y, rcond=None)[0]
        up = curvature > 0
        vertex = x.mean() - slope / (2 * np.where(up, curvature, 1.0))
        inside = (x[0] <= vertex) & (vertex <= x[-1])
        reasons[columns[~up]] = "the parabola opens downwards"
        reasons[columns[up & ~inside]] = "the vertex of the parabola lies outside the sizes it was fitted to"
        vertices[columns[up & inside]] = vertex[up & inside]
    return vertices, reasons


def _akima_minima(log_N: NDArray, log_L: NDArray) -> tuple[NDArray, NDArray]:
    """(ln N* or nan, reason or "") for each column of ln L (sizes, columns), sizes rising.

    Exact: on each piece c0 t^3 + c1 t^2 + c2 t + c3 the minimum is the root of the derivative with positive curvature.
    """
    c0, c1, c2, c3 = Akima1DInterpolator(log_N, log_L).c
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(c1**2 - 3 * c0 * c2)
        t = np.where(c1 > 0, -c2 / (c1 + root), (root - c1) / (3 * c0))
        inside = (t > 0) & (t < np.diff(log_N)[:, None])
        value = np.where(inside, ((c0 * t + c1) * t + c2) * t + c3, np.inf)
    at = np.concatenate([np.broadcast_to(log_N[:, None], log_L.shape), log_N[:-1, None] + np.where(inside, t, 0.0)])
    least = np.argmin(np.concatenate([log_L, value]), axis=0)
    reasons = _edge(least, len(log_N) - 1)
    return np.where(reasons == "", at[least, np.arange(log_L.shape[1])], np.nan), reasons


MINIMA = {"akima": (FEWEST_FOR_AKIMA, _akima_minima), "parabola": (FEWEST_SIZES, _parabola_minima)}
"""Ways to find the minimum in a budget: sizes needed, and the function of (ln N, ln L) that finds it."""


def _judged(budgets: NDArray, tables: list[tuple[NDArray, NDArray]], method: str) -> IsoFlop:
    """Minima and exponent; a budget's table is its sizes and ln L (sizes, 1 + resamples), the measured one first."""
    fewest, minima = MINIMA[method]
    slices, log_N_star = [], np.full((len(tables), tables[0][1].shape[1]), np.nan)
    for index, (C, (sizes, log_L)) in enumerate(zip(budgets, tables, strict=True)):
        if len(sizes) < fewest:
            reason = f"{len(sizes)} sizes reach this budget, {fewest} are needed"
        else:
            vertices, (reason, *_) = minima(np.log(sizes), log_L)
            log_N_star[index] = np.nan if reason else vertices
        N_star = None if reason else float(np.exp(log_N_star[index, 0]))
        slices.append(Slice(float(C), sizes, np.exp(log_L[:, 0]), N_star, reason))
    exponent, *draws = (_slope(np.log(budgets), column) for column in log_N_star.T)
    known = np.array([slope for slope in draws if slope is not None])
    enough = exponent is not None and 2 * len(known) > max(1, len(draws))
    return IsoFlop(slices, exponent, percentile_interval(known) if enough else None)


def _slope(log_C: NDArray, log_N: NDArray) -> float | None:
    known = ~np.isnan(log_N)
    if known.sum() < 3:
        return None
    x = log_C[known] - log_C[known].mean()
    return float(x @ log_N[known] / (x @ x))
